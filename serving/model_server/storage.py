"""Which versions of a model lie in the store, and which of them its version policy asks for."""

import re

import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.model_server.errors import ServingError


def aspired_versions(config: ModelConfig) -> dict[int, str]:
    """Return version number to folder for every version that should be served.

    A child of `base_path` is a version when its whole name is an integer. Raises ServingError (NOT_FOUND) when
    `base_path` does not exist: a vanished path must not look like a model whose versions were all removed.
    """
    base_path = config.base_path.rstrip("/") or "/"
    if not tf.io.gfile.isdir(base_path):
        raise ServingError(
            StatusCode.NOT_FOUND, f"Could not find base path {config.base_path} for servable {config.name}"
        )
    # Listings of buckets end folder names with a slash.
    children = (child.rstrip("/") for child in tf.io.gfile.listdir(base_path))
    found = {int(child): tf.io.gfile.join(base_path, child) for child in children if re.fullmatch("[0-9]{1,18}", child)}
    policy = config.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return found
        case "specific":
            return {number: found[number] for number in policy.specific.versions if number in found}
        case _:
            count = policy.latest.num_versions or 1
            return dict(sorted(found.items(), reverse=True)[:count])
