"""Read and check a ModelServerConfig, the list of models to serve."""

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.model_server.errors import invalid


def single_model(name: str, base_path: str) -> ModelServerConfig:
    """Make the configuration of one model with the default version policy."""
    config = ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    return config


def read_config(path: str) -> ModelServerConfig:
    """Parse a configuration file in protobuf text form; raises ServingError (INVALID_ARGUMENT) when that fails."""
    try:
        with tf.io.gfile.GFile(path) as file:
            return text_format.Parse(file.read(), ModelServerConfig())
    except (tf.errors.OpError, text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}': {error}") from error


def models_by_name(config: ModelServerConfig) -> dict[str, ModelConfig]:
    """Return the models of a configuration; raises ServingError (INVALID_ARGUMENT) when it cannot be served."""
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid("Only model_config_list is supported.")
    models: dict[str, ModelConfig] = {}
    for model in config.model_config_list.config:
        if not model.name:
            raise invalid("Every model in the config list needs a name.")
        if model.name in models:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        if model.model_platform != "tensorflow":
            raise invalid(f'Model {model.name} needs model_platform: "tensorflow", got "{model.model_platform}"')
        if "://" not in model.base_path and not model.base_path.startswith("/"):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        models[model.name] = model
    return models
