"""The files of a run's folder that several modules know, and how they are written: whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG_FILE = "config.json"
"""The resolved options, class names and the fingerprint of the pictures."""

PUBLISHED_FILE = "published.json"
"""Where a run was published: store and version."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a hidden path beside `path` to write to; it becomes `path` in one rename when the block ends well."""
    unfinished = path.with_name(f".{path.name}")
    yield unfinished
    unfinished.replace(path)
