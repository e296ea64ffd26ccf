"""The shipped sample: real pictures and moving clips, each with its licence named, and small."""

import io
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.dataset_files import column, media
from PIL import Image

from mmfeat import datasets
from mmfeat.datasets import Dataset
from mmfeat.schemas.errors import DatasetError

ROOT = Path(__file__).parents[2]
DATA = ROOT / "mmfeat" / "datasets" / "sample_data"
MAX_BYTES = 12_000_000


@pytest.fixture(scope="module")
def sample() -> Dataset:
    return datasets.load("sample")


def frames(path: str) -> np.ndarray:
    with av.open(path) as clip:
        return np.stack([f.to_ndarray(format="rgb24") for f in clip.decode(video=0)])


def test_it_has_items_of_every_kind(sample: Dataset):
    titles, covers, videos = column(sample, "title"), media(sample, "cover"), media(sample, "video")
    assert (len(titles), len(covers), len(videos)) == (36, 32, 21)
    assert [i for i, title in titles.items() if title is None] == ["300"]
    assert [i for i in videos if i not in covers] == ["314"]
    assert [i for i in titles if i not in covers and i not in videos] == ["604", "619", "633"]
    report = datasets.check(sample)
    assert [(c.column, c.unreadable, c.duplicates) for c in report.columns] == [
        ("title", 0, 0),
        ("cover", 0, 1),
        ("video", 0, 0),
    ]
    assert {note.level for note in report.notes} == {"info"}


def test_every_cover_decodes_to_a_picture_with_something_in_it(sample: Dataset):
    for item_id, place in media(sample, "cover").items():
        pixels = np.asarray(Image.open(io.BytesIO(Path(place).read_bytes())).convert("RGB"), dtype=np.float32)
        assert 240 <= max(pixels.shape[:2]) <= 512, item_id
        assert pixels.std() > 12, item_id


def test_every_clip_decodes_and_moves(sample: Dataset):
    for item_id, place in media(sample, "video").items():
        pixels = frames(place)
        assert pixels.shape[1:] == (240, 426, 3), item_id
        assert 2 * 24 <= len(pixels) <= 4 * 24, item_id
        first, middle, last = pixels[[0, len(pixels) // 2, -1]].astype(np.float32)
        assert min(first.std(), middle.std(), last.std()) > 12, item_id
        assert min(np.abs(middle - first).mean(), np.abs(last - middle).mean()) > 2, item_id


def test_interactions_are_of_its_items_and_no_item_is_left_out(sample: Dataset):
    counts = Counter(sample.interactions["item_id"].to_pylist())
    assert set(counts) == set(column(sample, "title"))
    assert min(counts.values()) >= 5
    users = sample.interactions["user_id"].to_pylist()
    times = sample.interactions["timestamp"].to_pylist()
    assert len(set(users)) == 96
    assert list(zip(map(int, users), times, strict=True)) == sorted(zip(map(int, users), times, strict=True))


def test_notice_names_every_media_file_and_no_other():
    named = {word for word in (ROOT / "NOTICE").read_text(encoding="utf-8").split() if "/" in word}
    named = {word for word in named if word.startswith(("sample_covers/", "sample_videos/"))}
    shipped = {str(path.relative_to(DATA)) for path in DATA.glob("*/*")}
    assert named == shipped


def test_it_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < MAX_BYTES


def test_it_takes_no_root(tmp_path: Path):
    with pytest.raises(DatasetError, match="takes no root"):
        datasets.load("sample", tmp_path)
