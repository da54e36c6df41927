"""Watch a folder of pictures, and train whenever it has changed and come to rest."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from training.errors import FoveaError
from training.run_folder import PUBLISHED_FILE

STOP_TIMEOUT_S = 10.0
"""How long a training may take to end before it is killed."""

USAGE_ERROR = 2
"""Exit code of a command line that no data could make right."""

_CHILD_POLL_S = 0.2

_FOVEA = (sys.executable, "-c", "from training.cli import main; main()")

Files = dict[str, tuple[int, int]]
"""Size in bytes and time of the last change in ns, by path relative to the folder."""

Train = Callable[[Path], int]
"""Trains into a run's folder, going on with what is there, and publishes; returns the exit code."""


def watch(
    data: Path,
    runs: Path,
    prefix: str,
    arguments: Sequence[str],
    train: Train,
    interval_s: float,
    stop: threading.Event,
    once: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Train each state of a folder once, when no file in it has changed for an interval.

    The folders of the runs are the memory: their names hold the state of the data and the arguments. A run that was
    published is not repeated after a restart, one that was broken off goes on. A state that cannot be trained is
    told, and the next one waited for.

    Args:
        data: the folder; it need not exist yet.
        runs: where the runs' folders are.
        prefix: beginning of their names.
        arguments: what else decides what is trained and where it goes.
        train: trains.
        interval_s: time between two looks at the folder.
        stop: ends the watch, and `train` with it.
        once: end after the first state, trained or not.
        say: prints a line.

    Returns:
        The exit code of the last training; 0 where none was needed.

    Raises:
        FoveaError: the arguments are wrong, whatever the data.
    """
    before: Files | None = None
    done: Files | None = None
    waited = False
    code = 0
    while not stop.is_set():
        files = look(data)
        if not files and not waited:
            say(f"there is nothing in {data} yet; waiting")
            waited = True
        if files and files == before and files != done:
            if (folder := runs / f"{prefix}-{digest(data, files, arguments)}").joinpath(PUBLISHED_FILE).exists():
                say(f"this state of {data} is published already: {folder}")
                code = 0
            else:
                say(f"{data} has changed and come to rest; training into {folder}")
                code = train(folder)
                if stop.is_set():
                    return code
                if code == USAGE_ERROR:
                    raise FoveaError("`fovea train` does not take these options; see its message above")
                if code:
                    say(f"the training ended with exit code {code}; waiting for the next change of {data}")
            if once:
                return code
            done = files
        before = files
        stop.wait(interval_s)
    return code


def look(data: Path) -> Files:
    """Return the files of a folder and of those in it; hidden ones are left out."""
    files: Files = {}
    for folder, subfolders, names in os.walk(data):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if not name.startswith("."):
                files[str(path.relative_to(data))] = (status.st_size, status.st_mtime_ns)
    return files


def digest(data: Path, files: Files, arguments: Sequence[str]) -> str:
    """Return 16 digits that stand for the arguments, and for the names and contents of the files."""
    total = hashlib.sha256("\0".join(arguments).encode())
    for name in sorted(files):
        total.update(f"\0{name}\0".encode(errors="surrogateescape"))
        try:
            with (data / name).open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            # Training will say what is the matter with it.
            total.update(b"unreadable")
    return total.hexdigest()[:16]


def train_command(data: Path, store: str, arguments: Sequence[str], stop: threading.Event) -> Train:
    """Return a function that runs `fovea train` as a process: its memory goes with it, and so does a crash."""

    def train(folder: Path) -> int:
        given = ["--data", str(data), "--store", store, "--run", str(folder), "--resume", *arguments]
        # A session of its own, so that Ctrl-C reaches this process alone.
        process = subprocess.Popen([*_FOVEA, "train", *given], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            while process.poll() is None and not stop.wait(_CHILD_POLL_S):
                pass
        finally:
            _end(process)
        return process.returncode

    return train


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
