"""Start a model server: the real one where there is one, else the embedded one; needs no TensorFlow to tell."""

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


def main() -> None:
    """Become the model server; flags are passed on as they are."""
    try:
        command = model_server_command()
    except FileNotFoundError as error:
        sys.exit(f"fovea-model-server: {error}")
    os.execvp(command[0], [*command, *sys.argv[1:]])


if __name__ == "__main__":
    main()
