"""What a caption report says: the JSON it is, and what the page shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from mmfeat.schemas.notebook import ShortRepr

Status = Literal["ok", "missing", "failed", "absent"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Absent(_Frozen):
    """A section that could not be made, and why."""

    absent: str


class Histogram(_Frozen):
    """``counts[i]`` values lie from ``edges[i]`` to below ``edges[i + 1]``; the last bin holds its end."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Distribution(_Frozen):
    """Values in short: how many, their quantiles, and how often each occurs."""

    n: int
    mean: float
    minimum: float
    p05: float
    median: float
    p95: float
    maximum: float
    histogram: Histogram


class Gate(_Frozen):
    """A threshold and whether the captions keep to it.

    Attributes:
        bound: ``at least`` or ``at most`` the threshold.
        value: what was measured; None if it could not be, and then the gate fails.
        detail: why it could not be measured, else empty.
    """

    name: str
    bound: Literal["at least", "at most"]
    threshold: float
    value: float | None
    passed: bool
    detail: str = ""


class Subject(_Frozen):
    """Which captions these are, and how the report was made.

    Attributes:
        version: ``name@fingerprint`` of the captions.
        source: what the captions describe: ``cover``, ``video``, ...
        medium: what that is, for people; a clip is its pictures.
        model: the captioner's model.
        prompt: its name and version, None if there is none.
        spec: everything that decided the captions (:class:`~mmfeat.schemas.spec.FeatureSpec`).
        created: when the version was first written.
        reported: when this report was made.
        language: the language the captions should be in, ISO 639-1; None if none was stated.
        seed: of every sample.
        mmfeat: the version of mmfeat that made the report.
        stale: which features the captions read in another version than the current one; empty if none.
    """

    store: str
    version: str
    feature: str
    source: str
    kind: str
    model: str
    prompt: str | None
    spec: dict[str, Any]
    created: datetime
    reported: datetime
    language: str | None
    seed: int
    mmfeat: str
    stale: str = ""
    medium: Literal["picture", "sound"] = "picture"


class FailureReason(_Frozen):
    """Items that failed alike; ``item_ids`` holds the first few."""

    stage: str
    reason: str
    count: int
    item_ids: tuple[str, ...]


class Coverage(_Frozen):
    """Items of the catalog by what became of their caption: ok + missing + failed + absent = items."""

    items: int
    ok: int
    missing: int
    failed: int
    absent: int
    failures: tuple[FailureReason, ...]


class Lengths(_Frozen):
    """How long the captions are, and what they cost.

    Attributes:
        words: words per caption.
        tokens: generated tokens per caption; None if they were not recorded.
        seconds: of the model per caption; None if they were not recorded.
        prompt_tokens: tokens read per caption, pictures included; None if they were not recorded.
        cut: captions cut at the token cap, of the ``finish_known`` whose end was recorded.
    """

    words: Distribution | None
    tokens: Distribution | None
    prompt_tokens: Distribution | None
    seconds: Distribution | None
    cut: int
    finish_known: int


class Example(_Frozen):
    """One suspect caption; ``detail`` says what is wrong with it, or which item it is like."""

    item_id: str
    text: str
    detail: str


class Suspects(_Frozen):
    """Captions under one suspicion.

    Attributes:
        kind: key of the suspicion, as in :attr:`Item.suspects`.
        title: the same for people.
        about: what the rule looks for, in a sentence.
        share: of the captions that are ok.
        item_ids: all of them, in the catalog's order.
        unchecked: why the suspicion could not be looked into, else empty.
    """

    kind: str
    title: str
    about: str
    count: int
    share: float
    examples: tuple[Example, ...]
    item_ids: tuple[str, ...]
    unchecked: str = ""


class Opener(_Frozen):
    """The same first words of many captions; ``share`` of the captions that are ok."""

    words: str
    count: int
    share: float


