"""Certificates for both doors, and trust in the model server's."""

import ssl
from pathlib import Path
from typing import NamedTuple

import grpc

from serving.watched import Watched


class Pair(NamedTuple):
    """A certificate with its chain, and its key: as OpenSSL has them, and in PEM."""

    context: ssl.SSLContext
    chain: bytes
    key: bytes


class Certificate:
    """What a door identifies itself with; read again when the files change, as renewed certificates do."""

    def __init__(self, chain_file: Path, key_file: Path) -> None:
        """Read both files.

        Raises:
            OSError: a file cannot be read.
            ValueError: they are no certificate and its key.
        """
        self._pair = Watched([chain_file, key_file], lambda: read_pair(chain_file, key_file))

    def context(self) -> ssl.SSLContext:
        """Return what the next connection is encrypted with."""
        return self._pair.get().context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that look for a changed certificate at every handshake."""

        def configuration() -> grpc.ServerCertificateConfiguration:
            pair = self._pair.get()
            return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)])

        return grpc.dynamic_ssl_server_credentials(configuration(), configuration)


def impatient(seconds: float) -> type[ssl.SSLSocket]:
    """Make a class of sockets that wait for a client so long and no longer, where they are told to block.

    What the kernel's timeouts end on a plain socket, OpenSSL begins anew.
    """

    class Impatient(ssl.SSLSocket):
        def setblocking(self, flag: bool) -> None:
            self.settimeout(seconds if flag else 0.0)

        def do_handshake(self, block: bool = False) -> None:
            self.settimeout(seconds)
            super().do_handshake(block)

    return Impatient


def certificate(chain_file: Path | None, key_file: Path | None) -> Certificate | None:
    """Read the files of a certificate; None: there are none, and connections are not encrypted.

    Raises:
        OSError: a file cannot be read.
        ValueError: they are no certificate and its key, or one of the two is missing.
    """
    if chain_file is None and key_file is None:
        return None
    if chain_file is None or key_file is None:
        raise ValueError("a certificate and its key belong together: set FOVEA_TLS_CERT_FILE and FOVEA_TLS_KEY_FILE")
    return Certificate(chain_file, key_file)


def read_pair(chain_file: Path, key_file: Path) -> Pair:
    """Read a certificate with its chain, and its key, both in PEM.

    Raises:
        OSError: a file cannot be read.
        ValueError: they are no certificate and its key.
    """
    chain, key = chain_file.read_bytes(), key_file.read_bytes()
    # TLS 1.2 or newer, and the ciphers that Python's maintainers choose.
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # OpenSSL would ask the terminal for the password of a key that has one.
        context.load_cert_chain(chain_file, key_file, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"the key in {key_file} is not that of the certificate in {chain_file}") from None
        raise ValueError(
            f"{chain_file} and {key_file} must hold a certificate and its key, which has no password, in PEM"
        ) from None
    return Pair(context, chain, key)


def authorities(file: Path | None) -> bytes | None:
    """Read certificates that another side's is to be signed by, or to be, in PEM; None: there is no file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds none.
    """
    if file is None:
        return None
    text = file.read_bytes()
    try:
        ssl.create_default_context(cadata=text.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ValueError(f"{file} holds no certificate in PEM") from None
    return text
