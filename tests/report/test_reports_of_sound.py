"""Reports on what was written of sounds: transcripts, and descriptions grounded by a CLAP-like feature."""

import base64
import io
from dataclasses import dataclass

import av
import numpy as np
import pytest
import reporting
import toneclap
from helpers.plugins import on_path, write_plugin
from helpers.sound_samples import sound, tone

from mmfeat.extract.fence.decode import MediaRequest, decode_media, sound_of
from mmfeat.extract.registry import load_method
from mmfeat.report.build import ReportOptions, report_captions
from mmfeat.report.model import Absent
from mmfeat.report.page import render
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Store

RATE = 16_000
CLAP = {"source": "audio", "encoder": "toneclap"}


@pytest.fixture(scope="module", autouse=True)
def _plugin(tmp_path_factory):
    with on_path(write_plugin(tmp_path_factory.mktemp("toneclap"), toneclap.POINTS)):
        yield


@dataclass
class Written:
    """A store of texts of sounds, and where the sounds are."""

    store: Store
    places: dict[str, str]


def text_spec(role: str, source: str) -> FeatureSpec:
    return FeatureSpec(
        name="said",
        inputs=[Input(source=source, modality="audio")],
        output=TextOut(role=role),
        method="whisper",
        model="tiny",
        weights=Weights(origin="random", ref="seed=0"),
    )


def written(folder, texts, facts=(), role="caption", source="audio"):
    """A store whose items have a tone each, one after the other of those that the encoder knows."""
    tones, column = list(toneclap.NAMES.values()), source.partition(".")[0]
    places = {}
    for n in range(len(texts)):
        place = folder / f"{n}.wav"
        place.write_bytes(sound(tone(tones[n % len(tones)], 0.5, RATE), RATE))
        places[str(n)] = str(place)
    planted = reporting.Planted(
        list(places),
        dict(zip(places, texts, strict=True)),
        media=places,
        facts=dict(zip(places, facts, strict=False)),
        source=column,
    )
    return Written(reporting.write(folder / "store", planted, spec=text_spec(role, source)), places)


def add_sound_vectors(made):
    """What a run would store of the sounds."""
    spec = reporting.spec_of("clap", **CLAP)
    wanted = (sound_of(spec.inputs[0].prepare),)
    rows = [decode_media(MediaRequest(place, wanted), MediaLimits()).values for place in made.places.values()]
    vectors = np.asarray(load_method(spec).run(rows))
    reporting.add_vectors(made.store, spec, list(made.places), vectors)


RIGHT = [f"One hears a {name} and nothing else." for name in toneclap.NAMES] * 2


def test_descriptions_of_sound_are_grounded_by_an_encoder_of_sounds_and_texts(tmp_path):
    made = written(tmp_path, RIGHT)
    add_sound_vectors(made)
    # CLIP's space, which a description of a sound has no place in.
    reporting.add_vectors(made.store, reporting.CLIP_SPEC, list(made.places), np.ones((16, 64)))
    report = report_captions(made.store, ReportOptions())
    assert report.grounding.encoder.startswith("ears (clap@")
    assert report.grounding.images.endswith("in the store")
    assert report.grounding.scored == 16
    assert report.grounding.auc > 0.9
    with pytest.raises(UsageError, match="not made by an encoder of sounds and texts"):
        report_captions(made.store, ReportOptions(grounding="clip"))


def test_wrong_descriptions_of_sound_have_the_auc_of_chance_and_the_worst_are_shown(tmp_path):
    made = written(tmp_path, [RIGHT[(n + 4) % 8] if n % 2 else RIGHT[n] for n in range(16)])
    add_sound_vectors(made)
    report = report_captions(made.store, ReportOptions())
    assert report.grounding.auc < 0.8
    worst = report.gallery[0]
    assert (worst.kind, worst.about) == ("worst", "Captions that fit their sound least.")
    assert {int(shown.item_id) % 2 for shown in worst.shown[:4]} == {1}


def test_a_clips_sound_is_encoded_for_the_report_where_the_store_has_another_sound(tmp_path):
    made = written(tmp_path, RIGHT, source="video.sound")
    reporting.add_vectors(made.store, reporting.spec_of("clap", **CLAP), ["0"], np.ones((1, 8)))
    report = report_captions(made.store, ReportOptions())
    assert "encoded for this report" in report.grounding.images
    assert report.grounding.auc > 0.9


def test_without_such_an_encoder_grounding_says_so(tmp_path):
    report = report_captions(written(tmp_path, RIGHT[:2]).store, ReportOptions())
    assert isinstance(report.grounding, Absent) and "no CLAP feature of sounds" in report.grounding.absent


def test_the_page_plays_the_sounds(tmp_path):
    report = report_captions(written(tmp_path, RIGHT[:2]).store, ReportOptions())
    (shelf,) = report.gallery
    recording = shelf.shown[0].sound
    with av.open(io.BytesIO(base64.b64decode(recording.mp3))) as file:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
        assert toneclap.pitch(samples, file.streams.audio[0].rate) == pytest.approx(200, rel=0.02)
    assert recording.seconds == 0.5
    html = render(report)
    assert html.count('<audio controls preload="none"') == 2
    assert f'src="data:audio/mpeg;base64,{recording.mp3}"' in html
    assert "Captions of audio" in html


def test_the_page_calls_texts_by_their_role(tmp_path):
    made = written(tmp_path, RIGHT[:2], role="transcript")
    assert "Transcripts of audio" in render(report_captions(made.store, ReportOptions()))


def spoken(seconds):
    return {"speech_seconds": seconds, "segments": []}


def test_transcripts_are_reported_with_phantoms_and_loops_and_may_be_empty(tmp_path):
    texts = [
        "",
        "We fried the fish in butter and lemon.",
        "Thank you for watching!",
        "Whoever said this was never there.",
        "I can't help with that, he told us.",
        "round and round " * 8,
    ]
    facts = [spoken(n) for n in (0.0, 3.0, 2.0, 0.0, 4.0, 9.0)]
    made = written(tmp_path, texts, facts, role="transcript")
    report = report_captions(made.store, ReportOptions())
    found = {one.kind: one for one in report.suspects}
    assert report.subject.kind == "transcript"
    assert report.coverage.ok == 6
    assert found["phantom"].item_ids == ("2", "3")
    assert [one.detail for one in found["phantom"].examples] == [
        "nothing but \u201cThank you for watching!\u201d",
        "nobody speaks, by the detector of voices",
    ]
    assert found["loop"].item_ids == ("5",)
    # What is said is no answer of a model, and nothing said is no fault.
    assert [found[kind].count for kind in ("refusal", "boilerplate", "empty", "cut")] == [0, 0, 0, 0]
    assert not any(found[kind].unchecked for kind in ("empty", "cut", "phantom"))
    assert all(found[kind].about.startswith("Not looked for") for kind in ("refusal", "boilerplate", "empty"))


@pytest.mark.parametrize("role", ["transcript", "ocr", "tags"])
def test_a_feature_chooses_any_text_of_media(tmp_path, role):
    made = written(tmp_path, ["a red cup", "a blue cup"], role=role)
    assert report_captions(made.store, ReportOptions(feature="said")).subject.kind == role
    assert report_captions(made.store, ReportOptions()).subject.kind == role


def test_only_transcripts_can_be_phantoms(tmp_path):
    report = report_captions(written(tmp_path, ["Thank you.", "You"], role="ocr").store, ReportOptions())
    (phantom,) = [one for one in report.suspects if one.kind == "phantom"]
    assert (phantom.count, phantom.unchecked) == (0, "These are no transcripts.")
