"""The contract kit finds a method that breaks a promise, and says which one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmfeat.extract import testing
from mmfeat.extract.agreement import difference, outcomes, value_problem
from mmfeat.extract.base import Ask, Caption, Captioner, Encoder, Placement, Query, Reads
from mmfeat.extract.probes import probe
from mmfeat.extract.testing import check_method, check_resolve
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, ImagePrepare, Input, PixelView, VideoPrepare
from mmfeat.schemas.outputs import TextOut, TokensOut, VectorOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

TABLE = {"source": "title", "encoder": "letters", "letters": 8}
CARD = ModelCard(method="letters", model="letters", reads=("text",), licence="MIT", weights_from="none")


class LetterOptions(Frozen):
    letters: int = 8


class Letters(Encoder):
    """How often each letter occurs in a text: a method that keeps every promise."""

    Options = LetterOptions
    reads = (Reads(("text",)),)
    example = CARD
    output: Any = None

    @classmethod
    def resolve(cls, ask: Ask[LetterOptions]) -> FeatureSpec:
        return ask.spec(
            inputs=(ask.only.prepared(),),
            output=cls.output or VectorOut(dims=ask.options.letters),
            model="letters",
            weights=Weights(origin="package", ref="letters"),
            options=ask.options.model_dump(),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def encode_texts(self, texts):
        if "fail" in texts:
            raise ValueError("no letters in this one")
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> np.ndarray:
        counts = [text.count(chr(97 + n)) for n in range(self.spec.options["letters"])]
        return np.array([*counts[:-1], len(text)], np.float32)


def test_a_method_that_keeps_its_promises_passes_and_is_given_back_loaded():
    method = check_method(Letters, TABLE, failing=[("fail",)])
    assert isinstance(method, Letters)
    assert method.spec.dims == 8


class Swapped(Letters):
    def encode_texts(self, texts):
        return super().encode_texts(sorted(texts))


class Padded(Letters):
    def encode_texts(self, texts):
        vectors = super().encode_texts(texts)
        vectors[:, 0] += max(map(len, texts))
        return vectors


class Scaled(Letters):
    def encode_texts(self, texts):
        return super().encode_texts(texts) * np.float32(len(texts))


class Restless(Letters):
    passes = 0

    def encode_texts(self, texts):
        self.passes += 1
        return super().encode_texts(texts) + np.float32(self.passes)


class Lost(Letters):
    def encode_texts(self, texts):
        return super().encode_texts(texts)[:-1]


class Constant(Letters):
    def vector(self, text):
        return np.ones(8, np.float32)


class Long(Letters):
    def vector(self, text):
        return np.append(super().vector(text), np.float32(1))


class Doubles(Letters):
    def encode_texts(self, texts):
        return super().encode_texts(texts).astype(np.float64)


class Broken(Letters):
    def vector(self, text):
        return np.full(8, np.nan, np.float32) if text == "x" else super().vector(text)


class Refusing(Letters):
    def encode_texts(self, texts):
        raise MemoryError


class Forgiving(Letters):
    def encode_texts(self, texts):
        return np.stack([np.zeros(8, np.float32) if text == "fail" else self.vector(text) for text in texts])


class Lenient(Letters):
    """A row that fails takes its batch's first value along."""

    def run(self, rows):
        values: list[Any] = [self.vector(text) for (text,) in rows]
        for number, (text,) in enumerate(rows):
            if text == "fail":
                values[0] = values[number] = ItemError("encode", "no letters in this one")
        return values


class Unsearchable(Letters):
    def query(self, modality):
        raise NotImplementedError


class WrongQuery(Letters):
    def query(self, modality):
        return (
            None if modality != "text" else Query(None, lambda texts: np.zeros((len(texts), 3), np.float32))
        )


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        (Swapped, "values do not follow their rows: row 0 gets the value of row"),
        (Padded, "a row's value is another one alone: row 0: cosine 0."),
        (Scaled, "a row's value is another one alone: row 0: lengths 6 and 1"),
        (Restless, "a second pass gives other values: row 0: cosine 0."),
        (Lost, "run gives 5 values for 6 rows"),
        (Constant, "every row has the same value"),
        (Long, "row 0: shape [9] instead of [8]"),
        (Doubles, "row 0: float64 instead of float32"),
        (Broken, "row 0: NaN or infinity"),
        (Refusing, "run raises MemoryError for rows"),
        (Forgiving, "failing row 0 has a value: an array of shape (8,)"),
        (Lenient, "failing row 0 changes the values of others: row 0: an array of shape (8,) and a failure "
                  "(encode: no letters in this one)"),
        (Unsearchable, "query('text') raises NotImplementedError; where nothing can be searched it gives"),
        (WrongQuery, "query('text') gives float32 (3, 3) instead of float32 (3, 8)"),
    ],
)  # fmt: skip
def test_a_method_that_breaks_a_promise_is_found_out(method, broken):
    with pytest.raises(AssertionError) as raised:
        check_method(method, TABLE, failing=[("fail",)])
    assert broken in str(raised.value)


