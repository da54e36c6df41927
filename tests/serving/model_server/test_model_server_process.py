"""The embedded model server as a process: flags, start and stop."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.model_server.__main__ import parse_flags
from serving.model_server.launch import model_server_command
from tests.model_servers import ModelServer, model_spec, predict_request, publish

_EMBEDDED = [sys.executable, "-m", "serving.model_server"]


class TestFlags:
    def test_have_the_real_server_s_defaults(self) -> None:
        flags = parse_flags(["--model_base_path=/m"])
        assert (flags.port, flags.rest_api_port, flags.model_name) == (8500, 0, "default")
        assert flags.file_system_poll_wait_seconds == 1
        assert flags.grpc_max_threads == 4 * os.cpu_count()
        assert flags.allow_version_labels_for_unavailable_models is False

    @pytest.mark.parametrize(("text", "value"), [("", True), ("=true", True), ("=1", True), ("=false", False)])
    def test_switches_come_bare_or_with_a_value(self, text: str, value: bool) -> None:
        flags = parse_flags(["--model_base_path=/m", f"--allow_version_labels_for_unavailable_models{text}"])
        assert flags.allow_version_labels_for_unavailable_models is value

    def test_known_ones_without_effect_are_accepted_and_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        parse_flags(["--model_base_path=/m", "--enable_profiler", "--batching_parameters_file=/b"])
        with pytest.raises(SystemExit):
            parse_flags(["--help"])
        assert "Accepted without effect: --batching_parameters_file" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("argv", "text"),
        [
            ([], "must say what to serve"),
            (["--model_base_path=/m", "--port=0"], "ports from 1 to 65535"),
            (["--model_base_path=/m", "--rest_api_port=8500"], "two different ports"),
            (["--model_base_path=/m", "--grpc_max_threads=0"], "--grpc_max_threads must be at least 1"),
            (["--model_base_path=/m", "--file_system_poll_wait_seconds=-1"], "must be at least 0"),
            (["--model_base_path=/m", "--port=http"], "invalid int value"),
            (["--model_base_path=/m", "--enable_grpc_healthcheck_service=maybe"], "expected true or false"),
            (["--model_base_path=/m", "--model_nam=x"], "unrecognized arguments"),
        ],
    )
    def test_wrong_ones_end_the_process(self, argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            parse_flags(argv)
        assert caught.value.code == 2
        assert text in capsys.readouterr().err


class TestLaunch:
    def test_variable_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FOVEA_MODEL_SERVER", sys.executable)
        assert model_server_command() == [sys.executable]

    def test_variable_that_names_nothing_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FOVEA_MODEL_SERVER", "/no/such/server")
        with pytest.raises(FileNotFoundError, match="/no/such/server"):
            model_server_command()

    def test_real_server_on_path_comes_second(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("FOVEA_MODEL_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert model_server_command() == _EMBEDDED
        (tmp_path / "tensorflow_model_server").touch(mode=0o755)
        assert model_server_command() == [str(tmp_path / "tensorflow_model_server")]

    def test_needs_no_tensorflow(self) -> None:
        code = (
            "import sys, serving.model_server.launch, serving.model_server.__main__; print('tensorflow' in sys.modules)"
        )
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert output.stdout.strip() == "False"


def test_stops_with_status_0_after_what_runs(tmp_path: Path, exported: dict[int, Path]) -> None:
    publish(exported[1], tmp_path / "tiny", 1)
    flags = ("--model_name=tiny", f"--model_base_path={tmp_path / 'tiny'}")
    with ModelServer(tmp_path / "log", *flags, command=_EMBEDDED) as server:
        steps = 200_000
        body = json.dumps({"signature_name": "count", "instances": [steps]})
        request = predict_request(model_spec("tiny", signature_name="count"), {"steps": np.array([steps], np.int32)})
        over_rest = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
        over_rest.request("POST", "/v1/models/tiny:predict", body)
        over_grpc = server.prediction.Predict.future(request, timeout=30)
        time.sleep(0.3)  # for both to have arrived
        assert not over_grpc.done()
        server.process.terminate()
        assert json.load(over_rest.getresponse()) == {"predictions": [steps]}
        assert tf.make_ndarray(over_grpc.result().outputs["steps"]).tolist() == [steps]
        assert server.process.wait(15) == 0


def test_starts_without_keras_and_the_caches_that_it_brings(
    tmp_path: Path, exported: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(exported[1], tmp_path / "tiny", 1)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    flags = ("--model_name=tiny", f"--model_base_path={tmp_path / 'tiny'}")
    with ModelServer(tmp_path / "log", *flags, command=_EMBEDDED) as server:
        libraries = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "/tensorflow/" in libraries
    for brought in ("matplotlib", "sklearn", "optree"):
        assert f"/{brought}/" not in libraries
    # TensorFlow's own part writes one small file.
    assert {path.name for path in (tmp_path / "home").rglob("*") if path.is_file()} <= {"keras.json"}


def test_taken_port_ends_it_with_one_sentence(tmp_path: Path, exported: dict[int, Path]) -> None:
    publish(exported[1], tmp_path / "tiny", 1)
    server = ModelServer(tmp_path / "log", f"--model_base_path={tmp_path / 'tiny'}", command=_EMBEDDED)
    with closing(socket.socket()) as other:
        other.bind(("0.0.0.0", server.rest_port))
        other.listen()
        server.start()
        assert server.process.wait(60) == 1
    lines = server.log.read_text().splitlines()
    assert lines[-1].endswith(
        f"cannot start: port {server.rest_port} cannot be bound: is another server running there?"
    )
    assert "Traceback" not in server.log.read_text()


def test_stops_while_it_waits_for_a_first_version(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    server = ModelServer(tmp_path / "log", f"--model_base_path={tmp_path / 'empty'}", command=_EMBEDDED)
    server.start()
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(3)
    assert server.stop(timeout_s=30) == 0
