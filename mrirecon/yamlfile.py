"""YAML files from anybody: they give plain values, and are too small and too flat to take memory or time.

Aliases let a few lines stand for billions of values, or for a value that holds itself; so what a file expands to is
looked at before any of it is made. Tags of Python, which could run code, do not exist here.
"""

from pathlib import Path
from typing import Any

import yaml

from mrirecon.errors import InputError, why_unread

_MOST_BYTES = 2**17  # the largest shipped file has 6 kB
_MOST_VALUES = 10_000
_MOST_LEVELS = 20
_KINDS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")


def parse_yaml(file: Path) -> Any:
    """The content of a YAML file of one document: mappings, lists, texts, numbers, dates.

    It is YAML 1.1 (https://yaml.org/spec/1.1/), in which `yes`, `no`, `on` and `off` are truth values.

    Raises:
        InputError: It is no YAML, cannot be read, is too large, gives a key twice, or a value of another kind; the
            message names the file.
    """
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(f"{file} has {size} bytes, a configuration at most {_MOST_BYTES}; is it another file?")
        return _plain(yaml.SafeLoader(file.read_text(encoding="utf-8")), file)
    except InputError:
        raise
    except Exception as error:  # of a wrong date, number or text the library raises anything
        if refused := why_unread(error):
            raise InputError(f"{file}: {refused}") from None
        reason = "its values are nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{file} is not readable YAML: {' '.join(reason.split())[:300]}") from None


def _plain(loader: yaml.SafeLoader, file: Path) -> Any:
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _require_plain(node, file)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _require_plain(root: yaml.Node, file: Path) -> None:
    """Walk what the file stands for, every alias as often as it is used, up to the limits."""
    n_values, waiting = 0, [(root, 1)]
    while waiting:
        node, level = waiting.pop()
        n_values += 1
        if level > _MOST_LEVELS or n_values > _MOST_VALUES:
            raise InputError(
                f"{file} stands for more than {_MOST_VALUES} values or {_MOST_LEVELS} levels of them (aliases "
                "counted as often as they are used); no configuration needs that: cut it"
            )
        kind = node.tag.rpartition(":")[2]
        if kind not in _KINDS:
            raise InputError(
                f"{file} has a value of the kind '{kind}'{_line(node)}; plain ones are {', '.join(_KINDS)}"
            )
        waiting += [(inner, level + 1) for inner in _inside(node, file)]


def _inside(node: yaml.Node, file: Path) -> list[yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return list(node.value) if isinstance(node, yaml.SequenceNode) else []
    seen: set[str] = set()
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        if key.value in seen:
            raise InputError(f"{file} gives the key '{key.value}' twice{_line(key)}; leave one of them out")
        seen.add(key.value)
    return [inner for pair in node.value for inner in pair]


def _line(node: yaml.Node) -> str:
    return f" (line {node.start_mark.line + 1})"
