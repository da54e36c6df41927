"""What an explanation costs: Grad-CAM in the served model over classify, and against a gradient tape in Keras."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import numpy as np
import typer

from benchmarks import direct, processes
from benchmarks.measuring import WARM_UP_CALLS, Figure, interleave, median_ms, report
from benchmarks.processes import RunningGateway
from serving import tensors
from serving.contract import images, signatures
from serving.patterns import FILTERS_A_CALL

if TYPE_CHECKING:
    import keras

    from training.export.network import Network

LIBRARIES_PYTHON = processes.REPOSITORY / ".venv" / "exactness" / "bin" / "python"
"""Where other projects' explanations are installed, by `make exactness`."""

TURN = 10
"""Calls that a contender makes in a row."""

REST_S = 0.2
"""Seconds between the turns of two contenders."""

FOVEA = "Fovea"
LEAST_ARITHMETIC = {"xplique": 2, "tf-keras-vis": 6, "tf-explain": 6}
LEAST_OVERLAY = {"xplique": 1, "tf-keras-vis": 3, "tf-explain": 3}
"""How many times faster than each library Grad-CAM should be."""

PATTERNS = 64
"""Filters whose patterns are drawn."""

TOLERANCE = 1e-3
"""Greatest difference of the two heat maps, as a share of the greatest value."""


def eager_grad_cam(network: "Network") -> Callable[[np.ndarray], np.ndarray]:
    """Return Grad-CAM of the predicted class at the last convolution as it is usually written in Keras.

    The model with two outputs is built once; each call then runs it eagerly under a gradient tape.

    Args:
        network: a classifier of two classes with a sigmoid.

    Returns:
        A function of pictures uint8 [n,h,w,3] that returns the raw heat maps, float32 [n,h,w].
    """
    import keras
    import tensorflow as tf

    model = keras.Model(network.images, [network.convolutions[-1].output, network.logits])

    def heat_maps(pictures: np.ndarray) -> np.ndarray:
        inputs = tf.cast(pictures, tf.float32)
        with tf.GradientTape() as tape:
            maps, logits = model(inputs, training=False)
            # The score of class 1 is the logit and that of class 0 its negative: the greater one is predicted.
            score = tf.reduce_sum(tf.abs(logits))
        gradient = tape.gradient(score, maps)
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)).numpy()

    return heat_maps


def measure(target: str, model: str, network: "Network", picture: np.ndarray, calls: int) -> list[Figure]:
    """Time the served model's signatures, called directly, and the gradient tape in this process.

    Args:
        target: the model server, host:port.
        model: its model.
        network: the same model in Keras.
        picture: uint8 [h,w,3], of the size that the model takes.
        calls: timed calls of each.

    Raises:
        RuntimeError: the two compute different heat maps, so that their times cannot be compared.
    """
    pictures = picture[np.newaxis]
    eager = eager_grad_cam(network)
    with direct.predictor(target, model) as prepare:
        predicted = np.array([signatures.PREDICTED_CLASS], np.int32)
        classify = prepare(signatures.PREDICT, {signatures.IMAGES: pictures})
        grad_cam = prepare(signatures.GRAD_CAM, {signatures.IMAGES: pictures, signatures.CLASS_INDEX: predicted})
        _check_same(tensors.from_proto(grad_cam().outputs[signatures.HEATMAP]), eager(pictures))
        served = interleave({"classify": classify, "grad_cam": grad_cam}, calls)
        # Apart from the above, so that the tape's work in this process cannot disturb the narrower comparison.
        against = interleave({"grad_cam": grad_cam, "eager": lambda: eager(pictures)}, calls)

    return [
        Figure("Grad-CAM over classify, direct gRPC", _ratio(served, "grad_cam", "classify"), "times", at_most=1.3),
        Figure("gradient tape in Keras over Grad-CAM", _ratio(against, "eager", "grad_cam"), "times", at_least=4),
        median_ms("classify", served["classify"]),
        median_ms("Grad-CAM, in turn with classify", served["grad_cam"]),
        median_ms("Grad-CAM, in turn with the gradient tape", against["grad_cam"]),
        median_ms("gradient tape in Keras", against["eager"]),
    ]


def _check_same(served: np.ndarray, eager: np.ndarray) -> None:
    peak = float(np.abs(eager).max())
    if peak == 0 or served.shape != eager.shape or float(np.abs(served - eager).max()) > TOLERANCE * peak:
        raise RuntimeError("the served Grad-CAM and the gradient tape disagree, so their times cannot be compared")


def all_methods(target: str, model: str, picture: np.ndarray, calls: int) -> list[Figure]:
    """Compare all four class-activation maps at once with Grad-CAM alone, both called directly."""
    predicted = np.array([signatures.PREDICTED_CLASS], np.int32)
    inputs = {signatures.IMAGES: picture[np.newaxis], signatures.CLASS_INDEX: predicted}
    with direct.predictor(target, model) as prepare:
        names = (signatures.CAM_METHODS, signatures.GRAD_CAM)
        seconds = interleave({name: prepare(name, inputs) for name in names}, calls)
    ratio = _ratio(seconds, signatures.CAM_METHODS, signatures.GRAD_CAM)
    return [Figure(f"{model}: four methods over Grad-CAM, direct gRPC", ratio, "times", at_most=1.2)]


