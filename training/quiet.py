"""TensorFlow without its chatter on a terminal."""

import logging
import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow so that only errors are shown.

    Its C++ parts write to the standard error file before they have read the environment, so that file is
    put aside during the import.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
