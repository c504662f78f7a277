"""A process that dies just before its k-th change to a folder, told by Python's audit events; without a process."""

import sys
from contextlib import contextmanager

_CHANGES = ("open", "os.rename", "os.link", "os.remove", "os.truncate", "shutil.copyfile")
_deaths = []


class Killed(BaseException):
    """Nobody catches it."""


class Death:
    """From its `number`-th change on (1 is the first), nothing can be changed in `folder`; `n` counts the changes."""

    def __init__(self, folder, number):
        self.folder, self.number, self.n = str(folder), number, 0

    def see(self, event, arguments):
        if event == "open" and not _writes(arguments):
            return
        if any(isinstance(word, str) and word.startswith(self.folder) for word in map(_text, arguments)):
            self.n += 1
            if self.n >= self.number:
                raise Killed


def _writes(arguments):
    _path, mode, flags = arguments
    return any(letter in (mode or "") for letter in "wax+") or bool(flags & 3)


def _text(word):
    return word.decode() if isinstance(word, bytes) else str(word) if hasattr(word, "__fspath__") else word


def _hook(event, arguments):
    if _deaths and event in _CHANGES:
        _deaths[-1].see(event, arguments)


sys.addaudithook(_hook)


@contextmanager
def death(folder, number=sys.maxsize):
    """Die at the `number`-th change inside the block; without a number the changes are counted alone."""
    dying = Death(folder, number)
    _deaths.append(dying)
    try:
        yield dying
    finally:
        _deaths.remove(dying)
