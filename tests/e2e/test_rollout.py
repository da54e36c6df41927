"""Rollouts on a model server process, with requests to the stable version going on all the while."""

import json
import shutil
import socket
import threading
import time
from contextlib import contextmanager

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests import tiny_models
from tests.gateways import Gateway
from tests.model_servers import ModelServer, free_port, model_spec, predict_request, wait_until
from training.cli import app
from training.data.pictures import read_picture_set
from training.errors import FoveaError
from training.rollout import rollout
from training.store import Store

PICTURES_PER_CLASS = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Red and blue pictures, larger than the model's."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("validation", PICTURES_PER_CLASS)):
        for name, channel in (("red", 0), ("blue", 2)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (40, 50, 3), np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """SavedModels: one that is right, one that is surer, one that swaps the names, one that answers no numbers."""
    root = tmp_path_factory.mktemp("exports")
    for name, class_names, options in (
        ("good", tiny_models.CLASSES, {}),
        ("surer", tiny_models.CLASSES, {"gain": 2 * tiny_models.GAIN}),
        ("swapped", tiny_models.CLASSES[::-1], {}),
        ("broken", tiny_models.CLASSES, {"break_answers": True}),
    ):
        tiny_models.export(root / name, tiny_models.card("tiny", class_names), **options)
    return root


class Line:
    """A model of the store that the server follows, with version 1 stable."""

    def __init__(self, store, server, exports, data, model):
        self.store, self.server, self.model = store, server, model
        self._exports, self._data = exports, data
        self.publish()
        wait_until(lambda: server.is_available(model, 1), 60, "version 1 is loaded")

    def publish(self, export="good"):
        with self.store.staging(self.model) as folder:
            shutil.copytree(self._exports / export, f"{folder}/model")
            return self.store.publish(f"{folder}/model", self.model)

    def roll_out(self, data=None, server=None, **options):
        def read(recipe):
            assert recipe == "tiny"
            return read_picture_set(data or self._data)

        given = {"timeout_s": 60} | options
        return rollout(self.store, self.model, server or self.server.grpc_target, read, **given)

    def labels(self):
        return self.store.labels(self.model)

    def version_behind(self, label):
        spec = model_spec(self.model, label=label, signature_name="model_card")
        answer = self.server.prediction.Predict(predict_request(spec, {"query": [b""]}), timeout=30)
        return answer.model_spec.version.value

    def run(self, command, *more):
        done = CliRunner().invoke(app, [command, self.model, "--store", self.store.root, *more])
        assert done.exit_code == 0, done.output

    def fovea(self, command, *more):
        where = ["--store", self.store.root, "--server", self.server.grpc_target, "--data", str(self._data)]
        return CliRunner().invoke(app, [command, self.model, *where, *more])


@pytest.fixture(scope="module")
def served_store(exports, tmp_path_factory):
    """A store with one model, and the server that follows it."""
    folder = tmp_path_factory.mktemp("served")
    store = Store(folder / "store")
    with store.staging("first") as staged:
        shutil.copytree(exports / "good", f"{staged}/model")
        store.publish(f"{staged}/model", "first")
    flags = (
        f"--model_config_file={store.config_path}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
    )
    with ModelServer(folder / "server.log", *flags) as server:
        yield store, server


@pytest.fixture
def line(served_store, exports, data, request):
    return Line(*served_store, exports, data, request.node.name.split("[")[0][:60])


@contextmanager
def requests_to_stable(line, clients=2):
    """Ask for the label `stable` all the while, and give the list of failures."""
    failures, answers = [], []
    stop = threading.Event()
    pictures = np.zeros((1, tiny_models.HEIGHT, tiny_models.WIDTH, 3), np.uint8)

    def ask():
        while not stop.is_set():
            try:
                line.server.predict(model_spec(line.model, label="stable"), {"images": pictures})
                answers.append(1)
            except grpc.RpcError as error:
                failures.append(error.details())
            time.sleep(0.005)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(answers) > 20


def test_a_label_waits_for_every_server_behind_the_name(line, tmp_path, monkeypatch):
    flags = (
        f"--model_config_file={line.store.config_path}",
        "--model_config_file_poll_wait_seconds=4",
        "--allow_version_labels_for_unavailable_models=true",
    )
    with ModelServer(tmp_path / "late.log", *flags) as late:
        both = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.grpc_port))
            for server in (line.server, late)
        ]
        monkeypatch.setattr("training.served.socket.getaddrinfo", lambda *_, **__: both)
        line.publish()
        line.run("promote", "--server", line.server.grpc_target)
        spec = model_spec(line.model, label="stable", signature_name="model_card")
        request = predict_request(spec, {"query": [b""]})

        def follows():
            return late.prediction.Predict(request, timeout=30).model_spec.version.value == 2

        wait_until(follows, 20, "the late server follows")


