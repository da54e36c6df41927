"""Work that is cheaper together: what comes while other work is done waits, and is then done in one piece."""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Merger(Generic[T, R]):
    """Lets a few batches be worked on at a time; what comes meanwhile goes into the next one.

    Who waits longest leads: works on a batch in its own thread, of itself and of all that wait and fit. So there are no
    threads beside those that ask, and one that finds nobody at work pays nothing.

    One that comes alone waits for nobody. Where a longest wait is given, and several came at the same time of late, a
    batch waits for half as many: while they are worked on, their callers' others can come.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R | Exception]],
        at_a_time: int,
        max_rows: int,
        longest_wait_s: float = 0.0,
        alone_after: tuple[type[Exception], ...] = (),
    ) -> None:
        """Merge work.

        Args:
            work: does what several ask for, and returns for each, in their order, its result or its error.
            at_a_time: how many batches are worked on at a time.
            max_rows: of a batch that is merged; who asks alone may have more.
            longest_wait_s: how long a batch waits for company at most.
            alone_after: errors of a batch that one of it may be to blame for: each is then worked on alone, and learns
                its own.
        """
        self._work = work
        self._at_a_time = at_a_time
        self._max_rows = max_rows
        self._longest_wait_s = longest_wait_s
        self._alone_after = alone_after
        self._lock = threading.Lock()
        self._enough = threading.Condition(self._lock)
        self._at_work = 0
        self._led = False
        """Whether one of those that wait leads: collects the next batch, of which it is the first."""
        self._waiting: list[_Asked[T, R]] = []
        self._wanted = 1

    def __call__(self, asked: T, key: Hashable, rows: int, timeout_s: float | None = None) -> R:
        """Have something done.

        Args:
            asked: what is passed to the work.
            key: who has the same one may be in one batch.
            rows: how much this is of a batch; 0: it cannot be merged.
            timeout_s: how long to wait for others; what is done in this thread may take longer.

        Raises:
            TimeoutError: others still worked, on this or before its turn.
            Exception: what the work returned for it.
        """
        call: _Asked[T, R] = _Asked(asked, (key, rows > 0), rows)
        with self._lock:
            alone = not self._waiting and self._at_work < self._at_a_time and not self._wants_company()
            if alone:
                self._at_work += 1
            else:
                self._waiting.append(call)
                if self._led and self._are_enough():
                    self._enough.notify()
                self._appoint()
        if alone:
            self._do([call])
        else:
            self._wait(call, timeout_s)
        assert call.answer is not None
        (answer,) = call.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wait(self, call: "_Asked[T, R]", timeout_s: float | None) -> None:
        """Wait until others have done it, or lead."""
        if not call.leads and not call.turn.acquire(timeout=-1 if timeout_s is None else timeout_s):
            with self._lock:
                if not call.leads and call.answer is None:
                    if call in self._waiting:
                        self._waiting.remove(call)
                    raise TimeoutError
        if call.leads:
            self._lead()

    def _wants_company(self) -> bool:
        return self._wanted > 1 and self._longest_wait_s > 0

    def _are_enough(self) -> bool:
        return len(self._waiting) >= self._wanted or sum(call.rows for call in self._waiting) >= self._max_rows

    def _appoint(self) -> "list[_Asked[T, R]]":
        """Let who waits longest lead, if none does and another batch may be worked on; return it."""
        if self._led or self._at_work == self._at_a_time or not self._waiting:
            return []
        self._led = self._waiting[0].leads = True
        return self._waiting[:1]

    def _lead(self) -> None:
        """Work on the next batch, which begins with the one that leads."""
        with self._lock:
            if self._wants_company():
                self._enough.wait_for(self._are_enough, self._longest_wait_s)
            batch = self._next()
            self._led = False
            self._at_work += 1
            following = self._appoint()
        for call in following:
            call.turn.release()
        self._do(batch)

    def _do(self, batch: "list[_Asked[T, R]]") -> None:
        """Work on a batch, and hand on to whoever leads the next one."""
        try:
            for call, answer in zip(batch, self._answers([call.asked for call in batch]), strict=True):
                call.answer = (answer,)
        finally:
            with self._lock:
                self._at_work -= 1
                together = len(batch) + len(self._waiting)
                self._wanted = max(1, together // 2, self._wanted // 2)
                following = self._appoint()
            for call in [*batch[1:], *following]:
                call.turn.release()

    def _answers(self, asked: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return self._work(asked)
        except Exception as error:  # raised where it was asked for
            if len(asked) > 1 and isinstance(error, self._alone_after):
                return [answer for one in asked for answer in self._answers([one])]
            return [error] * len(asked)

    def _next(self) -> "list[_Asked[T, R]]":
        """Take who waits longest, and what can be merged with it."""
        batch: list[_Asked[T, R]] = []
        left: list[_Asked[T, R]] = []
        rows = 0
        for call in self._waiting:
            if not batch or (call.key == batch[0].key and call.rows and rows + call.rows <= self._max_rows):
                batch.append(call)
                rows += call.rows
            else:
                left.append(call)
        self._waiting = left
        return batch


class _Asked(Generic[T, R]):
    """What somebody waits for."""

    def __init__(self, asked: T, key: Hashable, rows: int) -> None:
        self.asked = asked
        self.key = key
        self.rows = rows
        # Opened once: by whoever appoints it to lead, or has worked on it.
        self.turn = threading.Lock()
        self.turn.acquire()
        self.leads = False
        self.answer: tuple[R | Exception] | None = None
