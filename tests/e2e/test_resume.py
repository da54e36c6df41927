"""Runs that are killed and go on, as real processes."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import FOVEA
from training.drawing.make import make_picture_set
from training.store import Store


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "set"
    make_picture_set(folder, per_class={"train": 80, "validation": 10}, size=40)
    return folder


def command(pictures: Path, run: Path, *more: str) -> list[str]:
    given = ["--data", str(pictures), "--store", str(run.parent / "store"), "--run", str(run)]
    recipe = ["--recipe", "scratch_augmented", "--size", "32", "--epochs", "4", "--batch-size", "1"]
    return [*FOVEA, "train", *given, *recipe, *more]


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return [{key: row[key] for key in row if "second" not in key} for row in csv.DictReader(file)]


def test_a_run_killed_in_an_epoch_ends_as_an_undisturbed_one(pictures, tmp_path):
    undisturbed, killed = tmp_path / "one" / "run", tmp_path / "two" / "run"
    subprocess.run(command(pictures, undisturbed), check=True, capture_output=True, timeout=200)

    process = subprocess.Popen(
        command(pictures, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (killed / "checkpoints" / "train.weights.h5").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(history(killed)) < 4
    assert not (killed / "model.keras").exists()

    wrong = subprocess.run(
        command(pictures, killed, "--resume", "--seed", "5"), capture_output=True, text=True, timeout=100
    )
    assert wrong.returncode == 1
    assert "is a run with seed 0, not 5" in wrong.stderr

    subprocess.run(command(pictures, killed, "--resume"), check=True, capture_output=True, timeout=200)
    assert history(killed) == history(undisturbed)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (undisturbed, killed)]
    assert summaries[0] == summaries[1]

    again = subprocess.run(command(pictures, killed, "--resume"), check=True, capture_output=True, timeout=100)
    assert again.returncode == 0
    assert Store(killed.parent / "store").versions("scratch_augmented") == [1]
