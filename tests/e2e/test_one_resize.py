"""Training and serving see the same pixels: one picture set through both, bit for bit."""

import io

import numpy as np
import pytest

from tests.gateways import Gateway
from tests.tiny_models import HEIGHT, WIDTH
from training.data import batches
from training.data.pictures import read_picture_set
from training.data.pixels import Pixels
from training.drawing.make import make_picture_set


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    """The validation pictures of a made set, of many sizes and both shapes."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    make_picture_set(folder, per_class={"train": 1, "validation": 50})
    return read_picture_set(folder).splits["validation"]


def test_every_validation_picture_arrives_as_training_sees_it(validation, tiny_server, tmp_path):
    paths = [picture.path for picture in validation]
    assert len(paths) == 100
    pixels = Pixels(paths, HEIGHT, WIDTH)
    labels = np.zeros(len(paths), np.int32)
    trained_on = np.concatenate(
        [rows for rows, _ in batches.evaluation_batches(pixels, labels, 32).as_numpy_iterator()]
    )
    assert trained_on.dtype == np.uint8

    with Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target) as gateway:
        for path, expected in zip(paths, trained_on, strict=True):
            # The layer `identity` of the tiny model returns the pixels that the model was given.
            answer = gateway.http.post(
                "/v1/models/tiny/explain/activations",
                params={"layer": "identity"},
                content=path.read_bytes(),
                headers={"Content-Type": "image/jpeg", "Accept": "application/x-npz"},
            )
            assert answer.status_code == 200, answer.text
            with np.load(io.BytesIO(answer.content)) as arrays:
                served = arrays["identity"].reshape(expected.shape)
            np.testing.assert_array_equal(served, expected, err_msg=path.name)
