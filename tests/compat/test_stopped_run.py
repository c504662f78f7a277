"""A run that an earlier version was stopped in goes on here as it would have there."""

import csv
import importlib
import pkgutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

import mrirecon.training
import mrirecon.workflows
from mrirecon.cli import main
from mrirecon.runs import RunFolder
from mrirecon.training.loop.validate_and_keep import StepControl
from mrirecon.workflows import fit

EXPECTED = Path(__file__).parent / "expected"
# torch, the instructions that it uses, and the processor that the numbers were made on
MADE_ON = ("2.14.1", "AVX512", "Intel(R) Xeon(R) Processor", "6", "207", "2")


def this_machine():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    processor = (facts.get(name, "") for name in ("model name", "cpu family", "model", "stepping"))
    return torch.__version__.split("+")[0], torch.backends.cpu.get_cpu_capability(), *processor


def assert_weights(found, expected):
    """Bit for bit where they were made; the library's instructions round otherwise on other processors."""
    expected = load_file(str(expected))
    assert found.keys() == expected.keys()
    exact = this_machine() == MADE_ON  # elsewhere as close as rounding lets three steps come
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0 if exact else 1e-6)


def rows(path):
    with path.open() as handle:
        return list(csv.DictReader(handle))


def resume(run, data, *more):
    return main(["train", "--resume", str(run), "--data", str(data), *more])


def read(run, which):
    return torch.load(RunFolder(run).checkpoint(which), weights_only=True)


def rewrite(run, change):
    """Edit the state of callbacks of a run's last checkpoint, which loses its hash by that."""
    path = RunFolder(run).checkpoint("last")
    state = torch.load(path, weights_only=True)
    change(state["callbacks"])
    torch.save(state, path)
    path.with_name(f"{path.name}.sha256").unlink()


def test_it_ends_with_the_weights_of_the_uninterrupted_one(stopped, data, capsys):
    assert read(stopped, "last")["global_step"] == 15
    assert resume(stopped, data) == 0
    err = capsys.readouterr().err
    assert "ended at step 18 of 60: 4 validations without a better SSIM than at step 10" in err
    assert "warning" not in err
    last = read(stopped, "last")
    assert last["global_step"] == 18
    assert_weights(last["state_dict"], EXPECTED / "last.safetensors")
    assert_weights(load_file(str(RunFolder(stopped).weights)), EXPECTED / "weights.safetensors")
    assert [row["step"] for row in rows(stopped / "curves.csv")] == [
        "2",
        "4",
        "6",
        "8",
        "10",
        "10",
        "12",
        "14",
        "16",
        "18",
    ]


def test_its_best_score_and_its_bad_validations_are_taken_up(stopped, data, monkeypatch):
    seen = []
    begin = StepControl.on_train_start

    def noting(self, *args):
        seen.append((self.best, self.best_step, self.n_worse))
        begin(self, *args)

    monkeypatch.setattr(StepControl, "on_train_start", noting)
    assert resume(stopped, data) == 0
    state = read(stopped, "best")["callbacks"]["Keeper"]
    assert seen == [(state["best"], 10, 2)]
    assert state["best"] == pytest.approx(float(rows(stopped / "curves.csv")[5]["val_ssim"]), rel=1e-8)


def test_a_renamed_class_reads_it_too(stopped, data, monkeypatch, capsys):
    class Guardian(StepControl):
        pass

    monkeypatch.setattr(fit, "StepControl", Guardian)
    assert resume(stopped, data) == 0
    assert "ended at step 18 of 60" in capsys.readouterr().err


def test_a_state_that_nobody_takes_up_is_named(stopped, data, capsys):
    rewrite(stopped, lambda callbacks: callbacks.update(Watcher={"n": 3}))
    assert resume(stopped, data, "--quiet") == 0
    lines = capsys.readouterr().err.splitlines()
    assert "warning: the checkpoint holds a state of Watcher, which is unknown here and not used" in lines


def test_a_state_that_is_not_there_is_named(stopped, data, capsys):
    rewrite(stopped, lambda callbacks: callbacks.pop("Curves"))
    assert resume(stopped, data, "--quiet") == 0
    lines = capsys.readouterr().err.splitlines()
    assert "warning: the checkpoint holds no state of Curves; what that counts begins anew" in lines


def test_every_callback_with_a_state_has_a_fixed_key():
    """By default it is the name of the class: a renamed class would forget what it counted."""
    for room in (mrirecon.training, mrirecon.workflows):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    waiting, ours = [pl.Callback], []
    while waiting:
        waiting += (found := waiting.pop().__subclasses__())
        ours += [one for one in found if one.__module__.startswith("mrirecon.")]
    stateful = {one for one in ours if one.state_dict is not pl.Callback.state_dict}
    assert {one.__name__ for one in stateful} >= {"StepControl", "Curves"}
    for one in stateful:
        assert "state_key" in vars(one), f"{one.__module__}.{one.__name__} keeps a state: give it a property state_key"
