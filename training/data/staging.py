"""Folders that are there complete or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import FoveaError


def check_new(target: Path) -> None:
    """See to it that a folder is missing or empty.

    Raises:
        FoveaError: there is something in it, or it is a file.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FoveaError(f"{target} is not an empty folder; pictures are written into a new or an empty one")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill, on the file system of `target`; it becomes `target` when the block ends well.

    When the block raises, nothing stays. A process that is killed leaves a hidden folder beside `target`.

    Raises:
        FoveaError: `target` is not empty, at the beginning or at the end.
    """
    check_new(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    try:
        yield staging
        check_new(target)
        # Takes the place of an empty folder, and fails on one that was filled meanwhile.
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
