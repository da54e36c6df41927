"""API keys: names and hashes on our side, the keys on the clients'.

A key is 256 random bits, so nobody finds it by trying and a plain SHA-256 keeps it as well as a salted, slow hash,
which exists for passwords that people choose.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from serving.errors import UnauthenticatedError
from serving.watched import Watched

PREFIX = "fovea_"
"""Begins every key, so that people and scanners recognise one where it should not be."""

_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):([0-9a-f]{64})")
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_HOW = "send it as Authorization: Bearer KEY or as X-Api-Key: KEY"


def make(name: str) -> tuple[str, str]:
    """Make a key.

    Returns:
        The key, and the entry that lets the gateway recognise it.

    Raises:
        ValueError: the name is none.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    entry = f"{name}:{_digest(key).hex()}"
    parse([entry])
    return key, entry


def parse(entries: Iterable[str]) -> dict[bytes, str]:
    """Read entries `name:SHA-256 in hexadecimal`; several may have the same name, so that keys can be replaced.

    Returns:
        Name by digest.

    Raises:
        ValueError: one sentence about the first entry that is none, which it does not repeat: it may be a key.
    """
    names: dict[bytes, str] = {}
    for number, entry in enumerate(entries, 1):
        if not (match := _ENTRY.fullmatch(entry)):
            raise ValueError(
                f"entry {number} is not NAME:SHA-256 with a name of at most 64 letters, digits, '.', '_' and '-' "
                "and 64 hexadecimal digits; `fovea-gateway key NAME` makes one"
            )
        if names.setdefault(bytes.fromhex(match[2]), match[1]) != match[1]:
            raise ValueError(f"entry {number} has the key of another name")
    return names


def read(file: Path) -> dict[bytes, str]:
    """Read a file of entries, one a line; empty lines and lines that begin with # are skipped.

    Raises:
        OSError: the file cannot be read.
        ValueError: as for `parse`.
    """
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except UnicodeDecodeError:
        raise ValueError("the file is not text") from None
    return parse(line for line in lines if line and not line.startswith("#"))


class Headers(Protocol):
    """Headers of HTTP or metadata of gRPC: by names in lower case, unless they do not tell cases apart."""

    def get(self, name: str, /) -> str | None:
        """Return a value; None: there is none."""


class ApiKeys:
    """Tells whose key a request carries."""

    def __init__(self, entries: Iterable[str], file: Path | None) -> None:
        """Take keys from entries and from a file, which is read again when it changes.

        Raises:
            OSError: the file cannot be read.
            ValueError: entries are wrong, or the file holds none.
        """
        fixed = parse(entries)
        self._file = None if file is None else Watched([file], lambda: read(file))
        if self._file and not self._file.get():
            raise ValueError("the file holds no keys")
        self._fixed = fixed

    @property
    def required(self) -> bool:
        """Whether requests need a key. They still do where a file lost its last one."""
        return self._file is not None or bool(self._fixed)

    def authenticate(self, headers: Headers) -> str:
        """Return the name of the key that a request carries.

        Raises:
            UnauthenticatedError: it carries none, or one that is not known.
        """
        key = headers.get("x-api-key")
        if key is None and (match := _BEARER.fullmatch(headers.get("authorization") or "")):
            key = match[1]
        if not key:
            raise UnauthenticatedError(f"this gateway needs an API key; {_HOW}")
        digest = _digest(key)
        found = None
        # Every digest is compared in constant time, and all are, so that the time tells nothing about any.
        for known, name in self._known().items():
            if hmac.compare_digest(known, digest):
                found = name
        if found is None:
            raise UnauthenticatedError(f"the API key is not known here; {_HOW}")
        return found

    def _known(self) -> dict[bytes, str]:
        return self._fixed if self._file is None else {**self._file.get(), **self._fixed}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