class Variety(_Frozen):
    """How varied the captions' words are (lower-cased, as in the word counts).

    Attributes:
        words: in all captions; ``vocabulary`` of them are different.
        type_token_ratio: vocabulary / words.
        distinct_1, distinct_2: different 1-grams and 2-grams by their number (Li et al. 2016).
        self_bleu: mean BLEU (0..100) of a caption against the others of a seeded sample (Zhu et al.
            2018); None for fewer than two captions.
        self_bleu_sample: captions in that sample.
    """

    words: int
    vocabulary: int
    type_token_ratio: float
    distinct_1: float
    distinct_2: float
    self_bleu: float | None
    self_bleu_sample: int
    openers: tuple[Opener, ...]


class Grounding(_Frozen):
    """Whether captions fit their own pictures better than those of other items.

    Attributes:
        encoder: the image-text encoder; ``images`` says where its image vectors came from.
        scored: captions with a picture.
        chunked: captions longer than the text tower, scored as the mean of their pieces.
        own: cosine of each caption and its own picture (a clip: the mean of its frames).
        shuffled: the same captions, each with another item's picture (seeded).
        auc: probability that a caption's own picture scores above a shuffled one, ties half.
        auc_best_frame: the same by each clip's best frame; None for pictures.
        own_histogram, shuffled_histogram: on the same edges.
    """

    encoder: str
    images: str
    scored: int
    chunked: int
    own: Distribution
    shuffled: Distribution
    auc: float
    auc_best_frame: float | None
    own_histogram: Histogram
    shuffled_histogram: Histogram


class Retrieval(_Frozen):
    """Finding the own item from its caption among ``items`` items.

    Attributes:
        query, gallery: which vectors look, and which are looked through.
        recall_at_1, recall_at_10: share of captions whose own item is among the first.
        chance_at_1, chance_at_10: the same for a random order.
        median_rank: 1 is best.
    """

    query: str
    gallery: str
    items: int
    recall_at_1: float
    recall_at_10: float
    chance_at_1: float
    chance_at_10: float
    median_rank: float


class Neighbours(_Frozen):
    """Do items that look alike have captions that are alike?

    Attributes:
        overlap: mean share of an item's ``k`` nearest by picture that are also among its ``k`` nearest
            by caption; ``chance`` is the same for random neighbours.
        sampled: items whose neighbours were looked at.
    """

    captions: str
    pictures: str
    k: int
    items: int
    sampled: int
    overlap: float
    chance: float


class NearDuplicates(_Frozen):
    """Captions whose vector is nearly that of another item: cosine of at least ``threshold``."""

    captions: str
    threshold: float
    items: int
    count: int
    share: float


class Usefulness(_Frozen):
    """Whether captions keep what tells items apart."""

    clip_retrieval: Retrieval | Absent
    text_retrieval: Retrieval | Absent
    neighbours: Neighbours | Absent
    near_duplicates: NearDuplicates | Absent


class References(_Frozen):
    """Captions against texts that are known to be right; BLEU and chrF of the corpus (0..100)."""

    reference: str
    items: int
    bleu: float
    chrf: float


class Claim(_Frozen):
    """One sentence of a caption, and what the second model said of it."""

    item_id: str
    claim: str
    answer: str
    verdict: Literal["yes", "no", "unclear"]


class ClaimCheck(_Frozen):
    """Sentences of a seeded sample of captions, put to a second model with the item's pictures.

    Attributes:
        supported: yes / (yes + no); None if no answer was clear.
        refuted: examples of claims answered with no.
    """

    model: str
    items: int
    claims: int
    yes: int
    no: int
    unclear: int
    failed: int
    supported: float | None
    refuted: tuple[Claim, ...]


class Delta(_Frozen):
    """A metric before and after on the items that have both captions, with a 95 % bootstrap interval
    of the difference (Efron 1979; items resampled)."""

    metric: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    items: int


class Pair(_Frozen):
    """An item's caption before and after; ``similarity`` of the two texts is 0..1."""

    item_id: str
    before: str
    after: str
    similarity: float
    grounding_before: float | None
    grounding_after: float | None


class Comparison(_Frozen):
    """What changed since an earlier version.

    Attributes:
        against: ``name@fingerprint`` of the earlier version.
        spec_changes: field of the spec to its value before and after, as text.
        same, changed: items that have a caption in both.
        gained, lost: items that have a caption only now, or only had one before.
        pairs: the captions that differ most, and their number is bounded; the least similar first.
    """

    against: str
    spec_changes: dict[str, tuple[str, str]]
    same: int
    changed: int
    gained: int
    lost: int
    resamples: int
    deltas: tuple[Delta, ...]
    pairs: tuple[Pair, ...]


