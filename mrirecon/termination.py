"""Signals that ask work to end: Ctrl-C, a scheduler's and a user's, and that of a lost terminal."""

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

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
