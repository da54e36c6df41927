import numpy as np
import pytest

from serving import tensors, wire


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.uint8])
def test_arrays_survive_the_way_there_and_back(dtype):
    array = np.arange(6).reshape(1, 2, 3).astype(dtype)
    proto = tensors.to_proto(array)
    assert proto.tensor_content
    back = tensors.from_proto(proto)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


def test_big_endian_arrays_are_written_in_little_endian():
    proto = tensors.to_proto(np.array([1], dtype=">i4"))
    assert proto.tensor_content == b"\x01\x00\x00\x00"


def test_strings_survive_as_bytes():
    proto = tensors.to_proto(np.array([b"a", b"\x00\xff"], dtype=object))
    assert tensors.from_proto(proto).tolist() == [b"a", b"\x00\xff"]


@pytest.mark.parametrize(
    ("enum", "field", "dtype"),
    [
        (wire.DT_FLOAT, "float_val", np.float32),
        (wire.DT_INT32, "int_val", np.int32),
        (wire.DT_INT64, "int64_val", np.int64),
        (wire.DT_UINT8, "int_val", np.uint8),
    ],
)
def test_typed_values_are_read_and_the_last_one_fills_the_shape(enum, field, dtype):
    proto = wire.TensorProto(dtype=enum, **{field: [7, 9]})
    proto.tensor_shape.dim.add(size=2)
    proto.tensor_shape.dim.add(size=2)
    array = tensors.from_proto(proto)
    assert array.dtype == dtype
    assert array.tolist() == [[7, 9], [9, 9]]


def test_an_empty_tensor_keeps_its_shape():
    assert tensors.from_proto(tensors.to_proto(np.zeros((0, 3), np.float32))).shape == (0, 3)


def test_values_that_do_not_fill_the_shape_are_an_error():
    proto = wire.TensorProto(dtype=wire.DT_FLOAT, tensor_content=b"\0" * 8)
    proto.tensor_shape.dim.add(size=3)
    with pytest.raises(ValueError, match="reshape"):
        tensors.from_proto(proto)


def test_types_outside_the_contract_are_refused():
    with pytest.raises(TypeError, match="complex64"):
        tensors.to_proto(np.zeros(1, np.complex64))
    with pytest.raises(ValueError, match="tensors of type 10"):
        tensors.from_proto(wire.TensorProto(dtype=10))
