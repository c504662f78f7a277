"""`mrirecon export`."""

from mrirecon.cli.command import Command
from mrirecon.config import ExportConfig


def _run(config: ExportConfig, run: str) -> None:
    from mrirecon.workflows.export.workflow import export

    export(config, run)


COMMAND = Command(
    name="export",
    summary="Write a trained network as safetensors, ONNX or torch.export files, checked, with a model card.",
    config=ExportConfig,
    run=_run,
    loads_torch=True,
    positionals=(("RUN", "a run folder"),),
    epilog="examples:\n  mrirecon export RUN\n  mrirecon export RUN --format onnx torch-export --output FOLDER",
)
