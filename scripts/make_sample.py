"""Makes mmfeat/datasets/sample_data: real photos and clips that may be shipped, in MicroLens's layout.

Sources, fetched beforehand (versions matter: times and file names are theirs):

    pip download --no-deps scikit-image==0.26.0 -d DIR          # the wheel: CC0 and public-domain photos
    pip download --no-deps --no-binary :all: moviepy==2.2.1 -d DIR   # the film Big Buck Bunny, CC BY 3.0

    python scripts/make_sample.py DIR

Needs av and Pillow (the extra `extract`), and espeak-ng (Debian's package) for two spoken lines. Licences of
every file: NOTICE.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

OUT = Path(__file__).parents[1] / "mmfeat" / "datasets" / "sample_data"
FILM = "docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
FILM_MEMBER = "moviepy_10_minutes/resources/bbb.mp4"
WIDTH, HEIGHT = 426, 240
COVER_SIDE = 512
FPS = 24
SAMPLE_RATE = 44_100
SOUND_BITS = 48_000
SEED = 20250809


@dataclass(frozen=True)
class Item:
    """One item: what it is called, what it is about, and where its media come from.

    Attributes:
        photo: file of scikit-image's data folder that is its cover.
        clip: start and end in the film, seconds.
        cover_at: which moment of the film is its cover; None for none.
        heard: whether the clip has the film's own sound.
        said: what a made voice says in the clip, in place of the film's sound.
        shown: what is written in the clip's frames.
    """

    id: int
    topic: str
    title: str
    photo: str | None = None
    clip: tuple[float, float] | None = None
    cover_at: float | None = None
    heard: bool = False
    said: str | None = None
    shown: str | None = None


ITEMS = [
    Item(4, "rabbit", "The big rabbit wakes up in his burrow", clip=(43.6, 46.8), cover_at=46.5),
    Item(
        11,
        "rabbit",
        "Morning stretch, then breakfast",
        clip=(48.2, 51.4),
        cover_at=51.0,
        said="Good morning! It is time to make breakfast.",
    ),
    Item(17, "rabbit", "Stop and smell the flowers 🌼", clip=(65.2, 68.4), cover_at=65.6, heard=True),
    Item(23, "rabbit", "Rabbit finds a shiny red apple", clip=(92.5, 95.5), cover_at=93.2),
    Item(42, "rabbit", "A purple butterfly lands on his nose!", clip=(107.5, 110.7), cover_at=107.8),
    Item(
        58,
        "rabbit",
        "Chasing a pink butterfly, seen from above",
        clip=(76.0, 79.2),
        cover_at=77.6,
        heard=True,
    ),
    Item(77, "rabbit", "Best friends: the rabbit and the butterfly", clip=(473.0, 476.2), cover_at=474.0),
    Item(96, "rabbit", "Do not make this rabbit angry", clip=(281.5, 284.5), cover_at=281.8, heard=True),
    Item(
        105,
        "rabbit",
        "How to make a rope out of vines, part 1",
        clip=(271.0, 274.0),
        cover_at=271.3,
        said="Take three long vines and tie them together.",
        shown="PART 1: THE ROPE",
    ),
    Item(
        131,
        "rodents",
        "Three bullies meet in the meadow, and they laugh",
        clip=(118.1, 120.7),
        cover_at=120.3,
    ),
    Item(
        148,
        "rodents",
        "Hiding behind a root, ready to throw",
        clip=(182.0, 185.0),
        cover_at=182.6,
        heard=True,
    ),
    Item(163, "rodents", "Squirrel versus butterfly", clip=(186.6, 189.2), cover_at=187.4),
    Item(190, "rodents", "Three small rodents, one bad idea", clip=(324.0, 327.0), cover_at=324.8),
    Item(
        207, "rodents", "Extreme close-up of a red squirrel", clip=(334.5, 336.8), cover_at=335.2, heard=True
    ),
    Item(
        226, "rodents", "Flying squirrel, ready for take-off", clip=(399.9, 402.9), cover_at=400.7, heard=True
    ),
    Item(239, "rodents", "Gliding through a blue sky", clip=(437.0, 440.0), cover_at=437.4, heard=True),
    Item(255, "rodents", 'He said: "Don\'t look down", and looked down', clip=(447.5, 450.5), cover_at=448.5),
    Item(
        271, "forest", "Pink clouds over the green hills, early in the morning", clip=(4.5, 8.0), cover_at=7.0
    ),
    Item(288, "forest", "A fat little bird sings on a branch", clip=(16.2, 19.2), cover_at=17.7, heard=True),
    # Its title is blank, as some of MicroLens's are.
    Item(300, "forest", "", clip=(417.4, 420.0), cover_at=419.0, heard=True),
    # It has a clip and no cover.
    Item(314, "forest", "Bird in the air, squirrel on the string", clip=(590.5, 593.5)),
    Item(402, "science", "Meet astronaut Eileen Collins", photo="astronaut.png"),
    Item(419, "science", "Rocket on the launch pad just before dawn", photo="rocket.jpg"),
    Item(
        437,
        "science",
        "10,000 galaxies in one picture, from the Hubble telescope",
        photo="hubble_deep_field.jpg",
    ),
    Item(455, "science", "This is the back of a human eye", photo="retina.jpg"),
    Item(468, "science", "One living cell under the microscope", photo="cell.png"),
    Item(501, "home", "My cat Chelsea, judging you", photo="chelsea.png"),
    Item(516, "home", "Espresso in a red cup ☕ the perfect start", photo="coffee.png"),
    Item(533, "home", "Photographer with a camera on a tripod, black and white", photo="camera.png"),
    Item(549, "home", "Brick wall texture, free to use", photo="brick.png"),
    Item(562, "home", "Gravel close-up: 100 pebbles or more", photo="gravel.png"),
    Item(578, "home", "Grass, a very close look", photo="grass.png"),
    # The same picture posted again: the same bytes are computed once.
    Item(590, "home", "coffee time", photo="coffee.png"),
    # Titles alone.
    Item(604, "science", "Live: waiting for the next rocket launch"),
    Item(619, "home", "Five ways to make coffee at home, ranked"),
    Item(633, "forest", "Forest sounds for sleeping, 8 hours"),
]


def main() -> None:
    """Writes the whole folder anew, README.md apart."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sources", type=Path, help="folder with the two downloaded packages")
    sources = parser.parse_args().sources
    covers, videos = OUT / "sample_covers", OUT / "sample_videos"
    for folder in (covers, videos):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        film = unpack_film(sources, Path(scratch))
        photos = next(sources.rglob("scikit_image-0.26.0-*.whl"))
        for item in ITEMS:
            if item.photo:
                save_cover(read_photo(photos, item.photo), covers / f"{item.id}.jpg")
            if item.clip:
                write_clip(film, item, videos / f"{item.id}.mp4")
            if item.cover_at is not None:
                save_cover(frame_at(film, item.cover_at), covers / f"{item.id}.jpg")
    write_csv(OUT / "sample_titles.csv", [("item", "title"), *((i.id, i.title) for i in ITEMS)])
    write_csv(OUT / "sample_pairs.csv", [("user", "item", "timestamp"), *interactions()])


