"""Features of whole clips by the video models of transformers: VideoMAE, V-JEPA 2, X-CLIP, VideoPrism, ..."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.extract.encoders.own_code import code_folder, code_of, find_model, trusted_code
from mmfeat.extract.encoders.pixels import adjusted, to_vectors
from mmfeat.extract.encoders.processor import frames_prepare
from mmfeat.extract.encoders.vectors import card_of, settings_of, vector_spec
from mmfeat.extract.encoders.video_models import OWN_CODE, VIDEO_MODELS, ClipPooling, VideoModel
from mmfeat.extract.loaded import Loaded, check_loaded
from mmfeat.extract.localcache import remembered
from mmfeat.extract.options import (
    FrameOptions,
    VectorOptions,
    WeightsOptions,
    frame_sampling,
    need_model,
    pixel_input,
)
from mmfeat.extract.runtimes.choice import torch_runtime, use_torch_threads
from mmfeat.extract.weights import folder_digest, loading, missing_package, seeded
from mmfeat.schemas.errors import ConfigError, MmfeatError
from mmfeat.schemas.inputs import FrameSampling, PixelPrepare, PixelView, VideoPrepare
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureSpec, ModelCard

if TYPE_CHECKING:
    import torch

_EXAMPLE = "MCG-NJU/videomae-base"
# Of frames that a model's own processor is to resize, none is larger on its longer side.
_BOUND = PixelView(mode="bound", height=1024, width=1024)


class TransformersVideoOptions(WeightsOptions, FrameOptions, VectorOptions):
    """Which frames a clip has, how they are shown, and what is read of the model's tokens.

    Attributes:
        trust_remote_code: the commit, in 40 hex digits, whose code in the model's repository may be run; of a
            folder the digest of its Python files. Without it no such code runs.
        crop: ``center``, ``squash`` (the aspect ratio is not kept) or ``pad``; the model's own when None.
        pooling: ``cls`` or ``mean`` of the tokens; the model's own way when None.
    """

    crop: Literal["center", "squash", "pad"] | None = None
    pooling: ClipPooling | None = None
    trust_remote_code: str | None = None


class TransformersVideo(Encoder):
    """One vector per clip of a model that sees all its frames together, and so their order.

    ``model`` is a hub id or a folder; ``weights = "random:SEED"`` initialises it from its configuration. A
    clip has as many frames as the model was trained on (VideoMAE's take exactly 16), uniform ones unless
    ``sampling`` says otherwise; a clip with fewer has some of them several times (``short`` of
    :class:`~mmfeat.schemas.inputs.FrameSampling`). Preprocessing is the model's processor's, as a view of
    ours or, where no view expresses it, by the processor itself.

    Pooling: the mean of all tokens, or the CLS token where the model's own classifier reads that
    (``pooling``), or the head that was trained against texts (X-CLIP, VideoPrism LVT, Perception Encoder AV):
    such a feature can be searched by text, and its vectors have length 1 unless ``normalize = false``.
    """

    Options: ClassVar[type[TransformersVideoOptions]] = TransformersVideoOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("video",)),)
    batch_size: ClassVar[int] = 64
    example: ClassVar[ModelCard] = ModelCard(
        method="transformers_video",
        model=_EXAMPLE,
        reads=("video",),
        dims=768,
        input_size=(224, 224),
        licence="cc-by-nc-4.0",
        weights_from=f"hub: {_EXAMPLE}",
    )

    @classmethod
    def resolve(cls, ask: Ask[TransformersVideoOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        options = ask.options
        model = need_model(ask, _EXAMPLE)
        if options.sampling == "scenes":
            raise ask.error(
                'sampling = "scenes" gives every clip another number of frames',
                "A video model takes one clip of a fixed number: leave sampling out.",
            )
        code = trusted_code(ask)
        found = find_model(ask, code, VIDEO_MODELS)
        shown = found.called(model)
        facts = {
            "transformers_video": shown,
            "configuration": folder_digest(found.folder, (".json",)),
            "code": code,
            "options": options.model_dump(include={"crop", "pooling", "frames"}),
        }
        outline = remembered(facts, lambda: _outline(ask, shown, found.folder))
        pixels = PixelPrepare.model_validate(outline.pop("pixels"))
        sampling = _sampling(ask, outline.pop("frames"))
        read = pixel_input(ask, ask.only, pixels.view, sampling, mean=pixels.mean, std=pixels.std)
        return vector_spec(
            ask,
            read,
            model=shown,
            weights=found.weights,
            trusted_code=code,
            time_pooling=None,
            **outline,
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return card_of(spec, ("video",))

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where some are missing or not those of the spec."""
        use_torch_threads(place.threads)
        self.spec, self._device = spec, place.device
        self.runtime = torch_runtime()
        self._folder = code_folder(spec)
        config = _config(spec.name, spec.model, self._folder, settings_of(spec).trusted_code)
        self._known = OWN_CODE if settings_of(spec).trusted_code else VIDEO_MODELS[config.model_type]
        self._model = _load(spec, config, self._folder, self._known)
        self._model.to(place.device, _compute_dtype(spec)).eval()
        self._processor = None
        if spec.pixels is None or spec.pixels.mean is None:
            self._processor = _processor(spec.name, spec.model, self._folder, self._known)

    def encode_clips(self, clips: Sequence[Frames]) -> np.ndarray:
        """See :meth:`Encoder.encode_clips`. One vector of each clip's frames together."""
        import torch

        pixels = [_checked(clip.pixels, self.spec) for clip in clips]
        with torch.inference_mode():
            outputs = self._known.read(self._model, self._inputs(pixels))
            pooling = settings_of(self.spec).pooling
            if pooling is not None:
                outputs = outputs[:, 0] if pooling == "cls" else outputs.mean(dim=1)
            return to_vectors(outputs.float().cpu().numpy(), self.spec)

    def _inputs(self, pixels: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Of the frames of each clip, what the model takes."""
        import torch

        prepare, dtype = self.spec.pixels, _compute_dtype(self.spec)
        if self._processor is not None:
            each = [_processed(self._processor, frames) for frames in pixels]
            inputs = {name: torch.cat([one[name] for one in each]) for name in each[0]}
            return {
                name: value.to(self._device, dtype if value.is_floating_point() else None)
                for name, value in inputs.items()
            }
        assert prepare is not None
        mean, std = (torch.tensor(v, device=self._device).view(3, 1, 1) for v in (prepare.mean, prepare.std))
        # As upstream, in float32 whatever the model computes in.
        frames = torch.from_numpy(np.stack(pixels)).to(self._device).permute(0, 1, 4, 2, 3).float() / 255
        return {self._known.pixels: ((frames - mean) / std).to(dtype)}

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a text, where the model has a tower for it."""
        if modality == "text" and self._known.read_text is not None:
            return Query(None, self.encode_texts)
        return super().query(modality)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts as the model's text tower sees them, for searches."""
        import torch

        assert self._known.read_text is not None, f"{self.spec.model} has no text tower"
        tokens = self._tokenizer(
            list(texts),
            padding=self._known.pad,
            truncation=True,
            max_length=self._known.length(self._model.config),
            return_token_type_ids=False,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            vectors = self._known.read_text(self._model, tokens)
        return to_vectors(vectors.float().cpu().numpy(), self.spec)

    @cached_property
    def _tokenizer(self) -> Any:
        """Made when it is first wanted: clips need none."""
        from transformers import AutoTokenizer

        with loading(self.spec):
            return AutoTokenizer.from_pretrained(self._folder)


def _sampling(ask: Ask[TransformersVideoOptions], frames: int) -> FrameSampling:
    sampling = frame_sampling(ask)
    return FrameSampling.model_validate({**sampling.model_dump(), "count": frames, "short": "repeat"})


def _outline(ask: Ask[TransformersVideoOptions], model: str, folder: Path) -> dict[str, Any]:
    """What of the spec only the model itself shows."""
    import torch

    options = ask.options
    code = options.trust_remote_code
    config = _config(ask.name, model, folder, code)
    known = OWN_CODE if code else _listed(ask, model, config)
    frames = _frames(ask, model, known, config)
    processor = _processor(ask.name, model, folder, known)
    pixels = None if code else frames_prepare(processor)
    if pixels is None and options.crop is not None:
        raise ask.error(f"frames are prepared by the processor of {model!r}", "Leave crop out.")
    pixels = pixels or PixelPrepare(view=_BOUND)
    if pixels.mean is not None:
        pixels = pixels.model_copy(update={"view": adjusted(pixels.view, options.crop, None)})
        shape = (1, frames, 3, pixels.view.height, pixels.view.width)
        inputs = {known.pixels: torch.empty(shape, device="meta")}
    else:
        blank = np.zeros((frames, 64, 64, 3), np.uint8)
        inputs = {k: tensor.to("meta") for k, tensor in _processed(processor, blank).items()}
    try:
        with torch.device("meta"):
            outputs = known.read(_built(config, code).eval(), inputs)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if lack := missing_package(ask.name, model, error):
            raise lack from error
        raise ask.error(
            f"{model!r} does not load as a video model for {frames} frames: {str(error).splitlines()[0]}"
        ) from error
    return {
        "pixels": pixels.model_dump(mode="json"),
        "frames": frames,
        "pooling": _pooling(ask, model, known),
        "dims": int(outputs.shape[-1]),
        "normalize": not known.poolings,
    }


def _listed(ask: Ask[Any], model: str, config: Any) -> VideoModel:
    known = VIDEO_MODELS.get(config.model_type)
    if known is None:
        raise ask.error(
            f"{model!r} is of the type {config.model_type!r}, which is not known to take clips",
            f"These are: {', '.join(sorted(VIDEO_MODELS))}. Models of pictures take the mean of a clip's "
            'frames: encoder = "transformers".',
        )
    return known


def _frames(ask: Ask[TransformersVideoOptions], model: str, known: VideoModel, config: Any) -> int:
    """How many frames a clip has; ConfigError where the model takes no such number."""
    own, asked = known.frames(config), ask.options.frames
    if asked is None or asked == own:
        return own
    if known.step is None:
        raise ask.error(f"{model!r} takes exactly {own} frames, not {asked}", "Leave frames out.")
    step = known.step(config)
    if asked % step:
        raise ask.error(f"{model!r} takes frames in groups of {step}, and {asked} leaves some over")
    return asked


def _pooling(ask: Ask[TransformersVideoOptions], model: str, known: VideoModel) -> ClipPooling | None:
    asked = ask.options.pooling
    if asked is None:
        return known.poolings[0] if known.poolings else None
    if asked not in known.poolings:
        has = (
            f"It has: {', '.join(known.poolings)}." if known.poolings else "It has a head: leave pooling out."
        )
        raise ask.error(f"{model!r} has no pooling {asked!r}", has)
    return asked


def _config(name: str, model: str, folder: Path, code: str | None) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=code is not None)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if lack := missing_package(name, model, error):
            raise lack from error
        raise ConfigError(
            f"feature {name!r}: {model!r} has no configuration of a model that the installed transformers "
            f"knows: {str(error).splitlines()[0]}"
        ) from error


def _processor(name: str, model: str, folder: Path, known: VideoModel) -> Any:
    """The model's processor of frames; ConfigError where the folder has none."""
    import transformers

    own_code = known is OWN_CODE
    kind = "AutoProcessor" if own_code and "AutoProcessor" in code_of(folder) else known.processor
    try:
        processor = getattr(transformers, kind).from_pretrained(folder, trust_remote_code=own_code)
    except (OSError, ValueError, ImportError) as error:
        if lack := missing_package(name, model, error):
            raise lack from error
        raise ConfigError(
            f"feature {name!r}: {model!r} has no processor of clips: {str(error).splitlines()[0]}",
            hint="The folder needs the model's video_preprocessor_config.json or preprocessor_config.json.",
        ) from error
    if known.plain:
        # VideoPrismProcessor says so in every call, and its file of frames does not.
        processor.do_normalize = False
    return processor


def _processed(processor: Any, frames: np.ndarray) -> dict[str, torch.Tensor]:
    """The inputs that a processor makes of one clip's frames, which it does not choose from."""
    choice = {"do_sample_frames": False} if hasattr(processor, "do_sample_frames") else {}
    return dict(processor(videos=frames.transpose(0, 3, 1, 2)[None], return_tensors="pt", **choice))


def _built(config: Any, code: str | None) -> Any:
    from transformers import AutoModel

    return AutoModel.from_config(config, trust_remote_code=code is not None)  # type: ignore[no-untyped-call]


def _load(spec: FeatureSpec, config: Any, folder: Path, known: VideoModel) -> Any:
    import torch
    from transformers import AutoModel

    code = settings_of(spec).trusted_code
    if spec.weights.origin == "random":
        with seeded(spec.weights):
            return _built(config, code)
    with loading(spec):
        model, report = AutoModel.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=code is not None,
        )
    check_loaded(spec, Loaded.by_transformers(model, report, folder), known.unused)
    return model


def _compute_dtype(spec: FeatureSpec) -> torch.dtype:
    import torch

    dtype: torch.dtype = getattr(torch, spec.compute_dtype)
    return dtype


def _checked(pixels: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """The frames; MmfeatError where they are not as many, or not in the view, as the model takes."""
    prepare = spec.pixels
    assert isinstance(prepare, VideoPrepare), f"{spec.name} reads clips"
    view, count = prepare.view, prepare.sampling.count
    size = pixels.shape[1:] if view.mode == "bound" else (view.height, view.width, 3)
    if pixels.dtype != np.uint8 or pixels.shape != (count, *size):
        raise MmfeatError(
            f"{spec.method} wants {count} frames of {view.height} x {view.width} in uint8, "
            f"got {pixels.dtype} {pixels.shape}"
        )
    return pixels
