"""The files that an export can make: how each is written, and how it is run without this package's trained module."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrirecon.config import ModelConfig
from mrirecon.errors import InputError, WorkFailedError, explained, unknown_name
from mrirecon.training.checkpoints.weights_files import load_portable, save_portable
from mrirecon.training.deployable import Deployable

Size = tuple[int, int]
Runs = Callable[..., Tensor]
_ONE_FILE = 2_000_000_000  # bytes that fit into one ONNX file
_LIBRARIES = r"(torch|onnx|onnxscript|onnx_ir|onnxruntime)(\..*)?"
# what a traced graph remembers of the code it came from, paths of this machine among it
_ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


@dataclass(frozen=True)
class Format:
    """One kind of file.

    `write` takes the network, its configuration, the file and the image size, None for any; `open` gives a function of
    the network's inputs.
    """

    file: str
    write: Callable[[Deployable, ModelConfig, Path, Size | None], None]
    open: Callable[[Path], Runs]
    needs: tuple[str, ...] = ()  # modules that mrirecon does not depend on
    is_graph: bool = True  # of what the network computes, not of its weights


def write_any_size(kind: Format, network: Deployable, config: ModelConfig, path: Path, size: Size) -> Size | None:
    """Write a file for images of any size or, where that cannot be, of `size`; returns the size it is bound to.

    Raises:
        WorkFailedError: Neither can be written.
        OSError: The system does not let it.
    """
    problem: Exception | None = None
    for bound in (None, size):
        try:
            with quiet_libraries():
                kind.write(network, config, path, bound)
            return bound
        except Exception as error:  # the exporters raise anything
            problem = problem or error
    if isinstance(problem, OSError) and explained(problem):
        raise problem
    reason = " ".join(str(problem).split())[:300]
    raise WorkFailedError(f"{path.name} cannot be written, {type(problem).__name__}: {reason}; try another --format")


def require_formats(names: list[str]) -> None:
    """Raise an InputError for an unknown format, or one whose packages are not installed."""
    if not names:
        raise InputError(f"--format is empty; give one or more of {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        missing = [module for module in FORMATS[name].needs if find_spec(module) is None]
        if missing:
            raise InputError(f"--format {name} needs {', '.join(missing)}: pip install 'mrirecon[onnx]'")


def require_graphs(names: list[str], network: Deployable, model: str) -> None:
    """Raise an InputError for a format that cannot hold a network."""
    for name in names:
        if FORMATS[name].is_graph and not network.has_graph:
            fitting = ", ".join(other for other, kind in FORMATS.items() if not kind.is_graph)
            raise InputError(
                f"--format {name} cannot hold {model}, which computes in complex numbers, unknown to such graphs; "
                f"use --format {fitting}"
            )


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """The exporters' advice is for their developers; errors are raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=_LIBRARIES)
            yield
    finally:
        logging.disable(before)


def trace(network: Deployable, size: Size | None) -> torch.export.ExportedProgram:
    """The network as a graph for any batch and, unless `size` (height, width) is given, any size of image.

    By `torch.export` with sizes left open (https://docs.pytorch.org/docs/stable/export/api_reference.html).
    """
    batch, least = torch.export.Dim("batch"), network.smallest_size
    axes = {} if size else {-2: torch.export.Dim("height", min=least), -1: torch.export.Dim("width", min=least)}
    height, width = size or (least + 5, least + 2)
    examples = {"image": torch.rand(2, height, width), "combined": torch.rand(2, 2, height, width)}
    given = tuple(examples[name] for name in network.inputs)
    dynamic = tuple({0: batch, **{image.ndim + axis: dim for axis, dim in axes.items()}} for image in given)
    with torch.no_grad():
        program = torch.export.export(network, given, dynamic_shapes=dynamic, strict=False)
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for key in _ORIGINS:
                node.meta.pop(key, None)
    return program


def _write_safetensors(network: Deployable, config: ModelConfig, path: Path, _size: Size | None) -> None:
    save_portable(network.model, config, path)


def _write_torch(network: Deployable, _config: ModelConfig, path: Path, size: Size | None) -> None:
    torch.export.save(trace(network, size), path)


def _open_torch(path: Path) -> Runs:
    with quiet_libraries():
        return torch.export.load(path).module()


def _write_onnx(network: Deployable, _config: ModelConfig, path: Path, size: Size | None) -> None:
    program: Any = torch.onnx.export(
        trace(network, size),
        dynamo=True,
        verbose=False,
        input_names=list(network.inputs),
        output_names=["reconstruction"],
    )
    # names for a reader; older versions of torch cannot give any
    axes = program.model.graph.outputs[0].shape
    if hasattr(program, "rename_axes"):
        program.rename_axes(dict(zip(axes, ("batch",) if size else ("batch", "height", "width"), strict=False)))
    functions = program.model.functions.values()
    for node in [*program.model.graph, *(node for function in functions for node in function)]:
        node.metadata_props.clear()
    n_bytes = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    program.save(path, external_data=n_bytes > _ONE_FILE)


def _open_onnx(path: Path) -> Runs:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(*images: Tensor) -> Tensor:
        values = {name: image.numpy() for name, image in zip(names, images, strict=True)}
        return torch.from_numpy(session.run(None, values)[0])

    return run


FORMATS = {
    "safetensors": Format("model.safetensors", _write_safetensors, load_portable, is_graph=False),
    "onnx": Format("model.onnx", _write_onnx, _open_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": Format("model.pt2", _write_torch, _open_torch),
}
