"""`mrirecon export`, `score`, `compare` and `report`: what is done with finished runs and reconstructions."""

from pathlib import Path

from mrirecon.cli.command import Command
from mrirecon.config import CompareConfig, ExportConfig, NoConfig, ScoreConfig
from mrirecon.errors import InputError

_STUDY_FILES = ("manifest.json", "ablation.yaml")


def _export(config: ExportConfig, run: str) -> None:
    from mrirecon.workflows.export.export_run import export

    export(config, run)


EXPORT = Command(
    name="export",
    summary="Write a trained network as safetensors, ONNX or torch.export files, checked, with a model card.",
    config=ExportConfig,
    run=_export,
    loads_torch=True,
    positionals=(("RUN", "a run folder"),),
    epilog="examples:\n  mrirecon export RUN\n  mrirecon export RUN --format onnx torch-export --output FOLDER",
)


def _score(config: ScoreConfig, predictions: str, targets: str) -> None:
    from mrirecon.workflows.score import score

    score(config, predictions, targets)


SCORE = Command(
    name="score",
    summary="Score anyone's reconstructions (fastMRI prediction files) against their references, per volume.",
    config=ScoreConfig,
    run=_score,
    positionals=(
        ("PREDICTIONS", "folder with one .h5 per target, data set `reconstruction` (slices, height, width)"),
        ("TARGETS", "folder of fastMRI .h5 files, flat or in split folders; only their references are read"),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon score PREDICTIONS DIR/val --mask random --acceleration 4\n"
        "  mrirecon score PREDICTIONS DIR/multicoil_val --crop square    (as python -m fastmri.evaluate)"
    ),
)


def _compare(config: CompareConfig, *words: str) -> None:
    from mrirecon.workflows.compare.compare_tables import compare

    compare(config, words)


COMPARE = Command(
    name="compare",
    summary="Paired statistics of finished runs or evaluation tables over volumes and seeds, a verdict in words.",
    config=CompareConfig,
    run=_compare,
    positionals=(
        ("[A]", "the reference: a run folder, the folder of an evaluation, or a table (volumes.csv or any other .csv)"),
        ("[B]...", "what is compared with it; runs that differ in their seed alone are taken together"),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon compare runs/adam runs/sgd --split test\n"
        "  mrirecon compare adam-s* sgd-s* --output comparison     (seeds 0, 1, ... of each)\n"
        "  mrirecon compare runs/mine runs/theirs                  (theirs: tables of mrirecon score)\n"
        "  mrirecon compare --group adam='a/*.csv' --group sgd='s/*.csv'   (tables of anybody, one per seed)\n"
        "  mrirecon compare all.csv                                (columns: volume, ssim, method, seed, patient)"
    ),
)


def _report(_config: NoConfig, folder: str, output: str = "", **_words: object) -> None:
    path = Path(folder)
    if all((path / name).is_file() for name in _STUDY_FILES):
        if output:
            raise InputError(f"--output {output} is for runs; the report of an ablation stands in its folder")
        from mrirecon.ablation.publish import write_report

        page = write_report(path)
    else:
        from mrirecon.report.pages.run_page import run_report

        page = run_report(path, output)
    print(f"report: {page}")


REPORT = Command(
    name="report",
    summary="Write one offline HTML page of a run, a comparison or an ablation.",
    config=NoConfig,
    run=_report,
    positionals=(
        (
            "FOLDER",
            "of a run, of an ablation, of a method (runs/tv), of an evaluation, or of a comparison, as evaluate of "
            "several things and compare --output write it",
        ),
    ),
    extra=(("--output FILE", "the page, but of an ablation [FOLDER/report.html]"),),
    epilog="examples:\n  mrirecon report runs/group-adam-20260101-120000\n  mrirecon report ablations/smoke",
)
