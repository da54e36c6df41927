"""From the command line to an answer: draw, train, publish, serve, explain, promote, roll back."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests.commands import FOVEA
from tests.gateways import Gateway
from tests.model_servers import ModelServer, free_port, wait_until

REPOSITORY = Path(__file__).parents[2]


def fovea(*arguments, **options):
    return subprocess.run(
        [*FOVEA, *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, timeout=280, **options
    )


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A folder with a drawn set, and a store with version 1 of a scratch model, made by the command line."""
    root = tmp_path_factory.mktemp("line")
    made = fovea("data", "make", root / "set", "--train", 8, "--validation", 4, "--test", 0, "--size", 48)
    assert made.returncode == 0, made.stderr
    trained = train(root, "first")
    assert trained.returncode == 0, trained.stderr
    assert "published: cats version 1" in trained.stderr
    return root


def train(root, run, **options):
    return fovea(
        "train", "--data", root / "set", "--store", root / "store", "--name", "cats", "--run", root / run,
        "--epochs", 1, "--size", 94, **options,
    )  # fmt: skip


@pytest.fixture
def server(line, tmp_path):
    flags = (
        f"--model_config_file={line / 'store' / 'models.config'}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
    )
    with ModelServer(tmp_path / "server.log", *flags) as server:
        yield server


