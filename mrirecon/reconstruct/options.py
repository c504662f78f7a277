"""The options of methods: from what a call gives to checked values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.errors import InputError, did_you_mean
from mrirecon.tables.methods import METHODS, Method


@dataclass(frozen=True)
class MethodCall:
    """A method as a call names it, with all of its options and what the call leaves open of them."""

    name: str
    options: Mapping[str, Any]  # all of them; those that are to be chosen on data are None
    tried: Sequence[Mapping[str, Any]]  # values of those, each combination that is tried, in the order of the grid


def read_method(name: str, given: Mapping[str, Any]) -> MethodCall | None:
    """Read what a call gives for the options of `name`; None for what is no method, but a run or a file.

    Args:
        name: Of a method, or anything.
        given: Values by the options' names.

    Raises:
        InputError: An option that it has not, or a value of the wrong type.
    """
    require_method(name, list(given))
    if name not in METHODS:
        return None
    options, grids = method_options(name, given), METHODS[name].chosen
    names = [option for option in grids if options[option] is None]
    values = product(*(grids[option] for option in names)) if names else ()
    return MethodCall(name, options, [dict(zip(names, one, strict=True)) for one in values])


def read_methods(words: Sequence[str], given: Mapping[str, Any]) -> list[MethodCall | None]:
    """Read the options of each of the things that a call names; of several each gets those that it has.

    Raises:
        InputError: See `read_method`; or an option that none of several has.
    """
    if len(words) == 1:
        return [read_method(words[0], given)]
    require_any(list(given), words)
    known = {word: option_keys(METHODS[word]) if word in METHODS else {} for word in words}
    return [read_method(word, {key: given[key] for key in given if key in known[word]}) for word in words]


def option_keys(method: Method) -> dict[str, configfile.Key]:
    """Return the options of a method: name, type, default and help of each."""
    keys = configfile.keys(method.options) if method.options else ()
    return {key.name.rstrip("_"): key for key in keys}


def require_options(name: str, given: Sequence[str]) -> None:
    """Raise an InputError where one of the options `given` is none of the method `name`."""
    known = option_keys(METHODS[name])
    for option in given:
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none: leave it out"
            raise InputError(f"{name} has no option '{option}'{did_you_mean(option, known) or ';'} {has}")


def require_method(name: str, given: Sequence[str]) -> None:
    """Raise an InputError where options are `given` for something that is no method, but a run or a file."""
    if given and name not in METHODS and Path(name).exists():
        raise InputError(
            f"--method.{given[0]} is for methods ({', '.join(METHODS)}); {name} is a run or a file of weights, whose "
            "settings came with its training: leave it out"
        )


def require_any(given: Sequence[str], words: Sequence[str]) -> None:
    """Raise an InputError where one of the options `given` is of none of several methods, runs and files."""
    known = sorted({option for word in words if word in METHODS for option in option_keys(METHODS[word])})
    for option in given:
        if option not in known:
            have = f"their options are {', '.join(known)}" if known else "they have none: leave it out"
            raise InputError(
                f"none of {', '.join(words)} has an option '{option}'{did_you_mean(option, known) or ';'} {have}"
            )


def method_options(name: str, given: Mapping[str, Any], flags: Sequence[str] = ()) -> dict[str, Any]:
    """Return all options of a method by name, those that are not given at their defaults.

    Args:
        name: Of the method.
        given: Values by the options' names.
        flags: `--name=value` of a command line, by the names of the fields; they win.

    Raises:
        InputError: An option that it has not, or a value of the wrong type.
    """
    names = [flag[2:].partition("=")[0].rstrip("_") for flag in flags]
    require_options(name, [*given, *names])
    method, known = METHODS[name], option_keys(METHODS[name])
    if method.options is None:
        return {}
    try:
        parser = configfile.make_parser(method.options)
        with configfile.parse_errors(method.options):
            values = parser.parse_object({known[key].name: value for key, value in given.items()})
            parsed: Any = configfile.from_namespace(method.options, parser.parse_args(list(flags), namespace=values))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return {option: getattr(parsed, key.name) for option, key in known.items()}


def set_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not at their default: they identify a method's images besides its name."""
    defaults = {option: key.default for option, key in option_keys(METHODS[name]).items()}
    return {option: value for option, value in options.items() if value != defaults[option]}
