"""What libFuzzer calls: a request made of bytes, answered by the gateway's application in this process.

Run by `benchmarks.fuzz_guided`, with the folder of a model and libFuzzer's flags as arguments.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import atheris

# First of all, so that the branches of these packages are seen, and with them every format of Pillow's.
with atheris.instrument_imports(include=["serving", "werkzeug", "flask", "PIL"]):
    from PIL import Image
    from werkzeug.test import run_wsgi_app

    from serving.http.app import create_app
    from serving.offline import open_model
    from serving.settings import Settings

    Image.init()

from benchmarks import fuzz_bytes


class Errors(logging.Handler):
    """What the application logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line."""
        self.found.append(self.format(record))


def caller(folder: Path, picture: bytes) -> Callable[[bytes], None]:
    """Return a function that has a request answered, and raises where answer or log say that the gateway failed.

    Args:
        folder: of the model.
        picture: one that is answered.
    """
    vision, ref = open_model(folder)
    application = create_app(vision, Settings(models=[ref.name]), Event())
    errors = Errors()
    logging.getLogger().addHandler(errors)

    def call(data: bytes) -> None:
        if not data:
            return
        body, status, _ = run_wsgi_app(
            application, fuzz_bytes.request(data, ref.name, picture).get_environ(), buffered=True
        )
        if status.startswith("5") or errors.found:
            raise RuntimeError(f"{status}: {b''.join(body)!r} {errors.found}")

    return call


def main() -> None:
    """Have libFuzzer make requests."""
    model, picture, *flags = sys.argv[1:]
    atheris.Setup([sys.argv[0], *flags], caller(Path(model), Path(picture).read_bytes()))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
