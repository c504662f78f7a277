"""Configuration dataclasses as keys, YAML files and checked values.

A key is written `group.name` on the command line and nested in YAML. Shipped files go by their name.
"""

import ast
import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml

import mrirecon
from mrirecon.config.numbers import LOWEST
from mrirecon.errors import InputError, did_you_mean
from mrirecon.files import write_text
from mrirecon.tables.entry import fill_in
from mrirecon.yamlfile import parse_yaml

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

C = TypeVar("C")

# short names of keys, on the command line and in grids
SHORT = {
    "data": "data.path",
    "mask": "data.mask",
    "acceleration": "data.acceleration",
    "center_fraction": "data.center_fraction",
    "acquisition": "data.acquisition",
    "volumes": "data.volumes",
    "slices": "data.slices",
    "workers": "data.workers",
    "model": "model.name",
    "norm": "model.norm",
    "channels": "model.channels",
    "pools": "model.pools",
    "optimizer": "optimizer.name",
    "lr": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "schedule": "schedule.name",
    "average": "average.name",
    "from": "source",
}


class Key(NamedTuple):
    """One configuration key."""

    name: str  # dotted
    type: Any
    default: Any
    help: str
    range: str = ""  # of `config.numbers`


def keys(cls: type, prefix: str = "") -> Iterator[Key]:
    """All keys of a configuration class, nested ones dotted."""
    types, full = get_type_hints(cls), get_type_hints(cls, include_extras=True)
    for item in dataclasses.fields(cls):
        if dataclasses.is_dataclass(types[item.name]):
            yield from keys(types[item.name], f"{prefix}{item.name}.")
        else:
            default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
            limited = full[item.name].__metadata__[0] if get_origin(full[item.name]) is Annotated else ""
            # the help of a field, which may be inherited
            texts = (_help(base.__module__).get((base.__name__, item.name)) for base in cls.__mro__[:-1])
            yield Key(
                prefix + item.name,
                types[item.name],
                default,
                fill_in(next((text for text in texts if text), "")),
                limited,
            )


