"""A client of ``mmfeat serve``: the same questions as to an opened store, over HTTP.

>>> from mmfeat.client import Client                                     # doctest: +SKIP
>>> with Client("http://127.0.0.1:8080") as features:                    # doctest: +SKIP
...     features.lookup(["4", "11"], ["title_text"])["title_text"].matrix.shape
(2, 384)
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from mmfeat.schemas.errors import MissingExtra, MmfeatError, UnknownFeature, UnknownItems, UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.schemas.featureset.arrow import from_arrow
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import listed
from mmfeat.store import Hit

try:
    import httpx
except ImportError:
    raise MissingExtra("mmfeat.client", "client", "httpx") from None

_KEY_VARIABLE = "MMFEAT_API_KEY"
_ARROW = "application/vnd.apache.arrow.stream"
_IDS_PER_REQUEST = 10_000
# Every question only reads, so that any may be asked again.
_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0


class ServiceError(MmfeatError):
    """The service could not be reached, or could not answer, however often it was asked."""


class _TooMuch(UsageError):
    """The answer has more bytes than the service gives at once."""


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The items found, the nearest first.

    Attributes:
        version: the feature version that was searched.
        recall: share of the true ten nearest that such a search finds: 1 if every vector was compared;
            None if it is unknown.
    """

    version: str
    hits: tuple[Hit, ...]
    recall: float | None = None

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


