"""The ways a command can end early, and how an unknown name is reported."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """The call or the data is wrong (exit code 2). The message says what came, what is allowed, what to do."""


class AgreedError(InputError):
    """An InputError that every process of a group raises in the same words, whichever of them met it."""


class DataChangedError(InputError):
    """A file of the data is not what it was when it was checked; nothing that was made of it can be kept."""


class WorkFailedError(RuntimeError):
    """The work itself failed, a diverged training for example (exit code 1)."""


class DivergedError(WorkFailedError):
    """A training diverged; `step` is the number of optimizer steps it had done.

    A pickle, such as one from a worker process, brings `step` back after the construction, hence the default.
    """

    def __init__(self, message: str, step: int = 0) -> None:
        super().__init__(message)
        self.step = step


class Stopped(Exception):
    """The work was asked to stop, has saved its state and can be resumed (exit code 75).

    `went_on` is False where it had hardly begun: to start it again in the same way would lead no further.
    """

    def __init__(self, message: str, went_on: bool = True) -> None:
        super().__init__(message)
        self.went_on = went_on


class ProcessesFailed(Exception):
    """Processes that were started for a command failed; `code` is the exit code of the first one."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'group'?"` when one of `known` is close to `name`, else an empty string."""
    close = get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown_name(kind: str, name: object, known: Iterable[str], hint: str = "") -> InputError:
    """The error for a name that is not in a table; `hint` says what else is accepted."""
    known = list(known)
    text = f"unknown {kind} '{name}'{did_you_mean(str(name), known) or '.'} Known: {', '.join(known)}."
    return InputError(f"{text} {hint}".rstrip())
