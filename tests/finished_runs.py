"""Finished runs as their files tell it, for the tests of `compare`."""

from dataclasses import replace

import numpy as np
from result_rows import row

from mrirecon import configfile
from mrirecon.config import CompareConfig, OptimizerConfig, TrainConfig
from mrirecon.evaluation.results import write_results
from mrirecon.files import write_json
from mrirecon.workflows.compare.compare_tables import compare

NAME = "data-test-random-4x"


def scored(seed, n=8, mean=0.8, spread=0.02):
    """Scores of n volumes of n patients that `seed` decides."""
    rng = np.random.default_rng(seed)
    ssim = mean + spread * rng.standard_normal(n)
    return [
        row(
            f"v{i}.h5",
            ssim=float(s),
            psnr=float(30 + 10 * s),
            nmse=float(1 - s),
            zf_nmse=0.05 + i / 1e6,
            mask_id=f"id{i}",
        )
        for i, s in enumerate(ssim)
    ]


def write_table(folder, rows, **summary):
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "volumes.csv", rows)
    facts = {"split": "test", "slices": None, "acceleration": 4, "data": "data", "center_fraction": 0.08}
    write_json(folder / "summary.json", facts | summary)


def make_run(tmp_path, name, rows, config=None, *, evaluation=NAME, steps=200, provenance=None, **summary):
    """A finished run as its files tell it: configuration, curves, one evaluation."""
    run = tmp_path / name
    run.mkdir(parents=True, exist_ok=True)
    configfile.save(config or of("adamw"), run / "config.yaml")
    (run / "curves.csv").write_text(f"step,train_loss\n10,1.0\n{steps},0.5\n")
    write_json(run / "provenance.json", provenance or {})
    write_table(run / "evaluation" / evaluation, rows, **summary)
    return name


def of(optimizer, seed=0, **changes):
    return replace(TrainConfig(optimizer=OptimizerConfig(name=optimizer), batch_size=2, seed=seed), **changes)


def make_seeds(tmp_path, optimizer, seeds, mean, spread=0.02):
    rows = {seed: scored(100 * seed + ord(optimizer[0]), mean=mean, spread=spread) for seed in seeds}
    names = [make_run(tmp_path, f"{optimizer}-s{seed}", rows[seed], of(optimizer, seed)) for seed in seeds]
    return names, np.array([[r.ssim for r in rows[seed]] for seed in seeds])


def run(words, **keys):
    return compare(CompareConfig(**keys), words)
