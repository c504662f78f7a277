"""Every class of mutation of a YAML file, by name: its bytes, its lines, its values, its tags, what it names."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml
from checkpoint_contents import MARK

Change = Callable[[str, np.random.Generator], str | bytes]

_SHORT = "0 -1 1 3 0.5 1.5 1e400 -1e400 1e-400 .nan .inf -.inf 1e3 0x7f 0o17 1_0 1:30 ~ true 4.0 +4 1e-3 '4'"
_NUMBERS = (
    *_SHORT.split(),
    *("1000000", "2147483648", "100000000000", "9223372036854775808", "340282366920938463463374607431768211456"),
    *("9" * 300, "9" * 5000),
)
_VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    " ",
    "adam",
    "group",
    "\u2028",
    "x" * 3000,
    [],
    [[]],
    [None],
    ["a", 1],
    {},
    {"a": {}},
    {"": None},
    {1: 2},
)
_TAGS = (
    *(
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!unknown 3",
    ),
    *(
        "!!python/object/new:subprocess.Popen [['touch', {mark}]]",
        "!!float x",
        "!!int twelve",
        "!!bool maybe",
        "!!null x",
    ),
    *(
        "!!binary aGVsbG8=",
        "!!binary '%%%'",
        "!!set {{a, b}}",
        "!!timestamp 2001-01-01",
        "2001-13-45",
        "2001-01-01 99:99:99",
    ),
    *(
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
        "!!str 3",
        "!!seq a",
        "!!map a",
        "!<tag:yaml.org,2002:int> 3",
        "!!python/tuple [1]",
    ),
)
# eight times eight times eight ...: two lines of text that stand for 16 million values
_EIGHT_OF = [
    f"&{name} [*{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}]"
    for of, name in zip("abcdefg", "bcdefgh", strict=True)
]
_LAUGHS = f"[&a [x, x, x, x, x, x, x, x], {', '.join(_EIGHT_OF)}]"
_ALIASES = (
    *("&a [*a]", "&a {b: *a}", "*nothing", "&a 1", "[&a 3, *a]", "{<<: {a: 1}}", "{<<: [1]}", "{<<: 3}"),
    _LAUGHS,
)
_CLASSES = (
    *(
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.nn.os.system",
        "torch.optim.sys.exit",
        "mrirecon.files.os",
    ),
    *("torch.nn.Module", "torch.nn.Linear", "torch.nn.Conv2d", "torch.nn.BatchNorm2d", "torch.nn.Identity", "torch.nn"),
    *("torch.optim.Optimizer", "torch.optim.SGD", "torch.optim.LBFGS", "torch.optim.SparseAdam", "torch.nn.L1Loss"),
    *("torch.nn.CrossEntropyLoss", "torch.nn.functional.relu", "torch.nn.Transformer", "mrirecon.data.volume.Volume"),
    *(
        "mrirecon.cli.main",
        "mrirecon.__main__.main",
        "mrirecon.workflows.train.train",
        "mrirecon..x",
        ".os",
        "",
        "torch.nn.",
        "mrirecon." * 300,
        "torch.nn.\u00e9",
    ),
)
_FITTING: tuple[tuple[str, str, str, dict[str, Any]], ...] = (  # some of them only until they see an image
    ("optimizer", "name", "torch.optim.SGD", {"momentum": 0.5}),
    ("optimizer", "name", "torch.optim.Rprop", {}),
    ("optimizer", "name", "torch.optim.LBFGS", {}),
    ("optimizer", "name", "schedulefree.SGDScheduleFree", {}),
    ("model", "norm", "torch.nn.BatchNorm2d", {"eps": 1e-3}),
    ("model", "norm", "torch.nn.Identity", {}),
    ("model", "norm", "torch.nn.Conv2d", {"out_channels": 3, "kernel_size": 3}),
    ("model", "norm", "torch.nn.Linear", {"out_features": 5}),
    ("model", "norm", "torch.nn.Linear", {"out_features": 10**12}),
    ("", "loss", "torch.nn.HuberLoss", {}),
    ("", "loss", "torch.nn.BCELoss", {}),
    ("", "loss", "torch.nn.CosineEmbeddingLoss", {}),
    ("", "loss", "torch.nn.MSELoss", {"reduction": "none"}),
)
_ARGUMENTS = (
    {},
    {"lr": 1},
    {"eps": "x"},
    {"num_features": -1},
    {"command": f"touch {MARK}"},
    {"params": []},
    {"inplace": True},
    {"d_model": 10**9},
)


def _pick(rng: np.random.Generator, options: Any) -> Any:
    options = list(options)
    return options[rng.integers(len(options))]


def _value(text: str, rng: np.random.Generator, new: str, pattern: str = r": (?! *\n)([^\n]+)") -> str:
    """The file with one of its values replaced."""
    match = _pick(rng, re.finditer(pattern, text))
    return text[: match.start(1)] + new + text[match.end(1) :]


def characters(text: str, rng: np.random.Generator) -> str:
    """One or two characters anywhere, of those that mean something."""
    letters = list(text)
    for position in rng.integers(len(letters), size=rng.integers(1, 3)):
        letters[position] = _pick(rng, ":-[]{}&*!|>'\"%@`#,?\t\n 0a\u00e9")
    return "".join(letters)


def raw_bytes(text: str, rng: np.random.Generator) -> bytes:
    """Bytes anywhere, which may be no text."""
    data = bytearray(text.encode())
    for position in rng.integers(len(data), size=rng.integers(1, 3)):
        data[position] = rng.integers(256) if rng.random() < 0.3 else rng.integers(32, 127)
    return bytes(data)


def lines(text: str, rng: np.random.Generator) -> str:
    """Lines gone, twice, moved, indented otherwise; a second document."""
    rows = text.splitlines()
    i, j = (int(k) for k in rng.integers(len(rows), size=2))
    change = rng.integers(5)
    if change == 0:
        del rows[i]
    elif change == 1:
        rows.insert(j, rows[i])
    elif change == 2:
        rows[i], rows[j] = rows[j], rows[i]
    elif change == 3:
        rows[i] = " " * int(rng.integers(1, 5)) + rows[i].lstrip() if rng.random() < 0.7 else "\t" + rows[i]
    else:
        rows.insert(i, _pick(rng, ["---", "...", "%YAML 9.9", "? a", "- b", "|", "# c"]))
    return "\n".join(rows)


def types(text: str, rng: np.random.Generator) -> str:
    """A value, or a whole group, of another kind."""
    content = yaml.safe_load(text)
    place, name = content, _pick(rng, content)
    if isinstance(place[name], dict) and rng.random() < 0.6:
        place = place[name]
        name = _pick(rng, place)
    place[name] = _pick(rng, _VALUES)
    return yaml.safe_dump(content if rng.random() < 0.95 else _pick(rng, _VALUES), allow_unicode=bool(rng.integers(2)))


def numbers(text: str, rng: np.random.Generator) -> str:
    """Numbers that are huge, tiny, none, of another base or kind."""
    return _value(text, rng, _pick(rng, _NUMBERS), r"[:\[] ?(-?\d[\d.e-]*)")


def tags(text: str, rng: np.random.Generator) -> str:
    """A value under a tag; those of Python would run a program."""
    return _value(text, rng, _pick(rng, _TAGS).format(mark=MARK))


def aliases(text: str, rng: np.random.Generator) -> str:
    """Anchors and aliases: circles, ones that grow without bound, merges."""
    return _value(text, rng, _pick(rng, _ALIASES))


def class_paths(text: str, rng: np.random.Generator) -> str:
    """Classes in place of names: some that fit, most of which may not be imported or do not fit."""
    content = yaml.safe_load(text)
    group, key, path, arguments = _pick(rng, _FITTING)
    if rng.random() < 0.6:
        path, arguments = _pick(rng, _CLASSES), _pick(rng, _ARGUMENTS)
    spec = {"class_path": path, "init_args": arguments}
    if rng.random() < 0.15:
        spec[_pick(rng, ["class_path", "init_args", "other"])] = _pick(rng, _VALUES)
    if "factors" in content:
        content["factors"], content["reference"] = {"loss": [spec, "l1"]}, {"loss": "l1"}
    else:
        (content[group] if group else content)[key] = spec
        content["optimizer"].pop("betas")
    return yaml.safe_dump(content)


def nesting(text: str, rng: np.random.Generator) -> str:
    """Brackets without end, or thousands of levels."""
    depth = int(10 ** rng.uniform(1, 4))
    new = _pick(rng, ["[" * depth, "{a: " * depth, "[" * depth + "]" * depth, "{a: " * depth + "1" + "}" * depth])
    return _value(text, rng, new)


def key_names(text: str, rng: np.random.Generator) -> str:
    """Keys that are unknown, no text, dotted, empty, or stand at another place."""
    names = [
        "1",
        "~",
        "true",
        "1.5",
        "[a]",
        "{a: b}",
        "''",
        "'a b'",
        "model.norm",
        "optimizer.lr.x",
        "x" * 2000,
        "\u00e9",
        "class_path",
        ".",
        "2001-01-01",
        "__class__",
        "path",
    ]
    match = _pick(rng, re.finditer(r"^ *([a-z_]+):", text, re.M))
    return text[: match.start(1)] + _pick(rng, names) + text[match.end(1) :]


def encodings(text: str, rng: np.random.Generator) -> str | bytes:
    """The same text in another encoding, with odd line ends, with much or nothing around it."""
    return _pick(
        rng,
        [
            *(text.encode(name) for name in ("utf-16", "utf-32", "utf-8-sig", "utf-16-le")),
            text.replace("\n", "\r\n"),
            text.replace("\n", "\r"),
            text.replace("  ", "\t"),
            text + "\0",
            "\x1b[2J" + text,
            text + "# " + "x" * 3_000_000,
            text + "".join(f"key{i}: 1\n" for i in range(3000)),
            b"\xff" + text.encode(),
            "",
            " \n# nothing\n",
            "null",
            "3",
            "- a\n- b",
            text.upper(),
        ],
    )


_ALL: dict[str, Change] = {
    "characters": characters,
    "raw bytes": raw_bytes,
    "lines": lines,
    "types": types,
    "numbers": numbers,
    "tags": tags,
    "aliases": aliases,
    "class paths": class_paths,
    "nesting": nesting,
    "key names": key_names,
    "encodings": encodings,
}
CLASSES = tuple(_ALL)


def mutate_yaml(text: str, name: str, rng: np.random.Generator) -> bytes:
    """`text` under one mutation of the class `name`."""
    changed = _ALL[name](text, rng)
    return changed if isinstance(changed, bytes) else changed.encode("utf-8", "surrogatepass")