#: What vectors that are held against the interactions were made of.
Read = Literal["captions", "before", "titles"]


class EvidenceFigure(_Frozen):
    """What one protocol of ``mmfeat evaluate`` measured of vectors, with a 95 % bootstrap interval over users
    or query items.

    Attributes:
        reads: what the vectors are of: these captions, those they are compared with, or titles.
        version: of the vectors, ``name@fingerprint``.
        shuffled: the same vectors at other items.
        holds: whether that is more than chance gives; None if nobody can tell.
    """

    reads: Read
    version: str
    protocol: str
    metric: str
    value: float
    low: float
    high: float
    shuffled: float
    holds: bool | None


class EvidenceDifference(_Frozen):
    """Vectors of the captions less other vectors, by one protocol on the same users or query items.

    Attributes:
        against: what the other vectors are of; ``version`` is theirs.
        p: of a paired t-test, by Holm's rule over all that were made.
        effect: Cohen's d of pairs.
        better: whether the captions are; None if chance alone may be the difference.
    """

    against: Literal["before", "titles"]
    version: str
    protocol: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    effect: float
    better: bool | None


class Evidence(_Frozen):
    """Whether vectors of the captions tell more of who takes what than those of other texts.

    Attributes:
        version: of the vectors of the captions.
        verdict: on them, in words.
        items: that have a vector in all versions that are compared.
        users: with something that was held out.
        held_out: in words.
        agreement: which protocols prefer what, in words.
        missing: what they could not be compared with, and why.
        notes: what else a person should know.
    """

    version: str
    verdict: str
    items: int
    users: int
    held_out: str
    figures: tuple[EvidenceFigure, ...]
    differences: tuple[EvidenceDifference, ...]
    agreement: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


class JudgedPair(_Frozen):
    """What a judge chose of an item's two captions: with the earlier one first, then with it second.

    Attributes:
        verdict: the caption that both orders chose, or ``flip`` where they do not agree.
    """

    item_id: str
    choices: tuple[Literal["first", "second", "tie"], Literal["first", "second", "tie"]]
    verdict: Literal["after", "before", "tie", "flip"]


class Unjudged(_Frozen):
    """An item about which the judge gave no plain answer in one of the orders."""

    item_id: str
    reason: str


class Judgement(_Frozen):
    """Pairs of captions of a seeded sample of items, put to a second model in both orders.

    Attributes:
        model: the judge; ``own`` is the version that the same model wrote, empty if it wrote neither.
        against: the version of the earlier captions.
        differ: items whose two captions are not the same, from which the sample was drawn.
        wins, losses: items of which both orders chose these captions, or the earlier ones.
        flips: items of which the choice changed with the order.
        share: wins / (wins + losses), with a 95 % Wilson interval over items; None if all was undecided.
        p: of a two-sided sign test of wins and losses.
        always_first, always_second: of the flips, those that chose one place in both orders; ``bias_p`` of
            the sign test between them.
        questions: that were asked; tokens as the model counted them, and seconds with loading it.
    """

    model: str
    own: str
    against: str
    differ: int
    wins: int
    losses: int
    ties: int
    flips: int
    share: float | None
    low: float | None
    high: float | None
    p: float
    always_first: int
    always_second: int
    bias_p: float
    pairs: tuple[JudgedPair, ...]
    unjudged: tuple[Unjudged, ...]
    questions: int
    prompt_tokens: int
    new_tokens: int
    seconds: float


class Item(_Frozen):
    """One item of the catalog.

    Attributes:
        caption: empty unless the status is ``ok``.
        reason: of a failed item, with its stage.
        suspects: kinds, as in :attr:`Suspects.kind`.
        finish_reason: ``stop``, ``length``, or None if it was not recorded.
        grounding: cosine of caption and picture (clips: mean of the frames); ``best_frame`` of clips.
        rank: place of the own picture when looked for by the caption; 1 is best.
    """

    item_id: str
    title: str
    caption: str
    status: Status
    reason: str
    suspects: tuple[str, ...]
    words: int | None
    tokens: int | None
    seconds: float | None
    finish_reason: str | None
    grounding: float | None
    best_frame: float | None
    rank: int | None


