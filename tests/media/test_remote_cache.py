"""What was fetched is not sent again, what is kept is right, and hosts are not overrun."""

import multiprocessing
import os
import threading
import time

import pytest
from helpers.web_server import answer, running

from mmfeat.extract.media.read import read_media
from mmfeat.extract.media.webcache import WebCache
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import FetchOptions, MediaLimits

MB = 2**20
PICTURE = bytes(range(256)) * 100
MARK = '"v1"'


@pytest.fixture
def server():
    with running() as started:
        yield started


@pytest.fixture
def options(tmp_path):
    return FetchOptions(allow_private_addresses=True, cache=tmp_path / "cache")


def kept(options: FetchOptions, kind: str) -> list:
    return sorted((options.cache / kind).glob("*/*"))


@pytest.mark.parametrize(
    ("mark", "condition"),
    [
        ({"ETag": MARK}, "If-None-Match"),
        ({"Last_Modified": "Tue, 15 Nov 1994 12:45:26 GMT"}, "If-Modified-Since"),
    ],
)
def test_an_unchanged_file_is_not_sent_again(mark, condition, server, options):
    url = server.on("/a.jpg", answer(body=PICTURE, **mark), answer(304))
    first, second = (read_media(url, MB, options) for _ in range(2))
    assert first.data == second.data == PICTURE
    assert first == second
    assert [headers[condition] for headers in server.asked["/a.jpg"]] == [None, *mark.values()]


def test_a_changed_file_replaces_what_was_kept(server, options):
    url = server.on("/a.jpg", answer(body=PICTURE, ETag=MARK), answer(body=b"new", ETag='"v2"'), answer(304))
    assert [read_media(url, MB, options).data for _ in range(3)] == [PICTURE, b"new", b"new"]
    assert server.asked["/a.jpg"][2]["If-None-Match"] == '"v2"'


def test_content_is_kept_once_whatever_its_addresses(server, options):
    for path in ("/a.jpg", "/b.jpg", "/c.jpg"):
        read_media(server.on(path, answer(body=PICTURE, ETag=MARK)), MB, options)
    assert len(kept(options, "urls")) == 3
    assert [file.read_bytes() for file in kept(options, "content")] == [PICTURE]


def test_no_address_is_written_down(server, options):
    url = server.on("/a.jpg?token=s3cr3t", answer(body=PICTURE, ETag=MARK))
    read_media(url, MB, options)
    for file in options.cache.rglob("*"):
        assert "token" not in file.name
        assert file.is_dir() or b"s3cr3t" not in file.read_bytes()


@pytest.mark.parametrize("headers", [{}, {"ETag": MARK, "Cache_Control": "private, No-Store"}])
def test_what_cannot_or_may_not_be_kept_is_not(headers, server, options):
    url = server.on("/a.jpg", answer(body=PICTURE, **headers))
    assert [read_media(url, MB, options).data for _ in range(2)] == [PICTURE, PICTURE]
    assert kept(options, "content") == kept(options, "urls") == []


def test_marks_are_shown_only_to_the_address_they_came_from(server, options):
    server.on("/old.jpg", answer(body=PICTURE, ETag=MARK))
    server.on("/new.jpg", answer(body=b"new", ETag=MARK))
    url = server.on("/a.jpg", answer(302, Location="/old.jpg"), answer(302, Location="/new.jpg"))
    assert read_media(url, MB, options).data == PICTURE
    # Another file may well have the same mark.
    assert read_media(url, MB, options).data == b"new"
    assert server.asked["/new.jpg"][0]["If-None-Match"] is None
    server.on("/new.jpg", answer(304))
    assert read_media(url, MB, options).data == b"new"
    assert server.asked["/new.jpg"][1]["If-None-Match"] == MARK


@pytest.mark.parametrize("damage", [PICTURE[:-1], PICTURE[:-1] + b"x", b"", None])
@pytest.mark.parametrize("kind", ["content", "urls"])
def test_a_damaged_cache_is_never_used(kind, damage, server, options):
    url = server.on("/a.jpg", answer(body=PICTURE, ETag=MARK))
    read_media(url, MB, options)
    [file] = kept(options, kind)
    file.unlink() if damage is None else file.write_bytes(damage)
    assert read_media(url, MB, options).data == PICTURE
    assert server.asked["/a.jpg"][1]["If-None-Match"] is None
    server.on("/a.jpg", answer(304))
    assert read_media(url, MB, options).data == PICTURE, "whole again"


