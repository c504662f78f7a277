"""What all commands share: parse keys and switches, print help, turn errors into exit codes."""

import os
import shlex
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.classpaths import allow_import
from mrirecon.cli.spelling import (
    ONE_LETTER,
    UnexpectedWord,
    UnknownOption,
    described_methods,
    is_flag,
    spell,
    take_options,
    with_options,
)
from mrirecon.cluster.join import launch, processes_to_start, rank_command, report_error, started_rank
from mrirecon.configfile import shipped_configs
from mrirecon.data.hdf5.limits import NO_CACHE, limit_slices, switch_cache_off
from mrirecon.errors import (
    AgreedError,
    InputError,
    ProcessesFailed,
    Stopped,
    WorkFailedError,
    explained,
    require_room_for_torch,
)
from mrirecon.progress import say
from mrirecon.tables.entry import fill_in
from mrirecon.tables.methods import METHODS
from mrirecon.termination import Terminated, unwound_when_asked

SWITCHES = {
    "--quiet": "no progress, only results and errors",
    "--debug": "show the traceback of an error",
    NO_CACHE: "check all files anew; what earlier commands found of unchanged ones is neither read nor kept",
    "--print-config": "print the resolved configuration as YAML and stop",
    "--help": "show this help and stop (-h)",
}

_LONGEST_LINE = 2000  # characters of a line of an error

_EVERYWHERE = (
    ("--allow-import PREFIX", "let configurations name classes of this package"),
    ("--max-slice-gib N", "refuse files of which one slice takes more memory [8]"),
)


