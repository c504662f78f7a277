"""Rewrites a command line before it is parsed: short names, dashes, lists, files first, options of methods.

`--norm group --acceleration 4 8 -c lecture` becomes `-c` files first (so that flags win in any order), then
`--model.norm group --data.acceleration [4,8]`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mrirecon.config import EvaluateConfig, ReconstructConfig
from mrirecon.configfile import SHORT, Key
from mrirecon.errors import InputError, did_you_mean
from mrirecon.reconstruct.options import method_options, option_keys, require_any, require_method, require_options
from mrirecon.tables.methods import METHODS

C = TypeVar("C", EvaluateConfig, ReconstructConfig)

_DEVICES = ("device", "devices", "slurm.gpus")
ELSEWHERE = {  # what other programs of the field call it, and what may be meant here
    **dict.fromkeys(("gpu", "gpus", "gpu_id", "gpu_ids", "n_gpus", "num_gpus", "use_gpu", "no_gpu"), _DEVICES),
    **dict.fromkeys(("cuda", "use_cuda", "no_cuda", "cpu", "mps", "accelerator", "strategy"), _DEVICES),
    **dict.fromkeys(("device_id", "device_ids", "n_devices", "num_devices", "nproc_per_node"), _DEVICES),
    **dict.fromkeys(("nodes", "n_nodes", "nnodes"), ("num_nodes", "slurm.nodes")),
    **dict.fromkeys(("batch", "bs", "batchsize"), ("batch_size",)),
    **dict.fromkeys(("num_workers", "n_workers"), ("data.workers", "workers")),
    **dict.fromkeys(("learning_rate", "rate"), ("optimizer.lr",)),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs"), ("max_epochs",)),
    **dict.fromkeys(("steps", "iterations", "iters", "num_steps"), ("max_steps",)),
    "name": ("output", "slurm.name"),
    "patience": ("early_stop", "schedule.patience"),
}
_WHOLE = "slurm."  # keys that go by their whole name: `--gpus 1` or `--time 60` alone would not say that a job is meant
_LINES = ("slurm.setup", "slurm.sbatch", "group")  # each word is one value, whatever commas and brackets it holds
_REPEATED = ("group",)  # what may be given several times
ONE_LETTER = {"-o": "--output"}
_METHOD = "--method."  # what the options of a method begin with
# `--slices 8` of the simulation is a key of its own: a key of that very name wins over a short name.


class UnexpectedWord(InputError):
    """A word where an option should begin."""

    def __init__(self, word: str) -> None:
        super().__init__(f"'{word}' is not expected here; options start with --, see --help")
        self.word = word


class UnknownOption(InputError):
    """An option that the command does not have, nor one of a like name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown option '{name}'; see --help")
        self.name = name


