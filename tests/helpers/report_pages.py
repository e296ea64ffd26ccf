"""Caption reports made by hand: what a page is drawn from, without a store or a model."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from mmfeat.report import model as m

SCRIPT = "<script>window.ran = true</script><img src=x onerror='window.ran = true'>"
CLOSER = "</script><!-- <script> ]]> {{ 7 * 7 }} &lt;b&gt;"
OVERRIDE = "safe \u202eetirw\u202c \x1b[31m"
ARABIC = "كوب من القهوة على طاولة"
KINDS = {
    "refusal": "refusals",
    "loop": "loops",
    "duplicate": "same text on different items, word for word",
    "language": "wrong language",
}
PHRASE = (
    "a red cup of coffee stands on wooden table beside two spoons while morning light falls through "
    "the open window and somebody reads quietly"
)


def picture(shade: int, size: tuple[int, int] = (160, 100), time: float = 0.0) -> m.Picture:
    pixels = np.full((size[1], size[0], 3), (shade * 37 % 200 + 30, shade * 91 % 200 + 30, 120), np.uint8)
    pixels[size[1] // 3 :: 7, :: 1 + shade % 5] += 25
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=70)
    jpeg = base64.b64encode(written.getvalue()).decode()
    return m.Picture(jpeg=jpeg, width=size[0], height=size[1], time=time)


def distribution(values: np.ndarray, edges: np.ndarray | None = None) -> m.Distribution:
    counts, bounds = np.histogram(values, bins=20 if edges is None else edges)
    low, p05, median, p95, high = np.quantile(values, [0, 0.05, 0.5, 0.95, 1]).tolist()
    return m.Distribution(
        n=len(values),
        mean=float(values.mean()),
        minimum=low,
        p05=p05,
        median=median,
        p95=p95,
        maximum=high,
        histogram=m.Histogram(edges=tuple(bounds.tolist()), counts=tuple(counts.tolist())),
    )


def item(number: int, random: np.random.Generator, words: int) -> m.Item:
    """Every tenth item failed, every 25th is missing, every eighth is suspect."""
    status: m.Status = "failed" if number % 10 == 9 else "missing" if number % 25 == 24 else "ok"
    ok = status == "ok"
    caption = " ".join(random.choice(PHRASE.split(), words + number % 5)) if ok else ""
    return m.Item(
        item_id=f"item-{number:05}",
        title=f"Title of number {number}",
        caption=caption,
        status=status,
        reason="decode: file is cut short" if status == "failed" else "",
        suspects=(list(KINDS)[number // 8 % len(KINDS)],) if ok and number % 8 == 3 else (),
        words=len(caption.split()) if ok else None,
        tokens=len(caption.split()) * 4 // 3 if ok else None,
        seconds=float(random.uniform(0.5, 2)) if ok else None,
        finish_reason="stop" if ok else None,
        grounding=float(random.normal(0.3, 0.04)) if ok else None,
        best_frame=None,
        rank=int(random.integers(1, 40)) if ok else None,
    )


def hostile(found: m.Item, **texts: str) -> m.Item:
    return found.model_copy(update=texts)


def suspects(items: list[m.Item]) -> tuple[m.Suspects, ...]:
    ok = sum(one.status == "ok" for one in items)
    found = []
    for kind, title in KINDS.items():
        these = [one for one in items if kind in one.suspects]
        found.append(
            m.Suspects(
                kind=kind,
                title=title,
                about=f"captions that look like {title}",
                count=len(these),
                share=len(these) / ok,
                examples=tuple(
                    m.Example(item_id=i.item_id, text=i.caption, detail="for a reason") for i in these[:3]
                ),
                item_ids=tuple(i.item_id for i in these),
            )
        )
    unchecked = found[-1].model_copy(
        update={"kind": "claim", "title": "leaked prompt", "count": 0, "examples": (), "item_ids": ()}
        | {"share": 0.0, "unchecked": "the prompt of this version is not recorded"}
    )
    return (*found, unchecked)


def gallery(items: list[m.Item]) -> tuple[m.Shelf, ...]:
    ok = sorted((i for i in items if i.grounding is not None), key=lambda i: i.grounding or 0)
    failed = [i for i in items if i.status == "failed"]
    shelves = {"worst": ok[:8], "best": ok[-8:], "random": ok[20:28], "failures": failed[:4]}
    abouts = {
        "worst": "the lowest similarity of caption and picture",
        "best": "the highest similarity",
        "random": "a seeded sample",
        "failures": "the first of each reason",
    }
    return tuple(
        m.Shelf(
            kind=kind,
            about=abouts[kind],
            shown=tuple(_shown(number, one, failed) for number, one in enumerate(chosen)),
        )
        for kind, chosen in shelves.items()
    )


def _shown(number: int, one: m.Item, failed: list[m.Item]) -> m.Shown:
    if one in failed:
        return m.Shown(item_id=one.item_id, pictures=(), absent="the file is cut short")
    frames = 4 if number % 3 == 0 else 1
    pictures = tuple(picture(number * 5 + f, time=f * 2.5) for f in range(frames))
    return m.Shown(item_id=one.item_id, pictures=pictures, absent="")


def delta(metric: str, before: float, after: float, low: float, high: float) -> m.Delta:
    difference = round(after - before, 4)
    return m.Delta(
        metric=metric, before=before, after=after, difference=difference, low=low, high=high, items=90
    )


def evidence() -> m.Evidence:
    """By the probe the captions are better than those before, and as good as titles."""
    versions = {
        "before": "caption_text@11aa22bb",
        "titles": "title_text@33cc44dd",
        "captions": "caption_text@55ee66ff",
    }
    values = {"before": 0.55, "titles": 0.66, "captions": 0.67}
    figures = tuple(
        m.EvidenceFigure(
            reads=read,
            version=version,
            protocol="probe",
            metric="auc",
            value=values[read],
            low=values[read] - 0.02,
            high=values[read] + 0.02,
            shuffled=0.5,
            holds=True,
        )
        for read, version in versions.items()
    )
    differences = tuple(
        m.EvidenceDifference(
            against=read,
            version=versions[read],
            protocol="probe",
            metric="auc",
            difference=values["captions"] - values[read],
            low=0.0,
            high=0.2,
            p=p,
            effect=0.3,
            better=better,
        )
        for read, p, better in (("before", 0.0004, True), ("titles", 0.4, None))
    )
    return m.Evidence(
        version=versions["captions"],
        verdict="It tells something of taste by probe.",
        items=60,
        users=400,
        held_out="the last item of every user",
        figures=figures,
        differences=differences,
        agreement=("probe prefers caption_text@55ee66ff.",),
        missing=(),
        notes=("2 items without a value in all features are left out",),
    )


def report(n: int = 120, words: int = 12, passed: bool = False) -> m.CaptionReport:
    """A report on ``n`` items with every section filled; some of its texts attack the page."""
    random = np.random.default_rng(7)
    items = [item(number, random, words) for number in range(n)]
    items[0] = hostile(items[0], title=SCRIPT, caption=CLOSER)
    items[1] = hostile(items[1], title=OVERRIDE, caption=ARABIC)
    items[3] = hostile(items[3], item_id="a/b?c=<i>&\"'", caption=SCRIPT)
    items[9] = hostile(items[9], title=OVERRIDE, reason=f"decode: {SCRIPT}")
    ok = [one for one in items if one.status == "ok"]
    own = np.array([one.grounding for one in ok])
    shuffled = random.normal(0.15, 0.05, len(ok))
    edges = np.linspace(-0.1, 0.5, 31)
    retrieval = m.Retrieval(
        query="captions by CLIP",
        gallery="pictures by CLIP",
        items=len(ok),
        recall_at_1=0.41,
        recall_at_10=0.83,
        chance_at_1=1 / len(ok),
        chance_at_10=10 / len(ok),
        median_rank=2.0,
    )
    return m.CaptionReport(
        subject=m.Subject(
            store="features",
            version="caption@3fa9c1d2",
            feature="caption",
            source="video",
            kind="caption",
            model="Qwen/Qwen2.5-VL-7B-Instruct",
            prompt="describe-video 2",
            spec={},
            created=datetime(2026, 3, 1, 4, 30, tzinfo=UTC),
            reported=datetime(2026, 3, 2, 9, 5, tzinfo=UTC),
            language="en",
            seed=0,
            mmfeat="0.1.0",
        ),
        gates=(
            m.Gate(name="coverage", bound="at least", threshold=0.8, value=len(ok) / n, passed=True),
            m.Gate(name="grounding_auc", bound="at least", threshold=0.95, value=0.987, passed=True),
            m.Gate(name="refusals", bound="at most", threshold=0.01, value=0.032, passed=passed),
            m.Gate(
                name="supported_claims",
                bound="at least",
                threshold=0.9,
                value=0.95 if passed else None,
                passed=passed,
                detail="" if passed else "no second model was asked",
            ),
        ),
        coverage=m.Coverage(
            items=n,
            ok=len(ok),
            missing=sum(one.status == "missing" for one in items),
            failed=sum(one.status == "failed" for one in items),
            absent=0,
            failures=(
                m.FailureReason(
                    stage="decode",
                    reason=f"file is cut short {SCRIPT}",
                    count=sum(one.status == "failed" for one in items),
                    item_ids=tuple(one.item_id for one in items if one.status == "failed")[:10],
                ),
            ),
        ),
        lengths=m.Lengths(
            words=distribution(np.array([one.words for one in ok])),
            tokens=distribution(np.array([one.tokens for one in ok])),
            prompt_tokens=None,
            seconds=distribution(np.array([one.seconds for one in ok])),
            cut=3,
            finish_known=len(ok),
        ),
        suspects=suspects(items),
        variety=m.Variety(
            words=1400,
            vocabulary=24,
            type_token_ratio=0.017,
            distinct_1=0.017,
            distinct_2=0.31,
            self_bleu=41.2,
            self_bleu_sample=100,
            openers=(
                m.Opener(words="The video shows a", count=31, share=0.29),
                m.Opener(words=CLOSER, count=4, share=0.04),
            ),
        ),
        grounding=m.Grounding(
            encoder="open_clip ViT-B-32 laion2b_s34b_b79k",
            images="vectors of clip_image@77aa01c2",
            scored=len(ok),
            chunked=4,
            own=distribution(own, edges),
            shuffled=distribution(shuffled, edges),
            auc=0.987,
            auc_best_frame=0.991,
            own_histogram=distribution(own, edges).histogram,
            shuffled_histogram=distribution(shuffled, edges).histogram,
        ),
        usefulness=m.Usefulness(
            clip_retrieval=retrieval,
            text_retrieval=m.Absent(absent="no text feature reads both captions and titles."),
            neighbours=m.Neighbours(
                captions="caption_text",
                pictures="clip_image",
                k=10,
                items=len(ok),
                sampled=len(ok),
                overlap=0.34,
                chance=0.08,
            ),
            near_duplicates=m.NearDuplicates(
                captions="caption_text", threshold=0.98, items=len(ok), count=6, share=6 / len(ok)
            ),
        ),
        references=m.Absent(absent="No references were named."),
        claims=m.ClaimCheck(
            model="second/model",
            items=20,
            claims=55,
            yes=50,
            no=4,
            unclear=1,
            failed=0,
            supported=50 / 54,
            refuted=(
                m.Claim(item_id="item-00004", claim="There are two cups.", answer="No, one.", verdict="no"),
            ),
        ),
        comparison=m.Comparison(
            against="caption@11bb22cc",
            spec_changes={"prompt": ("describe 1", "describe-video 2"), "frames": ("4", "8")},
            same=12,
            changed=len(ok) - 12,
            gained=2,
            lost=1,
            resamples=1000,
            deltas=(
                delta("words, mean", 9.1, 14.2, 4.2, 6.0),
                delta("grounding", 0.29, 0.301, -0.002, 0.021),
                delta("suspects, share", 0.2, 0.12, -0.1, -0.05),
            ),
            pairs=tuple(
                m.Pair(
                    item_id=one.item_id,
                    before="a cup on a table",
                    after=one.caption,
                    similarity=0.2,
                    grounding_before=0.21,
                    grounding_after=one.grounding,
                )
                for one in ok[:6]
            ),
        ),
        evidence=evidence(),
        judged=m.Judgement(
            model="second/model",
            own="",
            against="caption@11bb22cc",
            differ=60,
            wins=8,
            losses=2,
            ties=1,
            flips=3,
            share=0.8,
            low=0.490,
            high=0.943,
            p=0.109375,
            always_first=3,
            always_second=0,
            bias_p=0.25,
            pairs=(),
            unjudged=(m.Unjudged(item_id="item-00004", reason="the answer names neither: Both."),),
            questions=30,
            prompt_tokens=3000,
            new_tokens=60,
            seconds=12.0,
        ),
        gallery=gallery(items),
        items=tuple(items),
    )
