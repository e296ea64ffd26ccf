"""Images and texts in one space, by any model that open_clip knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.extract.encoders.open_clip_texts import encode_cut
from mmfeat.extract.encoders.pixels import adjusted, checked, picture_query, picture_tower, to_vectors
from mmfeat.extract.encoders.vectors import card_of, vector_spec
from mmfeat.extract.localcache import remembered
from mmfeat.extract.options import (
    FRAME_OPTIONS,
    PICTURE_OPTIONS,
    PictureOptions,
    VectorOptions,
    WeightsOptions,
    need_model,
    pixel_input,
    refuse_options,
)
from mmfeat.extract.runtimes.choice import Network, picture_network, torch_runtime, use_torch_threads
from mmfeat.extract.weights import (
    find_on_hub,
    find_weights,
    is_path,
    loadable_folder,
    loading,
    random_seed_of,
    random_weights,
    seeded,
)
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.inputs import Input, PixelView, TextPrepare
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights
from mmfeat.schemas.validation import near

if TYPE_CHECKING:
    import torch

_CONFIG_FILE = "open_clip_config.json"
_HUB_PREFIX = "hf-hub:"
# "pure" casts every weight; open_clip's plain "bf16" keeps layer norms and embeddings in float32.
_PRECISIONS = {"float32": "fp32", "bfloat16": "pure_bf16", "float16": "pure_fp16"}
# What open_clip.transform.PreprocessCfg says where a model's configuration says nothing.
PREPROCESSING: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
_VIEW_MODES: dict[str, Any] = {"shortest": "shortest", "squash": "squash", "longest": "pad"}


_READS = ("image", "video", "text")


class OpenClipOptions(WeightsOptions, PictureOptions, VectorOptions):
    """``crop``, ``jpeg`` and the frames go with pictures and clips."""


class OpenClip(Encoder):
    """The image tower for pictures and the text tower for texts; both give ``[n, embed_dim]``.

    ``model`` is one of:
        an architecture that open_clip lists, with ``weights`` a pretrained tag of it;
        ``hf-hub:ORG/NAME``, a hub model with an ``open_clip_config.json``;
        the path of a folder with that layout.
    ``weights = "random:SEED"`` initialises any of them. Preprocessing is open_clip's own for the
    weights. Vectors have length 1 unless ``normalize = false``: retrieval compares cosines
    (arXiv 2103.00020). Texts are cut at the model's context length.

    A feature of pictures encodes texts as well: that is text-to-image search.
    """

    Options: ClassVar[type[OpenClipOptions]] = OpenClipOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(_READS),)
    batch_size: ClassVar[int] = 32
    example: ClassVar[ModelCard] = ModelCard(
        method="open_clip",
        model="ViT-B-32",
        reads=_READS,
        dims=512,
        input_size=(224, 224),
        licence="MIT",
        weights_from="hub: laion2b_s34b_b79k",
    )

    @classmethod
    def resolve(cls, ask: Ask[OpenClipOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        found = _find(ask, need_model(ask, "ViT-B-32"))
        if ask.only.modality == "text":
            refuse_options(ask, (*PICTURE_OPTIONS, *FRAME_OPTIONS), "pictures")
            tokens = found.model["text_cfg"].get("context_length", 77)
            read = ask.only.prepared(TextPrepare(max_tokens=tokens))
        else:
            read = found.input(ask)
        return vector_spec(
            ask,
            read,
            model=found.name,
            weights=found.weights,
            normalize=True,
            dims=found.model["embed_dim"],
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return card_of(spec, _READS)

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load what the spec reads; ConfigError where the weights are missing or not those of the spec."""
        self.spec = spec
        self._device = place.device
        self._threads = place.threads
        self.network: Network | None = None
        self.runtime = torch_runtime()
        if spec.pixels is None:
            _ = self.model
            return
        self.network = picture_network(spec, place, self._tower)
        self.runtime, self.notes = self.network.runtime, self.network.notes
        if self.runtime != torch_runtime():
            # Loaded to be converted, if at all.
            self.__dict__.pop("model", None)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """See :meth:`Encoder.encode_images`."""
        pixels = checked(pixels, self.spec)
        assert self.network is not None
        return to_vectors(self.network(pixels)[0], self.spec)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See :meth:`Encoder.encode_texts`. Loads the text tower if the pictures' was all so far."""
        import torch

        with torch.inference_mode():
            tokens = self.tokenizer(list(texts)).to(self._device)
            outputs = encode_cut(self.model, tokens).float().cpu().numpy()
        return to_vectors(outputs, self.spec)

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. Texts search pictures and texts; pictures search pictures."""
        pixels = self.spec.pixels
        if modality == "text":
            return Query(None, self.encode_texts)
        return None if modality != "image" or pixels is None else picture_query(pixels, self.encode_images)

    def _tower(self, spec: FeatureSpec) -> torch.nn.Module:
        model = self.model if spec == self.spec else self._loaded(spec)
        return picture_tower(spec, model, lambda model, inputs: model.encode_image(inputs))

    @cached_property
    def model(self) -> Any:
        """Both towers in torch."""
        return self._loaded(self.spec)

    def _loaded(self, spec: FeatureSpec) -> Any:
        use_torch_threads(self._threads)
        name, pretrained = _place(spec)
        return _load(spec, name, pretrained).to(self._device).eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Made when it is first wanted: some models' comes from the hub, and pictures need none."""
        import open_clip

        return open_clip.get_tokenizer(_place(self.spec)[0])


