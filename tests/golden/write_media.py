"""Writes ``media-v1``, the datasets of the golden stores. Encoders of pictures and clips differ from release
to release, so the files are kept: run this only to make new stores.

    PYTHONPATH=tests python tests/golden/write_media.py
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from golden_stores import BROKEN, FILMED, IDS, MEDIA, TOLD_IDS, TWINS, UNDESCRIBED, UNTITLED
from helpers import synthetic
from helpers.media_samples import encoded, film

SCENES = synthetic.held_out(len(IDS) + len(TOLD_IDS), seed=31)
TITLES = {
    "101": "Red running shoes",
    "102": 'Über das Café am Meer, "ein Film"',
    "0103": "How to bake bread at home",
    "105": "東京 面包食谱 🎬",
    "106": "A cast-iron pan of 28 cm",
    "107": "Red running shoes",
    "108": "To be forgotten",
}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def cover(number: int) -> bytes:
    pixels = synthetic.render(SCENES[number])
    return encoded(pixels, "PNG") if number == 2 else encoded(pixels, "JPEG", quality=90)


def shop(folder: Path) -> None:
    covers = {item_id: cover(number) for number, item_id in enumerate(IDS)}
    covers[TWINS[1]] = covers[TWINS[0]]
    covers[BROKEN] = covers[BROKEN][:300]
    for item_id, content in covers.items():
        write(folder / "covers" / f"{item_id}.{'png' if content[1:4] == b'PNG' else 'jpg'}", content)
    for item_id in FILMED:
        scene = replace(SCENES[IDS.index(item_id)], width=64, height=64, noise=2)
        write(folder / "videos" / f"{item_id}.mp4", film(list(synthetic.clip(scene, 6))))
    rows = [f'{i},"{TITLES[i].replace(chr(34), chr(34) * 2)}"' for i in IDS if i != UNTITLED]
    write(folder / "titles.csv", ("item,title\n" + "\n".join(rows) + "\n").encode())
    rng = np.random.default_rng(31)
    chosen = [rng.choice(IDS[:-1], 4, replace=False) for _ in range(12)]
    pairs = [
        f"u{u},{item},{1_700_000_000_000 + 1000 * k}"
        for u, c in enumerate(chosen)
        for k, item in enumerate(c)
    ]
    write(folder / "pairs.csv", ("user,item,timestamp\n" + "\n".join(pairs) + "\n").encode())


def told(folder: Path) -> None:
    rows = []
    for number, item_id in enumerate(TOLD_IDS):
        write(folder / f"{item_id}.jpg", cover(len(IDS) + number))
        description = "" if item_id == UNDESCRIBED else f"Number {number} of the shelf."
        rows.append(f"{item_id},The {item_id} of letters,{description},{item_id}.jpg")
    write(folder / "items.csv", ("item_id,title,description,cover\n" + "\n".join(rows) + "\n").encode())


if __name__ == "__main__":
    shutil.rmtree(MEDIA, ignore_errors=True)
    shop(MEDIA / "shop")
    told(MEDIA / "told")
