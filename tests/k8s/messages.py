"""TensorFlow Serving's configuration messages that its Python package leaves out, declared again by name and number."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Field = descriptor_pb2.FieldDescriptorProto
_WRAPPERS = "." + wrappers_pb2.DESCRIPTOR.package
_INT64 = (Field.TYPE_MESSAGE, f"{_WRAPPERS}.Int64Value")
_BOOL = (Field.TYPE_MESSAGE, f"{_WRAPPERS}.BoolValue")
_STRING = (Field.TYPE_MESSAGE, f"{_WRAPPERS}.StringValue")


def _message(file: descriptor_pb2.FileDescriptorProto, name: str, fields: list[tuple[str, int, int, str]]) -> None:
    message = file.message_type.add(name=name)
    for field, number, kind, type_name in fields:
        repeated = field == "allowed_batch_sizes"
        message.field.add(
            name=field,
            number=number,
            type=kind,  # type: ignore[arg-type]
            type_name=type_name or None,
            label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
        )


def _declare() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/k8s/serving.proto", package="tensorflow.serving", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    _message(
        file,
        "BatchingParameters",
        [
            ("max_batch_size", 1, *_INT64),
            ("batch_timeout_micros", 2, *_INT64),
            ("max_enqueued_batches", 3, *_INT64),
            ("num_batch_threads", 4, *_INT64),
            ("thread_pool_name", 5, *_STRING),
            ("allowed_batch_sizes", 6, Field.TYPE_INT64, ""),
            ("pad_variable_length_inputs", 7, Field.TYPE_BOOL, ""),
            ("enable_large_batch_splitting", 8, *_BOOL),
        ],
    )
    # tensorflow_serving/config/monitoring_config.proto
    _message(file, "PrometheusConfig", [("enable", 1, Field.TYPE_BOOL, ""), ("path", 2, Field.TYPE_STRING, "")])
    _message(
        file,
        "MonitoringConfig",
        [("prometheus_config", 1, Field.TYPE_MESSAGE, ".tensorflow.serving.PrometheusConfig")],
    )
    pool.Add(file)
    return pool


_POOL = _declare()
BatchingParameters = message_factory.GetMessageClass(
    _POOL.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
)
MonitoringConfig = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("tensorflow.serving.MonitoringConfig"))