@dataclass(frozen=True)
class _Found:
    """A model's configuration by open_clip's names, and its weights, not loaded."""

    name: str
    weights: Weights
    model: dict[str, Any]
    preprocess: dict[str, Any]

    def input(self, ask: Ask[OpenClipOptions]) -> Input:
        """The picture or clip that is read."""
        cfg = PREPROCESSING | {k: v for k, v in self.preprocess.items() if v is not None}
        size = self.model["vision_cfg"].get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        mode = _VIEW_MODES[cfg["resize_mode"]]
        if mode == "shortest" and height != width:
            raise ask.error(
                f"{self.name!r} reads {height} x {width} pixels by its shorter side, "
                "which cannot be expressed"
            )
        fill = cfg["fill_color"]
        view = PixelView(
            mode=mode,
            height=height,
            width=width,
            resize=height if mode == "shortest" else None,
            # open_clip takes every other name for bicubic at inference.
            interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
            fill=(fill, fill, fill),
        )
        view = adjusted(view, ask.options.crop, ask.options.jpeg)
        return pixel_input(ask, ask.only, view, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))


def _find(ask: Ask[OpenClipOptions], model: str) -> _Found:
    if is_path(model):
        found = find_weights(ask, _CONFIG_FILE)
        return _from_file(ask, found.folder.name, found.weights, found.folder)
    if model.startswith(_HUB_PREFIX):
        hub_id = model.removeprefix(_HUB_PREFIX)
        found = find_weights(ask, _CONFIG_FILE, model=hub_id)
        return _from_file(ask, hub_id, found.weights, found.folder)
    return _listed(ask, model.replace("/", "-"))


def _from_file(ask: Ask[OpenClipOptions], model: str, weights: Weights, folder: Path) -> _Found:
    body = json.loads((folder / _CONFIG_FILE).read_text(encoding="utf-8"))
    if "model_cfg" not in body:
        raise ask.error(f"{_CONFIG_FILE} of {model!r} has no model_cfg")
    return _Found(model, weights, body["model_cfg"], body.get("preprocess_cfg", {}))


