"""Export formats by name. A new one is one file in ``formats/`` and one line here.

Other packages add theirs in the entry point group ``mmfeat.exporters``: a name to a subclass of
:class:`mmfeat.export.base.Exporter`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmfeat.export.base import Exporter
from mmfeat.export.ids import OwnIds
from mmfeat.schemas.registry import Listing, Registry

ENTRY_POINT_GROUP = "mmfeat.exporters"

_FORMATS = {
    "a-llmrec": "mmfeat.export.formats.a_llmrec:ALLMRec",
    "alpharec": "mmfeat.export.formats.alpharec:AlphaRec",
    "clamr": "mmfeat.export.formats.clamr:CLaMR",
    "cornac": "mmfeat.export.formats.cornac:Cornac",
    "dff": "mmfeat.export.formats.dff:DFF",
    "dgvae": "mmfeat.export.formats.dgvae:DGVAE",
    "ducho": "mmfeat.export.formats.ducho:Ducho",
    "elliot": "mmfeat.export.formats.elliot:Elliot",
    "feast": "mmfeat.export.formats.feast:Feast",
    "fmrlrec": "mmfeat.export.formats.fmrlrec:FMRLRec",
    "grid": "mmfeat.export.formats.grid:GRID",
    "hf": "mmfeat.export.formats.hf:HuggingFace",
    "hllm": "mmfeat.export.formats.hllm:HLLM",
    "hm4sr": "mmfeat.export.formats.hm4sr:HM4SR",
    "iisan": "mmfeat.export.formats.iisan:IISAN",
    "lc-rec": "mmfeat.export.formats.lc_rec:LCRec",
    "mllm-msr": "mmfeat.export.formats.mllm_msr:MLLMMSR",
    "mmctr": "mmfeat.export.formats.mmctr:MMCTR",
    "mmgrec": "mmfeat.export.formats.mmgrec:MMGRec",
    "mmhcl": "mmfeat.export.formats.mmhcl:MMHCL",
    "mmm4rec": "mmfeat.export.formats.mmm4rec:MMM4Rec",
    "mmrec": "mmfeat.export.formats.mmrec:MMRec",
    "mmssl": "mmfeat.export.formats.mmssl:MMSSL",
    "muse": "mmfeat.export.formats.muse:Muse",
    "npy": "mmfeat.export.formats.npy:Npy",
    "parquet": "mmfeat.export.formats.parquet:Parquet",
    "pigeon": "mmfeat.export.formats.pigeon:Pigeon",
    "pixelrec": "mmfeat.export.formats.pixelrec:PixelRec",
    "preference-discerning": "mmfeat.export.formats.preference_discerning:PreferenceDiscerning",
    "preferdiff": "mmfeat.export.formats.preferdiff:PreferDiff",
    "rearm": "mmfeat.export.formats.rearm:REARM",
    "recbole": "mmfeat.export.formats.recbole:RecBole",
    "rlmrec": "mmfeat.export.formats.rlmrec:RLMRec",
    "rq-vae-recommender": "mmfeat.export.formats.rq_vae_recommender:RQVAERecommender",
    "safetensors": "mmfeat.export.formats.safetensors:Safetensors",
    "tencentgr": "mmfeat.export.formats.tencentgr:TencentGR",
    "tiger": "mmfeat.export.formats.tiger:Tiger",
    "trie": "mmfeat.export.formats.trie:Trie",
    "unimp": "mmfeat.export.formats.unimp:UniMP",
    "unisrec": "mmfeat.export.formats.unisrec:UniSRec",
    "universalrag": "mmfeat.export.formats.universalrag:UniversalRAG",
    "xiaolongtaoo-tiger": "mmfeat.export.formats.xiaolongtaoo_tiger:XiaoLongtaooTiger",
}


@dataclass(frozen=True)
class FormatListing:
    """One line of ``mmfeat export --list``.

    Attributes:
        title: of the project that reads the files; why the format cannot be loaded, where it cannot.
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


def _is_exporter(loaded: Any) -> bool:
    return isinstance(loaded, type) and issubclass(loaded, Exporter)


FORMATS: Registry[type[Exporter]] = Registry(
    "export format", _FORMATS, [ENTRY_POINT_GROUP], fits=_is_exporter
)


def names() -> list[str]:
    """Every format's name, sorted."""
    return FORMATS.names()


def get(name: str) -> Exporter:
    """The exporter called ``name``; UsageError with the nearest names if there is none."""
    return FORMATS.get(name)()


def listing() -> list[FormatListing]:
    """What every format needs and for which systems it is. A broken third-party one is listed as such."""
    return [_described(one) for one in FORMATS.listing()]


def _described(found: Listing[type[Exporter]]) -> FormatListing:
    if found.thing is None:
        return FormatListing(found.name, found.problem, (), "", "", "", (), ())
    exporter = found.thing()
    roles = [role.name + ("" if role.required else "?") for role in exporter.roles]
    return FormatListing(
        name=found.name,
        title=exporter.title,
        systems=exporter.systems,
        features=", ".join(roles)
        or f"any ({', '.join(exporter.kinds)}){'' if exporter.min_features else '?'}",
        interactions=exporter.interactions,
        ids=_ids(exporter),
        missing=exporter.missing,
        options=tuple(f"{k}={field.default}" for k, field in exporter.options.model_fields.items()),
    )


def _ids(exporter: Exporter) -> str:
    if exporter.id_base is None:
        numbered = exporter.options.first if issubclass(exporter.options, OwnIds) else None
        return "their own" if numbered is None else f"their own, or from {numbered} (ids=index)"
    pad = ", row 0 is a pad row" if exporter.pad_row else ""
    return f"mapped, from {exporter.id_base}{pad}"
