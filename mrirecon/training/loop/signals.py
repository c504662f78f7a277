"""Ctrl-C, a scheduler's signals and a lost terminal ask a training to stop: at the next step, after saving.

A signal reaches some of the processes, at some moment. The handler only sets a flag; the processes agree on it where
all of them are at the same point (`agree`), and stop together.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mrirecon import ranks
from mrirecon.termination import STOP_SIGNALS, heeded, leave_lost_terminal


class StopRequest:
    """Remembers that a signal came; a second Ctrl-C interrupts at once.

    Attributes:
        signal: What came to this process.
        agreed: What came to any process, as of the last `agree`; the same on all of them.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.agreed: signal.Signals | None = None
        self._previous: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def agree(self) -> bool:
        """Return whether a signal came to any process; all get the same answer, so all have to ask."""
        counts = ranks.sum_of([float(self.signal is number) for number in STOP_SIGNALS])
        came = [number for number, count in zip(STOP_SIGNALS, counts, strict=True) if count]
        self.agreed = came[0] if came else None
        return bool(came)

    def listen(self) -> None:
        """Take over the signals, also those that were kept waiting; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in heeded(*STOP_SIGNALS)}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def restore(self) -> None:
        """Hand the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._previous = {}

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGHUP:
            leave_lost_terminal()
        self.signal = signal.Signals(number)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Yield a request that hears the signals meanwhile."""
    stop = StopRequest()
    stop.listen()
    try:
        yield stop
    finally:
        stop.restore()
