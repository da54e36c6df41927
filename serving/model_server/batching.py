"""Calls merged into batches while others are computed, as TensorFlow Serving does with `--enable_batching`."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from grpc import StatusCode

from serving.model_server.errors import ServingError

Arrays = Mapping[str, np.ndarray]
Run = Callable[[str, Arrays, Iterable[str], float | None], dict[str, np.ndarray]]
_Key = tuple[object, ...]


class Batcher:
    """Computes as many batches at a time as there are cores; what comes meanwhile goes into the next one.

    Those that wait are merged where they ask for the same outputs of the same signature with rows of the same shape.
    Rows must not influence each other, as for TensorFlow Serving's batching; where outputs have no row for each of
    the inputs', which fails there, calls are computed one by one.

    A call that comes alone waits for nobody. Where several came at the same time of late, a batch waits for half as
    many, since a row of a large batch costs less: while they are computed, their callers' others can come.
    """

    def __init__(self, run: Run, max_rows: int = 32, longest_wait_s: float = 0.005, threads: int | None = None) -> None:
        """Merge calls of a function.

        Args:
            run: computes outputs of a signature's name, inputs, names of outputs, and a timeout in seconds.
            max_rows: of a batch that is merged; a single call may have more.
            longest_wait_s: how long a batch waits for company at most.
            threads: how many batches are computed at a time; by default as many as there are cores.
        """
        self._run = run
        self._max_rows = max_rows
        self._longest_wait_s = longest_wait_s
        self._enough = threading.Condition()
        self._threads = threads or os.cpu_count() or 1
        self._computing = 0
        self._led = False
        """Whether one of those that wait leads: collects the next batch, of which it is the first."""
        self._waiting: list[_Call] = []
        self._wanted = 1

    def __call__(
        self, signature_name: str, inputs: Arrays, output_filter: Iterable[str] = (), timeout_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """Compute the outputs of one call; errors as those of the function, and DEADLINE_EXCEEDED after `timeout_s`."""
        call = _Call(signature_name, inputs, tuple(output_filter), timeout_s)
        with self._enough:
            self._waiting.append(call)
            if self._led and self._are_enough():
                self._enough.notify()
            self._appoint()
        if not call.leads and not call.turn.wait(timeout_s):
            with self._enough:
                if not call.leads and call.outputs is None and call.error is None:
                    if call in self._waiting:
                        self._waiting.remove(call)
                    raise ServingError(StatusCode.DEADLINE_EXCEEDED, "The call's time ended in the queue.")
        if call.leads:
            self._lead()
        if call.error is not None:
            raise call.error
        assert call.outputs is not None
        return call.outputs

    def _are_enough(self) -> bool:
        return len(self._waiting) >= self._wanted or sum(call.rows for call in self._waiting) >= self._max_rows

    def _appoint(self) -> "list[_Call]":
        """Let the call that waits longest lead, if none does and another batch may be computed; return it."""
        if self._led or self._computing == self._threads or not self._waiting:
            return []
        self._led = self._waiting[0].leads = True
        return self._waiting[:1]

    def _lead(self) -> None:
        """Compute the next batch, which begins with the call that leads, and hand on to whoever leads the one after."""
        with self._enough:
            self._enough.wait_for(self._are_enough, self._longest_wait_s)
            batch = self._next()
            self._led = False
            self._computing += 1
            following = self._appoint()
        for call in following:
            call.turn.set()
        try:
            self._compute(batch)
        finally:
            with self._enough:
                self._computing -= 1
                together = len(batch) + len(self._waiting)
                self._wanted = max(1, together // 2, self._wanted // 2)
                following = self._appoint()
            for call in [*batch[1:], *following]:
                call.turn.set()

    def _next(self) -> "list[_Call]":
        """Take the call that waits longest, and what can be merged with it."""
        batch: list[_Call] = []
        left: list[_Call] = []
        rows = 0
        for call in self._waiting:
            if not batch or (call.key == batch[0].key and call.rows and rows + call.rows <= self._max_rows):
                batch.append(call)
                rows += call.rows
            else:
                left.append(call)
        self._waiting = left
        return batch

    def _compute(self, batch: "Sequence[_Call]") -> None:
        first = batch[0]
        if len(batch) > 1:
            inputs = {name: np.concatenate([call.inputs[name] for call in batch]) for name in first.inputs}
            timeouts = [call.timeout_s for call in batch if call.timeout_s is not None]
            timeout_s = max(timeouts) if len(timeouts) == len(batch) else None
            try:
                outputs = self._run(first.signature_name, inputs, first.output_filter, timeout_s)
                _cut(outputs, batch)
                return
            except Exception:  # one call may be to blame: alone, each learns its own
                pass
        for call in batch:
            try:
                call.outputs = self._run(call.signature_name, call.inputs, call.output_filter, call.timeout_s)
            except Exception as error:  # raised where the call was made
                call.error = error


def _cut(outputs: Arrays, batch: "Sequence[_Call]") -> None:
    """Give each call its rows."""
    ends = np.cumsum([call.rows for call in batch])
    if any(array.shape[:1] != (ends[-1],) for array in outputs.values()):
        raise ValueError("the outputs have no row for each of the inputs'")
    for call, end in zip(batch, ends, strict=True):
        call.outputs = {name: array[end - call.rows : end] for name, array in outputs.items()}


class _Call:
    """A call that waits for a batch; `rows` is 0 where it cannot be merged."""

    def __init__(
        self, signature_name: str, inputs: Arrays, output_filter: tuple[str, ...], timeout_s: float | None
    ) -> None:
        self.signature_name = signature_name
        self.inputs = inputs
        self.output_filter = output_filter
        self.timeout_s = timeout_s
        self.turn = threading.Event()
        self.leads = False
        self.outputs: dict[str, np.ndarray] | None = None
        self.error: Exception | None = None
        counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        self.rows = counts.pop() if len(counts) == 1 else 0
        shapes = sorted((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items())
        self.key: _Key = (signature_name, output_filter, bool(self.rows), *shapes)