def unpack_film(sources: Path, scratch: Path) -> Path:
    """The film, out of the zip archive in moviepy's source distribution."""
    with tarfile.open(next(sources.rglob("moviepy-2.2.1.tar.gz"))) as package:
        archive = package.extractfile(f"moviepy-2.2.1/{FILM}")
        assert archive is not None
        return Path(zipfile.ZipFile(io.BytesIO(archive.read())).extract(FILM_MEMBER, scratch))


def read_photo(wheel: Path, name: str) -> Image.Image:
    """A photo of scikit-image's."""
    with zipfile.ZipFile(wheel) as package:
        return Image.open(io.BytesIO(package.read(f"skimage/data/{name}"))).convert("RGB")


def save_cover(picture: Image.Image, path: Path) -> None:
    """Writes a JPEG of at most ``COVER_SIDE`` pixels a side."""
    picture.thumbnail((COVER_SIDE, COVER_SIDE), Image.Resampling.LANCZOS)
    picture.save(path, quality=85, optimize=True)


def frame_at(film: Path, moment: float) -> Image.Image:
    """The first frame at or after ``moment``."""
    return next(frames_between(film, moment, moment + 1)).to_image()


def frames_between(film: Path, start: float, end: float) -> Iterator[av.VideoFrame]:
    """Frames of the film with ``start <= time < end``, seconds."""
    with av.open(str(film)) as source:
        source.seek(int(start * 1_000_000))
        for frame in source.decode(video=0):
            if frame.time >= end:
                return
            if frame.time >= start:
                yield frame


