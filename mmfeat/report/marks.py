"""What a text shows by itself to be no caption or transcript, known when it is written: a refusal, a loop,
words that nobody said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from mmfeat.extract.describers.transcripts.transcript import compression_ratio
from mmfeat.report.rules import Rules
from mmfeat.report.words import longest_loop, ngrams, sentences_of, words_in

_LONGEST_PHRASE = 20
# Of a text without end the beginning says enough.
_JUDGED_CHARACTERS = 20_000
_SHOWN_CHARACTERS = 60
# Bytes of a transcript to what zlib makes of them: above this Whisper takes it for a loop.
_MOST_SHRUNK = 2.4

_CANNOT = (
    r"(?:(?:can ?not|can'?t|could not|couldn'?t|won'?t|will not) (?:\w+ ){0,2}?"
    r"(?:help|assist|describe|see|view|access|analy[sz]e|identify|provide|comply|do|fulfil|process|"
    r"generate|create|determine|caption|answer|open|watch|tell|make out)\b"
    r"|(?:am|are|'m|'re) (?:\w+ ){0,1}?(?:unable|not able|not allowed|not permitted)\b"
    r"|(?:do not|don'?t) (?:have|see|feel)\b)"
)
REFUSAL = re.compile(
    r"^\W*(?:"
    rf"(?:(?:unfortunately|sorry|apologies|(?:i|we) apologi[sz]e)\b[^.]{{0,40}}?)?\b(?:i|we) ?{_CANNOT}"
    r"|(?:i'?m|i am|we'?re|we are) sorry\b"
    r"|i apologi[sz]e\b"
    r"|as an? (?:\w+ )?(?:ai|language model|artificial)\b"
    r"|(?:lo siento|no puedo|je suis désolée?|je ne peux pas|je ne suis pas en mesure"
    r"|es tut mir leid|ich kann (?:\w+ ){0,4}nicht|mi dispiace|non posso|desculpe|não posso)\b"
    r"|(?:很?抱歉|对不起|我无法|我不能|無法|申し訳|すみません)"
    r")",
    re.IGNORECASE,
)

# What speech models say of music, noise and silence, having learnt it from subtitles.
_PHANTOMS = (
    "you", "bye", "bye bye", "thank you", "thank you so much", "thank you very much",
    "thank you for watching", "thank you so much for watching", "thanks for watching",
    "thanks for watching and don't forget to subscribe", "please subscribe",
    "please subscribe to my channel", "don't forget to subscribe", "like and subscribe",
    "see you next time", "see you in the next video", "subtitles by the amara.org community",
    "vielen dank", "vielen dank fürs zuschauen", "untertitel der amara.org-community",
    "untertitel im auftrag des zdf für funk 2017", "untertitelung des zdf 2020",
    "merci", "merci d'avoir regardé cette vidéo", "sous-titrage st' 501",
    "sous-titres réalisés par la communauté d'amara.org", "sous-titrage société radio-canada",
    "gracias", "gracias por ver el video", "gracias por ver", "suscríbete al canal",
    "subtítulos realizados por la comunidad de amara.org",
    "grazie", "grazie per la visione", "sottotitoli creati dalla comunità amara.org",
    "sottotitoli e revisione a cura di qtss",
    "obrigado", "obrigado por assistir", "legendas pela comunidade amara.org", "e aí",
    "ondertitels ingediend door de amara.org gemeenschap", "bedankt voor het kijken",
    "napisy stworzone przez społeczność amara.org", "dziękuję za uwagę",
    "продолжение следует", "спасибо за просмотр", "субтитры сделал dimatorzok",
    "субтитры создавал dimatorzok", "altyaz\u0131 m.k", "izlediğiniz için teşekkürler",
    "谢谢观看", "谢谢大家", "字幕由amara.org社区提供", "字幕志愿者 杨茜茜",
    "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "ご視聴ありがとうございました",
    "チャンネル登録お願いします", "おやすみなさい", "시청해주셔서 감사합니다", "구독과 좋아요 부탁드립니다",
    "mbc 뉴스 이덕영입니다", "اشتركوا في القناة", "ترجمة نانسي قنقر",
)  # fmt: skip


def marks_of(text: str) -> dict[str, str]:
    """The suspicions under which a text is stored, ``refusal`` and ``loop``, and what shows them; by the
    report's own rules."""
    text = text[:_JUDGED_CHARACTERS]
    refusal = REFUSAL.search(text.replace("\u2019", "'"))
    found = {
        "refusal": "" if refusal is None else f"\u201c{refusal[0].strip()}\u201d",
        "loop": loop_in(words_in(text), Rules()),
    }
    return {kind: shown for kind, shown in found.items() if shown}


def marks_of_speech(text: str, speech_seconds: float | None) -> dict[str, str]:
    """The suspicions under which a transcript is stored, ``phantom`` and ``loop``, and what shows them.

    Args:
        speech_seconds: in which somebody speaks, by a detector of voices; None if none listened.
    """
    found = {"phantom": phantom_in(text, speech_seconds), "loop": loop_in_speech(text)}
    return {kind: shown for kind, shown in found.items() if shown}


def phantom_in(text: str, speech_seconds: float | None) -> str:
    """What shows that nobody said a transcript; empty if nothing does.

    A known phrase counts if there is no other sentence: at the end of a clip it may well be said.
    """
    words = words_in(text[:_JUDGED_CHARACTERS])
    if not words:
        return ""
    if speech_seconds == 0:
        return "nobody speaks, by the detector of voices"
    sentences = {words_in(sentence) for sentence in sentences_of(text[:_JUDGED_CHARACTERS])}
    is_known = words in _phantoms() or sentences <= _phantoms()
    return f"nothing but \u201c{' '.join(text.split())[:_SHOWN_CHARACTERS]}\u201d" if is_known else ""


def loop_in_speech(text: str) -> str:
    """How far zlib shrinks a transcript that says the same again and again; empty if it does not.

    People say things twice, and choruses do: the limit is Whisper's own (openai/whisper, transcribe.py).
    """
    ratio = compression_ratio(text[:_JUDGED_CHARACTERS])
    return f"it repeats itself: zlib makes it {ratio:.1f} times shorter" if ratio > _MOST_SHRUNK else ""


@lru_cache(maxsize=1)
def _phantoms() -> frozenset[tuple[str, ...]]:
    return frozenset(map(words_in, _PHANTOMS))


def loop_in(words: Sequence[str], rules: Rules) -> str:
    """Which phrase is said again and again, or how much of a text was said before in it; empty if nothing
    is."""
    phrase, times = longest_loop(words, _LONGEST_PHRASE)
    if times >= 3 and times * len(phrase) >= rules.loop_words:
        return f"\u201c{' '.join(phrase)}\u201d {times} times in a row"
    four = ngrams(words, 4)
    repeated = 1 - len(set(four)) / len(four) if four else 0.0
    return f"{repeated:.0%} of its 4-grams are repetitions" if repeated >= rules.repeated_share else ""
