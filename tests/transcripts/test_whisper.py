"""What is said is written down, with its times; if nobody speaks, nothing is."""

import shutil
import subprocess

import numpy as np
import pytest
from sentences import SENTENCES, VOICE
from sounds import RATE, SAID, as_sound, errors, heard, in_container, pause, spoken, without_speech, words

from mmfeat.extract.describers.transcripts.hearing import Piece
from mmfeat.report.marks import marks_of_speech

CONTAINERS = ("wav", "mp4", "matroska")


def word_error_rate(said, transcripts):
    wrong = sum(errors(one, other.text) for one, other in zip(said, transcripts, strict=True))
    return wrong / sum(len(words(one)) for one in said)


def test_speech_in_wav_mp4_and_mkv_is_written_down(whisper):
    files = [in_container(spoken(name), CONTAINERS[at % 3]) for at, name in enumerate(SAID)]
    found = whisper.run([(heard(file),) for file in files])
    assert word_error_rate(list(SAID.values()), found) <= 0.1
    for one in found:
        facts = one.facts()
        assert facts["language"] == "en"
        assert facts["language_probability"] == 1.0
        assert facts["speech_share"] > 0.8
        assert all(
            part.keys() >= {"no_speech_prob", "avg_logprob", "compression_ratio"}
            for part in facts["segments"]
        )


def test_segments_say_when_something_was_said(whisper):
    first, second = spoken("winter"), spoken("team")
    (found,) = whisper.run([(as_sound(pause(3), first, pause(40), second, pause(5)),)])
    begin = 3 + len(first) / RATE + 40
    one, other = found.segments[0], found.segments[-1]
    assert abs(one.start - 3) < 0.6
    assert abs(other.start - begin) < 0.6
    assert abs(other.end - begin - len(second) / RATE) < 0.8
    assert one.end < 3 + len(first) / RATE + 0.6
    # Half of a minute is silence, and nobody listens to it.
    assert found.facts()["heard_seconds"] == pytest.approx(48 + (len(first) + len(second)) / RATE, abs=0.01)
    assert found.speech_seconds < (len(first) + len(second)) / RATE + 0.5


def test_nothing_is_written_down_of_music_noise_tones_and_silence(whisper):
    names, sounds = zip(*without_speech(8), strict=True)
    found = whisper.run([(one,) for one in sounds])
    assert {name: one.text for name, one in zip(names, found, strict=True)} == dict.fromkeys(names, "")
    assert all(one.can_be_empty for one in found)


@pytest.mark.slow
def test_nothing_is_written_down_of_60_sounds_without_speech(whisper):
    for name, one in without_speech(60):
        (found,) = whisper.run([(one,)])
        assert found.text == "", name


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng speaks the sentences")
@pytest.mark.parametrize("container", CONTAINERS)
def test_40_sentences_are_written_down_in_every_container(whisper, container):
    files = [in_container(_espeak(sentence), container) for sentence in SENTENCES]
    assert word_error_rate(SENTENCES, whisper.run([(heard(file),) for file in files])) <= 0.1


def _espeak(text):
    """float32 ``[samples]``"""
    wav = subprocess.run(["espeak-ng", *VOICE, "--stdout", text], capture_output=True, check=True).stdout
    return heard(wav).samples


def test_a_moment_of_a_piece_is_found_in_the_sound():
    piece = Piece(np.zeros(6 * RATE, np.float32), ((10.0, 12.0), (20.0, 24.0)))
    assert [piece.start(s) for s in (0.0, 1.0, 2.0, 3.0, 9.0)] == [10.0, 11.0, 20.0, 21.0, 24.0]
    assert [piece.end(s) for s in (1.0, 2.0, 2.2, 3.0, 9.0)] == [11.0, 12.0, 12.0, 21.0, 24.0]


def test_a_known_phrase_alone_is_marked_and_within_speech_is_not():
    for phrase in (
        "Thank you for watching!",
        " Thanks for watching. Bye.",
        "ご視聴ありがとうございました",
        "谢谢观看",
    ):
        assert set(marks_of_speech(phrase, 3.0)) == {"phantom"}, phrase
    assert marks_of_speech("We fried the fish in butter. Thank you for watching!", 9.0) == {}


def test_words_where_nobody_speaks_and_loops_are_marked():
    assert set(marks_of_speech("A red cup on a table.", 0.0)) == {"phantom"}
    assert set(marks_of_speech("so we go and " * 9, 30.0)) == {"loop"}
    assert marks_of_speech("The weather is fine today, and we will cook some rice. " * 2, 30.0) == {}
    assert marks_of_speech("", 0.0) == {}