def write_clip(film: Path, item: Item, path: Path) -> None:
    """Writes an H.264 clip, with one thread so that it is the same each time."""
    assert item.clip is not None
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as target:
        stream = target.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {
            "crf": "28",
            "preset": "slow",
            "g": "24",
            "x264-params": "threads=1:lookahead-threads=1",
        }
        sound = sound_of(film, item)
        if sound is not None:
            add_sound(target, sound)
        for number, frame in enumerate(frames_between(film, *item.clip)):
            small = frame.reformat(width=WIDTH, height=HEIGHT, format="yuv420p")
            if item.shown:
                written = av.VideoFrame.from_image(with_text(small.to_image(), item.shown))
                small = written.reformat(format="yuv420p")
            small.pts, small.time_base = number, Fraction(1, FPS)
            target.mux(stream.encode(small))
        target.mux(stream.encode(None))


def with_text(picture: Image.Image, text: str) -> Image.Image:
    """The picture with white letters on a dark bar at its lower edge, in Pillow's own font."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(28)
    draw.rectangle((0, HEIGHT - 46, WIDTH, HEIGHT), (20, 20, 20))
    draw.text((WIDTH / 2, HEIGHT - 23), text, (255, 255, 255), font, anchor="mm")
    return picture


def sound_of(film: Path, item: Item) -> np.ndarray | None:
    """float32 ``[samples]`` of the clip, one channel at ``SAMPLE_RATE``; None if it is mute."""
    assert item.clip is not None
    start, end = item.clip
    if item.said is not None:
        made = subprocess.run(
            ["espeak-ng", "-v", "en-us", "-s", "165", "--stdout", item.said], check=True, capture_output=True
        )
        sound = decoded_sound(io.BytesIO(made.stdout))
    elif item.heard:
        sound = decoded_sound(film, start, end)
    else:
        return None
    whole = np.zeros(round((end - start) * SAMPLE_RATE), np.float32)
    whole[: len(sound)] = sound[: len(whole)]
    return whole


def decoded_sound(file: Path | io.BytesIO, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """float32 ``[samples]`` from ``start`` to ``end`` seconds, one channel at ``SAMPLE_RATE``."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    parts = []
    with av.open(str(file) if isinstance(file, Path) else file) as source:
        source.seek(int(start * 1_000_000))
        for frame in source.decode(audio=0):
            if end is not None and frame.time >= end:
                break
            if frame.time >= start:
                parts += [one.to_ndarray()[0] for one in resampler.resample(frame)]
    return np.concatenate(parts)


def add_sound(target: av.container.OutputContainer, sound: np.ndarray) -> None:
    """An AAC track of float32 ``[samples]``."""
    stream = target.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
    stream.bit_rate = SOUND_BITS
    frame = av.AudioFrame.from_ndarray(sound[np.newaxis], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    target.mux(stream.encode(frame))
    target.mux(stream.encode(None))


def interactions() -> list[tuple[int, int, int]]:
    """Made-up interactions: each user mostly likes one topic. Sorted by user, then by time."""
    numbers = random.Random(SEED)
    by_topic: dict[str, list[int]] = {}
    for item in ITEMS:
        by_topic.setdefault(item.topic, []).append(item.id)
    everything = [item.id for item in ITEMS]
    rows = []
    for user in sorted(numbers.sample(range(1000, 100_000), 96)):
        topic = numbers.choice(sorted(by_topic))
        chosen = []
        for _ in range(numbers.randint(6, 12)):
            pool = by_topic[topic] if numbers.random() < 0.8 else everything
            left = [item for item in pool if item not in chosen] or [i for i in everything if i not in chosen]
            chosen.append(numbers.choice(left))
        time = numbers.randint(1_577_836_800_000, 1_640_995_200_000)  # 2020 and 2021
        for item_id in chosen:
            rows.append((user, item_id, time))
            time += numbers.randint(60_000, 7 * 86_400_000)
    return rows


def write_csv(path: Path, rows: list[tuple[object, ...]]) -> None:
    """Writes CSV as MicroLens does, with CRLF."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