def test_good_canaries_are_promoted_and_bad_ones_given_up_without_a_failed_request(line):
    with requests_to_stable(line) as failures:
        assert line.roll_out().state == "nothing new"

        line.publish("surer")
        said = []
        good = line.roll_out(say=said.append)
        assert (good.state, good.version) == ("promoted", 2)
        assert line.labels() == {"stable": 2}
        assert line.version_behind("stable") == 2
        assert any(text.startswith("canary, version 2: 1.000 +/- 0.000 of 40 right") for text in said)

        line.publish("swapped")
        bad = line.roll_out()
        assert (bad.state, bad.version) == ("rolled back", 3)
        assert "significantly worse" in bad.why
        assert line.labels() == {"stable": 2}
        assert line.version_behind("stable") == 2
        assert line.roll_out().state == "rejected before"

        line.publish("broken")
        broken = line.roll_out()
        assert broken.state == "rolled back"
        assert "answers with numbers that are not finite" in broken.why

        line.publish()
        assert (line.roll_out().state, line.labels()) == ("promoted", {"stable": 5})
        assert line.roll_out().state == "nothing new"

        line.store.rollback(line.model)
        undone = line.roll_out()
        assert (undone.state, undone.version) == ("rejected before", 5)
        assert "rolled back" in undone.why
        assert line.roll_out(version=5).state == "promoted"
    assert failures == []


def test_the_loop_by_commands_under_load_through_the_gateway(line, tmp_path, encode):
    picture = encode(np.full((40, 50, 3), (180, 30, 30), np.uint8))
    paths = [f"/v1/models/{line.model}{label}:classify" for label in ("", "/labels/stable")]
    answered, failed = {path: set() for path in paths}, []
    stop = threading.Event()

    def classify(path):
        with httpx.Client(base_url=gateway.url, timeout=30) as http:
            while not stop.is_set():
                answer = http.post(path, content=picture, headers={"Content-Type": "image/png"})
                if answer.status_code == 200:
                    answered[path].add(answer.json()["model"]["version"])
                else:
                    failed.append(answer.text)
                time.sleep(0.01)

    with Gateway(tmp_path / "gateway", models=line.model, model_server_target=line.server.grpc_target) as gateway:
        wait_until(lambda: gateway.http.get("/readyz").status_code == 200, 30, "the gateway is ready")
        clients = [threading.Thread(target=classify, args=[path]) for path in paths * 2]
        for client in clients:
            client.start()
        try:
            line.publish("surer")
            line.run("canary", "--server", line.server.grpc_target)
            assert "would promote it" in line.fovea("compare-versions").output
            line.run("promote", "--server", line.server.grpc_target)
            wait_until(lambda: 2 in answered[paths[1]], 30, "stable answers by version 2")
            line.run("rollback", "--server", line.server.grpc_target)
            answered[paths[1]].discard(1)
            wait_until(lambda: 1 in answered[paths[1]], 30, "stable answers by version 1 again")
            line.publish("swapped")
            assert line.fovea("rollout", "--yes").exit_code == 3
            wait_until(lambda: not line.server.is_available(line.model, 3), 30, "version 3 is unloaded")
            time.sleep(1.5)  # longer than the gateway remembers a version
        finally:
            stop.set()
            for client in clients:
                client.join()
    assert failed == []
    assert answered[paths[1]] == {1, 2}


def test_a_rollout_that_was_broken_off_goes_on(line):
    line.publish()

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        line.roll_out(progress=interrupt)
    assert line.labels() == {"stable": 1, "canary": 2}
    assert line.roll_out(confirm=lambda decision: False).state == "left"
    assert line.labels() == {"stable": 1, "canary": 2}

    def moved_meanwhile(decision):
        line.store.promote(line.model, 2)
        return True

    with pytest.raises(FoveaError, match="somebody else moved the labels"):
        line.roll_out(confirm=moved_meanwhile)
    assert line.roll_out().state == "nothing new"


def test_commands(line):
    line.publish("swapped")
    wait_until(lambda: line.server.is_available(line.model, 2), 60, "version 2 is loaded")
    dry = line.fovea("rollout", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "would take the label canary off it: the canary is significantly worse" in dry.output
    assert line.labels() == {"stable": 1}

    answer = json.loads(line.fovea("compare-versions", "--json").stdout)
    assert answer["canary"]["accuracy"] == 0
    assert answer["stable"]["accuracy"] == 1
    assert answer["difference"]["value"] == -1
    assert not answer["promote"]

    # Nobody answers the question.
    assert line.fovea("rollout").exit_code == 1
    assert line.labels() == {"stable": 1, "canary": 2}
    given_up = CliRunner().invoke(app, ["canary", line.model, "--store", line.store.root, "--drop"])
    assert "version 2 is no canary any more" in given_up.output

    again = line.fovea("rollout", "--yes")
    assert again.exit_code == 3
    assert "rejected before" in again.output
    tried = line.fovea("rollout", "--yes", "--version", "2")
    assert tried.exit_code == 3
    assert "rolled back: the canary is significantly worse" in tried.output
    line.publish()
    promoted = line.fovea("rollout", "--yes")
    assert promoted.exit_code == 0, promoted.output
    assert "version 3: promoted" in promoted.output


def test_pictures_of_other_classes_are_refused(line, tmp_path):
    line.publish()
    for split in ("train", "validation"):
        for name in ("red", "green"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (30, 30), name).save(tmp_path / split / name / "0.png")
    with pytest.raises(FoveaError, match="does not know the classes green"):
        line.roll_out(data=tmp_path)


def test_a_server_that_is_not_there_is_told(line):
    line.publish()
    with pytest.raises(FoveaError, match=r"version 2 .* was not loaded within 1 s"):
        line.roll_out(server=f"127.0.0.1:{free_port()}", timeout_s=1)
    assert line.labels() == {"stable": 1}