def spell(arguments: Sequence[str], known: Mapping[str, Key], switches: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into overlay files and flags that the parser knows.

    Args:
        arguments: What the user typed after the command.
        known: The command's keys by dotted name.
        switches: Flags without a value, such as `--quiet`, taken out before.

    Returns:
        The files of `-c`, in order, and `--key value` pairs.

    Raises:
        InputError: An unknown flag (with a suggestion), a flag without its value, a word without a flag.
    """
    files: list[str] = []
    flags: list[str] = []
    repeated: dict[str, list[str]] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        values = [value] if has_value else _take_values(rest, name, known)
        if name in ("-c", "--config"):
            files += _need(values, name)
        elif name in {f"--{key}" for key in _REPEATED if key in known}:
            repeated.setdefault(name, []).extend(_need(values, name))
        else:
            flags += _flag(name, values, known, switches)
    for name, values in repeated.items():
        flags += _flag(name, values, known, switches)
    return files, flags


def _flag(name: str, values: list[str], known: Mapping[str, Key], switches: Sequence[str]) -> list[str]:
    key = known[_key(name, known, switches)]
    if key.type is bool and not values:
        values = ["true"]
    _need(values, name)
    if key.name in _LINES:
        return [f"--{key.name}={json.dumps(values)}"]
    if getattr(key.type, "__origin__", None) is list:
        if values[0].startswith("[") and values[-1].endswith("]"):
            return [f"--{key.name}={values[0]}"]
        if key.type.__args__ == (str,):  # patterns such as '*.bias' mean something else in YAML
            values = [json.dumps(part.strip()) for value in values for part in value.split(",")]
        return [f"--{key.name}=[{', '.join(values)}]"]
    return [f"--{key.name}={values[0]}"]


def _key(name: str, known: Mapping[str, Key], switches: Sequence[str]) -> str:
    name = ONE_LETTER.get(name, name)
    if not name.startswith("--"):
        raise UnexpectedWord(name)
    bare = name[2:].replace("-", "_")
    for candidate in (bare, SHORT.get(bare)):
        if candidate in known:
            return str(candidate)
    ends = [key for key in known if key.endswith(f".{bare}")]
    elsewhere = [key for key in ELSEWHERE.get(bare, ()) if key in known]
    if len(ends) == 1 and not elsewhere and not ends[0].startswith(_WHOLE):
        return ends[0]
    if meant := elsewhere or ends:
        options = [f"{flag(key)} ({re.split('[;.]', known[key].help)[0].strip()})" for key in meant]
        raise InputError(f"unknown option '{name}'; give {' or '.join(options)}")
    last = [key.rsplit(".")[-1] for key in known if not key.startswith(_WHOLE)]
    bare_ends = [end for end in last if last.count(end) == 1]  # of dotted keys, options of their own
    names = [*known, *(short for short, full in SHORT.items() if full in known), *bare_ends]
    options = [f"--{name.replace('_', '-')}" for name in names] + list(switches)
    begins = [option for option in options if option.startswith(name) and len(bare) > 2]
    close = f"; did you mean '{begins[0]}'?" if begins else did_you_mean(name, options)
    if not close:
        raise UnknownOption(name)
    raise InputError(f"unknown option '{name}'{close}")


def flag(key: str) -> str:
    """A key as an option, short where it has a short name."""
    short = next((short for short, full in SHORT.items() if full == key), key)
    return f"--{short.replace('_', '-')}"


def _take_values(rest: list[str], name: str, known: Mapping[str, Key]) -> list[str]:
    """The words up to the next flag; only list keys take more than one."""
    values: list[str] = []
    try:
        many = getattr(known[_key(name, known, ())].type, "__origin__", None) is list
    except InputError:
        many = False
    while rest and (many or not values) and not is_flag(rest[0]):
        values.append(rest.pop(0))
    return values


def is_flag(word: str) -> bool:
    """Say whether a word begins an option; negative numbers do not."""
    return word.startswith("-") and not word[1:2].isdigit() and word != "-" and not word.startswith("-.")


def _need(values: list[str], name: str) -> list[str]:
    if not values:
        raise InputError(f"{name} needs a value")
    return values


def take_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of a method among the arguments, with the words that follow them, and all others."""
    taken: list[str] = []
    others: list[str] = []
    into = others
    for word in arguments:
        if is_flag(word):
            into = taken if word.startswith(_METHOD) else others
        into.append(word)
    return taken, others


def with_options(config: C, words: Sequence[str], options: Sequence[str]) -> C:
    """The configuration with all options of the method that is called: those given, the others at their defaults.

    Of several methods, which `mrirecon evaluate` takes, it has those given alone; each is of the type that it has.

    Args:
        config: Its `method` holds those of files.
        words: Of the command; the first one names the method.
        options: Of `take_options`; they win.

    Raises:
        InputError: Options for what is no method, that it has not, or of the wrong type.
    """
    given: list[str] = [_option(word) for word in options if is_flag(word)]
    if not words:
        if given or config.method:
            raise InputError(f"--method.{[*given, *config.method][0]} needs its method: name it before the options")
        return config
    if isinstance(config, EvaluateConfig) and len(words) > 1:
        return replace(config, method=_of_several(config.method, words, options))
    name = words[0]
    require_method(name, [*given, *config.method])
    if name not in METHODS:
        return config
    require_options(name, given)
    return replace(config, method=method_options(name, config.method, _flags_of(name, options)))


def _of_several(of_files: Mapping[str, Any], words: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    given = [_option(word) for word in options if is_flag(word)]
    require_any([*of_files, *given], words)
    found = dict(of_files)
    for name in filter(METHODS.__contains__, words):
        known = option_keys(METHODS[name])
        own = {option: value for option, value in of_files.items() if option in known}
        parsed = method_options(name, own, _flags_of(name, _only(known, options)))
        found |= {option: parsed[option] for option in given if option in known}
    return found


def _only(known: Mapping[str, Key], options: Sequence[str]) -> list[str]:
    """The options of one method, with the words that follow them."""
    kept, is_own = [], False
    for word in options:
        is_own = _option(word) in known if is_flag(word) else is_own
        kept += [word] * is_own
    return kept


def _flags_of(name: str, options: Sequence[str]) -> list[str]:
    known = {f"method.{o}": key._replace(name=f"method.{key.name}") for o, key in option_keys(METHODS[name]).items()}
    return [f"--{flag.removeprefix(_METHOD)}" for flag in spell(options, known, ())[1]]


def _option(flag: str) -> str:
    return flag.partition("=")[0].removeprefix(_METHOD).replace("-", "_")


def described_methods() -> list[tuple[str, str, list[tuple[str, Key]]]]:
    """Return for each method its name, what it is, and its options as flags with their keys."""
    found = []
    for name, method in METHODS.items():
        options = [(f"{_METHOD}{option}".replace("_", "-"), key) for option, key in option_keys(method).items()]
        found.append((name, method.help, options))
    return found
