"""Which model server to start; needs no TensorFlow to tell."""

import os
import shutil
import sys


def model_server_command() -> list[str]:
    """Return the command that starts a model server, to which flags are added.

    What `FOVEA_MODEL_SERVER` names, else a `tensorflow_model_server` on PATH, else the embedded one. Raises
    FileNotFoundError when the variable names nothing that can be run.
    """
    if named := os.environ.get("FOVEA_MODEL_SERVER"):
        if shutil.which(named) is None:
            raise FileNotFoundError(f"FOVEA_MODEL_SERVER names {named!r}, which is not an executable file.")
        return [named]
    if found := shutil.which("tensorflow_model_server"):
        return [found]
    return [sys.executable, "-m", "serving.model_server"]
