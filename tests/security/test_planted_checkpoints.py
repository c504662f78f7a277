"""A checkpoint from a stranger runs nothing: a planted payload is refused, in one line, with a hash that fits it."""

import hashlib
import os
import pickle
import shutil

import pytest
import torch

from mrirecon.cli import main
from mrirecon.errors import InputError
from mrirecon.training.checkpoints.weights_files import load_portable


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, volume_writer):
    """Two finished runs with an evaluation each."""
    root = tmp_path_factory.mktemp("planted")
    for split, n in (("train", 2), ("val", 1), ("test", 2)):
        (root / "data" / split).mkdir(parents=True)
        for i in range(n):
            volume_writer(root / "data" / split / f"{split}{i}.h5", matrix=(32, 32), n_slices=2, seed=i)
    for i, optimizer in enumerate(("adam", "sgd")):
        run = str(root / f"run{i}")
        words = ["--channels", "4", "--pools", "2", "--max-steps", "2", "--val-every", "1", "--quiet"]
        assert main(["train", "--data", str(root / "data"), "--output", run, "--optimizer", optimizer, *words]) == 0
        assert main(["evaluate", run, "--quiet"]) == 0
    return root


@pytest.fixture
def root(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "root")
    return tmp_path / "root"


def whole(payload, state, path):
    torch.save(payload, path)


def beside_the_weights(payload, state, path):
    torch.save(state | {"extra": payload}, path)


def bare(payload, state, path):
    path.write_bytes(pickle.dumps({"state_dict": payload}))


def plant(how, root, which, ran, with_hash=True):
    path = root / "run0" / "checkpoints" / f"{which}.ckpt"
    state = torch.load(path, weights_only=True)
    how(Payload(ran), state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    hashes = path.with_name(f"{path.name}.sha256")
    hashes.write_text(f"{digest}  {path.name}\n") if with_hash else hashes.unlink()


def commands(root, which):
    run, use = str(root / "run0"), ["--checkpoint", which]
    files = [str(root / "data" / "test"), "-o", str(root / "images")]
    found = {
        "evaluate": ["evaluate", run, *use, "--overwrite"],
        "reconstruct": ["reconstruct", run, *files, *use],
        "export": ["export", run, *use],
    }
    return found | ({"train": ["train", "--resume", run]} if which == "last" else {})


@pytest.mark.parametrize("with_hash", [True, False])
@pytest.mark.parametrize("how", [whole, beside_the_weights, bare])
@pytest.mark.parametrize("which", ["best", "last"])
def test_a_planted_payload_is_refused_in_one_line_and_does_not_run(root, capsys, how, which, with_hash):
    plant(how, root, which, root / "ran", with_hash)
    for name, words in commands(root, which).items():
        capsys.readouterr()
        assert main([*words, "--quiet"]) == 2, name
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{which}.ckpt" in said
        assert "Traceback" not in said
        assert "weights_only" not in said  # torch's advice
        assert ("it may run code and was not loaded" in said) == (how is not bare) or name == "train"
        assert not (root / "ran").exists(), name


@pytest.mark.parametrize("which", ["best", "last"])
def test_report_and_compare_do_not_open_checkpoints(root, which):
    for how in (whole, bare):
        plant(how, root, which, root / "ran")
        plant_weights(root)
        assert main(["report", str(root / "run0"), "--quiet"]) == 0
        assert main(["compare", str(root / "run0"), str(root / "run1"), "--quiet"]) == 0
        assert not (root / "ran").exists()
        restore(root, which)


def plant_weights(root):
    (root / "run0" / "weights.safetensors").write_bytes(pickle.dumps(Payload(root / "ran")))


def restore(root, which):
    """From the other run; the network is the same."""
    shutil.copy(root / "run1" / "checkpoints" / f"{which}.ckpt", root / "run0" / "checkpoints")


def test_planted_weights_are_refused_or_not_opened(root):
    plant_weights(root)
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be loaded"):
        load_portable(root / "run0" / "weights.safetensors")
    for words in commands(root, "last").values():
        assert main([*words, "--quiet"]) == 0
    assert not (root / "ran").exists()


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_changed_checkpoint_does_not_match_its_hash(root, capsys, which):
    """One weight more or less is no damage that anything but the hash can see."""
    path = root / "run0" / "checkpoints" / f"{which}.ckpt"
    state = torch.load(path, weights_only=True)
    next(iter(state["state_dict"].values())).mul_(1.01)
    torch.save(state, path)
    for name, words in commands(root, which).items():
        capsys.readouterr()
        assert main([*words, "--quiet"]) == 2, name
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert ("is damaged" if name == "train" else f"{which}.ckpt does not match its SHA-256") in said


def test_the_payload_would_run(tmp_path):
    """Or the other tests would prove nothing."""
    whole(Payload(tmp_path / "ran"), {}, tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=False)
    assert (tmp_path / "ran").is_dir()
