"""One file over HTTP: the only client that downloads.

It reads a file into a `Target`, goes on where that stands, and never mixes two versions of a file. Where what is
here already is of another version, or the server knows no ranges, it begins anew. Bytes are judged by whoever owns
the target: a server is believed about nothing but its own version's name.

A bearer token goes to the first address's own host and to no other; `~/.netrc` and cookies are not used. Proxies are
those of the environment (`HTTPS_PROXY`, `NO_PROXY` and so on).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import urllib.request
from collections.abc import AsyncIterator
from typing import Protocol

import aiohttp
import msgspec
from yarl import URL

from antiphon.core.errors import WeightsError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WORTH_RETRYING = frozenset({408, 425, 429})
#: A try that brought this many bytes is no failure: on a bad line a big file needs many tries.
_PROGRESS_BYTES = 1 << 20
_LONGEST_PAUSE_SECONDS = 60.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_MEANINGS = {401: "it wants a token", 403: "it is forbidden", 404: "there is no such file", 410: "the file is gone"}


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, and how often to try again."""

    connect_seconds: float = 30.0
    stall_seconds: float = 60.0
    """The longest silence, and the time within which `least_bytes` must come."""
    least_bytes: int = 64 * 1024
    tries: int = 4
    """In a row without progress worth the name."""
    pause_seconds: float = 1.0
    """Before the second try; doubled before each further one."""
    redirects: int = 5


USUAL = Patience()


class Offer(msgspec.Struct, frozen=True):
    """What a server says of the file it gives. `tag` names the version, and is empty where it has no sure name:
    `sha256:…` as the hub tells it, a strong ETag, or the time of its last change."""

    tag: str

    @property
    def sha256(self) -> str | None:
        """The file's digest in the hub's own words."""
        return self.tag.removeprefix("sha256:") if self.tag.startswith("sha256:") else None


class Target(Protocol):
    """What takes the bytes."""

    @property
    def done(self) -> int:
        """Bytes that are here."""

    @property
    def tag(self) -> str:
        """The version they are of."""

    async def begin(self, offer: Offer, at: int) -> None:
        """What comes next is this file from byte `at` on: `done` as it stands, or 0, and then all that is here is
        of no more use. Raises WeightsError to refuse the offer."""

    async def add(self, data: bytes) -> None:
        """The next bytes."""


class Refused(WeightsError):
    """The server answered, and will not give the file; trying again would not change it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Excess(WeightsError):
    """More bytes came than the file may have."""


class _Broken(Exception):
    """This try failed, the next one may not. `pause` in seconds, None for the usual one."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


