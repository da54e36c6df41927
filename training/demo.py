"""The whole line on one machine: pictures, three classifiers, model server, gateway."""

import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from training import recipes
from training.data.pictures import PictureSet
from training.errors import FoveaError
from training.options import TrainOptions

RECIPES = ("scratch", "feature_extraction", "fine_tuned")
NEEDED_BYTES = 1_000_000_000
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class Ports:
    """Where the demo listens, on the loopback address."""

    http: int
    grpc: int
    model_server: int

    def check(self) -> None:
        """Raise FoveaError if one of them is taken."""
        for purpose, port in vars(self).items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    option = purpose.replace("_", "-") + "-port"
                    raise FoveaError(f"port {port} is in use; choose another one with --{option}") from None


def workspace(root: Path, data: Path | None) -> Path:
    """Return the folder of the demo for a picture set: one for the set it draws, one for each folder given."""
    if data is None:
        return root / "drawn"
    digest = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]
    return root / f"{data.resolve().name}-{digest}"


def options(recipe: str, pictures: PictureSet) -> TrainOptions:
    """Return the options by which a recipe of RECIPES takes about two minutes at most on two cores."""
    count = len(pictures.splits["train"])
    given: dict[str, dict[str, object]] = {
        "scratch": {"height": 96, "width": 96, "epochs": min(max(16_000 // count, 5), 100)},
        "feature_extraction": {"cached": True},
        "fine_tuned": {"epochs": min(max(6_000 // count, 2), 30)},
    }
    return recipes.recipe(recipe).options(pictures.root, **given[recipe])


def check_disk(folder: Path) -> None:
    """Raise FoveaError if there is too little space for pictures, runs and models."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise FoveaError(
            f"{existing} has {free / 1e9:.1f} GB of free space; the demo needs {NEEDED_BYTES / 1e9:.0f} GB"
        )


def serve(folder: Path, ports: Ports, picture: Path, say: Callable[[str], None]) -> None:
    """Serve the models of a workspace until SIGINT or SIGTERM, then stop every process that was started.

    Args:
        folder: the workspace, with `store/`.
        ports: where to listen.
        picture: a picture for the examples.
        say: prints a line.

    Raises:
        FoveaError: a process did not start, or ended by itself; its log is named.
    """
    # SIGINT too: a shell that starts a job in the background leaves it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with ExitStack() as stack:
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        model_server = stack.enter_context(
            _process(
                "model server",
                [
                    *(sys.executable, "-m", "serving.model_server.launch"),
                    f"--port={ports.model_server}",
                    f"--model_config_file={(folder / 'store' / 'models.config').resolve()}",
                    "--model_config_file_poll_wait_seconds=1",
                    "--allow_version_labels_for_unavailable_models=true",
                ],
                logs / "model_server.log",
            )
        )
        gateway = stack.enter_context(
            _process(
                "gateway",
                [sys.executable, "-m", "serving"],
                logs / "gateway.log",
                FOVEA_MODELS=",".join(RECIPES),
                FOVEA_MODEL_SERVER_TARGET=f"localhost:{ports.model_server}",
                FOVEA_HOST="127.0.0.1",
                FOVEA_HTTP_PORT=str(ports.http),
                FOVEA_GRPC_PORT=str(ports.grpc),
            )
        )
        address = f"http://127.0.0.1:{ports.http}"
        _wait_ready(f"{address}/readyz", (model_server, gateway))
        for line in _greeting(address, ports, picture):
            say(line)
        while True:
            _check_alive((model_server, gateway))
            time.sleep(0.5)


def _greeting(address: str, ports: Ports, picture: Path) -> Iterator[str]:
    file = shlex.quote(f"file=@{picture}")
    yield ""
    yield f"The page is at {address}/ and gRPC at 127.0.0.1:{ports.grpc}. Try:"
    yield f"  curl -F {file} {address}/v1/models/fine_tuned:classify"
    yield (f"  curl -F {file} -H 'Accept: image/png' -o heat_map.png {address}/v1/models/fine_tuned/explain/grad-cam")
    yield (
        f"  curl -F {file} -H 'Accept: image/png' -o channels.png "
        f"'{address}/v1/models/scratch/explain/activations?layer=conv1'"
    )
    yield "Ctrl-C stops everything."


@dataclass
class _Child:
    name: str
    process: subprocess.Popen
    log: Path


@contextmanager
def _process(name: str, command: Sequence[str], log: Path, **environment: str) -> Iterator[_Child]:
    """Run a process in a session of its own, so that Ctrl-C reaches this one alone and it can stop the others."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | environment,
        )
    try:
        yield _Child(name, process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_ready(address: str, children: Sequence[_Child]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        _check_alive(children)
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    raise FoveaError(f"the models did not become ready within {START_TIMEOUT_S} s; see {children[0].log.parent}")


def _check_alive(children: Sequence[_Child]) -> None:
    for child in children:
        if child.process.poll() is not None:
            lines = child.log.read_text(errors="replace").strip().splitlines() or ["(nothing was logged)"]
            raise FoveaError(f"the {child.name} ended: {lines[-1]} (all of it in {child.log})")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
