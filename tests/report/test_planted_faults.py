"""Faults planted among right captions are found, each kind for itself."""

from __future__ import annotations

import numpy as np
import pytest
import reporting
from helpers import worlds

from mmfeat.report.build import ReportOptions, report_captions
from mmfeat.report.model import CaptionReport
from mmfeat.store import Store

REFUSALS = [
    "I cannot describe this image.",
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I do not have eyes.",
    "I am unable to view images.",
    "Unfortunately, I cannot see any picture here.",
    "I can't assist with that request.",
    "Sorry, I can't identify people in images.",
    "I\u2019m unable to determine what this is.",
    "I apologize, but the content cannot be described.",
    "I'm not able to provide a description of this.",
    "I do not have access to the picture.",
    "We are unable to process this request.",
    "I won't describe this content.",
    "Apologies, I cannot open the file you sent.",
    "As a language model, I have no way of seeing it.",
    "I don't see an image attached to your message.",
    "I could not analyze the picture that was given.",
    "I will not create a caption of this.",
    "Unfortunately I'm not able to view the video.",
    "I cannot tell what is in it.",
]
OTHER_LANGUAGES = [
    "ein roter Kreis auf einem weißen Hintergrund",
    "eine grüne Raute vor einem schwarzen Hintergrund",
    "ein blaues Quadrat vor grauem Hintergrund",
    "der gelbe Stern liegt auf einer weißen Fläche",
    "un cercle rouge sur un fond blanc uni",
    "une étoile jaune devant un arrière-plan gris",
    "le carré bleu se trouve sur un fond noir",
    "un losange vert est dessiné sur un fond blanc",
    "un círculo rojo sobre un fondo blanco liso",
    "una estrella amarilla delante de un fondo gris",
    "el cuadrado azul está sobre un fondo negro",
    "un rombo verde dibujado sobre un fondo blanco",
]
KINDS = ("refusal", "loop", "duplicate", "cut", "language", "swapped")
COUNTS = (20, 15, 30, 10, 12, 25)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Store, dict[str, set[str]]]:
    """168 covers with right captions but for the faults, and the ids of each kind."""
    folder = tmp_path_factory.mktemp("planted")
    scenes = reporting.distinct_scenes()
    ids = [f"item-{n:03d}" for n in range(len(scenes))]
    media = {i: str(worlds.write_cover(folder, i, s)) for i, s in zip(ids, scenes, strict=True)}
    texts = {i: s.caption for i, s in zip(ids, scenes, strict=True)}
    faulty = np.split(np.random.default_rng(3).permutation(ids), np.cumsum(COUNTS))
    kinds = {kind: some.tolist() for kind, some in zip(KINDS, faulty, strict=False)}
    texts |= dict(zip(kinds["refusal"], REFUSALS, strict=True))
    texts |= {i: texts[i] + " white background" * 4 for i in kinds["loop"]}
    texts |= {i: texts[kinds["duplicate"][n // 3 * 3]] for n, i in enumerate(kinds["duplicate"])}
    texts |= {i: texts[i].rpartition(" ")[0] for i in kinds["cut"]}
    texts |= dict(zip(kinds["language"], OTHER_LANGUAGES, strict=True))
    texts |= dict(zip(kinds["swapped"], [texts[i] for i in np.roll(kinds["swapped"], 1)], strict=True))
    cut = {i: reporting.STOPPED | {"finish_reason": "length"} for i in kinds["cut"]}
    store = reporting.write(folder / "store", reporting.Planted(ids, texts, media=media, facts=cut))
    vectors = reporting.clip_vectors(reporting.CLIP_SPEC, [media[i] for i in ids])
    reporting.add_vectors(store, reporting.CLIP_SPEC, ids, vectors)
    return store, {kind: set(some) for kind, some in kinds.items()}


@pytest.fixture(scope="module")
def report(planted) -> CaptionReport:
    return report_captions(planted[0], ReportOptions(language="en"))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "swapped"])
def test_every_planted_kind_is_found_at_precision_and_recall_of_nine_tenths(planted, report, kind):
    there = planted[1][kind]
    found = set(next(s for s in report.suspects if s.kind == kind).item_ids)
    assert len(found & there) / len(there) >= 0.9, sorted(there - found)
    assert len(found & there) / len(found) >= 0.9, sorted(found - there)


def test_captions_swapped_between_items_are_ranked_worst_by_grounding(planted, report):
    swapped = planted[1]["swapped"]
    unsuspected = [item for item in report.items if not item.suspects]
    worst = sorted(unsuspected, key=lambda item: item.grounding)[: len(swapped)]
    assert len(swapped & {item.item_id for item in worst}) / len(swapped) >= 0.9


def test_nothing_is_suspected_of_captions_without_a_fault(planted, report):
    faulty = set().union(*planted[1].values())
    assert [i.item_id for i in report.items if i.suspects and i.item_id not in faulty] == []


def test_the_default_gates_fail_on_the_planted_kinds_and_say_which(report):
    failed = {gate.name for gate in report.gates if not gate.passed}
    assert failed == {
        "max_cut_share",
        "max_refusal_share",
        "max_loop_share",
        "max_language_share",
        "max_duplicate_share",
    }


def test_the_gallery_shows_the_worst_and_best_with_pictures_of_bounded_size(report):
    shelves = {shelf.kind: shelf for shelf in report.gallery}
    grounding = {item.item_id: item.grounding for item in report.items}
    assert [s.item_id for s in shelves["worst"].shown] == sorted(grounding, key=grounding.get)[:12]
    assert all(len(s.pictures) == 1 and len(s.pictures[0].jpeg) < 20_000 for s in shelves["best"].shown)
    assert "failures" not in shelves


def test_the_same_seed_gives_the_same_report(planted, report):
    again = report_captions(planted[0], ReportOptions(language="en"))
    time = {"subject": {"reported"}}
    assert again.model_dump(exclude=time) == report.model_dump(exclude=time)


def test_right_captions_are_told_from_shuffled_ones(tmp_path):
    scenes = reporting.distinct_scenes()
    ids = [str(n) for n in range(len(scenes))]
    media = {i: str(worlds.write_cover(tmp_path, i, s)) for i, s in zip(ids, scenes, strict=True)}
    texts = {i: s.caption for i, s in zip(ids, scenes, strict=True)}
    store = reporting.write(tmp_path / "store", reporting.Planted(ids, texts, media=media))
    vectors = reporting.clip_vectors(reporting.CLIP_SPEC, [media[i] for i in ids])
    reporting.add_vectors(store, reporting.CLIP_SPEC, ids, vectors)
    grounding = report_captions(store, ReportOptions()).grounding
    assert grounding.auc >= 0.95
    assert grounding.own.mean > grounding.shuffled.p95