class Lax(Letters):
    class Options(LetterOptions, extra="allow"):
        pass


class Drifting(Letters):
    times = 0

    @classmethod
    def resolve(cls, ask):
        Drifting.times += 1
        return super().resolve(ask).with_options(times=Drifting.times)


class Numbering(Letters):
    @classmethod
    def resolve(cls, ask):
        return super().resolve(ask).with_options(numbers={1: 2})


class Unnamed(Letters):
    example = None


class Blind(Letters):
    reads = ()


class Deaf(Letters):
    """Forgets that its input is another feature."""

    @classmethod
    def resolve(cls, ask):
        spec = super().resolve(ask)
        return spec.model_copy(update={"inputs": (Input(source=ask.only.source, modality="text"),)})


class Forgetful(Letters):
    """Forgets its second input."""

    reads = (Reads(("text",), together=True),)

    @classmethod
    def resolve(cls, ask):
        return ask.spec(
            inputs=(ask.inputs[0].prepared(),), output=VectorOut(dims=8), model="x",
            weights=Weights(origin="package", ref="x"),
        )  # fmt: skip


class Peeking(Letters):
    """Reads its weights to say how long its vectors are."""

    class Options(LetterOptions):
        model: str = ""

    @classmethod
    def resolve(cls, ask):
        from pathlib import Path

        folder = Path(ask.options.model)
        found = len(np.load(folder / "letters.npy"))
        weights = Weights(origin="folder", ref=folder.name, location=str(folder))
        return ask.spec(
            inputs=(ask.only.prepared(),), output=VectorOut(dims=found), model="x", weights=weights
        )


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        (Drifting, "a table resolves to one spec today and to another one tomorrow"),
        (Numbering, "the spec is another one after it went through JSON"),
        (Unnamed, "Unnamed has no example"),
        (Blind, "Blind does not say what it reads"),
        (Deaf, "the spec's input 'said' was not made by prepared()"),
        (Forgetful, r"the spec reads \['title'\], and the table names \['description', 'title'\]"),
        (Peeking, "the table cannot be resolved without its weights"),
    ],
)
def test_a_spec_that_breaks_a_promise_is_found_out(method, broken, tmp_path):
    np.save(tmp_path / "letters.npy", np.zeros(8))
    changes = {
        Peeking: {"model": str(tmp_path)},
        Deaf: {"source": "said"},
        Forgetful: {"source": None, "inputs": ["title", "description"]},
    }
    said = spec_of(Input(source="audio", modality="audio"), output=TextOut(role="transcript"))
    with pytest.raises(AssertionError, match=broken):
        check_resolve(method, {**TABLE, **changes.get(method, {})}, upstreams={"said": said})


def test_a_plain_text_and_a_batch_of_texts_that_differ_are_found_out():
    class Numbered(Captioner):
        Options, reads, example = LetterOptions, (Reads(("text",)),), CARD

        @classmethod
        def resolve(cls, ask):
            return Letters.resolve(ask).model_copy(update={"output": TextOut(role="caption")})

        def __init__(self, spec, place):
            self.spec = spec

        def caption(self, rows):
            return [Caption(f"{text[:5]} is one of {len(rows)}", "stop") for (text,) in rows]

    with pytest.raises(AssertionError, match="another one alone: row 0: 'x is one of 6' and 'x is one of 1'"):
        check_method(Numbered, {"source": "title", "captioner": "numbered"})


# Probes ------------------------------------------------------------------------------------------------