def _listed(ask: Ask[OpenClipOptions], model: str) -> _Found:
    """An architecture that comes with open_clip, with pretrained or random weights."""
    model_cfg, tag = architecture_of(ask, model), ask.options.weights
    if tag is not None and tag.startswith("random:"):
        return _Found(model, random_weights(random_seed_of(ask)), model_cfg, {})
    tag_cfg = remembered({"open_clip": model, "weights": tag}, lambda: _pretrained(ask, model, tag))
    _check_activation(ask, model, model_cfg, tag, tag_cfg)
    repo, _ = _repo_and_file(tag_cfg)
    revision = find_on_hub(ask.name, repo, ask.options.revision, needs=None).weights.revision
    # open_clip reads a tag in any case and with either dash: one spelling, one fingerprint.
    spelt = str(tag).lower().replace("-", "_")
    return _Found(model, Weights(origin="hub", ref=spelt, revision=revision), model_cfg, tag_cfg)


def architecture_of(ask: Ask[OpenClipOptions], model: str) -> dict[str, Any]:
    """The configuration that the package has of a model, read without importing it: that takes seconds."""
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise MissingExtra("The encoder 'open_clip'", "extract", "open_clip")
    files = {path.stem: path for path in (Path(package.origin).parent / "model_configs").glob("*.json")}
    if model not in files:
        raise ask.error(
            f"open_clip has no model {model!r}",
            hint=f"{near(model, files)}All: open_clip.list_models(). "
            f"A hub model goes by {_HUB_PREFIX}ORG/NAME, a folder by its path.",
        )
    architecture: dict[str, Any] = json.loads(files[model].read_text(encoding="utf-8"))
    return architecture


def _pretrained(ask: Ask[OpenClipOptions], model: str, tag: str | None) -> dict[str, Any]:
    """What open_clip says of a pretrained tag; ConfigError where it has none of that name."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    found: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag or "")
    if not found:
        raise ask.error(
            f"open_clip has no weights {tag!r} for {model!r}",
            hint=f"{near(tag or '', tags)}"
            f'There are: {", ".join(tags) or "none"}, and "random:0" for measuring speed.',
        )
    return found


def _check_activation(
    ask: Ask[OpenClipOptions], model: str, model_cfg: dict[str, Any], tag: str | None, tag_cfg: dict[str, Any]
) -> None:
    """open_clip only warns where weights were trained with the other GELU; their values are off."""
    if bool(model_cfg.get("quick_gelu")) == bool(tag_cfg.get("quick_gelu")):
        return
    suffix = "-quickgelu"
    right = model.removesuffix(suffix) if model.endswith(suffix) else model + suffix
    raise ask.error(
        f"the weights {tag!r} were trained with another activation than {model!r} has",
        hint=f'Set model = "{right}".',
    )


def _repo_and_file(tag_cfg: dict[str, Any]) -> tuple[str, str | None]:
    repo, _, file = tag_cfg["hf_hub"].rpartition("/")
    return repo, file or None


def _place(spec: FeatureSpec) -> tuple[str, str | None]:
    """What open_clip calls the model, and the file of its weights where the name does not say it."""
    import open_clip
    from open_clip.pretrained import download_pretrained_from_hf

    weights = spec.weights
    tag_cfg = open_clip.get_pretrained_cfg(spec.model, weights.ref) if weights.origin == "hub" else None
    if tag_cfg:
        repo, file = _repo_and_file(tag_cfg)
        return spec.model, download_pretrained_from_hf(repo, file, revision=weights.revision)
    if weights.origin == "random" and weights.location is None and weights.revision is None:
        return spec.model, None
    return f"local-dir:{loadable_folder(spec)}", None


def _load(spec: FeatureSpec, name: str, pretrained: str | None) -> Any:
    import open_clip

    precision = _PRECISIONS[spec.compute_dtype]
    if spec.weights.origin == "random":
        with seeded(spec.weights):
            return open_clip.create_model(
                name, load_weights=False, pretrained_text=False, precision=precision
            )
    with loading(spec):
        return open_clip.create_model(name, pretrained, precision=precision, require_pretrained=True)
