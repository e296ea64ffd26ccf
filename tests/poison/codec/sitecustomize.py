"""A Pillow format that does harm on demand, in every Python process that has this folder on its path.

No file at hand crashes today's decoders, so this stands in for one that does. What is under test is all
around it: the process, its limits, and what becomes of the item.
"""

import ctypes
import os
import signal

from PIL import BmpImagePlugin, Image, ImageFile  # noqa: F401 - BMP is registered before it is replaced


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    # C code that keeps Python's lock, so that no Python thread could watch it.
    ctypes.PyDLL(None).pause()


def eat() -> None:
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


def eat_unchecked() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    while True:
        ctypes.memset(libc.malloc(64 << 20), 1, 64 << 20)


def killed() -> None:
    # As the machine does when its memory is used up.
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(marker: str) -> None:
    if not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()  # noqa: PTH123
        killed()


def ended_once(marker: str) -> None:
    # As a library does that cannot load a part of itself.
    if not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()  # noqa: PTH123
        os._exit(2)


def tell(path: str) -> None:
    open(path, "w").close()  # noqa: PTH123


DEEDS = {f.__name__: f for f in (crash, hang, eat, eat_unchecked, killed, killed_once, ended_once, tell)}


class Poison(ImageFile.ImageFile):
    """``POISON deed [argument]``: an 8 x 8 black picture that does its deed when it is decoded."""

    format = "BMP"
    format_description = "Poison"

    def _open(self) -> None:
        self._mode, self._size = "RGB", (8, 8)
        self.deed, *self.arguments = self.fp.read().decode().split()[1:]

    def load(self):
        DEEDS[self.deed](*self.arguments)
        self.im = Image.core.fill("RGB", (8, 8), 0)


Image.register_open("BMP", Poison, lambda prefix: prefix.startswith(b"POISON"))
