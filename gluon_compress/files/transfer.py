"""What a server sends, as pieces within bounds of time and size; whatever is wrong with it is a ``DownloadError``."""
from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from ..arguments import shown
from ..errors import DownloadError

PIECE_BYTES = 1 << 14     # small: an interrupted download keeps whole pieces only
BYTES_PER_SECOND = 1000   # a slower server is given up
REASON_LENGTH = 160       # how much of a library's message is quoted
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


@dataclass
class Answer:
    """``status``, ``length`` of the body or None, ``content_range``, and an iterator of its ``pieces``."""

    status: int
    length: int | None
    content_range: str
    pieces: Generator[bytes, None, None]


def check_address(url: Any, verified: bool) -> None:
    """Raise ``DownloadError`` for addresses that are not fetched; plain http only for content that is verified."""
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname
    except (ValueError, TypeError, AttributeError) as error:
        raise DownloadError(f"url is {shown(url)}: {error}; accepted: an https address") from error
    if scheme == "https" and host or scheme == "http" and host and (verified or host in THIS_MACHINE):
        return
    raise DownloadError(f"url is {url!r}; accepted: an address that begins with https:// (http:// only where a SHA-256 "
                        f"is known or on this machine)")


def fetch(url: str, start: int, timeout: float, limit: int, verified: bool) -> Answer:
    """The :class:`Answer` for ``url`` from byte ``start`` on.

    ``timeout`` is in seconds, for the connection and between two pieces. In each such time spent waiting,
    ``BYTES_PER_SECOND`` must arrive. ``limit``: the most bytes expected, including those before ``start``.
    """
    check_address(url, verified)
    received: queue.Queue = queue.Queue(maxsize=64)
    stop = threading.Event()
    threading.Thread(target=_receive, args=(url, start, timeout, verified, received, stop), daemon=True).start()
    try:
        status, reason, headers = _next(url, received, 3 * timeout)
        return Answer(status, _checked_length(url, status, reason, headers, start, limit),
                      headers.get("Content-Range", ""), _pieces(url, start, timeout, limit, received, stop))
    except BaseException:
        stop.set()
        raise


def _checked_length(url: str, status: int, reason: str, headers: Mapping[str, str], start: int,
                    limit: int) -> int | None:
    """The length of the body, or None; raise for an answer that is not the file."""
    if status == 416 and start:
        return None
    if status != 200 and not (status == 206 and start):
        raise DownloadError(f"{url}: the server answers {status} {_short(reason or '')}".rstrip())
    kind, encoding = headers.get("Content-Type", ""), headers.get("Content-Encoding", "identity").lower()
    if kind.lower().startswith("text/html"):
        raise DownloadError(f"{url}: the server answers with a web page (text/html) instead of the file")
    if encoding not in ("", "identity") and not (encoding.endswith("gzip") and url.endswith("gz")):
        raise DownloadError(f"{url}: the server answers in the encoding {_short(encoding)}, which was not asked for")
    length = headers.get("Content-Length")
    if length is None or "chunked" in headers.get("Transfer-Encoding", "").lower():
        return None
    if not re.fullmatch("[0-9]{1,18}", length):
        raise DownloadError(f"{url}: the server announces a length of {_short(repr(length))}")
    if (status == 206) * start + int(length) > limit:
        raise DownloadError(f"{url}: the server announces {int(length):,} bytes; expected at most {limit:,}")
    return int(length)


def _receive(url: str, start: int, timeout: float, verified: bool, received: queue.Queue,
             stop: threading.Event) -> None:
    """Put what the network sends into a queue: an answer's beginning, its pieces, None; or an exception.

    It runs in a thread of its own, as no library ends a request whose server sends a byte now and then.
    """
    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                return received.put(item, timeout=1)
            except queue.Full:
                pass
        raise ConnectionAbortedError

    def check_redirection(answer: requests.Response, **_: Any) -> None:
        if answer.is_redirect:
            try:
                check_address(urljoin(answer.url, answer.headers["Location"]), verified)
            except DownloadError as error:
                raise DownloadError(f"{url}: it is redirected to {_short(error)}") from error
    headers = {"Accept-Encoding": "identity"}  # lengths are of the bytes as they are stored
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout,
                          hooks={"response": check_redirection}) as answer:
            put((answer.status_code, answer.reason, answer.headers))
            read = getattr(answer.raw, "read1", answer.raw.read)  # what is there, at once, since urllib3 2
            while piece := read(PIECE_BYTES, decode_content=False):
                put(piece)
            put(None)
    except Exception as error:
        if not stop.is_set():
            put(error)


def _next(url: str, received: queue.Queue, seconds: float) -> Any:
    try:
        item = received.get(timeout=seconds)
    except queue.Empty:
        raise DownloadError(f"{url}: timed out: the server has sent nothing for {seconds:g} seconds") from None
    if isinstance(item, DownloadError):
        raise item
    if isinstance(item, Exception):
        raise DownloadError(f"{url}: {reason_of(item)}") from item
    return item


def _pieces(url: str, start: int, timeout: float, limit: int, received: queue.Queue,
            stop: threading.Event) -> Generator[bytes, None, None]:
    """The body; ``DownloadError`` when it comes too slowly or is longer than expected."""
    total, waited, since = start, 0, 0
    try:
        while True:
            began = time.monotonic()
            piece = _next(url, received, timeout + 1)
            waited += time.monotonic() - began
            if piece is None:
                return
            total, since = total + len(piece), since + len(piece)
            if total > limit:
                raise WrongContent(f"{url}: the server sends more than the {limit:,} bytes that are expected at most")
            if waited >= timeout:
                if since < BYTES_PER_SECOND * timeout:
                    raise DownloadError(f"{url}: timed out: {since} bytes in {waited:.0f} seconds; accepted: "
                                        f"{BYTES_PER_SECOND} bytes per second")
                waited, since = 0, 0
            yield piece
    finally:
        stop.set()


class WrongContent(DownloadError):
    """Content other than expected, with nothing worth keeping."""


def reason_of(error: BaseException) -> str:
    """The cause of a library's error, in one short line."""
    if isinstance(error, requests.TooManyRedirects):
        return "it is redirected again and again"
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception) or \
            isinstance(inner := error.__cause__ or error.__context__, Exception):
        error = inner
    if "timed out" in str(error).lower():
        return "timed out"
    return _short(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _short(text: Any) -> str:
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]}..."
