"""TensorFlow Serving's batching parameters: its message, and whether a file of them fits the models of a store."""

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

MOST_PICTURES = 32
MOST_FILTERS = 64
"""The largest requests that the gateway makes at once (docs/api.md)."""

DEFAULT_MAX_BATCH_SIZE = 1000
"""TensorFlow Serving's own."""


def _message_class() -> Any:
    """Declare `session_bundle_config.proto`'s message, which the Python package of TensorFlow Serving leaves out."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="fovea/batching_parameters.proto", package="tensorflow.serving", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for name, number, wrapper in (
        ("max_batch_size", 1, "Int64Value"),
        ("batch_timeout_micros", 2, "Int64Value"),
        ("max_enqueued_batches", 3, "Int64Value"),
        ("num_batch_threads", 4, "Int64Value"),
        ("thread_pool_name", 5, "StringValue"),
        ("enable_large_batch_splitting", 8, "BoolValue"),
    ):
        message.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".google.protobuf.{wrapper}",
            label=field.LABEL_OPTIONAL,
        )
    message.field.add(name="allowed_batch_sizes", number=6, type=field.TYPE_INT64, label=field.LABEL_REPEATED)
    message.field.add(name="pad_variable_length_inputs", number=7, type=field.TYPE_BOOL, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))


BatchingParameters = _message_class()


def mistakes(text: str) -> Iterator[str]:
    """Say what would keep a model server from starting, or make it refuse requests of the contract.

    Args:
        text: the file given with `--batching_parameters_file`, in protobuf's text form.
    """
    try:
        parameters = text_format.Parse(text, BatchingParameters())
    except text_format.ParseError as error:
        yield f"it is no BatchingParameters in protobuf's text form: {error}"
        return
    for name in ("max_batch_size", "num_batch_threads", "max_enqueued_batches"):
        if parameters.HasField(name) and getattr(parameters, name).value < 1:
            yield f"{name} is {getattr(parameters, name).value}; it must be at least 1"
    if parameters.batch_timeout_micros.value < 0:
        yield f"batch_timeout_micros is {parameters.batch_timeout_micros.value}; it must be at least 0"
    largest = parameters.max_batch_size.value if parameters.HasField("max_batch_size") else DEFAULT_MAX_BATCH_SIZE
    sizes = list(parameters.allowed_batch_sizes)
    if sizes != sorted(set(sizes)):
        yield f"allowed_batch_sizes are {', '.join(map(str, sizes))}; they must rise"
    elif sizes and sizes[-1] != largest:
        yield f"allowed_batch_sizes end with {sizes[-1]}; the last one must be max_batch_size, {largest}"
    if 1 <= largest < max(MOST_PICTURES, MOST_FILTERS) and not parameters.enable_large_batch_splitting.value:
        yield (
            f"max_batch_size is {largest}, and larger requests are refused; the gateway asks for up to "
            f"{MOST_PICTURES} pictures and {MOST_FILTERS} filters at once, so it must be at least {MOST_FILTERS}"
        )
