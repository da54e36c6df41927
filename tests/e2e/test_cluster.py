"""Training by two workers on loopback, as real processes."""

import csv
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.commands import FOVEA
from training.drawing.make import make_picture_set
from training.store import Store


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "set"
    make_picture_set(folder, per_class={"train": 33, "validation": 5}, size=40)
    return folder


class Workers:
    """`fovea train` on one or two workers that share a run folder."""

    def __init__(self, pictures: Path, run: Path, count: int, *more: str):
        self.run = run
        ports = [_free_port() for _ in range(count)]
        given = ["--data", str(pictures), "--store", str(run.parent / "store"), "--run", str(run)]
        recipe = ["--recipe", "scratch", "--size", "32", "--batch-size", "6"]
        self.processes = []
        for index in range(count):
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            environment = os.environ | ({"TF_CONFIG": json.dumps(config)} if count > 1 else {})
            self.processes.append(
                subprocess.Popen(
                    [*FOVEA, "train", *given, *recipe, *more],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )

    def wait(self) -> list[str]:
        """Return what they said, once all have ended well."""
        said = [process.communicate(timeout=240)[0] for process in self.processes]
        assert [process.returncode for process in self.processes] == [0] * len(said), said
        return said

    def history(self) -> np.ndarray:
        """Return loss, accuracy and their validation counterparts by epoch."""
        with (self.run / "history.csv").open(newline="") as file:
            return np.array([[float(row[c]) for c in list(row)[2:6]] for row in csv.DictReader(file)])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_workers_do_what_one_does_with_the_same_batches(pictures, tmp_path):
    one = Workers(pictures, tmp_path / "one" / "run", 1, "--epochs", "2")
    one.wait()
    two = Workers(pictures, tmp_path / "two" / "run", 2, "--epochs", "2")
    said = two.wait()
    np.testing.assert_allclose(two.history(), one.history(), rtol=1e-4)
    weights = [keras.models.load_model(workers.run / "model.keras").get_weights() for workers in (one, two)]
    for of_one, of_two in zip(*weights, strict=True):
        np.testing.assert_allclose(of_one, of_two, atol=1e-4)
    assert "published: scratch version 1" in said[0]
    assert "the chief reports and publishes" in said[1]
    assert Store(tmp_path / "two" / "store").versions("scratch") == [1]


def test_a_lost_worker_ends_the_run_and_resume_goes_on(pictures, tmp_path):
    run = tmp_path / "run"
    broken = Workers(pictures, run, 2, "--epochs", "300")
    chief, worker = broken.processes
    while not (run / "checkpoints" / "train.weights.h5").exists():
        assert chief.poll() is None
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    said, _ = chief.communicate(timeout=100)
    assert time.monotonic() - killed < 60
    assert chief.returncode == 1
    assert "another worker is gone" in said
    assert "Traceback" not in said
    worker.communicate()

    done = len(broken.history())
    (run / "config.json").write_text(
        (run / "config.json").read_text().replace('"epochs": 300', f'"epochs": {done + 1}')
    )
    resumed = Workers(pictures, run, 2, "--epochs", str(done + 1), "--resume")
    resumed.wait()
    assert len(resumed.history()) == done + 1
