"""BentoML with adaptive batching: https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html."""

import os

import bentoml
import numpy as np
from PIL import Image

from benchmarks.rivals import net


@bentoml.service(
    workers=int(os.environ["RIVAL_WORKERS"]), traffic={"timeout": 30}, logging={"access": {"enabled": False}}
)
class Classifier:
    """Resizes and classifies batches of pictures."""

    def __init__(self) -> None:
        self.net = net.load()
        self.classify_batch = net.compiled(self.net)

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def classify(self, images: list[Image.Image]) -> list[float]:
        """Classify pictures, which come as the files of a form."""
        batch = np.stack([net.pixels(image.convert("RGB"), self.net) for image in images])
        return self.classify_batch(batch).tolist()