async def download(address: str, target: Target, *, size: int, token: str = "", patience: Patience = USUAL) -> None:
    """Bring `target` to `size` bytes of the file at `address`; nothing is asked for when it has them.

    Raises:
        WeightsError: it could not be had (one line, without the address); `Refused` where the server said no,
            `Excess` where it gave too much. What the target holds then is good to go on from.
        OSError: the target could not store what came.
    """
    start = checked(address)
    connector = aiohttp.TCPConnector(limit=1, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "antiphon", "Accept-Encoding": "identity"},
        auto_decompress=False,
        read_bufsize=1 << 20,
        max_field_size=32 * 1024,
        timeout=aiohttp.ClientTimeout(
            total=None,
            connect=patience.connect_seconds,
            sock_connect=patience.connect_seconds,
            sock_read=patience.stall_seconds,
        ),
    ) as session:
        asking = _Asking(session, start, token, size, patience)
        failed = 0
        while target.done < size:
            before = target.done
            try:
                await asking.once(target)
            except _Broken as broken:
                failed = 1 if target.done - before >= _PROGRESS_BYTES else failed + 1
                if failed >= patience.tries:
                    raise WeightsError(f"{broken.reason} ({failed} tries)") from None
                usual = min(patience.pause_seconds * 2 ** (failed - 1), _LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(usual if broken.pause is None else broken.pause)


def checked(address: str) -> URL:
    """The address, if files may be fetched from there: over https, and over http from this machine alone.

    Raises:
        WeightsError: they may not.
    """
    try:
        url = URL(address, encoded=address.isascii())
        usable = bool(url.host) and url.user is None and url.password is None and not re.search(r"\s", address)
    except ValueError:
        usable = False
    if not usable:
        raise WeightsError("is not an address that files can be fetched from")
    if url.scheme == "https" or (url.scheme == "http" and _is_loopback(url)):
        return url
    raise WeightsError("must begin with https:// (http:// is for this machine's own addresses)")


def redirected(url: URL, location: str) -> URL:
    """Where a redirect leads.

    Raises:
        WeightsError: nowhere, or to where a file must not come from.
    """
    try:
        target = url.join(URL(location, encoded=location.isascii())).with_fragment(None) if location else None
    except ValueError:
        target = None
    if target is None:
        raise WeightsError(f"{url.host} redirects to what is no address")
    if url.scheme == "https" and target.scheme == "http":
        raise WeightsError(f"{url.host} redirects from https to http, which is refused")
    try:
        return checked(str(target))
    except WeightsError:
        raise WeightsError(f"{url.host} redirects to an address that files are not fetched from") from None


def _is_loopback(url: URL) -> bool:
    host = url.host or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Asking(msgspec.Struct, frozen=True):
    """How one file is asked for."""

    session: aiohttp.ClientSession
    start: URL
    token: str
    size: int
    patience: Patience

    async def once(self, target: Target) -> None:
        """One try. Raises _Broken where another one may do better."""
        host = self.start.host
        try:
            await self._once(target)
        except aiohttp.ClientSSLError:
            raise WeightsError(f"there is no safe connection to {host} (TLS)") from None
        except aiohttp.ClientHttpProxyError as error:
            raise WeightsError(f"the proxy answered {error.status}") from None
        except aiohttp.ClientConnectorError as error:
            raise _Broken(f"{error.host} cannot be reached") from None
        except (aiohttp.ServerTimeoutError, TimeoutError):
            raise _Broken(f"{host} stalled") from None
        except aiohttp.ClientResponseError:
            raise _Broken(f"{host} answered what is not HTTP") from None
        except aiohttp.ClientError:
            raise _Broken(f"the connection to {host} was cut") from None

    async def _once(self, target: Target) -> None:
        asked = target.done if target.tag else 0
        headers = {}
        if asked:
            headers["Range"] = f"bytes={asked}-"
            if not target.tag.startswith("sha256:"):  # the hub's word for it is no ETag of where it redirects to
                headers["If-Range"] = target.tag
        async with self._answer(headers) as (response, offer):
            if asked and response.status == 416:
                await target.begin(offer, 0)
                raise _Broken("the file is shorter than what had come of it", pause=0)
            self._check_status(response, asked)
            if response.status == 206 and offer.tag != target.tag:
                await target.begin(offer, 0)
                raise _Broken("the file changed while it came", pause=0)
            self._check_length(response, asked)
            await target.begin(offer, asked if response.status == 206 else 0)
            await self._pour(response, target)

    @contextlib.asynccontextmanager
    async def _answer(self, headers: dict[str, str]) -> AsyncIterator[tuple[aiohttp.ClientResponse, Offer]]:
        """The first answer that is no redirect, and what was said of the file on the way to it."""
        url, linked = self.start, None
        for _ in range(self.patience.redirects + 1):
            own = url.origin() == self.start.origin()
            secret = {"Authorization": f"Bearer {self.token}"} if self.token and own else {}
            proxy, proxy_headers = _proxy_for(url)
            response = await self.session.get(
                url, headers=headers | secret, allow_redirects=False, proxy=proxy, proxy_headers=proxy_headers
            )
            try:
                if own:
                    linked = self._linked(response) or linked
                if response.status not in _REDIRECTS:
                    yield response, Offer(linked or _version(response))
                    return
                url = redirected(url, response.headers.get("Location", ""))
            finally:
                response.close()
        raise WeightsError(f"{self.start.host} redirects without end")

    def _linked(self, response: aiohttp.ClientResponse) -> str | None:
        """The version's name in the hub's own words: the file's SHA-256, told with the redirect to its storage."""
        size = response.headers.get("X-Linked-Size", "")
        if size and size != str(self.size):
            raise WeightsError(f"has {size[:20]} bytes where {self.size} were promised")
        told = response.headers.get("X-Linked-ETag", "").strip('"').lower()
        return f"sha256:{told}" if _SHA256.fullmatch(told) else None

    def _check_status(self, response: aiohttp.ClientResponse, asked: int) -> None:
        status, host = response.status, response.url.host
        if status == 200 or (status == 206 and asked):
            return
        if status in _WORTH_RETRYING or status >= 500:
            raise _Broken(f"{host} answered {status}", _asked_pause(response))
        meaning = f": {_MEANINGS[status]}" if status in _MEANINGS else ""
        raise Refused(f"{host} answered {status}{meaning}", status)

    def _check_length(self, response: aiohttp.ClientResponse, asked: int) -> None:
        packed = response.headers.get("Content-Encoding", "identity")
        if packed != "identity":
            raise WeightsError("comes packed, though it was asked for as it is")
        length = str(response.content_length or "")
        if response.status == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != asked:
                raise WeightsError("gives other bytes than were asked for")
            length = found[2].replace("*", "")
        if length and int(length) != self.size:
            raise WeightsError(f"has {length} bytes where {self.size} were promised")

    async def _pour(self, response: aiohttp.ClientResponse, target: Target) -> None:
        now = asyncio.get_running_loop().time
        since, came = now(), 0
        async for data in response.content.iter_any():
            if target.done + len(data) > self.size:
                raise Excess(f"gives more than the {self.size} bytes that the catalogue names")
            await target.add(data)
            came += len(data)
            if now() - since >= self.patience.stall_seconds:
                if came < self.patience.least_bytes:
                    raise _Broken(f"{response.url.host} stalled")
                since, came = now(), 0
        if target.done < self.size:
            raise _Broken(f"the connection to {response.url.host} was cut")


def _version(response: aiohttp.ClientResponse) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _asked_pause(response: aiohttp.ClientResponse) -> float | None:
    """What the server asks for, in seconds, up to the longest pause there is."""
    told = response.headers.get("Retry-After", "")
    return min(float(told), _LONGEST_PAUSE_SECONDS) if re.fullmatch(r"[0-9]{1,6}", told) else None


def _proxy_for(url: URL) -> tuple[URL | None, dict[str, str]]:
    """The environment's proxy for an address, and the header with the credentials in its name."""
    proxy = urllib.request.getproxies().get(url.scheme)
    if not proxy or urllib.request.proxy_bypass(url.host or ""):
        return None, {}
    try:
        address = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        address = URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise WeightsError("the proxy that the environment names cannot be used; it must begin with http://")
    if not address.user:
        return address, {}
    secret = aiohttp.encode_basic_auth(address.user, address.password or "")
    return address.with_user(None), {"Proxy-Authorization": secret}