@dataclass(frozen=True)
class Command:
    """One command: its configuration class, its words, and the function that does it.

    `positionals` are words before the options, as (name, help); a name in brackets may be left out, a last one with
    dots (FILES...) takes all words that follow.
    `run` gets the configuration and the positional words and returns nothing: it prints.
    """

    name: str
    summary: str
    config: type
    run: Callable[..., None]
    positionals: tuple[tuple[str, str], ...] = ()
    extra: tuple[tuple[str, str], ...] = ()  # flags with a value that are no keys, such as --resume
    epilog: str = ""
    # keys that the positional words imply; gets the configuration, as it is parsed with some values for them, too
    defaults: Callable[[list[str], Callable[[dict[str, Any]], Any]], dict[str, Any]] = lambda _words, _parsed: {}
    # how many processes of this machine a call needs, by its configuration and its extra flags; 0: this one
    processes: Callable[[Any, dict[str, str]], int] = lambda config, _extra: processes_to_start(config)
    # a note on a call, or nothing, by its configuration, the keys that flags gave and those that files gave
    note: Callable[[Any, Sequence[str], Sequence[str]], str] = lambda _config, _by_flag, _by_file: ""
    loads_torch: bool = False  # in this process, at once
    takes_method: bool = False  # its first word may name a method, whose options then are options of the call

    def __call__(self, arguments: Sequence[str]) -> None:
        """Parse and run.

        Raises:
            InputError: The call is wrong.
        """
        words, rest = self._positional_words(list(arguments))
        typed = [word for word in arguments if word not in SWITCHES]
        if "--help" in rest or "-h" in rest:
            print(self.help())
            return
        switches, rest = _take_switches(rest)
        extra, rest = self._take_extra(rest)
        if prefix := extra.pop("allow_import", ""):
            allow_import(prefix)
        if gib := extra.pop("max_slice_gib", ""):
            limit_slices(gib)
        require_kind(self.name, words, typed)
        of_method, rest = take_options(rest) if self.takes_method else ([], rest)
        try:
            implied = self.defaults(words, lambda values: self.parse(rest, values)[0])
            config, by_flag, by_file = self.parse(rest, implied)
            if self.takes_method:
                config = with_options(config, words, of_method)
        except UnexpectedWord as error:
            known = {key.name for key in configfile.keys(self.config)} | {flag.split()[0] for flag, _ in self.extra}
            needed = [name for name, _ in self.positionals if not name.startswith("[")]
            advice = right_place(self.name, words, typed, error.word, known, len(words) < len(needed))
            raise InputError(
                f"'{error.word}' is not expected here; {advice or f'see mrirecon {self.name} --help'}"
            ) from None
        except UnknownOption as error:  # what it names may be one of the words, as data are for some commands
            raise InputError(
                f"unknown option '{error.name}'; {self._usage()}; see mrirecon {self.name} --help"
            ) from None
        if "--print-config" in switches:
            print(configfile.dump(config), end="")
            return
        self._require(words)
        if n := self.processes(config, extra):
            code, text = launch(rank_command([*self.name.split(), *arguments]), n)
            if code:
                raise ProcessesFailed(text, code)
            return
        if self.loads_torch:
            require_room_for_torch()
        if note := self.note(config, by_flag, by_file):
            say(f"note        {note}")
        with _spoken_once():
            self.run(config, *words, **({"given": [*by_flag, *by_file], **extra} if extra else {}))

    def parse(self, arguments: Sequence[str], defaults: dict[str, Any]) -> tuple[Any, list[str], list[str]]:
        """The configuration, the names of the keys that flags gave, and of those that the files of `-c` gave."""
        known = {key.name: key for key in configfile.keys(self.config)}
        files, flags = spell(arguments, known, tuple(SWITCHES))
        overlays: dict[str, Any] = {}
        for file in files:
            overlays.update(configfile.read_yaml(file, self.config))
        values = {**defaults, **overlays}
        parser = configfile.make_parser(self.config)
        with configfile.parse_errors(self.config):
            parsed = parser.parse_args(flags, namespace=parser.parse_object(values))
        by_flag = [flag[2:].split("=")[0] for flag in flags]
        return configfile.from_namespace(self.config, parsed), by_flag, list(overlays)

    def help(self) -> str:
        """The help page: usage, words, every key with its default."""
        lines = [self._usage(), "", self.summary, ""]
        lines += [f"  {name:<24} {fill_in(text)}" for name, text in self.positionals]
        lines += [f"  {name:<24} {text}" for name, text in self.extra]
        lines += [f"  {name:<24} {text}" for name, text in _EVERYWHERE]
        lines += [f"  {'-c FILE':<24} overlay of YAML keys, a file or a shipped name; flags win", ""]
        shorts = {full: short for short, full in configfile.SHORT.items()}
        own = {key.name for key in configfile.keys(self.config)}
        for key in configfile.keys(self.config):
            flag = shorts.get(key.name, key.name) if shorts.get(key.name) not in own else key.name
            flag = f"--{flag}".replace("_", "-")
            letters = [letter for letter, full in ONE_LETTER.items() if full == flag]
            lines += _help_lines(", ".join([*letters, flag]), key)
        if self.takes_method:
            lines += ["", "methods:"]
            for name, text, options in described_methods():
                lines += [f"  {name:<24} {text}", *(line for flag, key in options for line in _help_lines(flag, key))]
        lines += ["", *(f"  {name:<24} {text}" for name, text in SWITCHES.items())]
        return "\n".join([*lines, "", self.epilog]).rstrip()

    def _usage(self) -> str:
        return " ".join(["usage: mrirecon", self.name, *(name for name, _ in self.positionals), "[options]"])

    def _positional_words(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        words: list[str] = []
        limit = sys.maxsize if self.positionals and self.positionals[-1][0].endswith("...") else len(self.positionals)
        while arguments and len(words) < limit and not arguments[0].startswith("-"):
            words.append(arguments.pop(0))
        return words, arguments

    def _require(self, words: list[str]) -> None:
        for name, text in self.positionals[len(words) :]:
            if not name.startswith("["):
                missing = [name for name, _ in self.positionals[len(words) :] if not name.startswith("[")]
                raise InputError(
                    f"{self.name} needs {name}: {text}; call it as: {call(self.name, words)} {' '.join(missing)}"
                )

    def _take_extra(self, arguments: list[str]) -> tuple[dict[str, str], list[str]]:
        taken: dict[str, str] = {}
        for flag, _ in (*self.extra, *_EVERYWHERE):
            name = flag.split()[0]
            for i, word in enumerate(arguments):
                if name in (word, ONE_LETTER.get(word)) or word.startswith(f"{name}="):
                    following = arguments[i + 1] if "=" not in word and i + 1 < len(arguments) else ""
                    value = word.partition("=")[2] or ("" if is_flag(following) else following)
                    if not value:
                        raise InputError(f"{name} needs a value")
                    taken[name[2:].replace("-", "_")] = value
                    arguments = arguments[:i] + arguments[i + (1 if "=" in word else 2) :]
                    break
        return taken, arguments


@contextmanager
def _spoken_once() -> Iterator[None]:
    """Silence standard output in all processes but the first, so that results are printed once."""
    if started_rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123 - a device
        yield


def _help_lines(flag: str, key: configfile.Key) -> list[str]:
    default = "" if key.default in ("", [], None) else f" [{key.default}]".replace("'", "")
    text = " ".join(key.help.split()) + default
    if len(flag) > 24:
        return [f"  {flag}", f"  {'':<24} {text}"]
    return [f"  {flag:<24} {text}"]


def _take_switches(arguments: list[str]) -> tuple[set[str], list[str]]:
    """Global switches may stand anywhere; they take effect before the command runs."""
    from mrirecon import progress

    found = {word for word in arguments if word in SWITCHES}
    if NO_CACHE in found:
        switch_cache_off()
    progress.quiet = "--quiet" in found or started_rank() > 0  # of several processes the first one speaks
    return found, [word for word in arguments if word not in SWITCHES]


def run_safely(work: Callable[[], None], debug: bool) -> int:
    """Run `work`; errors become one or two lines and an exit code (2 input, 1 work, 75 stopped, 129 and 143 ended).

    75 is the code by which sysexits.h asks to try again (EX_TEMPFAIL, https://man.freebsd.org/cgi/man.cgi?sysexits).
    """
    try:
        with unwound_when_asked():
            work()
    except InputError as error:
        return _report(error, 2, debug)
    except Stopped as error:
        return _report(error, 75, debug)
    except WorkFailedError as error:
        return _report(error, 1, debug)
    except ProcessesFailed as error:
        return _report(error, error.code, debug)
    except KeyboardInterrupt:
        return _report(KeyboardInterrupt("interrupted"), 130, False)
    except Terminated as error:
        return _report(error, error.code, False)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if said := explained(error):
            return _report(said, 2 if isinstance(said, InputError) else 1, debug)
        return _report(error, 1, debug, unexpected=True)
    return 0


def _report(error: BaseException, code: int, debug: bool, unexpected: bool = False) -> int:
    if debug:
        import traceback

        traceback.print_exc()  # of the error that is being handled
    text = f"{type(error).__name__}: {error} (--debug shows where)" if unexpected else str(error)
    text = "\n".join(map(_sayable, text.split("\n")))
    told_by_first = isinstance(error, AgreedError) and started_rank() > 0
    if not report_error(code, text) and not told_by_first:
        print(f"mrirecon: {text}", file=sys.stderr)
    return code


def _sayable(line: str) -> str:
    """A line that quotes a stranger's file: no character that steers a terminal, no page of text."""
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 200]} ... {line[-100:]}"


