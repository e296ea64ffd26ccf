"""HDR frames to standard range, as players bring them to an ordinary screen.

Of the signal (SMPTE ST 2084 "PQ", or ARIB STD-B67 "HLG" on a screen of 1,000 cd/m2) the light is computed,
brought from BT.2020's or P3's primaries to BT.709's, and mapped so that graphics white (203 cd/m2,
ITU-R BT.2408) is near white: what is darker than 0.85 of it stays as it is, what is brighter is rolled off
up to 1,000 cd/m2. Colours keep their hue: all three channels are scaled as the largest is.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_PQ, _HLG = 16, 18
#: Transfer characteristics of HDR (ITU-T H.273).
HDR_TRANSFERS = frozenset({_PQ, _HLG})
_WHITE = 203.0  # cd/m2
_PEAK = 1000 / _WHITE
_KNEE = 0.85
# Primaries (ITU-T H.273) to BT.709's, linear light.
_BT709, _P3 = 1, 12
_FROM_BT2020 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
    np.float32,
)
_FROM_P3 = np.array(
    [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
)
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
# Rows that are mapped together: the whole of a large frame would take gigabytes in floats.
_ROWS = 256
_STEPS = 0xFFFF


def tone_mapped(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """uint8 ``[height, width, 3]`` sRGB.

    Args:
        pixels: uint16 ``[height, width, 3]``, RGB as the transfer has it.
        transfer, primaries: of the frame (ITU-T H.273); primaries that are not said are BT.2020's.
    """
    mapped = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _ROWS):
        rows = slice(top, top + _ROWS)
        mapped[rows] = _shown(_to_bt709(_light(pixels[rows], transfer), primaries))
    return mapped


def _light(pixels: np.ndarray, transfer: int) -> np.ndarray:
    """float32: linear light, 1 for graphics white."""
    if transfer == _PQ:
        return np.asarray(_pq_light()[pixels])
    scene = _hlg_light()[pixels]
    luma = scene @ _BT2020_LUMA
    # The system gamma of a screen of 1,000 cd/m2 is 1.2 (ITU-R BT.2100).
    return np.asarray(_PEAK * scene * np.power(luma, 0.2)[..., None])


def _to_bt709(light: np.ndarray, primaries: int) -> np.ndarray:
    if primaries == _BT709:
        return light
    matrix = _FROM_P3 if primaries == _P3 else _FROM_BT2020
    return np.asarray(np.maximum(light @ matrix.T, 0))


def _shown(light: np.ndarray) -> np.ndarray:
    """uint8 sRGB of linear light."""
    most = light.max(axis=-1, keepdims=True)
    scale = np.where(most > _KNEE, _rolled_off(most) / np.maximum(most, _KNEE), 1)
    steps = np.minimum(light * scale, 1) * _STEPS
    return np.asarray(_srgb()[np.rint(steps).astype(np.uint16)])


def _rolled_off(light: np.ndarray) -> np.ndarray:
    """A curve that leaves the knee at a slope of 1 and reaches 1 at the peak."""
    room = 1 - _KNEE
    over = np.clip(light - _KNEE, 0, _PEAK - _KNEE) / room
    peak = (_PEAK - _KNEE) / room
    # Reinhard's extended curve; its slope is 1 at 0.
    return np.asarray(_KNEE + room * over * (1 + over / peak**2) / (1 + over))


@cache
def _pq_light() -> np.ndarray:
    """float32 ``[65536]``: by ST 2084's EOTF."""
    signal = np.linspace(0, 1, _STEPS + 1)
    root = np.power(signal, 32 / 2523)
    light = np.power(np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root), 16384 / 2610)
    return (10_000 / _WHITE * light).astype(np.float32)


@cache
def _hlg_light() -> np.ndarray:
    """float32 ``[65536]``: the scene's light, 0 to 1, by the inverse of STD-B67's OETF."""
    signal = np.linspace(0, 1, _STEPS + 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(light.astype(np.float32))


@cache
def _srgb() -> np.ndarray:
    """uint8 ``[65536]``: linear light to sRGB (IEC 61966-2-1)."""
    light = np.linspace(0, 1, _STEPS + 1)
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, 1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * signal).astype(np.uint8))
