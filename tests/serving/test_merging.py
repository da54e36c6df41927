"""What comes while others are worked on waits, is merged where it fits, and each gets its own answer."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from serving.merging import Merger

TIMEOUT_S = 10


class Gate:
    """Work that doubles numbers, is slow until it is let go, and has an error for negative ones."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        assert self.open.wait(TIMEOUT_S)
        if 0 in numbers:
            raise ZeroDivisionError
        return [2 * number if number > 0 else ValueError("negative") for number in numbers]


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


Ask = Callable[..., Future[int]]


@pytest.fixture
def ask(gate: Gate) -> Iterator[Ask]:
    """Ask in threads, one after another, once the first is worked on."""
    merger = Merger(gate, at_a_time=1, max_rows=4)
    with ThreadPoolExecutor(16) as threads:

        def ask(number: int, key: str = "k", rows: int = 1, timeout_s: float = TIMEOUT_S) -> Future[int]:
            waiting = len(merger._waiting)
            begun = bool(gate.batches)
            asked = threads.submit(merger, number, key, rows, timeout_s)
            # The first is worked on; whoever comes now waits, in the order in which they ask.
            while not gate.batches or (begun and len(merger._waiting) == waiting and not asked.done()):
                time.sleep(0.001)
            return asked

        yield ask
        gate.open.set()


def test_what_waits_is_merged_in_the_order_of_arrival(gate: Gate, ask: Ask) -> None:
    asked = [ask(number) for number in (1, 2, 3, 4)]
    gate.open.set()
    assert [future.result(TIMEOUT_S) for future in asked] == [2, 4, 6, 8]
    assert gate.batches == [[1], [2, 3, 4]]


def test_only_those_of_one_key_are_merged_and_those_without_rows_never(gate: Gate, ask: Ask) -> None:
    asked = [ask(1), ask(2), ask(3, key="other"), ask(4, rows=0), ask(5, rows=0), ask(6)]
    gate.open.set()
    assert [future.result(TIMEOUT_S) for future in asked] == [2, 4, 6, 8, 10, 12]
    assert gate.batches == [[1], [2, 6], [3], [4], [5]]


def test_a_batch_has_no_more_rows_than_allowed_but_one_alone_may(gate: Gate, ask: Ask) -> None:
    asked = [ask(1), ask(2, rows=3), ask(3, rows=2), ask(4, rows=5), ask(5)]
    gate.open.set()
    assert [future.result(TIMEOUT_S) for future in asked] == [2, 4, 6, 8, 10]
    assert gate.batches == [[1], [2, 5], [3], [4]]


def test_each_gets_its_own_error_and_all_get_that_of_the_work(gate: Gate, ask: Ask) -> None:
    asked = [ask(1), ask(2), ask(-3), ask(0, key="fails"), ask(4, key="fails")]
    gate.open.set()
    assert asked[1].result(TIMEOUT_S) == 4
    with pytest.raises(ValueError, match="negative"):
        asked[2].result(TIMEOUT_S)
    for future in asked[3:]:
        with pytest.raises(ZeroDivisionError):
            future.result(TIMEOUT_S)


def test_nobody_waits_longer_than_its_time(gate: Gate, ask: Ask) -> None:
    first, late, patient = ask(1), ask(2, timeout_s=0.05), ask(3)
    with pytest.raises(TimeoutError):
        late.result(TIMEOUT_S)
    gate.open.set()
    assert [first.result(TIMEOUT_S), patient.result(TIMEOUT_S)] == [2, 6]
    assert gate.batches == [[1], [3]]


def test_nor_for_a_batch_that_another_leads(gate: Gate) -> None:
    open_now, reached = threading.Event(), threading.Event()

    def work(numbers: Sequence[int]) -> list[int | Exception]:
        if len(numbers) > 1:
            reached.set()
            assert gate.open.wait(TIMEOUT_S)
        else:
            assert open_now.wait(TIMEOUT_S)
        return list(numbers)

    merger = Merger(work, at_a_time=1, max_rows=4)
    with ThreadPoolExecutor(3) as threads:
        asked = []
        for number, timeout_s in ((1, TIMEOUT_S), (2, TIMEOUT_S), (3, 1.0)):
            asked.append(threads.submit(merger, number, "k", 1, timeout_s))
            while merger._at_work < 1 or len(merger._waiting) < number - 1:
                time.sleep(0.001)
        open_now.set()
        assert reached.wait(TIMEOUT_S)
        with pytest.raises(TimeoutError):
            asked[2].result(TIMEOUT_S)
        gate.open.set()
        assert [future.result(TIMEOUT_S) for future in asked[:2]] == [1, 2]


def test_as_many_batches_are_worked_on_at_a_time_as_allowed(gate: Gate) -> None:
    merger = Merger(gate, at_a_time=2, max_rows=4)
    with ThreadPoolExecutor(4) as threads:
        asked = []
        for number in range(1, 5):
            asked.append(threads.submit(merger, number, "k", 1))
            while len(gate.batches) < min(2, number) or len(merger._waiting) < number - 2:
                time.sleep(0.001)
        assert gate.batches == [[1], [2]]
        gate.open.set()
        assert [future.result(TIMEOUT_S) for future in asked] == [2, 4, 6, 8]
    assert gate.batches[2:] in ([[3, 4]], [[3], [4]])


def test_where_several_came_together_a_batch_waits_for_half_as_many(gate: Gate) -> None:
    gate.open.set()
    merger = Merger(gate, at_a_time=1, max_rows=4, longest_wait_s=TIMEOUT_S)
    merger._wanted = 3
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(merger, number, "k", 1) for number in (1, 2, 3)]
        assert [future.result(TIMEOUT_S) for future in asked] == [2, 4, 6]
    assert [sorted(batch) for batch in gate.batches] == [[1, 2, 3]]
    # Half of the three that came together is one: the next waits for nobody.
    assert merger(4, "k", 1) == 8


def test_nobody_waits_long_for_company_that_does_not_come(gate: Gate) -> None:
    gate.open.set()
    merger = Merger(gate, at_a_time=1, max_rows=32, longest_wait_s=0.01)
    merger._wanted = 16
    assert merger(4, "k", 1, TIMEOUT_S) == 8
    assert merger._wanted == 8
