"""Calls that come while others are computed are merged, each gets its own rows, and one that fails harms no other."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from grpc import StatusCode

from serving.model_server.batching import Arrays, Batcher
from serving.model_server.errors import ServingError

TIMEOUT_S = 10


class Gate:
    """A function that doubles its input, is slow until it is let go, and refuses negative values."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(
        self, signature_name: str, inputs: Arrays, output_filter: object, timeout_s: float | None
    ) -> dict[str, np.ndarray]:
        self.batches.append(inputs["x"][:, 0].tolist())
        self.begun.set()
        assert self.open.wait(TIMEOUT_S)
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        if signature_name == "sum":
            return {"y": 2 * inputs["x"].sum(axis=0, keepdims=True)}
        return {"y": 2 * inputs["x"]}


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


Ask = Callable[..., Future[dict[str, np.ndarray]]]


@pytest.fixture
def ask(gate: Gate) -> Iterator[Ask]:
    """Make calls in threads, one after another, once the first is being computed."""
    batcher = Batcher(gate, max_rows=4, threads=1)
    with ThreadPoolExecutor(16) as threads:

        def ask(*values: int, width: int = 1, name: str = "s", timeout_s: float = TIMEOUT_S) -> Future:
            inputs = {"x": np.tile(np.array(values)[:, None], width)}
            asked = threads.submit(batcher, name, inputs, (), timeout_s)
            if not gate.begun.wait(TIMEOUT_S):
                raise TimeoutError
            asked_before.append(asked)
            # The first is being computed; whoever comes now waits, in the order in which they ask.
            while len(batcher._merged._waiting) < len(asked_before) - 1 and not asked.done():
                time.sleep(0.001)
            return asked

        asked_before: list[Future] = []
        yield ask
        gate.open.set()


def _values(*calls: Future) -> list[list[int]]:
    return [call.result(TIMEOUT_S)["y"][:, 0].tolist() for call in calls]


def test_what_waits_is_merged_and_cut_apart(gate: Gate, ask: Ask) -> None:
    calls = [ask(1), ask(2), ask(3, 4), ask(5)]
    gate.open.set()
    assert _values(*calls) == [[2], [4], [6, 8], [10]]
    assert gate.batches == [[1], [2, 3, 4, 5]]


def test_a_batch_has_no_more_rows_than_allowed_but_a_single_call_may(gate: Gate, ask: Ask) -> None:
    calls = [ask(1), ask(2, 3, 4), ask(5, 6), ask(1, 2, 3, 4, 5)]
    gate.open.set()
    assert _values(*calls) == [[2], [4, 6, 8], [10, 12], [2, 4, 6, 8, 10]]
    assert gate.batches == [[1], [2, 3, 4], [5, 6], [1, 2, 3, 4, 5]]


def test_only_rows_of_one_shape_for_one_signature_are_merged(gate: Gate, ask: Ask) -> None:
    calls = [ask(1), ask(2), ask(3, width=2), ask(4, name="other"), ask(5)]
    gate.open.set()
    assert _values(*calls) == [[2], [4], [6], [8], [10]]
    assert gate.batches == [[1], [2, 5], [3], [4]]


def test_a_call_that_fails_harms_none_that_it_was_merged_with(gate: Gate, ask: Ask) -> None:
    calls = [ask(1), ask(2), ask(-3), ask(4)]
    gate.open.set()
    assert _values(calls[0], calls[1], calls[3]) == [[2], [4], [8]]
    with pytest.raises(ValueError, match="negative"):
        calls[2].result(TIMEOUT_S)


def test_calls_whose_outputs_cannot_be_cut_are_computed_alone(gate: Gate, ask: Ask) -> None:
    calls = [ask(value, name="sum") for value in (1, 2, 3)]
    gate.open.set()
    assert _values(*calls) == [[2], [4], [6]]
    assert gate.batches == [[1], [2, 3], [2], [3]]


def test_a_call_whose_time_ends_in_the_queue_is_not_computed(gate: Gate, ask: Ask) -> None:
    first, late = ask(1), ask(2, timeout_s=0.05)
    with pytest.raises(ServingError) as caught:
        late.result(TIMEOUT_S)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    gate.open.set()
    assert _values(first) == [[2]]
    assert gate.batches == [[1]]