class Picture(_Frozen):
    """A small JPEG, base64, and the time in seconds of the frame it shows (0 of a picture)."""

    jpeg: str
    width: int
    height: int
    time: float


class Recording(_Frozen):
    """The beginning of a sound: a small MP3, base64, of so many seconds."""

    mp3: str
    seconds: float


class Shown(_Frozen):
    """An item of the gallery; ``absent`` says why it has neither pictures nor sound."""

    item_id: str
    pictures: tuple[Picture, ...]
    absent: str
    sound: Recording | None = None


class Shelf(_Frozen):
    """Items of the gallery that were chosen alike: ``worst``, ``best``, ``random`` or ``failures``."""

    kind: Literal["worst", "best", "random", "failures"]
    about: str
    shown: tuple[Shown, ...]


class CaptionReport(ShortRepr, _Frozen):
    """The whole report. ``items`` is the catalog, in its order."""

    subject: Subject
    gates: tuple[Gate, ...]
    coverage: Coverage
    lengths: Lengths
    suspects: tuple[Suspects, ...]
    variety: Variety | Absent
    grounding: Grounding | Absent
    usefulness: Usefulness
    references: References | Absent
    claims: ClaimCheck | Absent
    comparison: Comparison | Absent
    evidence: Evidence | Absent
    judged: Judgement | Absent
    gallery: tuple[Shelf, ...]
    items: tuple[Item, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether every gate is kept."""
        return all(gate.passed for gate in self.gates)


class CodesSubject(_Frozen):
    """Which codes these are, and how the report was made.

    Attributes:
        version: ``name@fingerprint`` of the codes.
        source: the features that they were made from.
        method, model: the quantizer, and levels x codebook size.
        collision_level: whether a last code tells items apart whose other codes are the same.
        seed: of the example items.
        stale: which features the codes read in another version than the current one; empty if none.
    """

    store: str
    version: str
    source: str
    method: str
    model: str
    collision_level: bool
    spec: dict[str, Any]
    created: datetime
    reported: datetime
    seed: int
    mmfeat: str
    stale: str = ""


class CodeLevel(_Frozen):
    """How one level, from 1 on, is used by all items with codes, and how it was at the fit.

    Attributes:
        used: the share of the codebook that some item has.
        perplexity: how many codes would be in use if all were equally frequent.
        used_at_fit, perplexity_at_fit: None if the codebooks went with a forgotten item.
    """

    level: int
    used: float
    perplexity: float
    used_at_fit: float | None
    perplexity_at_fit: float | None


class CodeCollisions(_Frozen):
    """Items that share all codes, before the collision level.

    Attributes:
        rate: the share of items whose codes another item has too.
        largest: the most items that share all codes.
        sizes: how many codes have so many items.
    """

    rate: float
    largest: int
    sizes: dict[int, int]


class CodeDrift(_Frozen):
    """Vectors that came since the fit, and their error over that of the fit; None if it is not known."""

    items: int
    error: float | None


class Leaf(_Frozen):
    """An item of a branch, with its codes."""

    item_id: str
    title: str
    code: tuple[int, ...]
    shown: Shown


class Branch(_Frozen):
    """A beginning of codes, how many items have it (and their share), and some of them."""

    code: tuple[int, ...]
    items: int
    share: float
    leaves: tuple[Leaf, ...]


class CodesReport(ShortRepr, _Frozen):
    """What is to be known of semantic ids.

    Attributes:
        ok, missing, failed, absent: items by the status of their codes.
        relative_mse, cosine: what the codes lost of the vectors of the fit; None if the codebooks went
            with a forgotten item.
    """

    subject: CodesSubject
    ok: int
    missing: int
    failed: int
    absent: int
    relative_mse: float | None
    cosine: float | None
    levels: tuple[CodeLevel, ...]
    collisions: CodeCollisions
    drift: CodeDrift
    branches: tuple[Branch, ...]
