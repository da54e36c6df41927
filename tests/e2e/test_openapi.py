"""The OpenAPI document against a real gateway, by schemathesis."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.gateways import Gateway

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMATHESIS = REPOSITORY / ".venv" / "clients" / "bin" / "schemathesis"


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis comes with `make clients`")
def test_schemathesis_finds_nothing(tiny_server, tmp_path):
    config = Path(__file__).with_name("schemathesis.toml")
    with Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target) as gateway:
        command = [SCHEMATHESIS, "--config-file", config, "run", f"{gateway.url}/openapi.json"]
        options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--generation-deterministic"]
        quiet = ["--no-color", "--warnings", "off", "--continue-on-failure"]
        environment = os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
        done = subprocess.run(
            [*command, *options, *quiet], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
        )
    assert done.returncode == 0, done.stdout[-8000:]
    # All operations of all routes, and not for want of cases.
    assert int(re.search(r"Tested: (\d+)", done.stdout)[1]) == int(re.search(r"Selected: (\d+)", done.stdout)[1]) > 40
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 1000
