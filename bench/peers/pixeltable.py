"""Pixeltable: a table of images with a computed column."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pixeltable as pxt

covers, _, out = sys.argv[1:4]
# It is read when the first table is made.
os.environ["PIXELTABLE_HOME"] = f"{out}/pixeltable"
sys.path.append(str(Path(__file__).parent / "functions"))

from embedding import embed  # noqa: E402

table = pxt.create_table("covers", {"image": pxt.Image})
table.add_computed_column(vector=embed(table.image))
table.insert([{"image": str(path)} for path in sorted(Path(covers).glob("*.jpg"))])
rows = table.select(path=table.image.localpath, vector=table.vector).collect()
rows = sorted(rows, key=lambda row: row["path"])
np.save(Path(out) / "vectors.npy", np.stack([row["vector"] for row in rows]))
# Its database server outlives the script otherwise.
server = Path(out) / "pixeltable" / "pgdata" / "postmaster.pid"
os.kill(int(server.read_text().split()[0]), signal.SIGINT)
