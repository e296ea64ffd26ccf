"""Export formats by name. A new one is one file in ``formats/`` and one line here.

Other packages add theirs in the entry point group ``mmfeat.exporters``: a name to a subclass of
:class:`mmfeat.export.base.Exporter`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points

from mmfeat.export.base import Exporter
from mmfeat.schemas.errors import UsageError

ENTRY_POINT_GROUP = "mmfeat.exporters"

_FORMATS = {
    "a-llmrec": "mmfeat.export.formats.a_llmrec:ALLMRec",
    "alpharec": "mmfeat.export.formats.alpharec:AlphaRec",
    "cornac": "mmfeat.export.formats.cornac:Cornac",
    "dgvae": "mmfeat.export.formats.dgvae:DGVAE",
    "ducho": "mmfeat.export.formats.ducho:Ducho",
    "elliot": "mmfeat.export.formats.elliot:Elliot",
    "feast": "mmfeat.export.formats.feast:Feast",
    "fmrlrec": "mmfeat.export.formats.fmrlrec:FMRLRec",
    "hf": "mmfeat.export.formats.hf:HuggingFace",
    "iisan": "mmfeat.export.formats.iisan:IISAN",
    "lc-rec": "mmfeat.export.formats.lc_rec:LCRec",
    "mllm-msr": "mmfeat.export.formats.mllm_msr:MLLMMSR",
    "mmctr": "mmfeat.export.formats.mmctr:MMCTR",
    "mmgrec": "mmfeat.export.formats.mmgrec:MMGRec",
    "mmhcl": "mmfeat.export.formats.mmhcl:MMHCL",
    "mmm4rec": "mmfeat.export.formats.mmm4rec:MMM4Rec",
    "mmrec": "mmfeat.export.formats.mmrec:MMRec",
    "muse": "mmfeat.export.formats.muse:Muse",
    "npy": "mmfeat.export.formats.npy:Npy",
    "parquet": "mmfeat.export.formats.parquet:Parquet",
    "pixelrec": "mmfeat.export.formats.pixelrec:PixelRec",
    "rearm": "mmfeat.export.formats.rearm:REARM",
    "recbole": "mmfeat.export.formats.recbole:RecBole",
    "rlmrec": "mmfeat.export.formats.rlmrec:RLMRec",
    "safetensors": "mmfeat.export.formats.safetensors:Safetensors",
    "tencentgr": "mmfeat.export.formats.tencentgr:TencentGR",
    "tiger": "mmfeat.export.formats.tiger:Tiger",
    "unisrec": "mmfeat.export.formats.unisrec:UniSRec",
}


@dataclass(frozen=True)
class Listing:
    """One line of ``mmfeat export --list``.

    Attributes:
        features: what it takes, ``?`` after what may be left out.
        ids: how the target counts items.
        missing: the answers to missing items that it can take, the default one first.
        options: its own options and their defaults.
    """

    name: str
    title: str
    systems: tuple[str, ...]
    features: str
    interactions: str
    ids: str
    missing: tuple[str, ...]
    options: tuple[str, ...]


def names() -> list[str]:
    """Every format's name, sorted."""
    return sorted(_targets())


def get(name: str) -> Exporter:
    """The exporter called ``name``; UsageError with the nearest names where there is none."""
    # Installed packages are looked through only for a name that is not built in: it takes a while.
    targets = _FORMATS if name in _FORMATS else _targets()
    if name not in targets:
        close = difflib.get_close_matches(name, targets, n=3)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise UsageError(
            f"There is no export format {name!r}.", hint=f"{hint}There are: {', '.join(names())}."
        )
    module, _, attribute = targets[name].partition(":")
    try:
        exporter: type[Exporter] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"The export format {name!r} cannot be loaded: {error}.") from error
    return exporter()


def listing() -> list[Listing]:
    """What every format needs and for which systems it is. A broken third-party one is listed as such."""
    return [_listing(name) for name in names()]


def _listing(name: str) -> Listing:
    try:
        exporter = get(name)
    except UsageError as error:
        return Listing(name, error.message, (), "", "", "", (), ())
    roles = [role.name + ("" if role.required else "?") for role in exporter.roles]
    return Listing(
        name=name,
        title=exporter.title,
        systems=exporter.systems,
        features=", ".join(roles) or f"any ({', '.join(exporter.kinds)})",
        interactions=exporter.interactions,
        ids=_ids(exporter),
        missing=exporter.missing,
        options=tuple(f"{k}={field.default}" for k, field in exporter.options.model_fields.items()),
    )


def _ids(exporter: Exporter) -> str:
    if exporter.id_base is None:
        return "their own"
    pad = ", row 0 is a pad row" if exporter.pad_row else ""
    return f"mapped, from {exporter.id_base}{pad}"


def _targets() -> dict[str, str]:
    others = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**others, **_FORMATS}