@cache
def _help(module: str) -> dict[tuple[str, str], str]:
    """The string under each field of a module's classes, which Python itself forgets."""
    found = {}
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, text in zip(cls.body, cls.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                help_text = ast.literal_eval(text.value)
                found[cls.name, field.target.id] = " ".join(help_text.split())  # type: ignore[union-attr]
    return found


def make_parser(cls: type, **options: Any) -> "ArgumentParser":
    """A parser with one typed flag for each key."""
    from jsonargparse import ArgumentParser
    from jsonargparse import typing as limited

    parser = ArgumentParser(exit_on_error=False, add_help=False, **options)
    for key in keys(cls):
        kind = getattr(limited, key.range) if key.range else key.type
        parser.add_argument(f"--{key.name}", type=kind, default=key.default, help=key.help)
    return parser


def build(cls: type[C], values: Mapping[str, Any]) -> C:
    """A configuration from dotted keys; keys that are absent keep their default.

    Raises:
        InputError: Unknown key, or a value of the wrong type.
    """
    known = {key.name: key for key in keys(cls)}
    for name in values:
        if name not in known:
            full = SHORT.get(name.partition(".")[0])  # the short names of flags are no keys of files
            hint = f"; did you mean '{full}'?" if full in known else did_you_mean(name, known)
            raise InputError(f"unknown key '{name}'{hint}")
    with parse_errors(cls):
        parsed = make_parser(cls).parse_object(dict(values))
    return from_namespace(cls, parsed)


@contextmanager
def parse_errors(cls: type) -> Iterator[None]:
    """Turn the parser's errors into one line that says what is expected."""
    from argparse import ArgumentError

    try:
        yield
    except (ArgumentError, TypeError) as error:
        text = _either(" ".join(str(error).split()))
        for key in keys(cls):
            if f'"{key.name}"' in text:
                said = text.split(": ", 1)[-1]
                below = re.search(r"(\S+) does not conform to restriction", said) if key.range else None
                if below:
                    raise _out_of_range(key, below[1]) from None
                name = key.name.rstrip("_")  # a word of Python, such as lambda, has a line at its end in a dataclass
                text = f"{name}: {_no_number(key, said)} ({key.help})"
        text = text.replace("<class '", "").replace("'>", "").replace("Expected a int", "Expected an int")
        raise InputError(text) from None


def require_ranges(config: Any, prefix: str = "") -> None:
    """Check the numbers of a configuration object that was made in Python; those of the parser are checked already.

    Args:
        config: The object.
        prefix: What its keys begin with, such as `slurm.`.

    Raises:
        InputError: A number lies outside the range of its key.
    """
    from jsonargparse import typing as limited

    flat = flatten(config)
    for key in keys(type(config)):
        try:
            if key.range:
                getattr(limited, key.range)(flat[key.name])
        except ValueError:
            raise _out_of_range(key._replace(name=prefix + key.name), flat[key.name]) from None


def _out_of_range(key: Key, value: Any) -> InputError:
    return InputError(f"{key.name} is {value}; it must be at least {LOWEST[key.range]} ({key.help})")


def _no_number(key: Key, text: str) -> str:
    """The parser's report on what is no number, in its words for a number of any range."""
    found = re.search(r"'(.*)'$|(\S+) not an? (?:integer|number)", text) if key.range else None
    return f"Expected a {key.type}. Got value: {found[1] or found[2]}".replace("NoneType", "null") if found else text


def _either(text: str) -> str:
    """The parser's report on a key of several types, in its words for a key of one type."""
    found = re.search(r"Does not validate .* Subtypes: \[(.*)\] Errors: .* Given value:\s?(\S*)", text)
    if not found:
        return text
    kinds = re.sub(r"typing\.Literal\[(.*?)\]", r"\1", found[1]).replace("NoneType", "null").split(", ")
    given = found[2] or "nothing"
    return f"{text[: found.start()]}Expected a {' or '.join(kinds)}. Got value: {given}{text[found.end() :]}"


def from_namespace(cls: type[C], namespace: Any) -> C:
    """The configuration object of parsed keys."""
    types, full = get_type_hints(cls), get_type_hints(cls, include_extras=True)
    arguments = {}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        value = getattr(namespace, item.name)
        nested = dataclasses.is_dataclass(types[item.name])
        if value is None and type(None) not in get_args(types[item.name]):  # the parser takes null for any type
            raise InputError(f"{item.name} is null; give a value, or leave the key out for its default")
        if get_origin(full[item.name]) is Annotated:  # a number of the parser's own type, which is for it alone
            value = types[item.name](value)
        arguments[item.name] = from_namespace(types[item.name], value) if nested else value
    return cls(**arguments)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a configuration object."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value, f"{prefix}{item.name}."))
        else:
            flat[prefix + item.name] = value
    return flat


def unflatten(cls: type[C], flat: Mapping[str, Any], prefix: str = "") -> C:
    """The configuration object of all its dotted keys, whose values were checked before (a check takes 18 ms)."""
    types = get_type_hints(cls)
    arguments = {}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        name = prefix + item.name
        nested = dataclasses.is_dataclass(types[item.name])
        arguments[item.name] = unflatten(types[item.name], flat, f"{name}.") if nested else flat[name]
    return cls(**arguments)


def read_yaml(path: str | Path, cls: type) -> dict[str, Any]:
    """Dotted keys of a YAML file, given by path or by shipped name, checked against `cls`.

    Raises:
        InputError: No such file, not YAML, an unknown key or a wrong type; the message names the file.
    """
    return _read(path, cls)[0]


def load(cls: type[C], path: str | Path) -> C:
    """A configuration object from a YAML file; errors as of `read_yaml`."""
    return _read(path, cls)[1]


def _read(path: str | Path, cls: type[C]) -> tuple[dict[str, Any], C]:
    file = find_config(path)
    content = parse_yaml(file) or {}
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no keys; expected lines such as 'optimizer:' and '  name: adam'")
    known = {key.name for key in keys(cls)}
    try:
        flat: dict[str, Any] = {}
        for key, value in _flat_items(content, known, ""):
            if key in flat:
                raise InputError(f"'{key}' is given twice, nested and with a dot; leave one of them out")
            flat[key] = value
        return flat, build(cls, flat)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def save(config: Any, path: str | Path) -> None:
    """Write a configuration object as YAML."""
    write_text(path, dump(config))


def dump(config: Any) -> str:
    """A configuration object as YAML text."""
    return yaml.dump(dataclasses.asdict(config), Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Lists on one line, groups as blocks."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def configs_folder() -> Path:
    """Return the folder of the shipped YAML files: in a wheel beside the modules, in a checkout beside the package."""
    package = Path(mrirecon.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """Names of the shipped files, such as `base` and `optimizer/adam`."""
    folder = configs_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


GRIDS = "ablation/"  # shipped names of studies; the others are overlays of configurations


def find_config(name: str | Path, grids: bool = False) -> Path:
    """A file that exists, or a shipped one by name (its folder may be left out).

    Args:
        name: The file, or the name.
        grids: Of a study and an overlay that share a bare name, the study is meant.

    Raises:
        InputError: Neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    named = {key: file for key, file in shipped.items() if str(name) in (key, Path(key).name)}
    matches = [file for key, file in named.items() if key.startswith(GRIDS) == grids] or list(named.values())
    if str(name) in ("fast", "preset/fast"):  # shipped by the first versions
        raise InputError(f"the preset '{name}' is gone: it held the defaults; leave it out")
    if len(matches) != 1:
        what = "several shipped configurations are called" if matches else "no file or shipped configuration"
        raise InputError(f"{what} '{name}'{did_you_mean(str(name), shipped)}; shipped: {', '.join(shipped)}")
    return matches[0]


def _flat_items(content: Mapping[str, Any], known: set[str], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        key = f"{prefix}{name}"
        is_group = any(other.startswith(f"{key}.") for other in known)
        if is_group and not isinstance(value, dict | None):
            raise InputError(f"'{key}' is a group of keys, got {value!r}; nest them below it")
        if is_group or (isinstance(value, dict) and key not in known):
            yield from _flat_items(value or {}, known, f"{key}.")  # a group whose lines are all comments is null
        else:
            yield key, value
