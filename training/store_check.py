"""Find in a model store what would break a model server, before one meets it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.contract import signatures
from training import batching
from training.errors import reason
from training.store import CONFIG_FILE, Store

MOST_WARMUP_RECORDS = 1000

gfile = tf.io.gfile

_ERRORS = (OSError, tf.errors.OpError)
_MISSING = (FileNotFoundError, tf.errors.NotFoundError)

_SAVED_MODEL = "saved_model.pb"
_WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in one sentence."""

    where: str
    """A model, `MODEL version N`, or a file."""
    what: str
    breaks: bool = True
    """Whether a model server would not start, not load, or refuse requests; else it is a thing to tidy up."""

    @property
    def sentence(self) -> str:
        """Return place and fault."""
        return f"{self.where}: {self.what}"


def check_store(root: str, mounted_at: str | None = None, batching_file: str | None = None) -> list[Finding]:
    """Look at a whole store as the user that this process runs as; nothing is loaded and nothing is changed.

    Args:
        root: the store, a folder or an address that `tf.io.gfile` understands.
        mounted_at: the path under which the model server sees the store; the same by default.
        batching_file: a batching parameters file to check with it.

    Returns:
        What was found; empty if all is well.
    """
    store = Store(root)
    found = [*_Check(store, (mounted_at or store.root).rstrip("/")).findings()]
    if batching_file is not None:
        found += _check_batching(batching_file)
    return found


def _check_batching(path: str) -> Iterator[Finding]:
    try:
        text = _read(path).decode()
    except (*_ERRORS, UnicodeDecodeError) as error:
        yield Finding(path, f"it cannot be read: {reason(error)}")
        return
    for mistake in batching.mistakes(text):
        yield Finding(path, mistake)


