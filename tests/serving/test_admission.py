import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.admission import Admission
from serving.deadline import Deadline
from serving.errors import DeadlineExceededError, OverloadedError


def _wait_for(queue_length, admission):
    while len(admission._queue) < queue_length:
        time.sleep(0.001)


def test_work_beyond_slots_and_queue_is_refused_at_once():
    admission = Admission(1, 1)
    with ThreadPoolExecutor(1) as pool:
        with admission.slot(Deadline(10)):
            waiting = pool.submit(lambda: admission.slot(Deadline(10)).__enter__())
            _wait_for(1, admission)
            started = time.monotonic()
            with pytest.raises(OverloadedError), admission.slot(Deadline(10)):
                pass
            with pytest.raises(OverloadedError):
                admission.check()
            assert time.monotonic() - started < 0.1
        waiting.result(5)


def test_turns_come_in_the_order_of_arrival():
    admission, order = Admission(1, 8), []

    def work(index):
        with admission.slot(Deadline(10)):
            order.append(index)

    with ThreadPoolExecutor(8) as pool, admission.slot(Deadline(10)):
        for index in range(8):
            pool.submit(work, index)
            _wait_for(index + 1, admission)
    assert order == list(range(8))


def test_no_more_than_the_slots_work_at_a_time_and_none_is_lost():
    admission, lock, working, most, late = Admission(3, 100), threading.Lock(), 0, 0, 0

    def work(index):
        nonlocal working, most, late
        try:
            # Every third runs out of time in the queue, some of them as their turn comes.
            with admission.slot(Deadline(0.004 if index % 3 == 0 else 10)):
                with lock:
                    working += 1
                    most = max(most, working)
                time.sleep(0.001)
                with lock:
                    working -= 1
        except DeadlineExceededError:
            with lock:
                late += 1

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(work, range(300)))
    assert most == 3
    assert late > 0
    assert (admission._free, len(admission._queue)) == (3, 0)


def test_a_deadline_ends_the_wait():
    admission = Admission(1, 1)
    with admission.slot(Deadline(10)):
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError), admission.slot(Deadline(0.05)):
            pass
        assert 0.04 < time.monotonic() - started < 1
        admission.check()
    with admission.slot(Deadline(10)):
        pass
