"""Signals that ask work to end: Ctrl-C, a scheduler's and a user's, and that of a lost terminal."""

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from mrirecon import ranks

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_AGAIN_S = 0.05


class Terminated(BaseException):
    """SIGTERM or SIGHUP came, and nothing that saves its state was listening.

    Attributes:
        number: Of the signal.
        code: The exit code, as a shell gives it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number, self.code = number, 128 + number


@contextmanager
def unwound_when_asked() -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does, so that unfinished files go; a training listens for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, _frame: FrameType | None) -> NoReturn:
        leave_lost_terminal()
        raise Terminated(number)

    def ask_again(lost: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised in a `__del__` or a callback of C code."""
        if isinstance(lost.exc_value, Terminated):
            threading.Timer(_AGAIN_S, os.kill, (os.getpid(), lost.exc_value.number)).start()
        else:
            hook(lost)

    hook = sys.unraisablehook
    mine = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, unwind)
    sys.unraisablehook = ask_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def heeded(*numbers: signal.Signals) -> tuple[signal.Signals, ...]:
    """Return the signals that this process was not told to ignore when it started: `nohup` is to survive SIGHUP.

    By its definition nohup starts a program with SIGHUP ignored
    (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/nohup.html).
    """
    return tuple(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)


def leave_lost_terminal() -> None:
    """After SIGHUP: what is still to be said goes nowhere, where it would raise an OSError in the midst of saving."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            number = stream.fileno() if stream else -1
            if number < 0 or not stat.S_ISCHR(os.fstat(number).st_mode) or os.isatty(number):
                continue
        except (OSError, ValueError):  # closed
            continue
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def signal_words(number: int) -> str:
    """Word what ended a process; nobody but the system's guard of memory sends SIGKILL by itself."""
    name = signal.Signals(number).name
    return f"{name} (out of memory? lower --batch-size or --workers)" if number == signal.SIGKILL else name


# ---- Ctrl-C, a scheduler's signals and a lost terminal ask a training to stop: at the next step, after saving
#
# A signal reaches some of the processes, at some moment. The handler only sets a flag; the processes agree on it
# where all of them are at the same point (`agree`), and stop together.


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