class _Check:
    def __init__(self, store: Store, mount: str):
        self._store = store
        self._mount = mount

    def findings(self) -> Iterator[Finding]:
        root = self._store.root
        try:
            names = _children(root)
        except _ERRORS as error:
            missing = isinstance(error, _MISSING)
            yield Finding(root, "there is no such store" if missing else f"the store cannot be read: {reason(error)}")
            return
        try:
            config = text_format.Parse(_read(self._store.config_path), model_server_config_pb2.ModelServerConfig())
        except _MISSING:
            yield Finding(CONFIG_FILE, "it is missing, and a model server ends without it: publish a model")
            config = None
        except _ERRORS as error:
            yield Finding(CONFIG_FILE, f"it cannot be read: {reason(error)}")
            config = None
        except (text_format.ParseError, UnicodeDecodeError) as error:
            yield Finding(CONFIG_FILE, f"it is no ModelServerConfig in protobuf's text form: {error}")
            config = None
        entries = list(config.model_config_list.config) if config else []
        if config and not entries:
            yield Finding(CONFIG_FILE, "it names no model", breaks=False)
        for index, entry in enumerate(entries):
            if entry.name in {other.name for other in entries[:index]}:
                yield Finding(entry.name, f"{CONFIG_FILE} names it twice, and a model server refuses that")
            else:
                yield from self._check_model(entry)
        yield from self._leftovers(names, {entry.name for entry in entries} if config else None)

    def _check_model(self, entry: Any) -> Iterator[Finding]:
        name = entry.name
        if entry.model_platform != "tensorflow":
            yield Finding(name, f"model_platform is {entry.model_platform!r}; it must be 'tensorflow'")
        folder, why = self._folder(entry.base_path)
        if why:
            yield Finding(name, why)
        if folder is None:
            folder = f"{self._store.root}/{name}"
            if not gfile.isdir(folder):
                return
        try:
            children = _children(folder)
        except _MISSING:
            yield Finding(
                name,
                f"{CONFIG_FILE} names this model, but there is no folder {folder}; "
                "a model server then updates no model at all",
            )
            return
        except _ERRORS as error:
            yield Finding(name, f"{folder} cannot be read: {reason(error)}")
            return
        # As TensorFlow Serving reads them: any name that is an integer.
        present = {int(child): child for child in children if child.isascii() and child.isdigit()}
        if not present:
            yield Finding(name, f"{folder} holds no version; a model server waits for one")
        policy = entry.model_version_policy
        chosen = policy.WhichOneof("policy_choice")
        if chosen == "specific":
            served = set(policy.specific.versions)
        elif chosen == "all":
            served = set(present)
        else:
            served = set(sorted(present)[-max(policy.latest.num_versions, 1) :])
        for version in sorted(served - present.keys()):
            yield Finding(name, f"{CONFIG_FILE} lists version {version}, but there is no folder {folder}/{version}")
        for label, version in sorted(entry.version_labels.items()):
            if version not in present:
                yield Finding(name, f"the label {label} is on version {version}, which is not there")
            elif version not in served:
                yield Finding(name, f"the label {label} is on version {version}, which is not listed, so never loaded")
        for version, child in sorted(present.items()):
            yield from self._check_version(name, version, f"{folder}/{child}", version in served)
        newest = max(present, default=0)
        rejected = self._store.rejected(name)
        if (
            newest > max(served, default=0)
            and newest not in rejected
            and gfile.exists(f"{folder}/{newest}/{_SAVED_MODEL}")
        ):
            yield Finding(
                name,
                f"version {newest} is not listed, so not loaded; `fovea canary {name}` would list it",
                breaks=False,
            )

    def _folder(self, base_path: str) -> tuple[str | None, str | None]:
        """Return the folder of a base path as it is seen from here, and what is wrong with the path."""
        inside = base_path.rstrip("/").removeprefix(f"{self._mount}/")
        if inside and inside != base_path.rstrip("/"):
            return f"{self._store.root}/{inside}", None
        if not base_path.startswith("/") and "://" not in base_path:
            return None, f"base_path {base_path!r} is not absolute; a model server refuses it"
        return None, (
            f"base_path {base_path!r} does not lie in this store, {self._mount}; if the model server sees the store "
            "under another path, check with --mounted-at PATH, or mount it in the same place"
        )

    def _check_version(self, model: str, version: int, folder: str, served: bool) -> Iterator[Finding]:
        where = f"{model} version {version}"
        for what, harmless in self._faults(folder):
            yield Finding(
                where, what if served else f"{what} (it is not listed, so not loaded)", served and not harmless
            )

    def _faults(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yield (what is wrong with a SavedModel, whether it would be served all the same)."""
        try:
            children = _children(folder)
            if _SAVED_MODEL not in children:
                yield f"{folder} is no version: it has no {_SAVED_MODEL}", False
                return
            model = saved_model_pb2.SavedModel.FromString(_read(f"{folder}/{_SAVED_MODEL}"))
        except DecodeError:
            yield f"{_SAVED_MODEL} is no SavedModel, or only a part of one", False
            return
        except _ERRORS as error:
            yield f"{folder} cannot be read: {reason(error)}", False
            return
        graphs = [graph for graph in model.meta_graphs if tf.saved_model.SERVING in graph.meta_info_def.tags]
        if not graphs:
            yield f"{_SAVED_MODEL} has no graph with the tag '{tf.saved_model.SERVING}'", False
            return
        (graph, *_) = graphs
        if graph.saver_def.filename_tensor_name:
            try:
                if "variables.index" not in _children(f"{folder}/variables"):
                    yield "its variables are missing: there is no variables/variables.index", False
            except _ERRORS as error:
                yield f"its variables are missing or cannot be read: variables: {reason(error)}", False
        for signature in (signatures.PREDICT, signatures.MODEL_CARD):
            if signature not in graph.signature_def:
                yield f"it has no signature {signature}, so the gateway cannot serve it", True
        for mistake in _warmup_mistakes(f"{folder}/{_WARMUP_FILE}", graph.signature_def):
            yield mistake, False

    def _leftovers(self, names: list[str], configured: set[str] | None) -> Iterator[Finding]:
        root = self._store.root
        for name in sorted(names):
            path = f"{root}/{name}"
            if name == ".staging":
                try:
                    staged = _children(path)
                except _ERRORS as error:
                    yield Finding(name, f"it cannot be read: {reason(error)}", breaks=False)
                    continue
                for folder in staged:
                    yield Finding(
                        f"{name}/{folder}",
                        "an export under way, or the rest of a killed one, which the next export removes after a day",
                        breaks=False,
                    )
            elif _TEMPORARY.fullmatch(name):
                yield Finding(name, "the rest of a file that was being replaced; it may be removed", breaks=False)
            elif not name.startswith(".") and configured is not None and name not in configured and gfile.isdir(path):
                if name.isdigit():
                    what = "an integer for a name, but it is no version of any model: versions lie in STORE/MODEL/"
                    yield Finding(name, what, breaks=False)
                elif any(child.isdigit() for child in _children_or_none(path)):
                    yield Finding(name, f"it has versions, but {CONFIG_FILE} does not name it", breaks=False)


def _warmup_mistakes(path: str, known: Any) -> Iterator[str]:
    """Say what is wrong with the warm-up records; one that fails keeps a version from being loaded."""
    count = 0
    try:
        if os.path.basename(path) not in _children(os.path.dirname(path)):
            return
        for count, record in enumerate(tf.compat.v1.io.tf_record_iterator(path), start=1):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") == "predict_log":
                fault = _request_fault(log.predict_log.request, known)
                if fault:
                    yield f"warm-up record {count} would fail the load: {fault}"
            elif log.WhichOneof("log_type") is None:
                yield f"warm-up record {count} holds no request"
    except _MISSING:
        return
    except DecodeError:
        yield f"warm-up record {count} is no PredictionLog"
    except _ERRORS as error:
        yield f"the warm-up file is damaged or cannot be read after {count} records: {reason(error)}"
    if count > MOST_WARMUP_RECORDS:
        yield f"there are {count} warm-up records; at most {MOST_WARMUP_RECORDS} are allowed"


def _request_fault(request: predict_pb2.PredictRequest, known: Any) -> str | None:
    name = request.model_spec.signature_name or signatures.PREDICT
    if name not in known:
        return f"there is no signature {name}"
    inputs = known[name].inputs
    if set(request.inputs) != set(inputs):
        return f"{name} takes {', '.join(sorted(inputs))}, not {', '.join(sorted(request.inputs)) or 'nothing'}"
    for key, tensor in request.inputs.items():
        dtype = tf.dtypes.as_dtype(inputs[key].dtype)
        if tensor.dtype != inputs[key].dtype:
            return f"{name} takes {key} as {dtype.name}, not {tf.dtypes.as_dtype(tensor.dtype).name}"
        shape, given = tf.TensorShape(inputs[key].tensor_shape), tf.TensorShape(tensor.tensor_shape)
        if not shape.is_compatible_with(given):
            return f"{name} takes {key} of shape {shape}, not {given}"
    return None


def _children(folder: str) -> list[str]:
    """List a folder; `gfile.listdir` calls a folder that may not be read one that is not there."""
    return [name.rstrip("/") for name in (gfile.listdir(folder) if "://" in folder else os.listdir(folder))]


def _children_or_none(folder: str) -> list[str]:
    try:
        return _children(folder)
    except _ERRORS:
        return []


def _read(path: str) -> bytes:
    with gfile.GFile(path, "rb") as file:
        return file.read()
