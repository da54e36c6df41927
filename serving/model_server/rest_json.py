"""Between TensorFlow Serving's REST JSON and arrays: `instances` and `inputs` in, `predictions` and `outputs` out."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.model_server.errors import ServingError, invalid
from serving.model_server.servable import type_name

TensorInfos = Mapping[str, meta_graph_pb2.TensorInfo]

_JSON_TYPES = {dict: "Object", list: "Array", str: "String", bool: "Bool", int: "Number", float: "Number"}
_INTEGERS = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64)
# Kinds of numpy types that JSON numbers and booleans may have for a tensor of each type.
_ACCEPTED_KINDS = {tf.float32: "iuf", tf.float64: "iuf", tf.bool: "b", **dict.fromkeys(_INTEGERS, "iu")}


def parse_document(body: bytes) -> dict[str, Any]:
    """Parse a predict body as far as that goes without knowing the signature, whose name it holds or not.

    Raises ServingError (INVALID_ARGUMENT) with what was wrong.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise invalid(f"JSON Value: {_shown(document)} 'signature_name' key must be a string value.")
    return document


def parse_inputs(document: dict[str, Any], infos: TensorInfos) -> tuple[dict[str, np.ndarray], bool]:
    """Return the arrays by input name, and whether they came in row form (`instances`).

    Raises ServingError (INVALID_ARGUMENT) with what was wrong.
    """
    if not infos:
        raise invalid(f"Failed to get input map for signature: {document.get('signature_name') or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise invalid("Not formatted correctly: expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return _from_instances(document["instances"], infos), True
    if "inputs" in document:
        return _from_inputs(document["inputs"], infos), False
    raise invalid("Missing 'inputs' or 'instances' key")


def format_outputs(outputs: Mapping[str, np.ndarray], row_form: bool) -> str:
    """Write the answer: one output as a bare value, several as objects keyed by name.

    Raises ServingError (INVALID_ARGUMENT) for a type that JSON cannot carry, and in row form for outputs without a
    common batch dimension.
    """
    if row_form:
        _check_batched(outputs)
    columns = {name: _to_json(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        (answer,) = columns.values()
    elif row_form:
        answer = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        answer = columns
    return json.dumps({"predictions" if row_form else "outputs": answer})


def _from_instances(instances: Any, infos: TensorInfos) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid("Expecting 'instances' to be a list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    as_objects = _is_named(instances[0])
    if not as_objects and len(infos) > 1:
        raise invalid(
            f"instances is a plain list, but expecting list of objects with the keys {','.join(sorted(infos))}"
        )
    columns: dict[str, list[np.ndarray]] = {name: [] for name in infos}
    for number, element in enumerate(instances):
        try:
            if _is_named(element) != as_objects:
                raise invalid("Expecting either only objects or only values/lists")
            named = element if as_objects else {next(iter(infos)): element}
            if set(named) != set(infos):
                raise invalid(f"JSON object: {_shown(element)} keys must be equal to: {','.join(sorted(infos))}")
            for name, value in named.items():
                array = _to_array(value, infos[name])
                if columns[name] and columns[name][0].shape != array.shape:
                    raise invalid(f"Expecting shape {list(columns[name][0].shape)} but got: {list(array.shape)}")
                columns[name].append(array)
        except ServingError as error:
            raise invalid(f"Failed to process element: {number} of 'instances' list. Error: {error}") from error
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _from_inputs(inputs: Any, infos: TensorInfos) -> dict[str, np.ndarray]:
    if not _is_named(inputs):
        if len(infos) > 1:
            raise invalid(f"inputs is a plain value/list, but expecting an object with {','.join(sorted(infos))}")
        inputs = {next(iter(infos)): inputs}
    for name in infos:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _to_array(inputs[name], info) for name, info in infos.items()}


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _to_array(value: Any, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
    dtype = tf.as_dtype(info.dtype)
    if dtype == tf.string:
        array = np.array(_map_leaves(value, _to_bytes), dtype=object)
        ragged = any(isinstance(item, list) for item in array.flat)
        return _refuse_ragged() if ragged else array
    try:
        array = np.array(value)
    except ValueError:
        return _refuse_ragged()
    if array.size and array.dtype.kind not in _ACCEPTED_KINDS.get(dtype, ""):
        wrong = next(leaf for leaf in _leaves(value) if np.array(leaf).dtype.kind not in _ACCEPTED_KINDS.get(dtype, ""))
        raise _type_error(wrong, dtype)
    if dtype.is_integer and array.size and (array.min() < dtype.min or array.max() > dtype.max):
        raise invalid(f"JSON numbers from {array.min()} to {array.max()} do not fit into {type_name(dtype)}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype.as_numpy_dtype)
    if dtype.is_floating and np.any(np.isinf(converted) & np.isfinite(array)):
        raise invalid(f"Cannot convert JSON values to {type_name(dtype)} without loss of precision.")
    return converted


def _refuse_ragged() -> np.ndarray:
    raise invalid("Encountered list at unexpected size: lists at the same level must have the same length")


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, dict):
        raise _type_error(value, tf.string)
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _type_error(value: Any, dtype: tf.DType) -> ServingError:
    kind = _JSON_TYPES.get(type(value), "Null")
    return invalid(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: {type_name(dtype)}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."


def _check_batched(outputs: Mapping[str, np.ndarray]) -> None:
    sizes = set()
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information")
        if len(array) < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {len(array)}")
        sizes.add(len(array))
        if len(sizes) > 1:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)}")


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")
        return _map_leaves(array.tolist(), _bytes_to_json if as_bytes else _text_to_json)
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _ACCEPTED_KINDS:
        raise invalid(f"Failed to write JSON value for tensor type: {type_name(dtype)}")
    if dtype == tf.float32:
        # By way of text: the shortest digits that give the same float32, not the float64's own 17.
        array = array.astype("U32").astype(np.float64)
    return array.tolist()


def _bytes_to_json(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _text_to_json(value: bytes) -> str:
    return value.decode(errors="replace")


def _map_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    return [_map_leaves(item, function) for item in value] if isinstance(value, list) else function(value)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
