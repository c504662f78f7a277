"""What a command may do with a damaged input: refuse it in a line with exit code 2, or give the right result."""

from collections.abc import Callable
from pathlib import Path

from limited_child import Ended, run_limited


def fault_of(
    ended: Ended, left: list[str], check: Callable[[], str], scratch: Path, is_fair: Callable[[str], bool]
) -> str:
    """What is wrong with how a command ended; empty where nothing is.

    Args:
        ended: The end.
        left: Files that it made or changed; a refusal leaves none.
        check: Says what is wrong with the results of a success; it reads them in a child of its own, as the library
            that reads them may crash.
        scratch: A folder for that child.
        is_fair: Whether a failure (exit code 1) with this text is one that the case allows.
    """
    if ended.killed:
        return ended.killed
    if "Traceback" in ended.stderr or "--debug shows where" in ended.stderr:
        return f"unexpected error: {_last_line(ended.stderr)}"
    if ended.code == 2:
        return _refusal_fault(ended, left)
    if ended.code == 1 and is_fair(ended.stderr):
        return ""
    if ended.code != 0:
        return f"exit code {ended.code}: {_last_line(ended.stderr)}"
    noise = [line for line in ended.stderr.splitlines() if not line.startswith(("warning: ", "note: "))]
    if noise:
        return f"a success that says: {noise[-1][:300]}"
    return _result_fault(check, scratch)


def _refusal_fault(ended: Ended, left: list[str]) -> str:
    said = ended.stderr.strip("\n").split("\n")
    if len(said) != 1 or not said[0].startswith("mrirecon: "):
        return f"a refusal of {len(said)} lines: {said[0][:100]} ... {said[-1][:100]}"
    if not said[0].isprintable():
        return f"a refusal with characters that control a terminal: {ended.stderr[:200]!r}"
    return f"a refusal that leaves {left[:3]}" if left else ""


def _result_fault(check: Callable[[], str], scratch: Path) -> str:
    def work() -> int:
        reason = check()
        print(reason)
        return 1 if reason else 0

    checked = run_limited(work, scratch, seconds=20)
    if checked.code == 0:
        return ""
    return f"wrong result: {checked.killed or checked.stdout.strip() or _last_line(checked.stderr)}"


def _last_line(text: str) -> str:
    return (text.strip().split("\n") or [""])[-1][:300]
