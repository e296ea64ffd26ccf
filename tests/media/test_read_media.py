import hashlib
import os
import socket
import zipfile

import pytest
from helpers.web_server import answer, running
from pydantic import ValidationError

from mmfeat.extract.media.read import read_media, size_of_stamp, stamp_of
from mmfeat.schemas.catalog import zip_location
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import FetchOptions, MediaLimits

MB = 2**20


def refusal(location, max_bytes: int = MB) -> str:
    with pytest.raises(ItemError) as caught:
        read_media(str(location), max_bytes)
    assert caught.value.stage == "read"
    return caught.value.reason


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "covers.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("covers/1.jpg", b"one" * 100)
        file.writestr("covers/empty.jpg", b"")
    return path


def member(archive, name: str) -> str:
    return zip_location(str(archive), name)


def test_a_file_is_read_whole_with_its_hash_and_the_stamp_that_planning_sees(tmp_path):
    path = tmp_path / "a b#1.jpg"
    path.write_bytes(b"some bytes")
    media = read_media(str(path), MB)
    assert media.data == b"some bytes"
    assert media.content_hash == hashlib.sha256(b"some bytes").hexdigest()
    assert media.stamp == stamp_of(str(path)) == f"10:{path.stat().st_mtime_ns}"
    assert size_of_stamp(media.stamp) == 10


