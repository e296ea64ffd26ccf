"""The program that reads a store for a process which was forked: see :mod:`mmfeat.fork_proxy`."""

from __future__ import annotations

import pickle
import sys
from multiprocessing.connection import Connection

from mmfeat import api
from mmfeat.feature_store import FeatureStore
from mmfeat.fork_proxy import no_way


def main() -> None:
    """Answer until the process at the other end of the line has ended."""
    line = Connection(int(sys.argv[1]))
    try:
        where = line.recv()
        features: FeatureStore | None = None
        while True:
            name, args, settings = line.recv()
            try:
                features = features or api.open(*where)
                found = getattr(features, name)
                reply = (False, found(*args, **settings) if callable(found) else found)
            except Exception as error:
                reply = (True, error)
            line.send_bytes(_packed(name, reply))
    except (EOFError, OSError, KeyboardInterrupt):
        pass


def _packed(name: str, reply: tuple[bool, object]) -> bytes:
    try:
        return pickle.dumps(reply)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        return pickle.dumps((True, no_way(name, error)))


if __name__ == "__main__":
    main()
