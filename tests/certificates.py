"""Certificates for loopback addresses, made by OpenSSL's command."""

import subprocess
from pathlib import Path


def make(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """Make a self-signed certificate of `localhost` and 127.0.0.1; returns the files of the certificate and its key."""
    chain, key = folder / f"{name}.crt", folder / f"{name}.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *kind, *names, "-keyout", key, "-out", chain]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key
