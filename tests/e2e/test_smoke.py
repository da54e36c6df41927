"""The smoke check against real processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import certificates
from tests.gateways import Gateway
from tests.model_servers import free_port

SMOKE = Path(__file__).resolve().parents[2] / "deploy" / "smoke.py"


def _smoke(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SMOKE, *options], capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


@pytest.fixture(scope="module")
def gateway(tiny_server, tmp_path_factory):
    log = tmp_path_factory.mktemp("smoke") / "log"
    with Gateway(log, models="tiny,broken", model_server_target=tiny_server.grpc_target) as gateway:
        yield gateway


def test_a_gateway_that_works_passes(gateway):
    done = _smoke("--url", f"{gateway.url}/", "--grpc", gateway.grpc_target, "--model", "tiny", "--wait", "10")
    assert done.returncode == 0, done.stderr
    ready, classified, overlay, health = done.stdout.splitlines()
    assert '"ready":true' in ready
    assert classified.startswith("classify  tiny version 2: ")
    assert overlay.startswith("grad-cam  tiny PNG of 200x150 pixels, ")
    assert health == f"grpc      {gateway.grpc_target} SERVING"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH")
def test_with_https_grpc_has_tls_too(tiny_server, tmp_path):
    chain, key = certificates.make(tmp_path)
    files = {"tls_cert_file": chain, "tls_key_file": key}
    with Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target, **files) as gateway:
        trusted = {"SSL_CERT_FILE": str(chain), "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(chain)}
        target = gateway.grpc_target.replace("127.0.0.1", "localhost")
        done = _smoke("--url", gateway.url, "--grpc", target, "--wait", "10", **trusted)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"grpc      {target} SERVING"


def test_a_model_that_answers_nonsense_fails(gateway):
    done = _smoke("--url", gateway.url, "--grpc", gateway.grpc_target, "--model", "broken")
    assert done.returncode == 1
    assert done.stderr.startswith(f"smoke: {gateway.url}/v1/models/broken:classify answered 5")
    assert done.stderr.count("\n") == 1


def test_nobody_at_the_grpc_port_fails(gateway):
    target = f"127.0.0.1:{free_port()}"
    done = _smoke("--url", gateway.url, "--grpc", target, "--model", "tiny")
    assert done.returncode == 1
    assert done.stderr.startswith(f"smoke: {target} did not answer: UNAVAILABLE")


def test_nobody_at_the_address_fails_when_the_wait_is_over():
    url = f"http://127.0.0.1:{free_port()}"
    done = _smoke("--url", url, "--wait", "1")
    assert done.returncode == 1
    silence = f"{url}/v2/health/ready did not answer: [Errno 111] Connection refused"
    assert done.stderr == f"smoke: not ready within 1 s: {silence}\n"
