"""Whether a version reads features as their names mean them now."""

from __future__ import annotations

from collections.abc import Mapping

from mmfeat.schemas.spec import FeatureSpec


def why_stale(spec: FeatureSpec, current: Mapping[str, str]) -> str:
    """Which features a version reads in another version than the current one; empty where none.

    Args:
        current: name to the fingerprint that it means; a name that means none makes nothing stale.
    """
    return " and ".join(
        f"it reads {_short(name, read)}, and {_short(name, current[name])} is current"
        for name, read in sorted(spec.upstreams.items())
        if current.get(name, read) != read
    )


def _short(name: str, fingerprint: str) -> str:
    return f"{name}@{fingerprint[:8]}"