def test_the_stamp_of_a_changed_file_changes(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1234")
    before = stamp_of(str(path))
    os.utime(path, ns=(1, 1))
    assert stamp_of(str(path)) == "4:1" != before


def test_a_file_over_the_limit_is_refused_with_both_sizes(tmp_path):
    path = tmp_path / "big.jpg"
    with path.open("wb") as file:
        file.truncate(int(70.1 * MB))
    assert refusal(path, 64 * MB) == "too large: file is 70.1 MB, over the limit of 64.0 MB"
    path.write_bytes(b"x" * 100)
    assert len(read_media(str(path), 100).data) == 100
    assert "over the limit" in refusal(path, 99)


def test_what_is_not_a_file_is_refused_without_opening_it(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert refusal(tmp_path / "folder") == "this is a folder, not a file"
        # Opening a pipe that nobody writes to would wait for ever.
        assert refusal(tmp_path / "pipe") == "this is a named pipe, not a file"
        assert refusal(tmp_path / "socket") == "this is a socket, not a file"
        assert refusal("/dev/zero") == "this is a device, not a file"
        for name in ("folder", "pipe", "socket", "nothing"):
            assert stamp_of(str(tmp_path / name)) is None


def test_empty_absent_and_forbidden_files_are_told_apart(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert refusal(tmp_path / "empty.jpg") == "file is empty"
    assert refusal(tmp_path / "none.jpg") == "there is no such file"
    assert "cannot read the file" in refusal("bad\0name")
    forbidden = tmp_path / "secret.jpg"
    forbidden.write_bytes(b"x")
    forbidden.chmod(0)
    if not os.access(forbidden, os.R_OK):  # root reads everything
        assert refusal(forbidden) == "no permission to read the file"


def test_a_stamp_opens_no_file(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", None)
        patch.setattr("builtins.open", None)
        stamp = stamp_of(str(path))
    assert stamp is not None


def test_a_member_of_an_archive_is_read_and_stamped_by_its_content(archive, tmp_path):
    media = read_media(member(archive, "covers/1.jpg"), MB)
    assert media.data == b"one" * 100
    assert media.stamp == stamp_of(member(archive, "covers/1.jpg"))
    assert size_of_stamp(media.stamp) == 300
    repacked = tmp_path / "again.zip"
    with zipfile.ZipFile(repacked, "w") as file:
        file.writestr("more.jpg", b"more")
        file.writestr("covers/1.jpg", b"one" * 100)
    assert stamp_of(member(repacked, "covers/1.jpg")) == media.stamp


def test_an_archive_replaced_during_a_process_is_read_anew(archive):
    before = stamp_of(member(archive, "covers/1.jpg"))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("covers/1.jpg", b"two" * 100)
    assert stamp_of(member(archive, "covers/1.jpg")) != before
    assert read_media(member(archive, "covers/1.jpg"), MB).data == b"two" * 100


def test_members_that_cannot_be_had_say_why(archive, tmp_path):
    assert refusal(member(archive, "covers/1.jpg"), 299).endswith("over the limit of 0.0 MB")
    assert refusal(member(archive, "covers/empty.jpg")) == "file is empty"
    assert refusal(member(archive, "covers/2.jpg")) == f"there is no such member in {archive}"
    assert refusal(member(tmp_path / "no.zip", "1.jpg")) == f"there is no archive {tmp_path / 'no.zip'}"
    assert refusal(member(tmp_path, "1.jpg")) == "this is a folder, not a file"
    broken = tmp_path / "text.zip"
    broken.write_text("no archive")
    assert refusal(member(broken, "1.jpg")).startswith(f"cannot read the archive {broken}")
    assert stamp_of(member(broken, "1.jpg")) is None
    data = bytearray(archive.read_bytes())
    data[data.index(b"covers/1.jpg") + 14] ^= 0xFF
    archive.write_bytes(data)
    assert refusal(member(archive, "covers/1.jpg")).startswith("archive member is damaged")


def test_kinds_of_url_that_are_not_read_say_so():
    assert refusal("ftp://host/a.jpg").startswith("ftp:// is not read")


def test_a_url_into_ones_own_network_is_refused_unless_allowed(tmp_path):
    with pytest.raises(ItemError, match="is not a public address"):
        read_media("http://127.0.0.1:1/a.jpg", MB, FetchOptions(cache=tmp_path))


def test_an_object_is_fetched_from_its_bucket(monkeypatch):
    with running() as server:
        server.on("/bucket/a%20b.jpg", answer(body=b"object"))
        server.on("/bucket/none.jpg", answer(404))
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            monkeypatch.setenv(name, value)
        allowed = FetchOptions(buckets=("s3://bucket/",))
        assert read_media("s3://bucket/a b.jpg", MB, allowed).data == b"object"
        with pytest.raises(ItemError, match="there is no such object"):
            read_media("s3://bucket/none.jpg", MB, allowed)


@pytest.mark.parametrize(
    "address", ["s3://secrets/a.jpg", "S3://secrets/a.jpg", "gs://bucket/a.jpg", "az://bucket/a"]
)
def test_a_bucket_that_is_not_listed_is_refused_before_it_is_asked(address, monkeypatch):
    with running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        for listed in ((), ("s3://bucket",), ("s3://secret", "s3://secrets.other")):
            with pytest.raises(ItemError, match="not among the buckets") as refused:
                read_media(address, MB, FetchOptions(buckets=listed))
            assert address.lower().rpartition("/")[0] in refused.value.reason
            assert "limits.fetch.buckets" in refused.value.reason
        assert server.connections == 0


@pytest.mark.parametrize(
    "listed", ["bucket", "s3://", "s3://bucket/folder", "http://bucket", "s3://a@b", "*"]
)
def test_a_list_of_buckets_holds_nothing_else(listed):
    with pytest.raises(ValidationError, match="buckets"):
        FetchOptions(buckets=(listed,))


def test_the_bucket_of_the_dataset_is_read_without_being_listed():
    limits = MediaLimits().with_buckets(["s3://bucket/media", "/data/media", "https://x.org/a", ""])
    assert limits.fetch.buckets == ("s3://bucket",)
    assert limits.with_buckets(["S3://bucket/other"]) == limits


def test_the_name_of_a_bucket_cannot_name_another_server():
    with running() as server:
        for bucket in (f"b?endpoint_override={server.address[7:]}&scheme=http", "user:word@b", "", ".."):
            assert refusal(f"s3://{bucket}/a.jpg").endswith("is not the name of a bucket")
        assert server.connections == 0
