import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server.errors import ServingError
from serving.model_server.servable import Servable
from tests.model_servers import IMAGES, PROBABILITIES, model_spec, predict_request, write_warmup


@pytest.fixture(scope="module")
def servable(exported: dict[int, Path]) -> Servable:
    return Servable("tiny", 1, str(exported[1]))


@pytest.fixture
def copy(exported: dict[int, Path], tmp_path: Path) -> Path:
    return shutil.copytree(exported[1], tmp_path / "1")


def code_of_load(path: Path) -> StatusCode:
    with pytest.raises(ServingError) as caught:
        Servable("tiny", 1, str(path))
    return caught.value.code


def test_runs_the_default_signature(servable: Servable) -> None:
    np.testing.assert_allclose(
        servable.run("serving_default", {"images": IMAGES})["probabilities"], PROBABILITIES, rtol=1e-6
    )


def test_keeps_trailing_zero_bytes_of_a_scalar_string(servable: Servable) -> None:
    assert servable.run("constant", {})["text"].item() == b"fixed\0"


@pytest.mark.parametrize("batching", [False, True])
def test_answers_many_threads_at_once(exported: dict[int, Path], batching: bool) -> None:
    servable = Servable("tiny", 1, str(exported[1]), batching=batching)

    def brightest(value: int) -> int:
        images = np.full((1, 4, 4, 3), value, np.uint8)
        return int(servable.run("pair", {"images": images}, ["brightest"])["brightest"][0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(brightest, range(200))) == list(range(200))
    servable.close()


@pytest.mark.parametrize(
    ("signature", "inputs", "output_filter", "code", "text"),
    [
        ("x", {}, [], StatusCode.FAILED_PRECONDITION, 'Serving signature key "x" not found.'),
        ("pair", {}, [], StatusCode.INVALID_ARGUMENT, "Sent extra: {}. Missing but required: {images}."),
        ("pair", {"x": IMAGES}, [], StatusCode.INVALID_ARGUMENT, "not found in signature: x."),
        (
            "pair",
            {"images": IMAGES.astype(np.float32)},
            [],
            StatusCode.INVALID_ARGUMENT,
            "Expects arg[0] to be uint8 but float is provided",
        ),
        ("pair", {"images": IMAGES[0]}, [], StatusCode.INVALID_ARGUMENT, "shape [4, 4, 3]"),
        ("pair", {"images": IMAGES}, ["x"], StatusCode.INVALID_ARGUMENT, "not found in signature: x "),
        ("pair", {"images": IMAGES}, ["darkest", "darkest"], StatusCode.INVALID_ARGUMENT, "duplicate"),
    ],
)
def test_refuses_what_the_signature_does_not_know(
    servable: Servable,
    signature: str,
    inputs: dict[str, np.ndarray],
    output_filter: list[str],
    code: StatusCode,
    text: str,
) -> None:
    with pytest.raises(ServingError) as caught:
        servable.run(signature, inputs, output_filter)
    assert caught.value.code == code
    assert text in caught.value.message


def test_stops_a_run_at_its_timeout_and_goes_on_answering(servable: Servable) -> None:
    with pytest.raises(tf.errors.DeadlineExceededError):
        servable.run("count", {"steps": np.array([10**8], np.int32)}, timeout_s=0.2)
    assert servable.run("count", {"steps": np.array([3], np.int32)}, timeout_s=20)["steps"].tolist() == [3]


def test_answers_with_tensor_content(servable: Servable) -> None:
    response = servable.predict(predict_request(model_spec("tiny"), {"images": IMAGES}))
    assert response.outputs["probabilities"].tensor_content == PROBABILITIES.tobytes()


def test_runs_the_warmup_requests(copy: Path) -> None:
    write_warmup(copy, predict_request(model_spec("other-name"), {"images": IMAGES}))
    Servable("tiny", 1, str(copy)).close()


def test_fails_to_load_with_a_failing_warmup_request(copy: Path) -> None:
    good = predict_request(model_spec("tiny"), {"images": IMAGES})
    write_warmup(copy, good, predict_request(model_spec("tiny", signature_name="x"), {"images": IMAGES}))
    assert code_of_load(copy) == StatusCode.FAILED_PRECONDITION


def test_fails_to_load_with_another_kind_of_warmup_record(copy: Path) -> None:
    write_warmup(copy)
    log = prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog())
    with tf.io.TFRecordWriter(str(copy / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    assert code_of_load(copy) == StatusCode.UNIMPLEMENTED


def test_fails_to_load_with_a_damaged_warmup_file(copy: Path) -> None:
    write_warmup(copy, predict_request(model_spec("tiny"), {"images": IMAGES}))
    file = copy / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(tf.errors.DataLossError):
        Servable("tiny", 1, str(copy))


def test_fails_to_load_what_is_no_saved_model(tmp_path: Path, copy: Path) -> None:
    assert code_of_load(tmp_path / "missing") == StatusCode.NOT_FOUND
    shutil.rmtree(copy / "variables")
    assert code_of_load(copy) == StatusCode.NOT_FOUND
    (copy / "saved_model.pb").write_bytes(b"")
    assert code_of_load(copy) == StatusCode.NOT_FOUND
    (copy / "saved_model.pb").write_bytes(b"not a protocol buffer")
    assert code_of_load(copy) == StatusCode.NOT_FOUND