def through_the_gateway(running: RunningGateway, model: str, jpeg: bytes, batch: int, calls: int) -> list[Figure]:
    """Compare Grad-CAM at the default layer with classify, both through the gateway and as JSON."""
    files = [("file", (f"{number}.jpg", jpeg, "image/jpeg")) for number in range(batch)]
    with httpx.Client(base_url=running.url, timeout=direct.TIMEOUT_S, trust_env=False) as http:

        def post(suffix: str) -> Callable[[], object]:
            return lambda: http.post(f"/v1/models/{model}{suffix}", files=files).raise_for_status()

        seconds = interleave({"classify": post(":classify"), "grad_cam": post("/explain/grad-cam")}, calls)
    pictures = "1 picture" if batch == 1 else f"{batch} pictures"
    return [
        Figure(
            f"{model}: Grad-CAM over classify, gateway, {pictures}",
            _ratio(seconds, "grad_cam", "classify"),
            "times",
            at_most=1.3,
        ),
        median_ms(f"{model}: Grad-CAM, gateway, {pictures}", seconds["grad_cam"]),
    ]


def large_answer(running: RunningGateway, target: str, model: str, layer: str, jpeg: bytes, calls: int) -> list[Figure]:
    """Measure what the gateway adds to a layer's activations that it answers as npz."""
    with (
        direct.predictor(target, model) as prepare,
        httpx.Client(base_url=running.url, timeout=direct.TIMEOUT_S, trust_env=False) as http,
    ):
        card = http.get(f"/v1/models/{model}").raise_for_status().json()
        picture = images.resize(images.decode(jpeg), card["input_height"], card["input_width"])
        path, headers = f"/v1/models/{model}/explain/activations", {"Accept": "application/x-npz"}
        headers["Content-Type"] = "image/jpeg"

        def ask() -> object:
            return http.post(path, params={"layer": layer}, content=jpeg, headers=headers).raise_for_status()

        seconds = interleave(
            {
                "gateway": ask,
                "direct": prepare(signatures.activations(layer), {signatures.IMAGES: picture[np.newaxis]}),
            },
            calls,
        )
        (shape,) = [[row["height"], row["width"], row["channels"]] for row in card["layers"] if row["name"] == layer]
    added = 1000 * float(np.median(seconds["gateway"] - seconds["direct"]))
    size = "x".join(map(str, shape))
    return [
        Figure(f"npz of a {size} layer, gateway minus direct gRPC, median", added, "ms", at_most=30),
        median_ms(f"npz of a {size} layer, gateway", seconds["gateway"]),
    ]


def eager_patterns(network: "Network", layer: str, filters: np.ndarray) -> None:
    """Run the gradient ascent of filter patterns as it is usually written in Keras: filter by filter, eagerly."""
    import keras
    import tensorflow as tf

    from training.export.functions import PATTERN_STEP_SIZE, PATTERN_STEPS

    model = keras.Model(network.images, network.layers[layer].output)
    for index in filters:
        picture = 128 + tf.random.uniform([1, *network.images.shape[1:]], -20, 20)
        for _ in range(PATTERN_STEPS):
            with tf.GradientTape() as tape:
                tape.watch(picture)
                response = tf.reduce_mean(model(picture, training=False)[..., index])
            gradient = tape.gradient(response, picture)
            picture += PATTERN_STEP_SIZE * gradient / (tf.sqrt(tf.reduce_mean(tf.square(gradient))) + 1e-8)


def filter_patterns(target: str, model: str, network: "Network", layer: str, rounds: int) -> list[Figure]:
    """Compare the filter patterns of the served model with the same loop in eager Keras."""
    filters = np.arange(min(PATTERNS, network.layers[layer].output.shape[-1]), dtype=np.int32)
    with direct.predictor(target, model) as prepare:
        parts = [filters[start : start + FILTERS_A_CALL] for start in range(0, len(filters), FILTERS_A_CALL)]
        served = [prepare(signatures.filter_patterns(layer), {signatures.FILTER_INDEX: part}) for part in parts]
        contenders = {
            "served": lambda: [call() for call in served],
            "eager": lambda: eager_patterns(network, layer, filters),
        }
        seconds = interleave(contenders, rounds, warm_up=0)
    return [
        Figure(
            f"{len(filters)} patterns in eager Keras over served",
            _ratio(seconds, "eager", "served"),
            "times",
            at_least=2,
        ),
        Figure(f"{len(filters)} patterns of {layer}, served", float(np.median(seconds["served"])), "s"),
    ]


