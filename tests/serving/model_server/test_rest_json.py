import base64
import json
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from serving.model_server.errors import ServingError
from serving.model_server.rest_json import format_outputs, parse_document, parse_inputs


def parse(document: Any, **inputs: tf.DType) -> tuple[dict[str, np.ndarray], bool]:
    infos = {name: TensorInfo(dtype=dtype.as_datatype_enum) for name, dtype in inputs.items()}
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_inputs(parse_document(body), infos)


def refusal(document: Any, **inputs: tf.DType) -> str:
    with pytest.raises(ServingError) as caught:
        parse(document, **inputs)
    assert caught.value.code == StatusCode.INVALID_ARGUMENT
    return caught.value.message


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (tf.float32, [[1, 2.5], [3, 4]]),
        (tf.float64, [[0.1]]),
        (tf.uint8, [[0, 255]]),
        (tf.int64, [[2**62, -5]]),
        (tf.bool, [[True], [False]]),
        (tf.int32, [[], []]),
    ],
)
def test_both_forms_give_the_same_array(dtype: tf.DType, values: list[Any]) -> None:
    for document, row_form in (
        ({"instances": values}, True),
        ({"instances": [{"x": value} for value in values]}, True),
        ({"inputs": values}, False),
        ({"inputs": {"x": values}}, False),
    ):
        inputs, came_in_rows = parse(document, x=dtype)
        assert came_in_rows == row_form
        assert inputs["x"].dtype == dtype.as_numpy_dtype
        assert inputs["x"].tolist() == values


def test_strings_are_text_or_base64() -> None:
    rows, _ = parse({"instances": ["caf\u00e9", b64(b"\0\xff\0")]}, x=tf.string)
    assert rows["x"].tolist() == ["caf\u00e9".encode(), b"\0\xff\0"]
    scalar, _ = parse({"inputs": b64(b"one")}, x=tf.string)
    assert scalar["x"].item() == b"one"
    nested, _ = parse({"inputs": [["a"], [b64(b"b")]]}, x=tf.string)
    assert nested["x"].tolist() == [[b"a"], [b"b"]]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b'{"instances": [1,]}', "JSON Parse error"),
        (b'{"instances": ["\xff"]}', "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, "only one of"),
        ({"instances": {"x": 1}}, "list/array"),
        ({"instances": []}, "No values in 'instances'"),
        ({"instances": [1, "a"]}, "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type"),
        ({"instances": [[1], [1, 2]]}, "Expecting shape [1] but got: [2]"),
        ({"instances": [[[1], [1, 2]]]}, "list at unexpected size"),
        ({"instances": [{"x": 1}, 1]}, "element: 1"),
        ({"instances": [1, {"x": 1}]}, "element: 1"),
        ({"instances": [{"y": 1}]}, "keys must be equal to: x"),
        ({"instances": [None]}, "Type: Null"),
        ({"instances": [b64(b"a")]}, "Type: Object is not of expected type: float"),
        ({"instances": [1e39]}, "without loss of precision"),
        ({"inputs": {"y": [1]}}, "Missing named input: x"),
        ({"inputs": [True]}, "is not of expected type: float"),
        ({"signature_name": 3, "inputs": [1]}, "'signature_name' key must be a string value."),
    ],
)  # fmt: skip
def test_refuses_wrong_documents(document: Any, text: str) -> None:
    assert text in refusal(document, x=tf.float32)


def test_refuses_what_an_integer_cannot_hold() -> None:
    assert "is not of expected type: uint8" in refusal({"instances": [1.0]}, x=tf.uint8)
    assert "do not fit into uint8" in refusal({"instances": [256]}, x=tf.uint8)
    assert "do not fit into uint8" in refusal({"instances": [-1]}, x=tf.uint8)


def test_refuses_wrong_strings() -> None:
    assert "is not of expected type: string" in refusal({"instances": [1]}, x=tf.string)
    assert "Unable to base64 decode" in refusal({"instances": [{"b64": "%"}]}, x=tf.string)
    assert "keys must be equal to: x" in refusal({"instances": [{"b64": "AAAA", "y": 1}]}, x=tf.string)
    assert "not formatted correctly" in refusal({"instances": [[{"b64": "AAAA", "y": 1}]]}, x=tf.string)
    assert "list at unexpected size" in refusal({"inputs": [["a"], ["a", "b"]]}, x=tf.string)


def test_refuses_a_plain_list_for_several_inputs() -> None:
    assert "a,b" in refusal({"instances": [1]}, a=tf.float32, b=tf.float32)
    assert "a,b" in refusal({"inputs": [1]}, a=tf.float32, b=tf.float32)
    assert "DEFAULT" in refusal({"inputs": [1]})


class TestFormat:
    def test_one_output_is_bare_and_several_are_named(self) -> None:
        one = {"x": np.array([[1, 2], [3, 4]], np.int32)}
        assert json.loads(format_outputs(one, row_form=True)) == {"predictions": [[1, 2], [3, 4]]}
        assert json.loads(format_outputs(one, row_form=False)) == {"outputs": [[1, 2], [3, 4]]}
        two = {**one, "y": np.array([True, False])}
        assert json.loads(format_outputs(two, row_form=True)) == {
            "predictions": [{"x": [1, 2], "y": True}, {"x": [3, 4], "y": False}]
        }
        assert json.loads(format_outputs(two, row_form=False)) == {
            "outputs": {"x": [[1, 2], [3, 4]], "y": [True, False]}
        }

    def test_float32_is_written_with_its_shortest_digits(self) -> None:
        values = np.array([0.1, 1.0, 1e-7, 1 / 3], np.float32)
        text = format_outputs({"x": values}, row_form=False)
        assert text == '{"outputs": [0.1, 1.0, 1e-07, 0.33333334]}'
        assert (np.array(json.loads(text)["outputs"], np.float32) == values).all()

    def test_writes_nan_and_infinity_bare(self) -> None:
        for dtype in (np.float32, np.float64):
            text = format_outputs({"x": np.array([math.nan, math.inf, -math.inf], dtype)}, row_form=False)
            assert text == '{"outputs": [NaN, Infinity, -Infinity]}'

    def test_name_decides_between_text_and_base64(self) -> None:
        strings = np.array([b"abc"], object)
        outputs = {"x": strings, "x_bytes": strings}
        assert json.loads(format_outputs(outputs, row_form=False)) == {
            "outputs": {"x": ["abc"], "x_bytes": [b64(b"abc")]}
        }

    @pytest.mark.parametrize(
        "outputs",
        [
            {"x": np.array(1.0)},
            {"x": np.zeros((0, 2))},
            {"x": np.zeros(2), "y": np.zeros(3)},
        ],
    )
    def test_rows_need_a_common_batch(self, outputs: dict[str, np.ndarray]) -> None:
        with pytest.raises(ServingError) as caught:
            format_outputs(outputs, row_form=True)
        assert caught.value.code == StatusCode.INVALID_ARGUMENT
        assert "outputs" in json.loads(format_outputs(outputs, row_form=False))

    def test_refuses_half_precision(self) -> None:
        with pytest.raises(ServingError, match="tensor type: half"):
            format_outputs({"x": np.zeros(1, np.float16)}, row_form=True)
