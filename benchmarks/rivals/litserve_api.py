"""LitServe with its batching and several workers: https://lightning.ai/docs/litserve/features/batching."""

import sys

import litserve
import numpy as np
from fastapi import Request

from serving.contract import images


class Classifier(litserve.LitAPI):
    """Decodes and resizes each picture, and classifies batches."""

    def setup(self, device: str) -> None:
        """Load the net in a worker, which alone needs TensorFlow."""
        from benchmarks.rivals import net

        self.net = net.load()
        self.height, self.width = self.net.input_shape[1:3]
        self.classify = net.compiled(self.net)

    def decode_request(self, request: Request) -> np.ndarray:
        """Read the file of a form, which LitServe gives in place of the request."""
        return images.resize(images.decode(request["file"].file.read()), self.height, self.width)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Classify uint8 [N, H, W, 3]."""
        return self.classify(batch)

    def encode_response(self, probability: np.float32) -> dict[str, float]:
        """Answer one row."""
        return {"probability": float(probability)}


if __name__ == "__main__":
    port, workers, batch_size, timeout_s = sys.argv[1:]
    litserve.LitServer(
        Classifier(max_batch_size=int(batch_size), batch_timeout=float(timeout_s)),
        accelerator="cpu",
        workers_per_device=int(workers),
    ).run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
