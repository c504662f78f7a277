"""Seeded changes to what a checkpoint says: sound archives with wrong weights, wrong states, or a planted program."""

import io
import os
import pickle
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from checkpoint_bytes import Damage, members, rebuilt

MARK = "planted-program-was-here"  # the file that a planted program would leave
_ODD = (None, -1, 0, 2**40, 2**70, 1.5, float("nan"), "three", [], {}, [[[]]], True, b"bytes")


def _pick(rng: np.random.Generator, options: Any) -> Any:
    options = list(options)
    return options[rng.integers(len(options))]


def edited(edit: Callable[[dict[str, Any], np.random.Generator], None]) -> Damage:
    """Change the loaded content and save it again."""

    def change(data: bytes, rng: np.random.Generator) -> bytes:
        content = torch.load(io.BytesIO(data), weights_only=True)
        edit(content, rng)
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=bool(rng.random() < 0.9))
        return stream.getvalue()

    return change


def weight_keys(content: dict[str, Any], rng: np.random.Generator) -> None:
    """Weights gone, added, under other names."""
    weights = content["state_dict"]
    name = _pick(rng, weights)
    new = _pick(rng, ["", "extra", name.upper(), f"{name}.0", f"module.{name}", 7, None])
    kind = rng.integers(4)
    if kind == 0:
        del weights[name]
    elif kind == 1:
        weights[new] = weights[name]
    elif kind == 2:
        weights[new] = weights.pop(name)
    else:
        content["state_dict"] = _pick(
            rng, [None, [], {}, "weights", list(weights.items()), {"a": weights}, torch.ones(3)]
        )


def weight_shapes(content: dict[str, Any], rng: np.random.Generator) -> None:
    """Tensors of another shape, some of which claim much more than they hold."""
    weights = content["state_dict"]
    name = _pick(rng, weights)
    value = weights[name]
    weights[name] = _pick(
        rng,
        [
            value[None],
            value.flatten(),
            value[:1],
            value[:0],
            value.T if value.ndim == 2 else value.transpose(0, -1),
            torch.zeros(1).expand(2**40),
            torch.zeros(1).expand(2**20, 2**20),
            value.repeat(2, *[1] * (value.ndim - 1)),
            torch.tensor(1.0),
            value.to_sparse(),
            value.tolist(),
            None,
        ],
    )


def weight_dtypes(content: dict[str, Any], rng: np.random.Generator) -> None:
    """Tensors of another type: other kinds of floats are converted, the rest loses its meaning."""
    weights = content["state_dict"]
    names = list(weights) if rng.random() < 0.5 else [_pick(rng, weights)]
    kind = _pick(rng, [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64])
    for name in names:
        weights[name] = weights[name].to(kind)


def weight_values(content: dict[str, Any], rng: np.random.Generator) -> None:
    """Numbers that are not finite, or as large as numbers get."""
    weights = content["state_dict"]
    value = weights[_pick(rng, weights)]
    if value.is_floating_point():
        special = _pick(rng, [float("nan"), float("inf"), -float("inf"), 3e38, 1e30, 1e10, 0.0, -0.0, 1e-42])
        value.view(-1)[_pick(rng, [slice(None), 0, slice(0, 3)])] = special


def other_state(content: dict[str, Any], rng: np.random.Generator) -> None:
    """Steps, loops, optimizer, schedule, callbacks: gone or of another kind, at any depth."""
    place: Any = content
    names = [name for name in content if name != "state_dict"]
    name = _pick(rng, names)
    while isinstance(place[name], dict | list) and len(place[name]) and rng.random() < 0.75:
        place = place[name]
        name = _pick(rng, place if isinstance(place, dict) else range(len(place)))
    kind = rng.random()
    if kind < 0.3 and isinstance(place, dict):
        del place[name]
    elif kind < 0.5 and isinstance(place[name], torch.Tensor) and place[name].is_floating_point():
        place[name] = place[name] * _pick(rng, [-1, float("nan"), 1e30, 0])
    else:
        place[name] = _pick(rng, _ODD)


class _Planted:
    """Its pickle calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def planted_program(data: bytes, rng: np.random.Generator) -> bytes:
    """A pickle that would run a program: in place of the pickle, inside the content, or instead of the archive."""
    planted = _pick(
        rng,
        [
            _Planted(os.system, f"touch {MARK}"),
            _Planted(eval, f"open('{MARK}', 'w')"),
            _Planted(exec, f"open('{MARK}', 'w')"),
            _Planted(subprocess.check_call, ["touch", MARK]),
            _Planted(print, "planted"),
            _Planted(torch.load, MARK),
            _Planted(torch.hub.load, "nobody/nothing", "x"),
        ],
    )
    text = pickle.dumps({"state_dict": planted, "callbacks": planted}, protocol=2)
    if rng.random() < 0.3:
        return text
    content = members(data)
    (name,) = (name for name in content if name.endswith("data.pkl"))
    # before the content, which still follows: a loader that runs the first part would be caught too
    content[name] = text if rng.random() < 0.5 else text[:-1] + b"0" + content[name].replace(b"\x80\x02", b"", 1)
    return rebuilt(content)


CHANGES: dict[str, Damage] = {
    "weight keys": edited(weight_keys),
    "weight shapes": edited(weight_shapes),
    "weight dtypes": edited(weight_dtypes),
    "weight values": edited(weight_values),
    "other state": edited(other_state),
    "planted programs": planted_program,
}
