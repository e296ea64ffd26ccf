"""Fetching over http from servers that are busy, slow, lying, or somewhere they should not be."""

import email.utils
import socket
import ssl
import subprocess
import threading
import time

import pytest
from helpers.web_server import answer, raw, running

from mmfeat.extract.media.read import location_stamp, read_media, size_of_stamp, stamp_of
from mmfeat.extract.media.web import WebReader
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import FetchOptions

MB = 2**20
PICTURE = b"picture" * 1000


@pytest.fixture
def server():
    with running() as started:
        yield started


@pytest.fixture
def stop():
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def naps() -> list[float]:
    """Every pause a reader made."""
    return []


@pytest.fixture
def reader(tmp_path, naps):
    def made(**options) -> WebReader:
        chosen = {"allow_private_addresses": True, "cache": tmp_path / "cache", **options}
        return WebReader(FetchOptions(**chosen), sleep=naps.append)

    return made


def refusal(reader: WebReader, url: str, max_bytes: int = MB) -> str:
    with pytest.raises(ItemError) as caught:
        reader.read(url, max_bytes)
    assert caught.value.stage == "read"
    return caught.value.reason


def test_a_url_is_fetched_by_a_client_that_says_what_it_is(server, tmp_path):
    url = server.on("/cover.jpg", answer(body=PICTURE))
    media = read_media(url, MB, FetchOptions(allow_private_addresses=True, cache=tmp_path))
    assert media.data == PICTURE
    assert media.stamp == location_stamp(url) == f"location:{url}"
    assert stamp_of(url) is None
    assert size_of_stamp(media.stamp) is None
    assert server.asked["/cover.jpg"][0]["User-Agent"] == "Mozilla/5.0 (compatible; mmfeat/0.1.0)"
    assert server.asked["/cover.jpg"][0]["Accept-Encoding"] == "identity"


def test_one_connection_serves_item_after_item(server, reader):
    urls = [server.on(f"/{i}.jpg", answer(body=PICTURE, ETag='"1"'), answer(304)) for i in range(3)]
    for url in urls * 2:
        assert reader().read(url, MB) == PICTURE
    assert server.connections == 1


def test_no_cookie_is_carried_from_item_to_item(server, reader):
    for path in ("/1.jpg", "/2.jpg"):
        reader().read(server.on(path, answer(body=PICTURE, Set_Cookie="visitor=7; Path=/")), MB)
    assert server.asked["/2.jpg"][0]["Cookie"] is None


# Busy and failing servers


def test_a_busy_server_is_asked_again_after_the_time_it_asks_for(server, reader, naps):
    url = server.on("/a.jpg", answer(429, Retry_After="7"), answer(body=PICTURE))
    assert reader().read(url, MB) == PICTURE
    assert naps == [7]
    later = email.utils.formatdate(time.time() + 20, usegmt=True)
    url = server.on("/b.jpg", answer(503, Retry_After=later), answer(body=PICTURE))
    assert reader().read(url, MB) == PICTURE
    assert 17 < naps[1] <= 20


def test_a_server_that_asks_for_more_patience_than_a_run_has_is_left_in_peace(server, reader, naps):
    url = server.on("/a.jpg", answer(429, Retry_After="3600"))
    assert refusal(reader(), url) == (
        "the server answered 429 Too Many Requests and asks to wait 3,600 s; run again later"
    )
    assert len(server.asked["/a.jpg"]) == 1
    assert naps == []


@pytest.mark.parametrize("nonsense", ["soon", "-5", "9" * 5000, "Wed, 99 Foo 2026"])
def test_a_wait_that_means_nothing_is_our_own(nonsense, server, reader, naps):
    url = server.on("/a.jpg", answer(503, Retry_After=nonsense), answer(body=PICTURE))
    assert reader().read(url, MB) == PICTURE
    assert len(naps) == 1
    assert naps[0] < 1


def test_a_failing_server_is_asked_four_times_with_pauses_that_grow(server, reader, naps):
    url = server.on("/a.jpg", answer(500))
    assert refusal(reader(), url) == "the server answered 500 Internal Server Error; asked 4 times"
    assert len(server.asked["/a.jpg"]) == 4
    assert len(naps) == 3
    for nap, middle in zip(naps, (0.5, 1, 2), strict=True):
        assert 0.75 * middle <= nap <= 1.25 * middle


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 206, 304])
def test_an_answer_that_will_not_change_is_taken_at_once(status, server, reader, naps):
    url = server.on("/a.jpg", answer(status))
    assert refusal(reader(), url).startswith(f"the server answered {status} ")
    assert len(server.asked["/a.jpg"]) == 1
    assert naps == []