# ---- what a word in the wrong place of a command line was meant for, and the call that says so


_CHECKPOINTS = {"best.ckpt": "best", "last.ckpt": "last"}
# kind of a word -> keys and flags of which a command must have one, and the option that the word belongs to
_OPTIONS = {
    "data": (("data.path", "data"), "--data"),
    "data file": (("data.path", "data"), "--data"),
    "run": (("--resume",), "--resume"),
    "configuration": (("data.path", "data"), "-c"),
    "images": (("source",), "--from"),
}


def require_kind(command: str, words: Sequence[str], arguments: Sequence[str]) -> None:
    """Raise an InputError with the right call where the first word is data, or a part of a run, in the place of a run.

    Args:
        command: Its name.
        words: The words before the options.
        arguments: All that was typed after the command.
    """
    if not words or command not in ("evaluate", "reconstruct", "export", "report", "ablate run"):
        return
    first, others, kind = words[0], list(arguments[1:]), _kind(words[0])
    what = f"{first} is a folder of data" if kind == "data" else f"{first} is a file of data"
    if kind in ("data", "data file") and command == "ablate run":
        raise InputError(f"{what}, not a grid: {call(command, ['GRID', '--data', _folder(first), *others])}")
    if kind in ("data", "data file") and command == "evaluate":
        asked = call(command, ["zero-filled", "--data", _folder(first), *others])
        raise InputError(f"{what}, not a run or a method: {asked}")
    if kind in ("data", "data file") and command == "reconstruct":
        runs = [word for word in words if _kind(word) in ("run", "")] or ["RUN"]
        files = [word for word in words if word != runs[0]]
        asked = call(command, [runs[0], *files, *arguments[len(words) :]])
        raise InputError(f"{what}; the run or the method comes first: {asked}")
    for word in words[1:] if command == "evaluate" else ():
        if _kind(word) in ("data", "data file"):
            runs = [other for other in words if other != word]
            asked = call(command, [*runs, "--data", _folder(word), *arguments[len(words) :]])
            raise InputError(f"{word} is data, not a run or a method; --data comes before it: {asked}")
    run, which = _run_around(Path(first)), _CHECKPOINTS.get(Path(first).name, "")
    is_no_weights = command in ("export", "report") or Path(first).is_dir()  # the others take files of weights
    if run and command != "ablate run" and is_no_weights and (which or command == "report" or Path(first).is_dir()):
        more = ["--checkpoint", which] if which and command == "export" else []
        raise InputError(f"{first} is a part of a run: {call(command, [run, *others, *more])}")