@contextmanager
def libraries(model: "keras.Model", jpeg: bytes, folder: Path) -> Iterator[Callable[[str], float]]:
    """Give a function that lets another project's Grad-CAM answer once, in its own process, and returns the seconds."""
    model.save(folder / "net.keras")
    (folder / "picture.jpg").write_bytes(jpeg)
    command: list[str | Path] = [
        LIBRARIES_PYTHON,
        "-m",
        "benchmarks.explainers",
        folder / "net.keras",
        folder / "picture.jpg",
    ]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        command, cwd=processes.REPOSITORY, env=quiet, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def ask(line: str) -> float:
            questions.write(f"{line}\n")
            questions.flush()
            return float(answers.readline())

        try:
            yield ask
        finally:
            questions.close()


def take_turns(contenders: dict[str, Callable[[], float]], calls: int) -> dict[str, np.ndarray]:
    """Let contenders call in turns of TURN calls, after a rest each, since TensorFlow's threads go on for a while.

    Args:
        contenders: calls that return their seconds, by name.
        calls: how many of each count, rounded up to whole turns; the first of a turn is not among them.

    Returns:
        Seconds of each call, by name.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(1 + -(-calls // TURN)):
        for name, call in contenders.items():
            time.sleep(REST_S)
            seconds = [call() for _ in range(1 + TURN)][1:]
            # All are called once before any of their calls counts.
            found[name] += seconds if turn else []
    return {name: np.array(seconds) for name, seconds in found.items()}


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def against_libraries(
    running: RunningGateway,
    target: str,
    model: str,
    picture: np.ndarray,
    jpeg: bytes,
    ask: Callable[[str], float],
    calls: int,
) -> list[Figure]:
    """Compare Grad-CAM with three libraries: the arithmetic alone, and everything from a JPEG to an overlay as PNG.

    The libraries time themselves in their process, so that no way to it counts against them.
    """
    figures = []
    inputs = {signatures.IMAGES: picture[np.newaxis], signatures.CLASS_INDEX: np.array([1], np.int32)}
    with (
        direct.predictor(target, model) as prepare,
        httpx.Client(base_url=running.url, timeout=direct.TIMEOUT_S, trust_env=False) as http,
    ):
        arithmetic = prepare(signatures.GRAD_CAM, inputs)
        path, headers = f"/v1/models/{model}/explain/grad-cam", {"Accept": "image/png", "Content-Type": "image/jpeg"}

        def overlay() -> object:
            return http.post(path, content=jpeg, headers=headers).raise_for_status()

        for what, ours, suffix, goals in (
            ("arithmetic", arithmetic, "", LEAST_ARITHMETIC),
            ("JPEG to overlay", overlay, " overlay", LEAST_OVERLAY),
        ):
            contenders: dict[str, Callable[[], float]] = {FOVEA: partial(_timed, ours)}
            contenders |= {library: partial(ask, library + suffix) for library in goals}
            seconds = take_turns(contenders, calls)
            own, theirs = seconds[FOVEA], {library: seconds[library] for library in goals}
            figures += [
                Figure(
                    f"{library} over Fovea, {what}",
                    float(np.median(values) / np.median(own)),
                    "times",
                    at_least=goals[library],
                )
                for library, values in theirs.items()
            ]
            figures.append(median_ms(f"Grad-CAM, {what}", own))
    return figures


def _ratio(seconds: dict[str, np.ndarray], first: str, second: str) -> float:
    return float(np.median(seconds[first]) / np.median(seconds[second]))


def main(
    calls: Annotated[int, typer.Option(min=1, help="Timed calls of each contender.")] = 300,
    batch: Annotated[int, typer.Option(min=2, help="Pictures of a larger request.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds of filter patterns.")] = 2,
) -> None:
    """Measure the explanations of an untrained scratch net and of one on the bundled base."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch
    from training.export.network import open_network

    jpeg = scratch.jpeg()
    with scratch.served(scratch.NAME, scratch.TRANSFER) as (folder, server, models):
        target, network = server.target, open_network(models[scratch.NAME])
        picture = images.resize(images.decode(jpeg), *network.images.shape[1:3])
        figures = measure(target, scratch.NAME, network, picture, calls)
        figures += all_methods(target, scratch.NAME, picture, calls)
        with processes.gateway(target, list(models), folder / "gateway.log") as running:
            for recipe in models:
                figures += through_the_gateway(running, recipe, jpeg, 1, calls)
                figures += through_the_gateway(running, recipe, jpeg, batch, max(1, calls // batch))
            if LIBRARIES_PYTHON.exists():
                with libraries(models[scratch.NAME], jpeg, folder) as ask:
                    figures += against_libraries(running, target, scratch.NAME, picture, jpeg, ask, calls)
            else:
                print("xplique, tf-keras-vis and tf-explain are compared once `make exactness` has been run")
            figures += large_answer(running, target, scratch.NAME, "conv1", jpeg, calls)
        figures += filter_patterns(target, scratch.NAME, network, "conv2", rounds)
    options = {"calls": calls, "batch": batch, "rounds": rounds, "warm_up_calls": WARM_UP_CALLS}
    report("explanations", options, figures)


if __name__ == "__main__":
    typer.run(main)
