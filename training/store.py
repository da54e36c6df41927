"""The model store: versions of models in folders, and which of them are served under which label."""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from training.errors import FoveaError, reason

STABLE = "stable"
CANARY = "canary"
CONFIG_FILE = "models.config"
HISTORY_FILE = "labels.jsonl"
_STAGING = ".staging"
_STAGING_LIFETIME_S = 24 * 3600

gfile = tf.io.gfile


@dataclass(frozen=True)
class LabelMove:
    """One line of the store's history: a label went from one version to another."""

    model: str
    label: str
    before: int | None
    after: int | None
    """None where the label was removed."""
    at: str
    """RFC 3339, UTC."""
    undoes: bool = False
    """Whether the move was a rollback."""


class Store:
    """`<root>/<model>/<version>/`, `models.config` for TensorFlow Serving, and the history of the labels.

    The configuration names the versions to serve one by one (TensorFlow Serving's policy `specific`): those
    with a label, the newest unless it was given up as a canary, and the one that a rollback would return to. A
    folder that is not named there is never loaded, so a copy that breaks off half-way does no harm, not even on
    a bucket, where renaming a folder is no single step.
    """

    def __init__(self, root: str | Path):
        """Open a store; it is made when something is published.

        Args:
            root: a folder, or a bucket's address that `tf.io.gfile` understands.
        """
        text = str(root)
        self._is_local = "://" not in text
        self.root = os.path.abspath(text) if self._is_local else text.rstrip("/")

    @property
    def config_path(self) -> str:
        """Where `models.config` lies."""
        return self._path(CONFIG_FILE)

    def models(self) -> list[str]:
        """Name the models that have a published version."""
        if not gfile.isdir(self.root):
            return []
        names = (name.rstrip("/") for name in gfile.listdir(self.root))
        return sorted(name for name in names if not name.startswith(".") and self.versions(name))

    def versions(self, model: str) -> list[int]:
        """Return the published versions of a model, oldest first."""
        folder = self._path(model)
        if not gfile.isdir(folder):
            return []
        return sorted(int(name.rstrip("/")) for name in gfile.listdir(folder) if name.rstrip("/").isdigit())

    def labels(self, model: str) -> dict[str, int]:
        """Return the versions behind the labels of a model."""
        return {
            label: int(version) for label, version in self._entry(self._read_config(), model).version_labels.items()
        }

    @contextmanager
    def staging(self, model: str) -> Iterator[str]:
        """Give a folder to export into, on the store's file system and out of the model server's sight.

        It is removed at the end, unless `publish` has moved it. Folders that a killed export left are removed
        after a day.
        """
        check_name(model)
        self._remove_old_staging()
        folder = self._path(_STAGING, f"{model}-{uuid.uuid4().hex}")
        try:
            gfile.makedirs(folder)
        except (OSError, tf.errors.OpError) as error:
            raise FoveaError(f"the store {self.root} is not writable: {reason(error)}") from error
        try:
            if self._is_local:
                self._check_renames(folder)
            yield folder
        finally:
            if gfile.exists(folder):
                gfile.rmtree(folder)

    def publish(self, staged: str, model: str) -> int:
        """Move a checked SavedModel into place as the newest version, and list it in `models.config`.

        The first version of a model becomes its `stable` one.

        Returns:
            The new version.
        """
        check_name(model)
        with self._lock():
            gfile.makedirs(self._path(model))
            version = max(self.versions(model), default=0) + 1
            self._move_folder(staged, self._path(model, str(version)))
            config = self._read_config()
            if STABLE not in self._entry(config, model).version_labels:
                self._move(config, model, STABLE, version)
            self._write_config(config, model)
            return version

    def candidate(self, model: str) -> int:
        """Return the version that a promotion would take: the canary, else the newest."""
        self._check_version(model, None)
        return self.labels(model).get(CANARY) or self.versions(model)[-1]

    def list_version(self, model: str, version: int) -> bool:
        """List a published version in `models.config`, so that the model server loads it.

        A label can move to it only after that: TensorFlow Serving checks labels before it loads versions, and
        would refuse the whole configuration, again and again.

        Returns:
            Whether it was listed already.

        Raises:
            FoveaError: no such model or version.
        """
        with self._lock():
            self._check_version(model, version)
            config = self._read_config()
            listed = self._entry(config, model).model_version_policy.specific.versions
            if version in listed:
                return True
            listed[:] = sorted({*listed, version})
            self._write_text(CONFIG_FILE, text_format.MessageToString(config))
            return False

    def set_label(self, model: str, label: str, version: int) -> None:
        """Put a label on a listed version.

        Raises:
            FoveaError: no such model or version, or one that is not listed (see `list_version`).
        """
        with self._lock():
            self._check_listed(model, version)
            config = self._read_config()
            self._move(config, model, label, version)
            self._write_config(config, model)

    def promote(self, model: str, version: int | None = None) -> int:
        """Make a listed version stable: the given one, else `candidate`.

        Returns:
            The version.

        Raises:
            FoveaError: as `set_label`.
        """
        labels = self.labels(model)
        if version is None:
            version = self.candidate(model)
        with self._lock():
            self._check_listed(model, version)
            config = self._read_config()
            self._move(config, model, STABLE, version)
            if labels.get(CANARY) == version:
                del self._entry(config, model).version_labels[CANARY]
            self._write_config(config, model)
        return version

    def rollback_target(self, model: str) -> int | None:
        """Return the version to which a rollback would return, which is listed all the while; None if there is none."""
        undone: list[int] = []
        for move in self.history():
            if move.model == model and move.label == STABLE and move.before is not None:
                undone = undone[:-1] if move.undoes else [*undone, move.before]
        return undone[-1] if undone else None

    def rollback(self, model: str) -> int:
        """Return `stable` to the version before the last promotion that was not undone yet.

        Returns:
            The version that is stable again.

        Raises:
            FoveaError: there is none.
        """
        with self._lock():
            self._check_version(model, None)
            version = self.rollback_target(model)
            if version is None:
                raise FoveaError(f"model {model!r} has no earlier stable version to return to")
            config = self._read_config()
            self._move(config, model, STABLE, version, undoes=True)
            self._write_config(config, model)
            return version

    def drop_canary(self, model: str, version: int) -> None:
        """Take the label `canary` off a version; where it is the newest one, it is no longer listed either.

        Raises:
            FoveaError: the version is not the canary.
        """
        with self._lock():
            self._check_version(model, version)
            config = self._read_config()
            labels = self._entry(config, model).version_labels
            if labels.get(CANARY) != version:
                raise FoveaError(f"version {version} of {model!r} is not the canary")
            del labels[CANARY]
            self._record(model, CANARY, version, None)
            self._write_config(config, model)

    def rejected(self, model: str) -> dict[int, LabelMove]:
        """Return the versions that were given up as canaries or rolled back, and got no label since, with the move."""
        rejected: dict[int, LabelMove] = {}
        for move in self.history():
            if move.model == model:
                if move.after is not None:
                    rejected.pop(move.after, None)
                if move.before is not None and (move.after is None or move.undoes):
                    rejected[move.before] = move
        return rejected

    def history(self) -> list[LabelMove]:
        """Return every move of a label, oldest first."""
        path = self._path(HISTORY_FILE)
        if not gfile.exists(path):
            return []
        with gfile.GFile(path) as lines:
            return [LabelMove(**json.loads(line)) for line in lines]

    def _move(
        self,
        config: model_server_config_pb2.ModelServerConfig,
        model: str,
        label: str,
        version: int,
        undoes: bool = False,
    ) -> None:
        labels = self._entry(config, model).version_labels
        before = int(labels[label]) if label in labels else None
        if before == version:
            return
        labels[label] = version
        self._record(model, label, before, version, undoes)

    def _record(self, model: str, label: str, before: int | None, after: int | None, undoes: bool = False) -> None:
        move = LabelMove(model, label, before, after, datetime.now(UTC).isoformat(timespec="seconds"), undoes)
        # A bucket has no append; the history is short.
        self._write_text(HISTORY_FILE, "".join(json.dumps(vars(line)) + "\n" for line in [*self.history(), move]))

    def _entry(
        self, config: model_server_config_pb2.ModelServerConfig, model: str
    ) -> model_server_config_pb2.ModelConfig:
        """Return a model's part of the configuration, made if it is missing."""
        for entry in config.model_config_list.config:
            if entry.name == model:
                return entry
        return config.model_config_list.config.add(name=model, base_path=self._path(model), model_platform="tensorflow")

    def _read_config(self) -> model_server_config_pb2.ModelServerConfig:
        config = model_server_config_pb2.ModelServerConfig()
        if gfile.exists(self.config_path):
            with gfile.GFile(self.config_path) as file:
                text_format.Parse(file.read(), config)
        return config

    def _write_config(self, config: model_server_config_pb2.ModelServerConfig, model: str) -> None:
        entry = self._entry(config, model)
        served = set(entry.version_labels.values())
        newest = self.versions(model)[-1]
        rejection = self.rejected(model).get(newest)
        # A path without a label answers with the newest loaded version, which must not be a canary that was given up.
        if rejection is None or rejection.after is not None:
            served.add(newest)
        if (target := self.rollback_target(model)) is not None:
            served.add(target)
        entry.model_version_policy.specific.versions[:] = sorted(served)
        self._write_text(CONFIG_FILE, text_format.MessageToString(config))

    def _write_text(self, name: str, text: str) -> None:
        """Replace a file in one step."""
        temporary = self._path(f".{name}.{uuid.uuid4().hex}")
        with gfile.GFile(temporary, "w") as file:
            file.write(text)
        gfile.rename(temporary, self._path(name), overwrite=True)

    def _move_folder(self, source: str, target: str) -> None:
        """Rename on a file system; copy file by file on a bucket, which has no folders to rename."""
        if self._is_local:
            os.rename(source, target)
            return
        for folder, _, files in gfile.walk(source):
            copy = target + folder.rstrip("/").removeprefix(source)
            gfile.makedirs(copy)
            for name in files:
                gfile.copy(f"{folder.rstrip('/')}/{name}", f"{copy}/{name}")
        gfile.rmtree(source)

    def _check_renames(self, folder: str) -> None:
        """Refuse a file system without the rename that publishing ends with, before hours of training are spent."""
        os.makedirs(f"{folder}/written/variables")
        with open(f"{folder}/written/variables/file", "w"):
            pass
        try:
            os.rename(f"{folder}/written", f"{folder}/renamed")
        except OSError as error:
            raise FoveaError(
                f"the store {self.root} is on a file system that does not rename folders, such as a mounted bucket "
                f"({reason(error)}): publish into a store on a disk, and copy that; see docs/store.md"
            ) from error
        gfile.rmtree(f"{folder}/renamed")

    def _check_version(self, model: str, version: int | None) -> None:
        versions = self.versions(model)
        if not versions:
            raise FoveaError(
                f"the store {self.root} has no model {model!r}; it has: {', '.join(self.models()) or 'none'}"
            )
        if version is not None and version not in versions:
            raise FoveaError(f"model {model!r} has no version {version}; it has {', '.join(map(str, versions))}")

    def _check_listed(self, model: str, version: int) -> None:
        self._check_version(model, version)
        if version not in self._entry(self._read_config(), model).model_version_policy.specific.versions:
            raise FoveaError(f"version {version} of {model!r} is not listed for serving; list it and let it load first")

    def _remove_old_staging(self) -> None:
        folder = self._path(_STAGING)
        for name in gfile.listdir(folder) if gfile.isdir(folder) else []:
            path = f"{folder}/{name.rstrip('/')}"
            if gfile.stat(path).mtime_nsec / 1e9 < time.time() - _STAGING_LIFETIME_S:
                gfile.rmtree(path)

    def _lock(self) -> AbstractContextManager[None]:
        """Keep two publishers on one file system apart; a bucket has no locks, publish there from one place."""
        return _file_lock(self._path(".lock")) if self._is_local else nullcontext()

    def _path(self, *parts: str) -> str:
        return "/".join([self.root, *parts])


def check_name(model: str) -> None:
    """Refuse names that cannot be a folder, a part of an address and a metric label.

    Raises:
        FoveaError: letters, digits, `_` and `-` only, a letter first, at most 64.
    """
    if not (
        model.isascii()
        and model.replace("_", "").replace("-", "").isalnum()
        and model[0].isalpha()
        and len(model) <= 64
    ):
        raise FoveaError(f"{model!r} is no model name: use letters, digits, _ and -, a letter first, at most 64")


@contextmanager
def _file_lock(path: str) -> Iterator[None]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
