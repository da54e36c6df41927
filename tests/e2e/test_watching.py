"""`fovea watch` as a process that trains, survives bad data, and ends when told."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import FOVEA
from tests.model_servers import wait_until
from training.drawing.make import make_picture_set
from training.store import Store

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_watched_folder_is_trained_and_published_when_it_changes(tmp_path):
    data, store, log = tmp_path / "data", Store(tmp_path / "store"), tmp_path / "log"
    where = ["--data", str(data), "--store", store.root, "--runs", str(tmp_path / "runs"), "--interval", "0.5"]
    command = [*FOVEA, "watch", *where, "--recipe=dense", "--name=cats", "--epochs=1", "--size=32"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "nothing in" in log.read_text(), 60, "it waits for the folder")
        make_picture_set(data, per_class={"train": 8, "validation": 4}, size=40)
        wait_until(lambda: store.versions("cats") == [1], 200, "the first version is published")

        (data / "train" / "empty").mkdir()
        shutil.copy(next((data / "train" / "cat").iterdir()), data / "validation" / "other.jpg")
        wait_until(lambda: "class 'empty' has no pictures" in log.read_text(), 200, "bad data is told")
        wait_until(lambda: "waiting for the next change" in log.read_text(), 60, "it goes on watching")
        assert process.poll() is None

        (data / "train" / "empty").rmdir()
        pictures = sorted((data / "train" / "cat").iterdir())
        pictures[0].unlink()
        wait_until(lambda: log.read_text().count("training into") == 3, 200, "it trains again")
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        ended = time.monotonic()
        assert process.wait(15) == 0
        assert time.monotonic() - ended < 10
        assert store.versions("cats") == [1]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

    for said in ("training into", "is published already"):
        once = subprocess.run(
            [*command, "--once"], cwd=REPOSITORY, capture_output=True, text=True, timeout=250, env=os.environ
        )
        assert once.returncode == 0, once.stderr
        assert said in once.stderr
        assert store.versions("cats") == [1, 2]


def test_options_that_watch_sets_itself_are_refused(tmp_path):
    where = ["--data", str(tmp_path), "--store", str(tmp_path)]
    ended = subprocess.run([*FOVEA, "watch", *where, "--resume"], cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "--resume is not for `fovea watch`" in ended.stderr