def test_answers_over_http_follow_publishing_promotion_and_rollback(line, server, tmp_path):
    def classify(path="/v1/models/cats"):
        answer = gateway.http.post(
            f"{path}:classify", content=picture.read_bytes(), headers={"Content-Type": "image/jpeg"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    picture = next((line / "set" / "validation" / "cat").iterdir())
    with Gateway(tmp_path / "log", models="cats", model_server_target=server.grpc_target) as gateway:
        first = classify()
        assert first["model"] == {"name": "cats", "version": 1}
        (classification,) = first["classifications"]
        assert classification["label"] in ("cat", "dog")
        scores = {entry["label"]: entry["score"] for entry in classification["top_k"]}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)

        model = keras.models.load_model(line / "first" / "model.keras")
        from serving.contract import images

        pixels = images.resize(images.decode(picture.read_bytes()), 94, 94)[np.newaxis].astype(np.float32)
        answer = float(model.predict(pixels, verbose=0)[0, 0])
        temperature = json.loads((line / "first" / "summary.json").read_text())["temperature"]
        calibrated = 1 / (1 + ((1 - answer) / answer) ** (1 / temperature))
        assert scores["dog"] == pytest.approx(calibrated, abs=1e-5)

        overlay = gateway.http.post(
            "/v1/models/cats/explain/grad-cam?layer=conv2",
            files={"file": picture.read_bytes()},
            headers={"Accept": "image/png"},
        )
        assert overlay.status_code == 200
        (tmp_path / "overlay.png").write_bytes(overlay.content)
        assert Image.open(tmp_path / "overlay.png").size == Image.open(picture).size

        assert train(line, "second").returncode == 0
        wait_until(lambda: classify()["model"]["version"] == 2, 30, "version 2 answers")
        assert classify("/v1/models/cats/labels/stable")["model"]["version"] == 1
        promoted = fovea("promote", "cats", "--store", line / "store", "--server", server.grpc_target)
        assert promoted.stdout.strip() == "cats: version 2 is stable"
        wait_until(
            lambda: classify("/v1/models/cats/labels/stable")["model"]["version"] == 2, 10, "stable is version 2"
        )
        assert fovea("rollback", "cats", "--store", line / "store").returncode == 0
        wait_until(
            lambda: classify("/v1/models/cats/labels/stable")["model"]["version"] == 1, 10, "stable is version 1 again"
        )
        assert "stable: 1" in fovea("models", "--store", line / "store").stdout

        # Version 3 makes 2 the version that nothing needs any more; a label moves there in two steps.
        assert fovea("publish", line / "first", "--store", line / "store").returncode == 0
        refused = fovea("canary", "cats", "--store", line / "store", "--version", 2)
        assert refused.returncode == 1
        assert "is listed now" in refused.stderr
        moved = fovea("canary", "cats", "--store", line / "store", "--version", 2, "--server", server.grpc_target)
        assert moved.returncode == 0, moved.stderr
        # Until the model server has read its configuration again, it knows no such label.
        wait_until(
            lambda: gateway.http.get("/v1/models/cats/labels/canary").status_code == 200, 10, "the canary is known"
        )
        assert classify("/v1/models/cats/labels/canary")["model"]["version"] == 2


def test_a_killed_training_leaves_nothing_that_a_server_could_load(line, tmp_path):
    store = tmp_path / "store"
    command = [
        *FOVEA, "train", "--data", line / "set", "--store", store, "--name", "cats", "--run", tmp_path / "run",
        "--epochs", "1", "--size", "94",
    ]  # fmt: skip
    process = subprocess.Popen(
        list(map(str, command)), cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        # The graph is written first, so here the export is between its first file and its check.
        wait_until(lambda: list(store.glob(".staging/*/savedmodel/*")), 200, "the export writes its first file")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (store / "models.config").exists()
    assert [path for path in store.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--data", "nowhere", "--store", "store"], "there is no folder nowhere"),
        (["train", "--data", ".", "--store", "store", "--recipe", "magic"], "there is no recipe 'magic'"),
        (["promote", "cats", "--store", "nowhere"], "has no model 'cats'"),
        (["data", "make", "set", "--species", "dragon"], "dragon"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments, sentence, tmp_path):
    ended = subprocess.run(
        [*FOVEA, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("fovea: ")
    assert sentence in line


def test_the_demo_refuses_a_port_in_use(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = fovea("demo", "--folder", tmp_path / "demo", "--http-port", port)
    assert ended.returncode == 1
    assert f"port {port} is in use" in ended.stderr
    assert not (tmp_path / "demo").exists()


def test_the_demo_serves_and_stops_everything_it_started(line, tmp_path):
    """The serving half of the demo, on models that are trained already."""
    import shutil

    import httpx

    from training import demo

    place = demo.workspace(tmp_path, line / "set")
    for recipe in demo.RECIPES:
        (place / "runs" / recipe).mkdir(parents=True)
        (place / "runs" / recipe / "published.json").write_text('{"version": 1}')
        (place / "runs" / recipe / "summary.json").write_text("{}")
    shutil.copytree(line / "store" / "cats", place / "store" / "cats")
    config = (line / "store" / "models.config").read_text().replace(str(line / "store"), str(place / "store"))
    entry = config.removeprefix("model_config_list {\n").removesuffix("}\n")
    entries = "".join(entry.replace('name: "cats"', f'name: "{recipe}"') for recipe in demo.RECIPES)
    (place / "store" / "models.config").write_text(f"model_config_list {{\n{entries}}}\n")

    http, grpc, model_server = free_port(), free_port(), free_port()
    ports = ["--http-port", http, "--grpc-port", grpc, "--model-server-port", model_server]
    command = [*FOVEA, "demo", "--folder", tmp_path, "--data", line / "set", *ports]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "Ctrl-C" in (tmp_path / "output").read_text(), 120, "the demo says how to stop it")
        commands = [line for line in (tmp_path / "output").read_text().splitlines() if line.strip().startswith("curl")]
        assert len(commands) == 3
        for command_line in commands:
            ran = subprocess.run(command_line, shell=True, cwd=tmp_path, capture_output=True, timeout=60)
            assert ran.returncode == 0
        assert Image.open(tmp_path / "heat_map.png").format == "PNG"
        assert Image.open(tmp_path / "channels.png").format == "PNG"
        assert httpx.get(f"http://127.0.0.1:{http}/readyz").status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    time.sleep(0.2)
    listening = subprocess.run(["pgrep", "-f", f"port={model_server}"], capture_output=True, text=True).stdout
    assert listening == ""
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{http}/healthz")
