"""TensorFlow Serving's monitoring configuration, which its Python package leaves out, declared again."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto


def _declare() -> descriptor_pool.DescriptorPool:
    """Declare the messages of tensorflow_serving/config/monitoring_config.proto."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/k8s/serving.proto", package="tensorflow.serving", syntax="proto3"
    )
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=Field.TYPE_BOOL, label=Field.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    file.message_type.add(name="MonitoringConfig").field.add(
        name="prometheus_config",
        number=1,
        type=Field.TYPE_MESSAGE,
        type_name=".tensorflow.serving.PrometheusConfig",
        label=Field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


MonitoringConfig = message_factory.GetMessageClass(
    _declare().FindMessageTypeByName("tensorflow.serving.MonitoringConfig")
)