def spec_of(*inputs: Input, output: Any = None) -> FeatureSpec:
    return FeatureSpec(
        name="x", inputs=inputs, output=output or VectorOut(dims=3), method="x", model="x",
        weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip


SQUARE = PixelView(mode="squash", height=20, width=30)
BOUND = PixelView(mode="bound", height=64, width=64)


def test_a_probe_is_what_a_specs_inputs_are_and_the_same_every_time():
    clip = VideoPrepare(view=SQUARE, sampling=FrameSampling(count=4))
    sound = AudioPrepare(sample_rate=8000, seconds=0.5, windows="all", count=3)
    spec = spec_of(
        Input(source="title", modality="text"),
        Input(source="cover", modality="image", prepare=ImagePrepare(view=SQUARE)),
        Input(source="big", modality="image", prepare=ImagePrepare(view=BOUND)),
        Input(source="video", modality="video", prepare=clip),
        Input(source="audio", modality="audio", prepare=sound),
        Input(source="speech", modality="text", optional=True),
    )
    rows, again = probe(spec), probe(spec)
    for row, same in zip(rows, again, strict=True):
        text, cover, big, frames, heard, speech = row
        assert (text, speech) == (same[0], same[5])
        np.testing.assert_array_equal(frames.pixels, same[3].pixels)
        np.testing.assert_array_equal(heard.samples, same[4].samples)
        assert cover.pixels.shape == (1, 20, 30, 3)
        assert max(big.pixels.shape[1:3]) <= 64
        assert len(frames.pixels) == len(frames.times)
        assert heard.sample_rate == 8000
        assert len(heard.samples) == sum(n for _, _, n in heard.windows)
        assert max(n for _, _, n in heard.windows) <= 4000
    assert [len(frames.pixels) for _, _, _, frames, _, _ in rows] == [1, 2, 3, 4, 4, 4]
    assert [speech is None for *_, speech in rows] == [False, False, True] * 2
    assert len({len(text) for text, *_ in rows}) == 6
    assert len({big.pixels.shape for _, _, big, *_ in rows}) > 2


def test_what_no_probe_can_be_made_of_is_said():
    with pytest.raises(TypeError, match="no vector can be made up for 'clip'; give rows"):
        probe(spec_of(Input(source="clip", modality="vector")))


# Values ------------------------------------------------------------------------------------------------

TEXT = Input(source="title", modality="text")


def test_values_of_every_form_are_held_against_their_spec():
    tokens = spec_of(TEXT, output=TokensOut(dims=3))
    assert value_problem(tokens, np.ones((5, 3), np.float32)) is None
    assert value_problem(tokens, np.ones((5, 4), np.float32)) == "shape [5, 4] instead of [any number, 3]"
    assert value_problem(tokens, np.ones(3, np.float32)) == "shape [3] instead of [any number, 3]"
    captions = spec_of(TEXT, output=TextOut(role="caption"))
    assert value_problem(captions, Caption("a cat", "stop")) is None
    assert value_problem(captions, Caption(" ", "stop")) == "an empty text"
    assert value_problem(captions, "a cat") == "a str instead of a Text"
    assert "cannot be stored" in value_problem(captions, Caption("half \ud83d", "stop"))


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ([1, 0, 0], [1, 0, 0], None),
        ([1, 0, 0], [1, 1e-4, 0], None),
        ([1, 0, 0], [1, 1e-2, 0], "cosine 0.999950"),
        ([1, 0, 0], [2, 0, 0], "lengths 1 and 2"),
        ([0, 0, 0], [0, 0, 0], None),
        ([0, 0, 0], [1, 0, 0], "cosine 0.000000"),
        ([np.nan, 0, 0], [1, 0, 0], "cosine nan"),
        ([[1, 0, 0], [0, 1, 0]], [[1, 0, 0]], "shapes (2, 3) and (1, 3)"),
    ],
)
def test_vectors_agree_in_direction_and_length(one, other, what):
    spec = spec_of(TEXT, output=TokensOut(dims=3))
    assert difference(spec, np.array(one, np.float32), np.array(other, np.float32)) == what


def test_a_batch_that_raises_is_bisected_down_to_the_row_at_fault():
    loaded = Letters(check_resolve(Letters, TABLE), Placement())
    found = outcomes(loaded, [("a",), ("fail",), ("b",), ("fail",), ("c",)])
    assert [isinstance(value, ValueError) for value in found] == [False, True, False, True, False]


def test_a_feature_of_added_columns_and_of_other_features_can_be_checked():
    columns = {"brand": Column("brand", "text")}
    check_method(Letters, {**TABLE, "source": "brand"}, columns=columns)
    caption = spec_of(TEXT, output=TextOut(role="caption"))
    method = check_method(Letters, {**TABLE, "source": "x"}, upstreams={"x": caption})
    assert method.spec.upstreams == {"x": caption.fingerprint}


def test_an_encoder_that_does_not_say_how_it_reads_inputs_together_says_so():
    class Together(Forgetful):
        @classmethod
        def resolve(cls, ask):
            return (
                super()
                .resolve(ask)
                .model_copy(update={"inputs": tuple(one.prepared() for one in ask.inputs)})
            )

    table = {"inputs": ["title", "description"], "encoder": "letters"}
    with pytest.raises(AssertionError, match="letters does not say how it reads several inputs together"):
        check_method(Together, table)


def test_the_kit_needs_no_pytest():
    assert "pytest" not in vars(testing)
