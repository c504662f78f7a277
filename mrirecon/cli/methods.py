"""Methods on the command line: their options as flags (`--method.OPTION VALUE`), and their part of the help."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mrirecon.cli.spelling import is_flag, spell
from mrirecon.config import EvaluateConfig, ReconstructConfig
from mrirecon.configfile import Key
from mrirecon.errors import InputError
from mrirecon.reconstruct.options import method_options, option_keys, require_method, require_options
from mrirecon.tables.methods import METHODS

C = TypeVar("C", EvaluateConfig, ReconstructConfig)
_PREFIX = "--method."


def take_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of a method among the arguments, with the words that follow them, and all others."""
    taken: list[str] = []
    others: list[str] = []
    into = others
    for word in arguments:
        if is_flag(word):
            into = taken if word.startswith(_PREFIX) else others
        into.append(word)
    return taken, others


def with_options(config: C, words: Sequence[str], options: Sequence[str]) -> C:
    """The configuration with all options of the method that is called: those given, the others at their defaults.

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
    name = words[0]
    require_method(name, [*given, *config.method])
    if name not in METHODS:
        return config
    require_options(name, given)
    keys = option_keys(METHODS[name])
    known = {f"method.{option}": key._replace(name=f"method.{key.name}") for option, key in keys.items()}
    flags = [f"--{flag.removeprefix(_PREFIX)}" for flag in spell(options, known, ())[1]]
    return replace(config, method=method_options(name, config.method, flags))


def _option(flag: str) -> str:
    return flag.partition("=")[0].removeprefix(_PREFIX).replace("-", "_")


def described() -> list[tuple[str, str, list[tuple[str, Key]]]]:
    """Of each method its name, what it is, and its options as flags with their keys."""
    found = []
    for name, method in METHODS.items():
        options = [(f"{_PREFIX}{option}".replace("_", "-"), key) for option, key in option_keys(method).items()]
        found.append((name, method.help, options))
    return found