def test_a_connection_that_breaks_is_tried_again(server, reader, naps):
    broken = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7000\r\n\r\nhalf")
    url = server.on("/a.jpg", raw(), broken, answer(body=PICTURE))
    assert reader().read(url, MB) == PICTURE
    assert len(naps) == 2
    assert refusal(reader(), "http://127.0.0.1:1/a.jpg").startswith("cannot reach the server")


def test_a_host_that_does_not_exist_is_looked_up_once(reader, naps):
    assert refusal(reader(), "http://nowhere.invalid/a.jpg") in (
        "there is no host nowhere.invalid",
        # Without a network the name service cannot know.
        "cannot reach the server: [Errno -3] Temporary failure in name resolution; asked 4 times",
    )


# Lying and endless answers


def test_a_body_shorter_than_announced_is_cut_short(server, reader):
    url = server.on("/a.jpg", answer(body=b"half", length=8))
    assert refusal(reader(), url).startswith("the answer was cut short: ")
    chunked = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf")
    assert refusal(reader(), server.on("/b.jpg", chunked)).startswith("the answer was cut short: ")


def test_a_body_over_the_limit_is_refused_whatever_its_head_says(server, reader, stop):
    assert refusal(reader(), server.on("/honest.jpg", answer(body=b"x" * 1001)), 1000).startswith(
        "too large: file is"
    )
    assert reader().read(server.on("/just.jpg", answer(body=b"x" * 1000)), 1000) == b"x" * 1000
    endless = raw(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, stop=stop)
    assert refusal(reader(), server.on("/endless.jpg", endless)).endswith("over the limit of 1.0 MB")
    chunks = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b"x" * 65536 + b"\r\n",
        stop=stop,
    )
    assert refusal(reader(), server.on("/chunks.jpg", chunks)).endswith("over the limit of 1.0 MB")


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nA: ", b"x"),
        (b"HTTP/1.1 ", b"2"),
    ],
    ids=["body", "long body", "chunks", "chunk size", "trailers", "header", "status"],
)
def test_a_server_that_dribbles_is_left_at_the_deadline(pieces, server, reader, stop):
    url = server.on("/slow.jpg", raw(*pieces, pause=0.02, stop=stop))
    assert refusal(reader(seconds=0.4), url).startswith("not fetched within 0.4 s: ")


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nA: ", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
        (b"HTTP/1.1 302 Found\r\nLocation: /slow.jpg\r\n\r\n", b"x" * 65536),
    ],
    ids=["header", "headers", "chunk size", "body of a redirect"],
)
def test_an_endless_head_is_refused_by_its_size(pieces, server, reader, stop):
    url = server.on("/slow.jpg", raw(*pieces, stop=stop))
    assert not refusal(reader(), url).startswith("not fetched within")


def test_a_web_page_is_refused_as_what_it_is(server, reader):
    page = answer(body=b"<html>", Content_Type="text/html; charset=utf-8")
    url = server.on("/cover.jpg", answer(302, Location="/login"))
    server.on("/login", page)
    assert refusal(reader(), url) == "the address answers with a web page (text/html), not media"
    url = server.on("/error", answer(body=b"{}", Content_Type="application/json"))
    assert refusal(reader(), url) == "the address answers with application/json, not media"
    url = server.on("/odd.webp", answer(body=PICTURE, Content_Type="text/plain"))
    assert reader().read(url, MB) == PICTURE


def test_a_packed_body_is_refused_and_never_unpacked(server, reader):
    url = server.on("/bomb.jpg", answer(body=PICTURE, Content_Encoding="gzip"))
    assert refusal(reader(), url) == "the server packs the file (gzip) though asked not to"


# Where a URL leads


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "someone@127.0.0.1",
    ],
)
def test_addresses_of_ones_own_network_are_refused_named_or_led_to(host, server, reader):
    port = server.server_port
    closed = reader(allow_private_addresses=False)
    assert "is not a public address; set limits.fetch.allow_private_addresses" in refusal(
        closed, f"http://{host}:{port}/secret.jpg"
    )
    assert server.connections == 0


