"""numpy arrays as TensorProto and back, for the types that the contract uses.

The message is described in tensorflow/core/framework/tensor.proto: values are either raw bytes in
`tensor_content` (row-major, little-endian) or a typed list, in which a value that is repeated to the
end is written once.
"""

import math

import numpy as np

from serving import wire

_NUMERIC: dict[int, tuple[np.dtype, str]] = {
    wire.DT_FLOAT: (np.dtype("<f4"), "float_val"),
    wire.DT_INT32: (np.dtype("<i4"), "int_val"),
    wire.DT_INT64: (np.dtype("<i8"), "int64_val"),
    wire.DT_UINT8: (np.dtype("u1"), "int_val"),
}
_ENUM = {dtype: enum for enum, (dtype, _) in _NUMERIC.items()}


def to_proto(array: np.ndarray) -> wire.TensorProto:
    """Write an array as a TensorProto.

    Args:
        array: float32, int32, int64 or uint8 of any shape; or an object array of `bytes`.

    Raises:
        TypeError: another dtype.
    """
    proto = wire.TensorProto()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.dtype = wire.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
        return proto
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _ENUM:
        raise TypeError(f"arrays of {array.dtype} are not part of the contract")
    proto.dtype = _ENUM[dtype]
    proto.tensor_content = array.astype(dtype, copy=False).tobytes()
    return proto


def from_proto(proto: wire.TensorProto) -> np.ndarray:
    """Read a TensorProto in either of its two forms.

    Returns:
        float32, int32, int64 or uint8 of the tensor's shape, read-only where it shares the
        message's memory; strings as an object array of `bytes`.

    Raises:
        ValueError: another dtype, or values that do not fill the shape.
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.dtype == wire.DT_STRING:
        strings = np.empty(len(proto.string_val), dtype=object)
        strings[:] = list(proto.string_val)
        return _fill(strings, shape)
    if proto.dtype not in _NUMERIC:
        raise ValueError(f"tensors of type {proto.dtype} are not part of the contract")
    dtype, field = _NUMERIC[proto.dtype]
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    values = getattr(proto, field)
    return _fill(np.fromiter(values, dtype, count=len(values)), shape)


def _fill(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    missing = math.prod(shape) - len(values)
    if missing > 0 and len(values):
        values = np.concatenate([values, np.repeat(values[-1:], missing)])
    return values.reshape(shape)
