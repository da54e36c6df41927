"""Other projects' clients, in their own environment, against a real gateway in front of a real model server."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.gateways import Gateway
from tests.model_servers import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv" / "clients" / "bin" / "python"
# Version 2 answers where none is named; its gain is twice that of version 1.
P_RED = 1 / (1 + math.exp(-20 / 48))
PROBABILITIES = pytest.approx([P_RED, 1 - P_RED], abs=1e-6)
OLDER = pytest.approx(1 / (1 + math.exp(-10 / 48)), abs=1e-6)

needs_clients = pytest.mark.skipif(not PYTHON.exists(), reason="other projects' clients come with `make clients`")


@pytest.fixture(scope="module")
def gateway(tiny_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    with Gateway(folder / "log", models="tiny", model_server_target=tiny_server.grpc_target) as gateway:
        wait_until(lambda: gateway.http.get("/readyz").status_code == 200, 30, "ready")
        yield gateway


@pytest.fixture(scope="module")
def picture(encode, red_corner, tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "corner.png"
    path.write_bytes(encode(red_corner))
    return path


@pytest.fixture(scope="module")
def ask(gateway, picture, red_corner):
    pixels = picture.with_suffix(".npy")
    np.save(pixels, red_corner[None])

    def with_client(name):
        script = Path(__file__).with_name("foreign_clients.py")
        command = [PYTHON, script, name, gateway.url, gateway.grpc_target, picture, pixels]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return with_client


@needs_clients
def test_kserve_v1(ask):
    found = ask("kserve_v1")
    assert (found["live"], found["ready"]) == (True, True)
    assert found["predict"] == [PROBABILITIES]
    assert found["explain"] == "rot"
    assert "the body has no instances" in found["error"]
    assert "400" in found["error"]


@needs_clients
def test_kserve_v2(ask):
    found = ask("kserve_v2")
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    for form in ("base64", "binary", "pixels", "binary_pixels"):
        assert found[form] == {"probabilities": PROBABILITIES}, form
    assert "there is no input 'x'" in found["error"]
    assert "400" in found["error"]


@needs_clients
def test_kserve_grpc(ask):
    found = ask("kserve_grpc")
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    for form in ("picture", "pixels"):
        assert found[form] == {"probabilities": PROBABILITIES}, form


@needs_clients
@pytest.mark.parametrize("client", ["triton_http", "triton_grpc"])
def test_triton(ask, client):
    found = ask(client)
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    for form in ("picture", "pixels"):
        assert found[form]["probabilities"] == PROBABILITIES, form
        assert found[form]["label"] == ["rot"]
        assert found[form]["score"] == [pytest.approx(P_RED, abs=1e-6)]
    assert found["older"]["label"] == ["red"]
    assert found["older"]["score"] == [OLDER]
    assert found["inputs"] == {"images": [-1, 24, 32, 3], "image_bytes": [-1]}
    assert found["server"] == "fovea"
    assert "has no version 9" in found["error"]
    if client == "triton_http":
        assert found["json"] == {"probabilities": PROBABILITIES, "label": ["rot"]}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("options", [["-T", "{}"], ["-F", "file=@{}"], ["-H", "Content-Type:", "--data-binary", "@{}"]])
def test_curl_sends_a_file(gateway, picture, options):
    url = f"{gateway.url}/v1/models/tiny:classify"
    command = ["curl", "--silent", "--fail-with-body", *(option.format(picture) for option in options), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["classifications"][0]["label"] == "rot"