def lead(monkeypatch, names: dict[str, list[list[str]]]) -> None:
    """Let the system's name service know these hosts, with the addresses of each look-up in turn."""
    real = socket.getaddrinfo

    def known(host, port, *args, **kwargs):
        addresses = names[host].pop(0) if host in names else [host]
        return [info for address in addresses for info in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", known)


def test_one_private_address_among_public_ones_is_enough(monkeypatch, reader):
    lead(monkeypatch, {"both.test": [["93.184.215.14", "10.0.0.1"]]})
    closed = reader(allow_private_addresses=False)
    assert refusal(closed, "http://both.test/a.jpg").startswith(
        "both.test (10.0.0.1) is not a public address"
    )


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch, server, reader):
    answers = [["127.0.0.1"], ["203.0.113.1"]]  # of a name service that changes its mind
    lead(monkeypatch, {"rebinding.test": answers})
    url = server.on("/a.jpg", answer(body=PICTURE)).replace("127.0.0.1", "rebinding.test")
    assert reader().read(url, MB) == PICTURE
    assert answers == [["203.0.113.1"]], "looked up once"
    assert server.asked["/a.jpg"][0]["Host"] == f"rebinding.test:{server.server_port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "2130706433"])
def test_a_redirect_into_ones_own_network_is_refused(host, monkeypatch, server, reader):
    from mmfeat.extract.media import addresses

    # The tests' server stands for a public one, on 127.0.0.2; every other address is judged as always.
    judged = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.2" or judged(address))
    lead(monkeypatch, {"public.test": [["127.0.0.2"]]})
    with running(address="127.0.0.2") as public:
        public.on("/a.jpg", answer(302, Location=f"http://{host}:{server.server_port}/secret.jpg"))
        closed = reader(allow_private_addresses=False)
        reason = refusal(closed, f"http://public.test:{public.server_port}/a.jpg")
    assert "is not a public address" in reason
    assert len(public.asked["/a.jpg"]) == 1
    assert server.connections == 0


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://host/a", "data:image/png;base64,AAAA", "zip://a::/b"]
)
def test_a_redirect_to_anything_but_the_web_is_refused(target, server, reader):
    url = server.on("/a.jpg", answer(302, Location=target))
    assert refusal(reader(), url) == f"the address leads on to '{target}', which is not http or https"


def test_five_redirects_are_followed_and_no_more(server, reader):
    for step in range(6):
        server.on(f"/{step}", answer(301, Location=f"/{step + 1}"))
    server.on("/6", answer(body=PICTURE))
    assert reader().read(f"{server.address}/1", MB) == PICTURE
    assert refusal(reader(), f"{server.address}/0") == "the address leads on to another more than 5 times"


def test_a_proxy_is_not_asked_for_ones_own_network(monkeypatch, server, reader):
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    closed = reader(allow_private_addresses=False)
    assert "is not a public address" in refusal(closed, "http://169.254.169.254/latest")
    assert server.connections == 0
    # What only the proxy can look up, it looks up.
    server.on("http://nowhere.invalid/a.jpg", answer(body=PICTURE))
    assert closed.read("http://nowhere.invalid/a.jpg", MB) == PICTURE


@pytest.mark.parametrize(
    "url", ["http://", "http:///a.jpg", "http://[::1/a.jpg", "http://host:99999999/a.jpg", "http://a..b/"]
)
def test_what_is_no_url_says_so(url, reader):
    assert refusal(reader(), url)


def test_a_certificate_is_checked_against_the_name_in_the_url(monkeypatch, tmp_path, reader, stop):
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=named.test"
    )
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:named.test"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    lead(monkeypatch, {"named.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]})
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with running(context=context) as server:
        server.on("/a.jpg", answer(body=PICTURE))
        server.on("/slow.jpg", raw(b"HTTP/1.1 200 OK\r\n\r\n", b"x", pause=0.02, stop=stop))
        assert reader().read(f"https://named.test:{server.server_port}/a.jpg", MB) == PICTURE
        reason = refusal(reader(), f"https://other.test:{server.server_port}/a.jpg")
        assert reason.startswith("no safe connection to the server")
        reason = refusal(reader(seconds=0.4), f"https://named.test:{server.server_port}/slow.jpg")
        assert reason.startswith("not fetched within 0.4 s: ")


def test_a_handshake_that_never_ends_is_left_at_the_deadline(reader):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def dribble() -> None:
            caller, _ = listening.accept()
            with caller:
                # The head of a long handshake record, then a byte at a time.
                caller.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
                try:
                    for _ in range(200):
                        caller.sendall(b"\x03")
                        time.sleep(0.02)
                except OSError:
                    pass

        threading.Thread(target=dribble, daemon=True).start()
        reason = refusal(reader(seconds=0.4), f"https://127.0.0.1:{listening.getsockname()[1]}/a.jpg")
        assert reason.startswith("not fetched within 0.4 s: ")
