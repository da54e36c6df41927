"""Calls merged into batches while others are computed, as TensorFlow Serving does with `--enable_batching`."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from grpc import StatusCode

from serving.merging import Merger
from serving.model_server.errors import ServingError

Arrays = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]
Run = Callable[[str, Arrays, Iterable[str], float | None], Outputs]


class Batcher:
    """Computes as many batches at a time as there are cores; what comes meanwhile goes into the next one.

    Those that wait are merged where they ask for the same outputs of the same signature with rows of the same shape.
    Rows must not influence each other, as for TensorFlow Serving's batching; where outputs have no row for each of
    the inputs', which fails there, calls are computed one by one.
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
        at_a_time = threads or os.cpu_count() or 1
        self._merged = Merger(self._compute, at_a_time, max_rows, longest_wait_s, alone_after=(Exception,))

    def __call__(
        self, signature_name: str, inputs: Arrays, output_filter: Iterable[str] = (), timeout_s: float | None = None
    ) -> Outputs:
        """Compute the outputs of one call; errors as those of the function, and DEADLINE_EXCEEDED after `timeout_s`."""
        call = _Call(signature_name, inputs, tuple(output_filter), timeout_s)
        shapes = sorted((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items())
        try:
            return self._merged(call, (signature_name, call.output_filter, *shapes), call.rows, timeout_s)
        except TimeoutError:
            raise ServingError(StatusCode.DEADLINE_EXCEEDED, "The call's time ended in the queue.") from None

    def _compute(self, batch: "Sequence[_Call]") -> Sequence[Outputs]:
        first = batch[0]
        if len(batch) == 1:
            return [self._run(*first)]
        inputs = {name: np.concatenate([call.inputs[name] for call in batch]) for name in first.inputs}
        timeouts = [call.timeout_s for call in batch if call.timeout_s is not None]
        timeout_s = max(timeouts) if len(timeouts) == len(batch) else None
        return _cut(self._run(first.signature_name, inputs, first.output_filter, timeout_s), batch)


def _cut(outputs: Arrays, batch: "Sequence[_Call]") -> list[Outputs]:
    """Give each call its rows."""
    ends = np.cumsum([call.rows for call in batch])
    if any(array.shape[:1] != (ends[-1],) for array in outputs.values()):
        raise ValueError("the outputs have no row for each of the inputs'")
    return [
        {name: array[end - call.rows : end] for name, array in outputs.items()}
        for call, end in zip(batch, ends, strict=True)
    ]


class _Call(NamedTuple):
    """A call, as it is passed on."""

    signature_name: str
    inputs: Arrays
    output_filter: tuple[str, ...]
    timeout_s: float | None

    @property
    def rows(self) -> int:
        """Number of rows that all inputs have; 0: they have no such."""
        counts = {array.shape[0] if array.ndim else 0 for array in self.inputs.values()}
        return counts.pop() if len(counts) == 1 else 0
