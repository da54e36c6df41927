"""Large files over HTTP: what was received is kept, and a broken download goes on where it stopped."""

import fcntl
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from training.errors import FoveaError

TRIES = 4
"""So many tries in a row may fail without a byte received."""
PAUSE = 1.0
"""Seconds after the first failed try; each further pause is twice as long, at most `LONGEST_PAUSE`."""
LONGEST_PAUSE = 30.0
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""Seconds without a byte, or until there is a connection, after which a try has failed."""

_BUSY = {408, 425, 429, 500, 502, 503, 504}


class _FailedTryError(Exception):
    """A try that may go better next time."""


def download(
    url: str,
    part: Path,
    size: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    pause: float = PAUSE,
) -> None:
    """Receive a file, with range requests for what is missing (RFC 9110, section 14).

    Beside `part` lies `<part>.validator`, the server's ETag or date of the file: bytes of two versions of it are
    never joined where the server gives one. A server that ignores ranges sends everything again.

    Args:
        url: http or https.
        part: where the bytes go; what an earlier call left there is kept.
        size: what the file must have, in bytes, if known.
        progress: called with (bytes there, bytes in all, None if the server does not say).
        pause: see `PAUSE`.

    Raises:
        FoveaError: the server cannot be reached, refuses, sends something of another size, or breaks off
            again and again; or another process writes the same file.
    """
    host = _host(url)
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file, httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FoveaError(f"another process is writing {part}; wait for it, or end it") from None
        transfer = _Transfer(client, url, file, _validator_file(part), size, progress)
        tries = Retrying(
            retry=retry_if_exception_type((httpx.TransportError, _FailedTryError)),
            stop=_NoProgress(file),
            wait=wait_exponential(multiplier=pause, max=LONGEST_PAUSE),
            reraise=True,
        )
        try:
            tries(transfer.run)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise FoveaError(
                f"cannot reach {host} ({_sentence(error)}): without internet, get {url} on another machine and name "
                "the file with --archive, or name a mirror that can be reached with --url"
            ) from error
        except (httpx.HTTPError, _FailedTryError) as error:
            raise FoveaError(
                f"the download from {host} does not come to an end ({_sentence(error)}): "
                f"{file.seek(0, 2)} bytes are kept, and the same command goes on from there"
            ) from error
        finally:
            if not file.seek(0, 2):
                discard(part)


def discard(part: Path) -> None:
    """Remove what `download` left for a file."""
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _validator_file(part: Path) -> Path:
    return Path(f"{part}.validator")


class _Transfer:
    """One file from one address."""

    def __init__(
        self,
        client: httpx.Client,
        url: str,
        file: IO[bytes],
        validator: Path,
        size: int | None,
        progress: Callable[[int, int | None], None] | None,
    ):
        self._client = client
        self._url = url
        self._file = file
        self._validator = validator
        self._size = size
        self._progress = progress

    def run(self) -> None:
        """Ask for what is missing and append it."""
        there = self._file.seek(0, 2)
        if there == self._size:
            return
        with self._client.stream("GET", self._url, headers=self._headers(there)) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and there:
                if _total(response) == there:
                    return
                self._start_over("the file on the server is another one now")
            total = self._check(response, there)
            if response.status_code == httpx.codes.OK:
                self._file.truncate(0)
                self._validator.write_text(_validator(response))
            there = self._file.seek(0, 2)
            # Raw: the ranges of a file count its bytes as they are sent.
            for chunk in response.iter_raw():
                there += self._file.write(chunk)
                if self._progress:
                    self._progress(there, total)
        if total is not None and there < total:
            raise _FailedTryError(f"{there} of {total} bytes arrived")

    def _headers(self, there: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
            if self._validator.exists() and (validator := self._validator.read_text()):
                headers["If-Range"] = validator
        return headers

    def _check(self, response: httpx.Response, there: int) -> int | None:
        """Return the size of the whole file, if the response continues or begins the right one."""
        if response.status_code in _BUSY:
            raise _FailedTryError(f"status {response.status_code} {response.reason_phrase}")
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise FoveaError(
                f"{self._url} answers {response.status_code} {response.reason_phrase}: name a mirror with --url, or a "
                "file that you have with --archive"
            )
        total = _total(response)
        if self._size is not None and total is not None and total != self._size:
            raise FoveaError(f"{self._url} sends a file of {total} bytes, not the archive of {self._size}")
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            known = self._validator.read_text() if self._validator.exists() else ""
            if not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
                self._start_over("the server sent another range than the one asked for")
            if known and _validator(response) not in ("", known):
                self._start_over("the file on the server is another one now")
        return total

    def _start_over(self, why: str) -> NoReturn:
        self._file.truncate(0)
        self._validator.unlink(missing_ok=True)
        raise _FailedTryError(why)


class _NoProgress:
    """Stop after `TRIES` failed tries in a row in which the file did not grow."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._size = file.seek(0, 2)
        self._failed = 0

    def __call__(self, state: RetryCallState) -> bool:
        size = self._file.seek(0, 2)
        self._failed = 1 if size > self._size else self._failed + 1
        self._size = size
        return self._failed >= TRIES


def _host(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise FoveaError(f"{url!r} is not an address: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise FoveaError(f"{url!r} is not an http or https address; name a file on this machine with --archive")
    return parsed.host


def _total(response: httpx.Response) -> int | None:
    """Return the size of the whole file, if the response tells."""
    if response.status_code == httpx.codes.OK:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    match = re.fullmatch(r"bytes [^/]+/(\d+)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _validator(response: httpx.Response) -> str:
    """Return what tells this version of the file from others, fit for If-Range: a strong ETag, else the date."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
