"""The download client against a server that behaves like a model hub, and then does not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from yarl import URL

import hubserver
from antiphon.core.errors import WeightsError
from antiphon.net.download import Excess, Offer, Patience, Refused, checked, download, redirected
from hubserver import HubServer, Reply, Request

pytestmark = pytest.mark.anyio

#: More than one of the client's reads, and of a length that no buffer has.
CONTENT = random.Random(7).randbytes(3_000_017)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(connect_seconds=2, stall_seconds=0.3, tries=3, pause_seconds=0.01)
FILE = "owner/repository/model.gguf"


class Kept:
    """A target in memory that remembers where it was begun."""

    def __init__(self, content: bytes = b"", tag: str = "") -> None:
        self.content = bytearray(content)
        self.tag = tag
        self.begun: list[tuple[str, int]] = []

    @property
    def done(self) -> int:
        return len(self.content)

    async def begin(self, offer: Offer, at: int) -> None:
        assert at in {0, self.done}
        self.begun.append((offer.tag, at))
        if at == 0:
            self.content.clear()
        self.tag = offer.tag

    async def add(self, data: bytes) -> None:
        assert data
        self.content += data


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.publish(FILE, CONTENT)
    server.publish("owner/repository/small.gguf", CONTENT, linked=False)
    yield server
    server.close()


def of_hub(hub: HubServer) -> str:
    """The address of a file that the hub redirects to its storage."""
    return f"{hub.url}/owner/repository/resolve/main/model.gguf"


def plain(hub: HubServer) -> str:
    """The address of a file that no redirect and no digest is told of."""
    return f"{hub.url}/owner/repository/resolve/main/small.gguf"


async def got(address: str, target: Kept | None = None, **options: str) -> Kept:
    target = target or Kept()
    await download(address, target, size=len(CONTENT), patience=QUICK, **options)
    assert bytes(target.content) == CONTENT
    return target


async def failure(address: str, target: Kept | None = None) -> str:
    with pytest.raises(WeightsError) as raised:
        await download(address, target or Kept(), size=len(CONTENT), patience=QUICK)
    assert "\n" not in raised.value.message and address not in raised.value.message
    return raised.value.message


@contextlib.asynccontextmanager
async def answering(
    said: bytes, heard: list[str] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A port that says this to everybody, and nothing more until the client goes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if heard is not None:
            heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(said)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.sleep(0.01)  # for its connections to see that the client went


# -- what goes well


async def test_a_file_comes_through_the_redirect_with_the_hubs_digest(hub: HubServer) -> None:
    target = await got(of_hub(hub))
    assert target.begun == [(f"sha256:{SHA256}", 0)]
    assert Offer(target.tag).sha256 == SHA256
    assert [request.at for request in hub.requests] == ["hub", "storage"]


async def test_what_is_all_here_is_not_asked_for(hub: HubServer) -> None:
    target = await got(of_hub(hub), Kept(CONTENT, f"sha256:{SHA256}"))
    assert (target.begun, hub.requests) == ([], [])


async def test_a_download_goes_on_at_its_byte(hub: HubServer) -> None:
    target = await got(of_hub(hub), Kept(CONTENT[:1_234_567], f"sha256:{SHA256}"))
    assert target.begun == [(f"sha256:{SHA256}", 1_234_567)]
    assert hub.asked() == [1_234_567]


async def test_without_a_hub_the_etag_names_the_version(hub: HubServer) -> None:
    target = await got(plain(hub))
    assert Offer(target.tag).sha256 is None
    assert target.tag.startswith('"')
    hub.requests.clear()
    await got(plain(hub), Kept(CONTENT[:99], target.tag))
    assert hub.asked("hub") == [99]
    assert hub.requests[0].headers["if-range"] == target.tag


async def test_the_time_of_the_last_change_does_where_there_is_no_strong_etag(hub: HubServer) -> None:
    when = "Wed, 21 Oct 2026 07:28:00 GMT"
    for etag in ("", 'W/"weak"'):
        hub.publish("o/r/dated.gguf", CONTENT, etag=etag, linked=False)
        hub.twist(hubserver.headed(Last_Modified=when), at="hub")
        assert (await got(f"{hub.url}/o/r/resolve/main/dated.gguf")).tag == when


async def test_a_version_without_a_name_is_never_continued(hub: HubServer) -> None:
    hub.publish("o/r/nameless.gguf", CONTENT, etag="", linked=False)
    hub.twist(hubserver.cut(1000), at="hub")
    target = await got(f"{hub.url}/o/r/resolve/main/nameless.gguf")
    assert hub.asked("hub") == [None, None]
    assert [at for _, at in target.begun] == [0, 0]


# -- a line that is bad


async def test_a_cut_connection_is_taken_up_where_it_was_cut(hub: HubServer) -> None:
    hub.twist(hubserver.cut(1_000_000), hubserver.cut(500_000))
    target = await got(of_hub(hub))
    assert hub.asked() == [None, 1_000_000, 1_500_000]
    assert [at for _, at in target.begun] == [0, 1_000_000, 1_500_000]


async def test_a_line_that_is_cut_again_and_again_but_brings_much_is_no_failure(hub: HubServer) -> None:
    content = CONTENT * 3
    hub.publish("o/r/big.gguf", content)
    hub.twist(*[hubserver.cut(1_200_000)] * 7)
    target = Kept()
    await download(f"{hub.url}/o/r/resolve/main/big.gguf", target, size=len(content), patience=QUICK)
    assert bytes(target.content) == content
    assert len(hub.asked()) == 8


async def test_a_line_that_brings_nothing_is_given_up(hub: HubServer) -> None:
    hub.twist(*[hubserver.cut(10)] * 9)
    target = Kept()
    assert await failure(of_hub(hub), target) == "the connection to 127.0.0.1 was cut (3 tries)"
    assert bytes(target.content) == CONTENT[:30]
    assert len(hub.asked()) == 3


async def test_a_stall_is_a_cut(hub: HubServer) -> None:
    hub.twist(hubserver.stall(1_000_000))
    await got(of_hub(hub))
    assert hub.asked() == [None, 1_000_000]


async def test_a_drip_is_a_stall(hub: HubServer) -> None:
    hub.twist(*[hubserver.changed(drip=0.05)] * 3)
    assert await failure(of_hub(hub)) == "127.0.0.1 stalled (3 tries)"


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    async with answering(b"") as port:
        assert await failure(f"http://127.0.0.1:{port}/x") == "127.0.0.1 stalled (3 tries)"


async def test_nobody_there_is_told(hub: HubServer) -> None:
    assert await failure("http://127.0.0.1:1/x") == "127.0.0.1 cannot be reached (3 tries)"


async def test_garbage_is_told() -> None:
    async with answering(b"SSH-2.0-OpenSSH\r\n\r\n") as port:
        assert "answered what is not HTTP" in await failure(f"http://127.0.0.1:{port}/x")


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
async def test_a_server_in_trouble_is_asked_again(hub: HubServer, code: int) -> None:
    hub.twist(hubserver.status(code))
    hub.twist(hubserver.status(code), at="hub")
    await got(of_hub(hub))
    hub.twist(*[hubserver.status(code)] * 3)
    assert await failure(of_hub(hub)) == f"127.0.0.1 answered {code} (3 tries)"


async def test_a_pause_that_is_asked_for_is_kept(hub: HubServer) -> None:
    hub.twist(hubserver.status(503, Retry_After="1"))
    begun = asyncio.get_running_loop().time()
    await got(of_hub(hub))
    assert asyncio.get_running_loop().time() - begun >= 1


# -- no


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 451])
async def test_a_no_is_final_and_told(hub: HubServer, code: int) -> None:
    hub.twist(hubserver.status(code), at="hub")
    with pytest.raises(Refused, match=f"127.0.0.1 answered {code}") as raised:
        await got(of_hub(hub))
    assert raised.value.status == code
    assert len(hub.requests) == 1


async def test_what_is_not_there_is_told(hub: HubServer) -> None:
    assert await failure(f"{hub.url}/o/r/resolve/main/x") == "127.0.0.1 answered 404: there is no such file"


# -- versions and lengths


async def test_a_file_that_changed_between_two_pulls_is_begun_anew(hub: HubServer) -> None:
    old = Kept(b"o" * 1_000_000, f"sha256:{'0' * 64}")
    target = await got(of_hub(hub), old)
    assert target.begun[-1] == (f"sha256:{SHA256}", 0)


async def test_a_file_that_changes_while_it_comes_is_begun_anew(hub: HubServer) -> None:
    old = b"o" * len(CONTENT)

    def changes(request: Request, reply: Reply) -> Reply:
        hub.publish("owner/repository/small.gguf", CONTENT, linked=False)
        return Reply(reply.status, {"ETag": '"old"'}, old, cut_after=1_000_000)

    hub.twist(changes, at="hub")
    target = await got(plain(hub))
    assert [at for _, at in target.begun] == [0, 0]
    assert hub.asked("hub") == [None, 1_000_000]


async def test_a_server_that_heeds_no_if_range_does_not_mix_versions(hub: HubServer) -> None:
    def careless(request: Request, reply: Reply) -> Reply:
        told = {"ETag": '"new"', "Content-Range": f"bytes 9-{len(CONTENT) - 1}/{len(CONTENT)}"}
        return Reply(206, told, CONTENT[9:])

    hub.twist(careless, at="hub")
    target = await got(plain(hub), Kept(b"o" * 9, '"old"'))
    assert hub.asked("hub") == [9, None]
    assert [at for _, at in target.begun] == [0, 0]


async def test_a_server_that_knows_no_ranges_gives_all_anew(hub: HubServer) -> None:
    hub.twist(hubserver.cut(1000), lambda request, reply: Reply(200, {}, CONTENT))
    target = await got(of_hub(hub))
    assert hub.asked() == [None, 1000]
    assert [at for _, at in target.begun] == [0, 0]


async def test_a_range_beyond_the_end_is_begun_anew(hub: HubServer) -> None:
    hub.twist(hubserver.status(416))
    target = await got(of_hub(hub), Kept(b"o" * 77, f"sha256:{SHA256}"))
    assert hub.asked() == [77, None]
    assert target.begun[0][1] == 0


@pytest.mark.parametrize("told", ["", "bytes 0-9/10", "bytes 5-9/*", "bytes x", "bytes */10"])
async def test_other_bytes_than_were_asked_for_are_refused(hub: HubServer, told: str) -> None:
    hub.twist(hubserver.headed(Content_Range=told))
    target = Kept(CONTENT[:77], f"sha256:{SHA256}")
    assert await failure(of_hub(hub), target) == "gives other bytes than were asked for"
    assert bytes(target.content) == CONTENT[:77]


async def test_a_file_of_another_length_is_refused_before_a_byte_is_taken(hub: HubServer) -> None:
    hub.publish("o/r/long.gguf", CONTENT + b"x", linked=False)
    hub.publish("o/r/linked.gguf", CONTENT + b"x")
    for name in ("long", "linked"):
        target = Kept()
        message = await failure(f"{hub.url}/o/r/resolve/main/{name}.gguf", target)
        assert message == f"has {len(CONTENT) + 1} bytes where {len(CONTENT)} were promised"
        assert target.begun == []


async def test_more_than_was_said_is_not_taken(hub: HubServer) -> None:
    hub.twist(hubserver.changed(body=CONTENT * 2, length=-1))
    with pytest.raises(Excess, match="gives more than the 3000017 bytes"):
        await got(of_hub(hub))


async def test_a_body_without_end_is_stopped(hub: HubServer) -> None:
    hub.twist(hubserver.changed(endless=True))
    target = Kept()
    with pytest.raises(Excess):
        await got(of_hub(hub), target)
    assert target.done <= len(CONTENT)


async def test_less_than_was_said_is_a_cut(hub: HubServer) -> None:
    hub.twist(hubserver.changed(body=CONTENT[:-5], length=len(CONTENT)))
    hub.twist(hubserver.changed(body=b"", length=-1))
    await got(of_hub(hub))
    assert hub.asked() == [None, len(CONTENT) - 5, len(CONTENT) - 5]


async def test_what_comes_packed_is_refused(hub: HubServer) -> None:
    hub.twist(hubserver.headed(Content_Encoding="gzip"))
    assert "packed" in await failure(of_hub(hub))
    assert hub.requests[0].headers["accept-encoding"] == "identity"


# -- redirects and credentials


async def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub: HubServer) -> None:
    hub.token = "hf_secret"
    await got(of_hub(hub), token="hf_secret")
    assert [request.headers.get("authorization") for request in hub.requests] == ["Bearer hf_secret", None]
    with pytest.raises(Refused, match="answered 401: it wants a token"):
        await got(of_hub(hub))


async def test_the_token_does_not_come_back_through_a_third_host(hub: HubServer) -> None:
    """To the storage and from there to the hub again: that one is the hub, so it gets the token; nobody else does."""
    hub.twist(hubserver.redirect(of_hub(hub)))
    await got(of_hub(hub), token="t")
    sent = [(request.at, "authorization" in request.headers) for request in hub.requests]
    assert sent == [("hub", True), ("storage", False), ("hub", True), ("storage", False)]


async def test_what_another_host_says_of_the_digest_counts_for_nothing(hub: HubServer) -> None:
    hub.twist(hubserver.redirect(hub.storage + "/owner/repository/resolve/main/small.gguf"), at="hub")
    hub.twist(hubserver.headed(X_Linked_ETag=f'"{"f" * 64}"'))
    assert (await got(plain(hub))).tag.startswith('"')


async def test_netrc_is_not_read(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("n") / "netrc"
    file.write_text("default login me password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    await got(of_hub(hub))
    assert all("authorization" not in request.headers for request in hub.requests)


async def test_a_relative_redirect_is_followed(hub: HubServer) -> None:
    hub.twist(hubserver.redirect("../main/model.gguf?x=%2F"), at="hub")
    hub.twist(lambda request, reply: Reply(302, {"Location": of_hub(hub)}), at="hub")
    await got(of_hub(hub))
    assert hub.requests[1].path == "/owner/repository/resolve/main/model.gguf?x=%2F"


async def test_a_circle_of_redirects_is_left(hub: HubServer) -> None:
    hub.twist(*[hubserver.redirect(of_hub(hub))] * 20, at="hub")
    assert await failure(of_hub(hub)) == "127.0.0.1 redirects without end"
    assert len(hub.requests) == 6


@pytest.mark.parametrize(
    "location", ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "https://u:p@h/x", "http://[::", ""]
)
async def test_a_redirect_to_where_no_file_may_come_from_is_refused(hub: HubServer, location: str) -> None:
    hub.twist(hubserver.redirect(location), at="hub")
    assert "127.0.0.1 redirects to" in await failure(of_hub(hub))
    assert len(hub.requests) == 1


def test_a_redirect_does_not_lead_from_https_to_http() -> None:
    url = URL("https://hub.example/a/b")
    with pytest.raises(WeightsError, match="from https to http, which is refused"):
        redirected(url, "http://hub.example/a/b")
    with pytest.raises(WeightsError, match="from https to http, which is refused"):
        redirected(url, "http://127.0.0.1/a")
    assert str(redirected(url, "//cdn.example/c?sig=%2B#f")) == "https://cdn.example/c?sig=%2B"
    assert str(redirected(url, "c")) == "https://hub.example/a/c"


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate")
async def test_https_wants_a_certificate_to_trust_and_is_not_left_for_http(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1")
    files = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate))
    subprocess.run([*made, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with answering(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\n\r\n", tls=context) as port:
        address = f"https://127.0.0.1:{port}/x"
        assert await failure(address) == "there is no safe connection to 127.0.0.1 (TLS)"
        code = f"import asyncio; from antiphon.net.download import *; asyncio.run(download({address!r}, FakeTarget(), size=9))"
        fake = "class FakeTarget: done, tag = 0, ''"
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", f"{fake}\n{code}"),
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(certificate)},
        )
        _, complaint = await child.communicate()
    assert "127.0.0.1 redirects from https to http, which is refused" in complaint.decode()


def test_files_come_over_https_or_from_this_machine() -> None:
    for address in ("https://h.example/x", "http://localhost:8/x", "http://127.0.0.2/x", "http://[::1]:8/x"):
        assert str(checked(address))
    for address in (
        "http://h.example/x",
        "http://localhost.example/x",
        "https://u@h/x",
        "/x",
        "https://",
        "gopher://h/x",
    ):
        with pytest.raises(WeightsError):
            checked(address)


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    async with answering(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", asked) as port:
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")
        assert await failure("https://hub.invalid/x") == "the proxy answered 407"
        assert asked[0].startswith("CONNECT hub.invalid:443 ")
        assert "Proxy-Authorization: Basic" in asked[0]
        monkeypatch.setenv("no_proxy", "hub.invalid")
        assert await failure("https://hub.invalid/x") == "hub.invalid cannot be reached (3 tries)"
        assert len(asked) == 1


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://[::", "http://"])
async def test_a_proxy_of_another_kind_is_told(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    assert "the proxy that the environment names cannot be used" in await failure("https://hub.invalid/x")


async def test_a_cancelled_download_ends_at_once(hub: HubServer) -> None:
    hub.twist(hubserver.stall(1000))
    target = Kept()
    patient = Patience(stall_seconds=60)
    running = asyncio.create_task(download(of_hub(hub), target, size=len(CONTENT), patience=patient))
    async with asyncio.timeout(60):
        while target.done < 1000:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert bytes(target.content) == CONTENT[:1000]