class Client:
    """Asks one service. May be used from several threads.

    Args:
        url: where ``mmfeat serve`` listens.
        key: an API key; ``MMFEAT_API_KEY`` of the environment when None.
        timeout: seconds for one attempt.
        retries: further attempts after one that the service refused for the moment, or did not answer.
            Waits double from 0.2 seconds and follow the service's ``Retry-After``.

    Raises (all methods):
        UnknownFeature, UnknownItems, UsageError: as an opened store does, for the same mistakes.
        ServiceError: no answer after all attempts.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 30.0, retries: int = 3) -> None:
        key = key or os.environ.get(_KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url, self._retries = url.rstrip("/"), retries
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def lookup(
        self,
        ids: Sequence[str],
        features: Sequence[str] | None = None,
        unknown: Literal["error", "mask"] = "error",
        snapshot: str | None = None,
    ) -> FeatureSet:
        """Features of items, in the order asked: :meth:`mmfeat.FeatureStore.lookup` over HTTP.

        Many ids are asked for in parts of 10,000, or of fewer where the answer has more bytes than the
        service gives at once; all in the versions that the first part had.
        """
        asked = listed(ids, "item id")
        wanted = None if features is None else listed(features, "feature")
        if not asked:
            raise UsageError("A lookup takes a list of one or more item ids.")
        parts: list[FeatureSet] = []
        at, size = 0, _IDS_PER_REQUEST
        while at < len(asked):
            body: dict[str, Any] = {"ids": asked[at : at + size], "unknown": unknown}
            body |= {"features": wanted, "snapshot": snapshot}
            try:
                answer = self._ask("POST", "/v1/lookup", json=body, headers={"Accept": _ARROW})
            except _TooMuch:
                size = len(body["ids"]) // 2
                if not size:
                    raise
                continue
            parts.append(from_arrow(pa.ipc.open_stream(answer.content).read_all()))
            wanted = [f"{name}@{column.spec.fingerprint}" for name, column in parts[0].items()]
            at += size
        return parts[0] if len(parts) == 1 else _joined(parts)

    def search(
        self,
        feature: str,
        *,
        vector: np.ndarray | None = None,
        text: str | None = None,
        image: str | Path | bytes | None = None,
        item: str | None = None,
        k: int = 10,
        exact: bool = False,
        snapshot: str | None = None,
    ) -> Hits:
        """The ``k`` nearest items: :meth:`mmfeat.FeatureStore.search` over HTTP.

        Args:
            image: a local path or a file's bytes; they are sent to the service.
        """
        # Services of before there was such a thing refuse to be told of it.
        further = {"exact": True} if exact else {}
        if image is None:
            query = {
                "vector": None if vector is None else np.asarray(vector).tolist(),
                "text": text,
                "item": item,
            }
            body = {"feature": feature, "k": k, "snapshot": snapshot, **further, **query}
            answer = self._ask("POST", "/v1/search", json=body).json()
        elif vector is not None or text is not None or item is not None:
            raise UsageError("A search needs exactly one of text, image, item and vector.")
        else:
            where = {"feature": feature, "k": k, **further, **_of(snapshot)}
            headers = {"Content-Type": "application/octet-stream"}
            answer = self._ask(
                "POST", "/v1/search/image", params=where, content=_bytes(image), headers=headers
            ).json()
        return Hits(answer["version"], tuple(Hit(**hit) for hit in answer["hits"]), answer.get("recall"))

    def fields(
        self,
        ids: Sequence[str],
        names: Sequence[str] | None = None,
        unknown: Literal["error", "mask"] = "error",
        snapshot: str | None = None,
    ) -> pa.Table:
        """What the catalog holds of items: :meth:`mmfeat.FeatureStore.fields` over HTTP.

        A column of which no item asked for has a value is of nulls.
        """
        asked = listed(ids, "item id")
        if not asked:
            raise UsageError("A lookup takes a list of one or more item ids.")
        body = {"fields": None if names is None else listed(names, "field")}
        parts = []
        for start in range(0, len(asked), _IDS_PER_REQUEST):
            some = {"ids": asked[start : start + _IDS_PER_REQUEST], "unknown": unknown, "snapshot": snapshot}
            answer = self._ask("POST", "/v1/items", json=body | some).json()
            parts.append(pa.table({"item_id": answer["ids"], **answer["fields"]}))
        return pa.concat_tables(parts, promote_options="default")

    def features(self, snapshot: str | None = None) -> list[dict[str, Any]]:
        """Every feature version: ``version``, ``current``, ``kind``, ``dims``, counts by status."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/features", params=_of(snapshot)).json()[
            "features"
        ]
        return found

    def spec(self, feature: str, snapshot: str | None = None) -> FeatureSpec:
        """What made ``feature`` (``name`` or ``name@fingerprint``)."""
        answer = self._ask("GET", f"/v1/features/{_part(feature)}", params=_of(snapshot)).json()
        return FeatureSpec.model_validate(answer["spec"])

    def failures(self, feature: str, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
        """``item_id``, ``stage`` and ``reason`` of items that failed, by item id."""
        params = {"limit": limit, "offset": offset}
        answer = self._ask("GET", f"/v1/features/{_part(feature)}/failures", params=params)
        found: list[dict[str, Any]] = answer.json()["failures"]
        return found

    def snapshots(self) -> list[dict[str, Any]]:
        """All snapshots, oldest first: ``name``, ``created``, ``items``, ``features``."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/snapshots").json()
        return found

    def ready(self) -> bool:
        """Whether the service answers and can read its store; asked once, without another attempt."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                if last:
                    raise ServiceError(
                        f"{self._url} did not answer: {error or type(error).__name__}.",
                        hint="Check the address, and that `mmfeat serve` runs there.",
                    ) from error
            else:
                if answer.status_code not in _AGAIN or last:
                    return _checked(answer, self._url)
                wait = max(wait, _retry_after(answer))
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def _checked(answer: httpx.Response, url: str) -> httpx.Response:
    """The answer, or the error that it tells of."""
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
        error, detail, hint = problem["error"], problem["detail"], problem.get("hint")
    except (ValueError, KeyError, TypeError):
        raise ServiceError(f"{url} answered {answer.status_code}, and not as mmfeat does.") from None
    if error == "UnknownItems":
        raise UnknownItems(problem["ids"], url)
    if error == "UnknownFeature":
        raise UnknownFeature(detail, hint)
    if error == "TooMuch":
        raise _TooMuch(detail, hint)
    if answer.is_client_error:
        raise UsageError(detail, hint)
    raise ServiceError(f"{url}: {detail}", hint)


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that the service asks to wait; the form with a date is not what mmfeat sends."""
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else 0.0


def _joined(parts: Sequence[FeatureSet]) -> FeatureSet:
    ids = [item_id for part in parts for item_id in part.ids]
    return FeatureSet(ids, {name: _joined_column([part[name] for part in parts]) for name in parts[0]})


def _joined_column(columns: Sequence[FeatureColumn]) -> FeatureColumn:
    first = columns[0]
    values: np.ndarray | list[Any]
    if isinstance(first.values, np.ndarray):
        values = np.concatenate([column.matrix for column in columns])
    else:
        values = [value for column in columns for value in column.values]
    rest = {at: np.concatenate([getattr(c, at) for c in columns]) for at in ("mask", "status", "reason")}
    spans = None if first.spans is None else [own for column in columns for own in column.spans or ()]
    return FeatureColumn(first.spec, values, licence=first.licence, steps=first.steps, spans=spans, **rest)


def _bytes(image: str | Path | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {image}: {error.strerror}.") from None


def _of(snapshot: str | None) -> dict[str, str]:
    return {} if snapshot is None else {"snapshot": snapshot}


def _part(feature: str) -> str:
    """A feature as one part of a path."""
    return quote(feature, safe="@")
