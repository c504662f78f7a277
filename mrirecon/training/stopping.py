"""Ctrl-C and SIGTERM ask a training to stop; it does so at the next optimizer step, after saving."""

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers that a signal came; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def listen(self) -> None:
        """Take over the signals; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}

    def restore(self) -> None:
        """Hand the signals back, unless the Trainer, whose handlers hold all of its run, has done so before."""
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._remember:
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._previous = {}

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
