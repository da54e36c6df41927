"""Fixtures that several packages of tests share."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.model_servers import ModelServer

# Read when TensorFlow is imported, which the fixtures below leave to the tests that need it: it takes seconds.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what starts processes last."""
    items.sort(key=lambda item: not {"e2e", "benchmarks"}.isdisjoint(item.path.parts))


MODELS = ("tiny", "cautious", "broken")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three models.

    `tiny` has version 1 (red, blue) and version 2 (rot, blau). `cautious` calls a picture blue from a
    probability of .25 on. `broken` answers what is not finite.
    """
    from tests import tiny_models

    store = tmp_path_factory.mktemp("store")
    tiny_models.export(store / "tiny" / "1", tiny_models.card("tiny"))
    tiny_models.export(store / "tiny" / "2", tiny_models.card("tiny", ("rot", "blau")), gain=2 * tiny_models.GAIN)
    tiny_models.export(store / "cautious" / "1", tiny_models.card("cautious", threshold=0.25))
    tiny_models.export(store / "broken" / "7", tiny_models.card("broken"), break_answers=True)
    return store


@pytest.fixture(scope="session")
def tiny_server(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ModelServer]":
    """A model server of the tiny store; `tiny` carries the labels stable (1) and canary (2)."""
    from tests import model_servers

    folder = tmp_path_factory.mktemp("tiny_server")
    every = {"all": {}}
    models = [{"name": name, "base_path": str(tiny_store / name), "model_version_policy": every} for name in MODELS]
    config = folder / "models.config"
    model_servers.write_config(config, model_servers.models_config(*models))
    with model_servers.ModelServer(folder / "log", f"--model_config_file={config}") as server:
        # Labels can only be given to versions that are loaded.
        models[0] = {**models[0], "version_labels": {"stable": 1, "canary": 2}}
        server.reload(model_servers.models_config(*models))
        yield server


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """A function that encodes an RGB array uint8 [h, w, 3] as a picture, PNG unless told otherwise."""

    def encoded(pixels: np.ndarray, format: str = "PNG") -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format)
        return stream.getvalue()

    return encoded


@pytest.fixture(scope="session")
def red_corner() -> np.ndarray:
    """Black pixels of the model's size, with one block of 4x4 red ones: left 8..12, top 4..8."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[4:8, 8:12, 0] = 255
    return pixels
