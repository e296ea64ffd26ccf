"""PP-OCR by the package rapidocr, whose wheel holds the models: no network needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Ocr, Placement, Reads, Row, Text
from mmfeat.extract.describers.ocr.lines import Line, in_reading_order, shown
from mmfeat.extract.describers.ocr.order import Box
from mmfeat.extract.options import FrameOptions, Place, pixel_input
from mmfeat.extract.weights import Packaged, file_digest, loading
from mmfeat.schemas.errors import ConfigError, ItemError, MissingExtra
from mmfeat.schemas.inputs import MOST_PICTURES, PixelView
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

_PACKAGE = "rapidocr"
_MODEL = "PP-OCRv6-small"
_READS = ("image", "video")


def _packaged(name: str, sha256: str) -> Packaged:
    return Packaged(_PACKAGE, f"rapidocr/models/{name}", sha256, 'pip install "mmfeat[ocr]"')


# Of rapidocr 3.10.0: where text is, whether a line stands on its head, and what it says.
_DETECTOR = _packaged(
    "PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"
)
_TURNER = _packaged(
    "ch_ppocr_mobile_v2.0_cls_mobile.onnx", "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
)
_RECOGNISER = _packaged(
    "PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"
)

_DEFAULT_MAX_SIDE = 1280
_DEFAULT_MIN_SCORE = 0.5
# The detector wants the shorter side to have so many pixels, and enlarges what has fewer. PaddleOCR's own
# pipeline takes 64; rapidocr's 736 costs four times as much of a small picture, and parts large words.
_LEAST_SIDE = 64
# A picture that is narrower yet is put on black, a quarter as wide as it is long: rapidocr does so with wide
# ones, and would enlarge a high one to gigabytes.
_MOST_NARROW = 8
_WIDENED = 4
# A cup from above is read as a large 8: no line of so few letters is so high, in shares of the picture.
_FEW_LETTERS = 2
_HIGH = 0.8


class RapidOcrOptions(FrameOptions):
    """What is read of pictures and clips, and by which recognition model.

    Attributes:
        jpeg: ``exact``, or ``scaled``: libjpeg decodes large JPEGs at a reduced scale, never below twice the
            size needed; ``exact`` when None.
        max_side: no picture is larger, on its longer side, in pixels; 1280 when None. Small print wants more,
            and costs more.
        max_pictures: most pictures of a list that are read; 8 when None.
        min_score: a line that the model is less sure of is left out; 0.5 when None.
        language: refused unless the recognition model reads it.
        model: another recognition model: the path of an ONNX file.
    """

    jpeg: Literal["exact", "scaled"] | None = None
    max_side: int | None = Field(default=None, ge=64, le=8192)
    max_pictures: int | None = Field(default=None, gt=0, le=MOST_PICTURES)
    min_score: float | None = Field(default=None, ge=0, le=1)
    language: str | None = None
    model: Place = None


@dataclass(frozen=True)
class OnScreen(Text):
    """The text of a picture or clip: a line of it per line.

    Attributes:
        lines: what is known of each, in the order of the text: ``text``, ``box`` (``[left, top, right,
            bottom]`` in shares of the picture's width and height) and ``score``; of a clip ``start`` and
            ``end``, the seconds of the first and the last frame that shows it, and how many ``frames`` do;
            of one of several pictures ``picture``, its number in the list from 1.
    """

    can_be_empty: ClassVar[bool] = True

    lines: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, lines: Sequence[dict[str, Any]]) -> OnScreen:
        """The text of some lines."""
        return cls("\n".join(line["text"] for line in lines), tuple(lines))

    @property
    def parts(self) -> tuple[Any, ...]:
        """See :attr:`Text.parts`."""
        return self.lines

    def facts(self) -> dict[str, Any]:
        """See :meth:`Text.facts`."""
        return {"lines": list(self.lines)}


class RapidOcr(Ocr):
    """What stands written in a picture, in several, or in the frames of a clip.

    rapidocr's own pipeline, one picture at a time: PP-OCR's detector, its classifier of lines that stand on
    their heads, and its recogniser (arXiv 2009.09941). Unlike there no picture is enlarged for the detector,
    and pieces of a line are joined, lines are put in reading order, and a line that several frames show is
    one. A thing as large as the picture that is taken for a letter or two is none.
    """

    Options: ClassVar[type[RapidOcrOptions]] = RapidOcrOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(_READS),)
    # Pictures are read one by one: a larger batch would only hold more of them.
    batch_size: ClassVar[int] = 4
    example: ClassVar[ModelCard] = ModelCard(
        method="rapidocr",
        model=_MODEL,
        reads=_READS,
        licence="Apache-2.0",
        weights_from=f"package: {_PACKAGE}",
        notes="Text on screen, in Chinese, Japanese, English and some 45 languages in Latin letters.",
    )

    @classmethod
    def resolve(cls, ask: Ask[RapidOcrOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`.

        Raises:
            MissingExtra: rapidocr or onnxruntime is not installed.
        """
        for package in (_PACKAGE, "onnxruntime"):
            if find_spec(package) is None:
                raise MissingExtra("On-screen text by 'rapidocr'", "ocr", package)
        options = ask.options
        side = options.max_side or _DEFAULT_MAX_SIDE
        view = PixelView(mode="bound", height=side, width=side, jpeg=options.jpeg or "exact")
        score = _DEFAULT_MIN_SCORE if options.min_score is None else options.min_score
        return ask.spec(
            inputs=(pixel_input(ask, ask.only, view),),
            output=TextOut(role="ocr", segments=ask.only.modality == "video"),
            model=_MODEL if options.model is None else Path(options.model).stem,
            weights=_weights(ask),
            # Of a model of one's own, in which direction it writes; the packaged one needs not be told.
            options={"min_score": score, "language": options.model and options.language},
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the models; ConfigError where a file is not the one that was planned."""
        self.spec = spec
        with loading(spec):
            self._engine = _engine(spec, place)
        self.runtime = f"onnxruntime {version('onnxruntime')}"
        if place.device != "cpu":
            self.notes = (
                f"{spec.name} is read on the CPU: {_PACKAGE} takes onnxruntime, which computes there",
            )

    def run(self, rows: Sequence[Row]) -> list[OnScreen | ItemError]:
        """See :meth:`Method.run`. An item without a picture is an ItemError, one without text has an empty
        one."""
        return [self._read(value) for (value,) in rows]

    def _read(self, value: Frames | Pictures) -> OnScreen | ItemError:
        if not len(value.pixels):
            return ItemError("ocr", "no frame to read")
        if isinstance(value, Pictures):
            return OnScreen.of(_of_pictures(value, [self._lines(picture) for picture in value.pixels]))
        read = [self._lines(frame) for frame in value.pixels]
        return OnScreen.of(
            _of_clip(value, read) if self.spec.modalities == ("video",) else [_facts(one) for one in read[0]]
        )

    def _lines(self, picture: np.ndarray) -> list[Line]:
        """The lines of one picture, uint8 ``[height, width, 3]`` RGB, in reading order."""
        height, width = picture.shape[:2]
        padded, left, top = _widened(picture)
        # OpenCV's order of colours.
        found = self._engine(np.ascontiguousarray(padded[..., ::-1]))
        if found.txts is None or found.boxes is None:
            return []
        pieces = [
            Line(" ".join(text.split()), _moved(corners, left, top, width, height), float(score))
            for text, corners, score in zip(found.txts, found.boxes, found.scores, strict=True)
        ]
        lines = in_reading_order([piece for piece in pieces if piece.text])
        shares = [replace(line, box=_share(line.box, width, height)) for line in lines]
        return [line for line in shares if not _is_a_thing(line)]


# Which models ------------------------------------------------------------------------------------------


def _weights(ask: Ask[RapidOcrOptions]) -> Weights:
    """The three files by one digest: of the digests of their contents and of the parts that they play."""
    options = ask.options
    parts = {"detect": _DETECTOR.sha256, "turn": _TURNER.sha256, "recognise": _RECOGNISER.sha256}
    for one in (_DETECTOR, _TURNER, _RECOGNISER):
        one.path(ask.name)
    if options.model is None:
        _check_language(ask)
        return Weights(origin="package", ref=_PACKAGE, digest=_together(parts))
    file = Path(options.model).expanduser().resolve()
    if file.suffix != ".onnx" or not file.is_file():
        raise ask.error(
            f"model = {options.model!r} is no .onnx file",
            "Give a recognition model of PP-OCR in ONNX, or leave model out for the packaged one.",
        )
    digest = _together({**parts, "recognise": file_digest(file)})
    return Weights(origin="folder", ref=file.name, digest=digest, location=str(file))


def _together(parts: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {part}\n" for part, digest in sorted(parts.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _check_language(ask: Ask[RapidOcrOptions]) -> None:
    """ConfigError unless the packaged recogniser reads the language."""
    language = ask.options.language
    if language is None:
        return
    from rapidocr.utils.model_resolver import list_supported_langs
    from rapidocr.utils.typings import ModelType, OCRVersion, TaskType

    known = list_supported_langs(TaskType.REC, OCRVersion.PPOCRV6, ModelType.SMALL)
    if language not in known:
        raise ask.error(
            f"the recognition model that comes with {_PACKAGE} does not read language = {language!r}",
            f"It reads {', '.join(known)}. For another one download PP-OCR's recognition model in ONNX "
            f'({_PACKAGE} lists them in its default_models.yaml), and name the file: model = "FILE.onnx". '
            "Nothing is downloaded here.",
        )


def _engine(spec: FeatureSpec, place: Placement) -> Any:
    """rapidocr with files that are named: it would download what is not."""
    from rapidocr import RapidOCR

    view = spec.pixels.view if spec.pixels else None
    assert view is not None, "resolve gives a view"
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.text_score": spec.options["min_score"],
            # Smaller already.
            "Global.max_side_len": view.height,
            "Det.limit_side_len": _LEAST_SIDE,
            "Det.model_path": str(_DETECTOR.checked(spec.name)),
            "Cls.model_path": str(_TURNER.checked(spec.name)),
            "Rec.model_path": str(_recogniser(spec)),
            "Rec.lang_type": spec.options.get("language", "ch"),
            "EngineConfig.onnxruntime.intra_op_num_threads": place.threads or -1,
        }
    )


def _recogniser(spec: FeatureSpec) -> Path:
    """The recogniser's file; ConfigError where it changed, or does not say which letters it knows."""
    if spec.weights.location is None:
        return _RECOGNISER.checked(spec.name)
    file = Path(spec.weights.location)
    parts = {"detect": _DETECTOR.sha256, "turn": _TURNER.sha256, "recognise": file_digest(file)}
    if _together(parts) != spec.weights.digest:
        raise ConfigError(
            f"feature {spec.name!r}: {file} is not the model that was planned",
            hint="Start the run again to use the new one.",
        )
    _check_letters(spec.name, file)
    return file


def _check_letters(name: str, file: Path) -> None:
    """rapidocr would download a list of letters for a model that holds none."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    if "character" not in session.get_modelmeta().custom_metadata_map:
        raise ConfigError(
            f"feature {name!r}: {file} does not say which letters it reads: it has no metadata 'character'",
            hint=f"{_PACKAGE}'s own ONNX files of PP-OCR's recognition models have it.",
        )


# Pictures and boxes ------------------------------------------------------------------------------------


def _widened(picture: np.ndarray) -> tuple[np.ndarray, int, int]:
    """A picture that is not too narrow, and how far it was moved to the right and down for it."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= _MOST_NARROW * min(height, width):
        return picture, 0, 0
    left, top = (max(longer // _WIDENED - side, 0) // 2 for side in (width, height))
    return np.pad(picture, ((top, top), (left, left), (0, 0))), left, top


def _moved(corners: np.ndarray, left: int, top: int, width: int, height: int) -> Box:
    """The box around four corners ``[4, 2]`` of a widened picture, in pixels of the picture itself."""
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    xs = np.clip([x0 - left, x1 - left], 0, width)
    ys = np.clip([y0 - top, y1 - top], 0, height)
    return float(xs[0]), float(ys[0]), float(xs[1]), float(ys[1])


def _is_a_thing(line: Line) -> bool:
    return len(line.text) <= _FEW_LETTERS and line.box[3] - line.box[1] >= _HIGH


def _share(box: Box, width: int, height: int) -> Box:
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


# Facts -------------------------------------------------------------------------------------------------


def _facts(line: Line, **where: Any) -> dict[str, Any]:
    box = [round(side, 4) for side in line.box]
    return {"text": line.text, **where, "box": box, "score": round(line.score, 4)}


def _of_pictures(pictures: Pictures, read: Sequence[Sequence[Line]]) -> list[dict[str, Any]]:
    lost = {number for number, _, _ in pictures.lost}
    numbers = [n for n in range(1, len(read) + len(lost) + 1) if n not in lost]
    return [
        _facts(line, picture=number) for number, lines in zip(numbers, read, strict=True) for line in lines
    ]


def _of_clip(clip: Frames, read: Sequence[Sequence[Line]]) -> list[dict[str, Any]]:
    times = [round(time, 3) for time in clip.times]
    return [
        _facts(one.line, start=times[one.first], end=times[one.last], frames=one.frames)
        for one in shown(read)
    ]
