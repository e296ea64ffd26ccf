"""Answers that are kept until their rows are committed, on a disk and in an object store."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mmfeat.extract.served.journal import Journal
from mmfeat.schemas.errors import StoreError


@pytest.fixture(params=["disk", "s3"])
def uri(request, tmp_path, monkeypatch) -> Iterator[str]:
    if request.param == "disk":
        yield str(tmp_path / "store" / "_requests")
        return
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket/store/_requests"
    server.stop()


def test_another_process_finds_what_was_kept_until_it_is_removed(uri):
    kept = Journal(uri)
    assert kept.get("feature", "a") is None
    kept.put("feature", "a", {"reply": "é"})
    kept.put("feature", "b", {"reply": "2"})
    kept.put("other", "a", {"reply": "3"})
    later = Journal(uri)
    assert (later.get("feature", "a"), later.get("feature", "c")) == ({"reply": "é"}, None)
    assert [entry["reply"] for entry in later.entries("feature")] == ["é", "2"]
    later.remove("feature")
    later.remove("feature")
    assert list(Journal(uri).entries("feature")) == []
    assert [entry["reply"] for entry in Journal(uri).entries("other")] == ["3"]


def test_a_journal_that_cannot_be_written_says_which(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot .* the request journal .*file"):
        Journal(str(tmp_path / "file")).put("feature", "a", {})
