"""When a watched folder is trained, with a function in the place of the training."""

import os
import threading

import pytest

from training.errors import FoveaError
from training.watch import look, watch

INTERVAL_S = 0.02


class Watched:
    """A folder, and what was trained; `step` watches until something was trained, or for so many looks."""

    def __init__(self, root):
        self.data, self.runs = root / "data", root / "runs"
        self.trained, self.said = [], []
        self.codes = []
        self.data.mkdir()

    def write(self, name, text):
        (self.data / name).parent.mkdir(exist_ok=True)
        (self.data / name).write_text(text)

    def train(self, folder):
        self.trained.append(folder)
        code = self.codes.pop(0) if self.codes else 0
        folder.mkdir(parents=True, exist_ok=True)
        if code == 0:
            (folder / "published.json").write_text("{}")
        return code

    def once(self, *arguments):
        return watch(
            self.data, self.runs, "cats", arguments, self.train, INTERVAL_S, threading.Event(), True, self.said.append
        )


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path)
    watched.write("cat/1.jpg", "one")
    return watched


def test_each_state_is_trained_once_also_after_a_restart(watched):
    assert watched.once() == 0
    assert watched.once() == 0
    assert len(watched.trained) == 1
    assert "published already" in watched.said[-1]
    os.utime(watched.data / "cat" / "1.jpg")
    watched.once()
    assert len(watched.trained) == 1
    watched.write("cat/1.jpg", "two")
    watched.once()
    watched.write("cat/2.jpg", "two")
    watched.once()
    watched.once("--epochs=2")
    assert len(set(watched.trained)) == 4


def test_a_failed_or_broken_off_training_goes_on_in_its_folder(watched):
    watched.codes = [1]
    assert watched.once() == 1
    assert watched.once() == 0
    assert watched.trained[0] == watched.trained[1]


def test_data_that_cannot_be_trained_is_left_until_it_changes(watched):
    stop = threading.Event()
    watched.codes = [1]

    def say(line):
        watched.said.append(line)
        if "exit code 1" in line:
            # Looks that see nothing new, before one that does.
            threading.Timer(10 * INTERVAL_S, watched.write, ("cat/2.jpg", "good")).start()

    def train(folder):
        code = watched.train(folder)
        if code == 0:
            stop.set()
        return code

    watch(watched.data, watched.runs, "cats", (), train, INTERVAL_S, stop, say=say)
    assert len(set(watched.trained)) == len(watched.trained) == 2


def test_options_that_are_wrong_end_it(watched):
    watched.codes = [2]
    with pytest.raises(FoveaError, match="does not take these options"):
        watched.once()


def test_nothing_is_trained_while_files_change(watched):
    stop = threading.Event()
    looks = []

    class Clock(threading.Event):
        def wait(self, timeout=None):
            looks.append(timeout)
            watched.write("cat/2.jpg", "x" * len(looks))
            if len(looks) == 5:
                self.set()
            return self.is_set()

    stop = Clock()
    watch(watched.data, watched.runs, "cats", (), watched.train, INTERVAL_S, stop)
    assert (watched.trained, len(looks)) == ([], 5)


def test_an_absent_folder_is_waited_for(tmp_path):
    stop = threading.Event()
    said = []

    def say(line):
        said.append(line)
        threading.Timer(5 * INTERVAL_S, stop.set).start()

    assert watch(tmp_path / "later", tmp_path, "cats", (), lambda folder: 1, INTERVAL_S, stop, say=say) == 0
    assert len(said) == 1
    assert "nothing in" in said[0]


def test_hidden_files_do_not_count(watched):
    before = look(watched.data)
    watched.write(".hidden/1.jpg", "x")
    watched.write("cat/.2.jpg.part", "x")
    assert look(watched.data) == before
    assert list(before) == ["cat/1.jpg"]
