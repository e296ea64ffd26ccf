"""Whether a version reads features as their names mean them now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mmfeat.store.versions import FeatureVersion


def why_stale(version: FeatureVersion, versions: Iterable[FeatureVersion], current: Mapping[str, str]) -> str:
    """Which features a version reads in another version than the current one; empty if none.

    A version that reads a stale fitted one is stale too: codes of a projection of older vectors.

    Args:
        versions: all of the store.
        current: name to the fingerprint that it means; a name that means none makes nothing stale.
    """
    fitted = {one.fingerprint: one for one in versions if one.spec.is_fitted}
    return " and ".join(_reasons(version, fitted, current))


def _reasons(
    version: FeatureVersion, fitted: Mapping[str, FeatureVersion], current: Mapping[str, str]
) -> Iterator[str]:
    for name, read in sorted(version.spec.upstreams.items()):
        if current.get(name, read) != read:
            yield f"it reads {_short(name, read)}, and {_short(name, current[name])} is current"
        elif read in fitted and (below := [*_reasons(fitted[read], fitted, current)]):
            yield f"it reads {_short(name, read)}, which is stale: {' and '.join(below)}"


def _short(name: str, fingerprint: str) -> str:
    return f"{name}@{fingerprint[:8]}"