def test_the_limit_on_bytes_holds_for_what_was_kept(server, options):
    url = server.on("/a.jpg", answer(body=PICTURE, ETag=MARK))
    read_media(url, MB, options)
    with pytest.raises(ItemError, match="over the limit"):
        read_media(url, 1000, options)


def test_what_was_used_longest_ago_makes_room(tmp_path):
    cache = WebCache(tmp_path, most_bytes=10_000)
    headers = {"ETag": MARK}
    for number in range(6):
        cache.keep(f"http://a/{number}", f"http://a/{number}", headers, bytes([number]) * 3000)
        if number:
            assert cache.find("http://a/0", MB).data == bytes(3000), "used all along"
        time.sleep(0.01)
        assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) <= 10_000
    found = [number for number in range(6) if cache.find(f"http://a/{number}", MB)]
    assert found[0] == 0
    assert found[-1] == 5
    assert len(found) < 4


def test_a_cache_of_no_bytes_keeps_nothing(server, options):
    url = server.on("/a.jpg", answer(body=PICTURE, ETag=MARK))
    none = options.model_copy(update={"cache_bytes": 0})
    assert [read_media(url, MB, none).data for _ in range(2)] == [PICTURE, PICTURE]
    assert kept(options, "content") == kept(options, "urls") == []


def test_a_forgotten_url_leaves_nothing_behind(tmp_path):
    cache = WebCache(tmp_path, most_bytes=MB)
    for url in ("http://a/1", "http://a/2"):
        cache.keep(url, url, {"ETag": MARK}, PICTURE)
    cache.forget("http://a/1")
    cache.forget("http://a/never-seen")
    assert not any(PICTURE[:50] in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert cache.find("http://a/1", MB) is None
    assert cache.find("http://a/2", MB) is None, "the same content, to be fetched again"


def test_a_cache_that_cannot_be_written_says_what_to_set(server, options):
    options.cache.write_text("in the way")
    url = server.on("/a.jpg", answer(body=PICTURE, ETag=MARK))
    with pytest.raises(ItemError) as caught:
        read_media(url, MB, options)
    assert caught.value.reason.startswith(f"cannot use the cache {options.cache}: ")
    assert caught.value.reason.endswith("set limits.fetch.cache")


def test_the_cache_lies_where_the_user_keeps_caches(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    url = server.on("/a.jpg", answer(body=PICTURE, ETag=MARK))
    # Options no other test has: a reader remembers its folder.
    read_media(url, MB, FetchOptions(allow_private_addresses=True, seconds=599))
    assert [f.read_bytes() for f in (tmp_path / "xdg/mmfeat/media/content").glob("*/*")] == [PICTURE]


def test_options_come_from_a_job_and_refuse_what_they_do_not_know():
    limits = MediaLimits.model_validate({"fetch": {"allow_private_addresses": True, "cache": "~/media"}})
    assert limits.fetch.cache.is_absolute()
    assert not MediaLimits().fetch.allow_private_addresses
    for wrong in ({"cache": "media"}, {"per_host": 0}, {"seconds": 0}, {"proxy": "a"}):
        with pytest.raises(ValueError):
            FetchOptions.model_validate(wrong)


def _read_all(urls: list[str], options: FetchOptions, results) -> None:
    results.put([read_media(url, MB, options).content_hash for url in urls])


def test_processes_share_a_cache_and_the_bound_on_requests_to_a_host(server, options):
    def slow(handler) -> None:
        time.sleep(0.05)
        answer(body=handler.path.encode() * 1000, ETag=MARK)(handler)

    urls = [server.on(f"/{i % 8}.jpg", slow) for i in range(16)]
    options = options.model_copy(update={"per_host": 2})
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_read_all, args=(urls, options, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    hashes = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert hashes.count(hashes[0]) == 3
    assert len(set(hashes[0])) == 8
    assert server.at_once == 2
    assert len(kept(options, "content")) == len(kept(options, "urls")) == 8


def test_a_dead_process_gives_its_turn_back(server, options, tmp_path):
    asked = threading.Event()

    def hang(handler) -> None:
        asked.set()
        time.sleep(1)
        handler.close_connection = True

    url = server.on("/a.jpg", hang, answer(body=PICTURE))
    options = options.model_copy(update={"per_host": 1})
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    holder = context.Process(target=_read_all, args=([url], options, results))
    holder.start()
    assert asked.wait(30)
    os.kill(holder.pid, 9)
    holder.join()
    assert read_media(url, MB, options).data == PICTURE
