"""The few lines that run an exported network, for each kind of file; a test executes them."""

from collections.abc import Iterable

_LIBRARY = {
    "safetensors": ["import torch", "from mrirecon.training import load_portable"],
    "onnx": ["import numpy as np", "import onnxruntime"],
    "torch-export": ["import torch"],
}
_AXES = {"image": ((1,), "(batch, height, width)"), "combined": ((1, 2), "(batch, 2, height, width)")}


def snippet(format: str, file: str, inputs: Iterable[str], size: tuple[int, int]) -> str:
    """Python code that reconstructs random images of `size` (height, width) with an exported `file`.

    Args:
        format: safetensors, onnx or torch-export.
        file: Its name; the code runs in its folder.
        inputs: Names of the network's inputs: image, combined or both, in order.
        size: Height and width in pixels.
    """
    names = list(inputs)
    lines = [*_LIBRARY[format], "", *(_input(name, size, format == "onnx") for name in names)]
    return "\n".join(lines + _CALLS[format](file, names))


def _input(name: str, size: tuple[int, int], is_numpy: bool) -> str:
    leading, axes = _AXES[name]
    shape = ", ".join(map(str, (*leading, *size)))
    values = f"np.random.rand({shape}).astype(np.float32)" if is_numpy else f"torch.rand({shape})"
    return f"{name} = {values}  # yours: float32 {axes}"


def _safetensors(file: str, names: list[str]) -> list[str]:
    call = f"    reconstruction = network({', '.join(names)})"
    return [f'network = load_portable("{file}")', "with torch.no_grad():", call]


def _torch(file: str, names: list[str]) -> list[str]:
    return [f'network = torch.export.load("{file}").module()', f"reconstruction = network({', '.join(names)})"]


def _onnx(file: str, names: list[str]) -> list[str]:
    given = ", ".join(f'"{name}": {name}' for name in names)
    return [f'session = onnxruntime.InferenceSession("{file}")', f"(reconstruction,) = session.run(None, {{{given}}})"]


_CALLS = {"safetensors": _safetensors, "onnx": _onnx, "torch-export": _torch}