def right_place(
    command: str, words: Sequence[str], arguments: Sequence[str], stray: str, known: Container[str], is_missing: bool
) -> str:
    """Say where an unexpected word belongs, as the end of a sentence about it; empty: not known.

    Args:
        command: Its name.
        words: The words before the options.
        arguments: All that was typed after the command.
        stray: The word, one of `arguments`.
        known: The command's keys and its flags.
        is_missing: The command needs a further word before the options.
    """
    place = list(arguments).index(stray, len(words))
    before, after = list(arguments[:place]), list(arguments[place + 1 :])
    if is_missing:
        return f"words come before options: {call(command, [*words, stray, *before[len(words) :], *after])}"
    kind = _kind(stray)
    if command == "evaluate" and (kind == "run" or stray in METHODS):
        return f"words come before options: {call(command, [*words, stray, *before[len(words) :], *after])}"
    keys, option = _OPTIONS.get(kind, ((), ""))
    if not any(key in known for key in keys) or option in arguments:
        return ""
    return f"{option} comes before it: {call(command, [*before, option, _folder(stray), *after])}"


def call(command: str, arguments: Sequence[str]) -> str:
    """A command line as it is typed."""
    return f"mrirecon {command} {shlex.join(arguments)}".rstrip()


def _kind(word: str) -> str:
    """Name the kind of a word: run, data, data file, images, configuration; empty: nothing, or something else."""
    path = Path(word)
    if path.is_dir():
        return "run" if _is_run(path) else "data" if _holds_data(path) else ""
    if path.suffix == ".h5" and path.is_file():
        return "data file"
    if path.name.endswith((".nii", ".nii.gz")) and path.is_file():
        return "images"
    if any(word in (name, Path(name).name) for name in shipped_configs()) or (
        path.suffix in (".yaml", ".yml") and path.is_file()
    ):
        return "configuration"
    return ""


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() and any((path / n).exists() for n in ("checkpoints", "provenance.json"))


def _run_around(path: Path) -> str:
    """The run folder that something is inside of."""
    return next((str(folder) for folder in path.parents if path.exists() and _is_run(folder)), "")


def _holds_data(folder: Path) -> bool:
    """Files of k-space, or folders of them."""
    inside = (path for path in folder.iterdir() if path.is_dir() and path.name.endswith(("train", "val", "test")))
    return any(next(place.glob("*.h5"), None) for place in (folder, *inside))


def _folder(word: str) -> str:
    """Return the folder that a file of data is in; anything else as it is."""
    return str(Path(word).parent) if _kind(word) == "data file" else word
