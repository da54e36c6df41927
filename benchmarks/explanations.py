"""What an explanation costs: Grad-CAM in the served model over classify, and against a gradient tape in Keras."""

import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from benchmarks import direct, processes
from benchmarks.measuring import WARM_UP_CALLS, Figure, interleave, median_ms, report
from serving import tensors
from serving.contract import images, signatures

if TYPE_CHECKING:
    from training.export.network import Network

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

    def ratio(seconds: dict[str, np.ndarray], first: str, second: str) -> float:
        return float(np.median(seconds[first]) / np.median(seconds[second]))

    return [
        Figure("Grad-CAM over classify, direct gRPC", ratio(served, "grad_cam", "classify"), "times", at_most=1.3),
        Figure("gradient tape in Keras over Grad-CAM", ratio(against, "eager", "grad_cam"), "times", at_least=4),
        median_ms("classify", served["classify"]),
        median_ms("Grad-CAM, in turn with classify", served["grad_cam"]),
        median_ms("Grad-CAM, in turn with the gradient tape", against["grad_cam"]),
        median_ms("gradient tape in Keras", against["eager"]),
    ]


def _check_same(served: np.ndarray, eager: np.ndarray) -> None:
    peak = float(np.abs(eager).max())
    if peak == 0 or served.shape != eager.shape or float(np.abs(served - eager).max()) > TOLERANCE * peak:
        raise RuntimeError("the served Grad-CAM and the gradient tape disagree, so their times cannot be compared")


def main(calls: Annotated[int, typer.Option(min=1, help="Timed calls of each contender.")] = 500) -> None:
    """Measure Grad-CAM of the scratch net at its last convolution, one picture at a time."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch
    from training.export.network import open_network
    from training.store import Store

    with tempfile.TemporaryDirectory(prefix="fovea-benchmark-") as name:
        folder = Path(name)
        model, store = scratch.net(folder / "run"), Store(folder / "store")
        scratch.publish_net(model, store)
        network = open_network(model)
        picture = images.resize(images.decode(scratch.jpeg()), *network.images.shape[1:3])
        with processes.model_server(store.config_path, folder / "model_server.log") as target:
            figures = measure(target, scratch.NAME, network, picture, calls)
    report("explanations", {"calls": calls, "warm_up_calls": WARM_UP_CALLS}, figures)


if __name__ == "__main__":
    typer.run(main)
