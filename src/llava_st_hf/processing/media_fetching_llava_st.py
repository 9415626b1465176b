"""Media that are no files: fetched from the network, where the caller allows it and only here; or in a `data:` URI.

A record, a page or a chat of somebody else may name any address. So an address is fetched by https only, from hosts
that are public (what a name resolves to is checked at each redirect, and the connection goes to that very address), at
most so many bytes, and within one deadline for all of it. FFmpeg and Pillow are given the bytes and no address.
"""

import base64
import binascii
import http.client
import ipaddress
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from huggingface_hub.utils import httpx

from .media_llava_st import MediaError, OversizedMediaError

_DATA_KINDS = ("image/", "video/", "application/octet-stream")
_PORTS = {"https": 443, "http": 80}
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_CHUNK_BYTES = 2**16
# Public by its number, and answers any machine of that cloud with what is private.
_CLOUD_ADDRESSES = (ipaddress.ip_address("168.63.129.16"),)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")  # a network's own, whatever it leads to


@dataclass(frozen=True)
class FetchRules:
    """
    What may be fetched from the network; given as `allow_url={"max_bytes": 2**30}`.

    Raises:
        `MediaError`: For a value that is none of these.
    """

    max_bytes: int = 256 * 2**20  # most bytes of one file
    deadline_seconds: float = 60.0  # longest time that one file may take, with redirects
    # Hosts, as `"media.example"` or `"media.example:8080"`, that may lie in a private network and be asked by
    # `http://` too.
    hosts: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("max_bytes", "deadline_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise MediaError(f"{name} of allow_url is {value!r:.80}: give a number above 0.", field="allow_url")
        hosts = self.hosts
        if isinstance(hosts, str) or not all(isinstance(host, str) for host in hosts):
            raise MediaError(f"hosts of allow_url is {hosts!r:.80}: give a list of names.", field="allow_url")
        object.__setattr__(self, "hosts", tuple(host.lower() for host in hosts))

    @classmethod
    def make(cls, allow_url: Any) -> "FetchRules":
        """Return the rules that `allow_url` means: `True`, or some of them by their names."""
        if not isinstance(allow_url, Mapping):
            return cls()
        known = [part.name for part in fields(cls)]
        if unknown := [name for name in allow_url if name not in known]:
            raise MediaError(f"allow_url has the key {unknown[0]!r}: give {', '.join(known)}.", field="allow_url")
        return cls(**allow_url)


def read_data_uri(source: Any) -> Any:
    """Return the bytes of the file that a `data:` URI holds; any other source as it is."""
    if not (isinstance(source, str) and source.startswith("data:")):
        return source
    head, _, body = source.partition(",")
    kind, *options = head[:1000].removeprefix("data:").lower().split(";")
    if not kind.startswith(_DATA_KINDS):
        raise MediaError(f"the data: URI is of the kind {kind or 'text'!r}: give data:image/... or data:video/...")
    max_bytes = FetchRules.max_bytes
    if len(body) * 3 // 4 > max_bytes + 2:
        raise OversizedMediaError(
            f"the data: URI holds more than {max_bytes:,} bytes: write them into a file and give its path."
        )
    try:
        if "base64" not in options:
            raise binascii.Error("it does not say so")
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise MediaError(
            f"the data: URI is no valid base64 ({error}): give data:image/png;base64, or data:video/mp4;base64, and "
            "the encoded file."
        ) from error


def fetch_media(url: str, allow_url: Any) -> bytes:
    """
    Fetch a file from the network.

    Args:
        url (`str`): An address, `https://...`.
        allow_url (`bool` or `dict`): `True`, or with limits of one's own, see `FetchRules`.

    Returns:
        `bytes`: The file.

    Raises:
        `MediaError`: When the address is not allowed, cannot be fetched, or is too large or slow; the message says
            which option allows it.
    """
    fetch = _Fetch(url, FetchRules.make(allow_url))
    # In a thread, as the resolver of names has no deadline, and a body that trickles passes one of each read.
    thread = threading.Thread(target=fetch.run, daemon=True)
    thread.start()
    thread.join(fetch.rules.deadline_seconds)
    if thread.is_alive():
        fetch.stop()
        raise MediaError(
            f"{fetch.name} takes longer than {fetch.rules.deadline_seconds:g} s: download it and give its path, or "
            "pass allow_url={'deadline_seconds': ...}.",
            field="allow_url",
        )
    if isinstance(fetch.error, MediaError):
        raise fetch.error
    if fetch.error is not None:
        reason = " ".join(str(fetch.error).split()) or type(fetch.error).__name__
        raise MediaError(
            f"{fetch.name} cannot be fetched ({reason:.200}): check the address and the network."
        ) from fetch.error
    return bytes(fetch.content)


class _Fetch:
    def __init__(self, url: str, rules: FetchRules):
        self.url, self.rules = url, rules
        written = "".join(c if c.isprintable() else "?" for c in url)
        self.name = written if len(written) <= 200 else f"{written[:197]}..."
        self.content = bytearray()
        self.error: Exception | None = None
        self.socket: socket.socket | None = None
        self.is_stopped = False

    def run(self) -> None:
        try:
            url: str | None = self.url
            for _ in range(_MAX_REDIRECTS + 1):
                url = self._request(url)
                if url is None:
                    return
            raise MediaError(f"{self.name} is redirected more than {_MAX_REDIRECTS} times: give its last address.")
        except Exception as error:  # noqa: BLE001 (raised again in the thread of the caller)
            self.error = error

    def stop(self) -> None:
        """End what the thread waits for."""
        self.is_stopped = True
        if self.socket is not None:
            with suppress(OSError):  # it has ended by itself
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def _request(self, url: str) -> str | None:
        """Fetch one address; return where it is redirected to."""
        parts = self._check(url)
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = _PORTS[parts.scheme]  # which is not written into the header Host
        try:
            connection.sock = self.socket = self._connect(host, port, parts)
            path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*") + (
                f"?{quote(parts.query, safe='/%:=&?~+!$,;@()*[]')}" if parts.query else ""
            )
            headers = {"Accept-Encoding": "identity", "User-Agent": "llava-st-hf", "Connection": "close"}
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                return self._read(response, url)
        finally:
            connection.close()

    def _check(self, url: str) -> SplitResult:
        """Check an address by what is written in it."""
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise MediaError(f"{self.name} holds a user name: give an address without one.")
        if not parts.hostname:
            raise MediaError(f"{self.name} names no host: check the address.")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._is_named(parts)):
            raise MediaError(
                f"{self.name} {'leads to' if url != self.url else 'is'} an address of the kind {parts.scheme}://: "
                "only https:// is fetched, and http:// from hosts that are named, allow_url={'hosts': "
                f"[{parts.hostname!r:.80}]}}.",
                field="allow_url",
            )
        return parts

    def _is_named(self, parts: SplitResult) -> bool:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return not {host, parts.hostname, f"{host}:{parts.port or _PORTS[parts.scheme]}"}.isdisjoint(self.rules.hosts)

    def _connect(self, host: str, port: int, parts: SplitResult) -> socket.socket:
        """Connect to what a name resolves to, and to nothing else."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, target in found:
            if not self._is_named(parts) and not is_public(target[0]):
                raise MediaError(
                    f"{self.name}: {host:.80} is {target[0]}, which is no public address: give the file, or name the "
                    f"host, allow_url={{'hosts': [{host!r:.80}]}}.",
                    field="allow_url",
                )
        error: OSError = OSError("the name has no address")
        for family, kind, protocol, _, target in found:
            connected = socket.socket(family, kind, protocol)
            self.socket = connected
            connected.settimeout(self.rules.deadline_seconds)
            try:
                if self.is_stopped:
                    raise TimeoutError
                connected.connect(target)
                if parts.scheme == "http":
                    return connected
                return httpx.create_ssl_context().wrap_socket(connected, server_hostname=host)
            except OSError as reason:
                connected.close()
                error = reason
        raise error

    def _read(self, response: http.client.HTTPResponse, url: str) -> str | None:
        if response.status in _REDIRECTS and (location := response.getheader("Location")):
            target = urljoin(url, location)
            if urlsplit(target).scheme != urlsplit(url).scheme:
                raise MediaError(
                    f"{self.name} is redirected to {urlsplit(target).scheme}://: give the address of the file itself."
                )
            return target
        if response.status != 200:
            raise MediaError(f"{self.name} is answered with {response.status}: check the address.")
        while chunk := response.read(_CHUNK_BYTES):
            self.content += chunk
            if len(self.content) + (response.length or 0) > self.rules.max_bytes:
                self.content.clear()
                raise OversizedMediaError(
                    f"{self.name} is larger than {self.rules.max_bytes:,} bytes: download it and give its path, or "
                    "pass allow_url={'max_bytes': ...}.",
                    field="allow_url",
                )
            if self.is_stopped:
                self.content.clear()
                return None
        if response.length:
            raise OSError(f"{response.length:,} bytes are missing at its end")
        return None


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public network, also where it wraps one of version 4."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64 or int(ip) >> 32 == 0:
            wrapped = ipaddress.ip_address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if ip in _LOCAL_NAT64:
            return False
    return ip.is_global and not ip.is_multicast and ip not in _CLOUD_ADDRESSES


__all__ = ["FetchRules", "fetch_media", "is_public", "read_data_uri"]
