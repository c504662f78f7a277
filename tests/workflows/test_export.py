"""Exported networks compute what their run computes, whatever the size and the unit, and name no place."""

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

import mrirecon
from mrirecon.config import DataConfig, ExportConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.data.transforms import ImageSample, image_statistics
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.models import NORMS
from mrirecon.runs import RunFolder
from mrirecon.training.build import load_reconstructor
from mrirecon.training.checkpoints.read import hash_file
from mrirecon.training.checkpoints.weights_files import load_portable
from mrirecon.training.deployable import Deployable
from mrirecon.training.module import ReconModule
from mrirecon.workflows.export import export_run as exporting
from mrirecon.workflows.export import formats
from mrirecon.workflows.export.export_run import export, network_inputs
from mrirecon.workflows.export.formats import FORMATS, Runs
from mrirecon.workflows.train import train

KINDS = [(name, seen) for name in ("unet", "normunet") for seen in ("magnitude", "complex")]
INPUTS = {
    ("unet", "magnitude"): ("image",),
    ("unet", "complex"): ("combined", "image"),
    ("normunet", "magnitude"): ("image",),
    ("normunet", "complex"): ("combined",),
}
OPTIONS = {  # one of each family; the others are slow
    ("unet", "magnitude"): {"norm": "instance", "residual": True, "pools": 2},
    ("unet", "complex"): {"norm": "batch", "affine": True, "dropout": 0.2},
    ("normunet", "magnitude"): {"norm": "group", "channels_per_group": 1, "norm_position": "after"},
    ("normunet", "complex"): {"norm": "instance", "affine": True},
}


def trained_run(folder, data, kind, **options):
    config = TrainConfig(
        data=DataConfig(path=str(data)),
        model=ModelConfig(kind[0], kind[1], channels=4, **{"pools": 1, **options}),
        optimizer=OptimizerConfig(name="adam", lr=1e-2),
        max_steps=2,
        val_every=1,
        val_volumes=1,
        precision="fp32",
        threads=1,
        device="cpu",
        output=str(folder),
    )
    return train(config)


class Exported(NamedTuple):
    run: RunFolder
    inputs: tuple[str, ...]
    module: ReconModule
    files: dict[str, Runs]

    def pairs(self, sample):
        """What each file makes of a sample, and what the run does."""
        with torch.no_grad():
            want = self.module(sample).double()
            given = network_inputs(sample, self.inputs)
            return [(opened(*given), want) for opened in self.files.values()]


def opened(run, kind, folder=None):
    files = {name: f.open((folder or run.export) / f.file) for name, f in FORMATS.items()}
    return Exported(run, INPUTS[kind], load_reconstructor(run), files)


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def exported(request, small_data, tmp_path_factory):
    """A run of each kind with all three files."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    run = trained_run(folder, small_data, request.param, **OPTIONS[request.param])
    export(ExportConfig(format=list(FORMATS)), str(run.path))
    return opened(run, request.param)


@pytest.fixture(scope="module")
def run(small_data, tmp_path_factory):
    """A run that nothing was exported from."""
    return trained_run(tmp_path_factory.mktemp("plain") / "run", small_data, ("unet", "magnitude"), norm="layer")


def images(n, shape, scale=1.0, seed=0):
    """A collated sample of random images, statistics as the data give them."""
    generator = torch.Generator().manual_seed(seed)
    combined = torch.complex(*torch.randn(2, n, *shape, generator=generator)) * scale
    return sample_of(combined, combined.abs() * 1.1 + 0.5 * scale)


def sample_of(combined, image):
    mean, std = (torch.stack(values) for values in zip(*map(image_statistics, image), strict=True))
    n = len(image)
    nothing = torch.empty(n, 0)
    return ImageSample(image, nothing, mean, std, torch.ones(n), [""] * n, [0] * n, 1.0, 1.0, [""] * n, combined)


def relative(image, reference):
    return float((image - reference).norm() / reference.norm())


@pytest.mark.parametrize(("n", "shape"), [(1, (40, 32)), (3, (33, 46))])
@pytest.mark.parametrize("scale", [1e-6, 1e3])
@pytest.mark.cells(2)
def test_every_format_equals_the_run(exported, n, shape, scale):
    """At sizes and batches that the check did not use, odd ones too."""
    for got, want in exported.pairs(images(n, shape, scale)):
        assert got.dtype == torch.float32
        assert got.shape == (n, *shape)
        assert relative(got, want) <= 1e-4


@pytest.mark.parametrize("value", [0.0, 3e-6])
def test_a_constant_image_comes_back_and_does_not_touch_its_neighbour(exported, value):
    sample = images(2, (32, 40), 1e-5)
    sample.image[0], sample.combined[0] = value, value
    for got, want in exported.pairs(sample_of(sample.combined, sample.image)):
        torch.testing.assert_close(got[0], torch.full((32, 40), value), rtol=1e-6, atol=0)
        assert relative(got[1], want[1]) <= 1e-4


def test_the_onnx_file_is_sound_and_says_what_it_takes(exported):
    model = onnx.load(exported.run.export / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    axes = {"image": ["batch", "height", "width"], "combined": ["batch", 2, "height", "width"]}
    found = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert found == {name: axes[name] for name in exported.inputs} | {"reconstruction": axes["image"]}


def test_the_snippets_of_the_card_run_and_give_the_runs_images(exported, monkeypatch):
    monkeypatch.chdir(exported.run.export)
    snippets = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert len(snippets) == len(FORMATS)
    for code in snippets:
        variables = {}
        exec(code, variables)
        given = {name: torch.as_tensor(variables[name]) for name in exported.inputs}
        combined = given.get("combined", torch.zeros(1, 2, 64, 64)).movedim(1, -1).contiguous()
        sample = sample_of(torch.view_as_complex(combined), given.get("image", torch.ones(1, 64, 64)))
        got = torch.as_tensor(variables["reconstruction"]).detach()
        assert relative(got, exported.pairs(sample)[0][1]) <= 1e-4


def test_no_file_knows_this_machine_or_a_volume(exported, small_data):
    run = exported.run
    package = str(Path(mrirecon.__file__).parent).encode()
    secrets = [package, str(run.path).encode(), str(small_data).encode(), b"val0", b"train0", b"site-packages"]
    files = {path.name: path.read_bytes() for path in run.export.iterdir()}
    with zipfile.ZipFile(run.export / "model.pt2") as archive:
        files |= {name: archive.read(name) for name in archive.namelist()}
    found = [(name, secret) for name, content in files.items() for secret in secrets if secret in content]
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_norm_in_every_network(kind, norm, affine, small_data, tmp_path):
    run = trained_run(tmp_path / "run", small_data, kind, norm=norm, affine=affine, pools=2)
    export(ExportConfig(format=list(FORMATS)), str(run.path))
    assert "pixels only" not in (run.export / "README.md").read_text()
    for got, want in opened(run, kind).pairs(images(2, (47, 38), 1e-3)):
        assert relative(got, want) <= 1e-4


def test_the_default_is_one_file_that_rebuilds_the_network(run, tmp_path, capfd):
    folder = export(ExportConfig(output=str(tmp_path / "out")), str(run.path))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    network, model = load_portable(folder / "model.safetensors"), load_reconstructor(run).model
    state = network.model.state_dict()
    assert isinstance(network, Deployable)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    out, err = capfd.readouterr()
    assert re.search(r"model\.safetensors  0\.\d+ MB, relative difference from the run \d\.\de[+-]\d\d", out)
    assert err == "check images: 3 validation slices of the training data\n"


def test_results_are_replaced_only_when_asked_and_only_results(run, tmp_path):
    folder = tmp_path / "out"
    config = ExportConfig(output=str(folder))
    export(config, str(run.path))
    with pytest.raises(InputError, match="--overwrite"):
        export(config, str(run.path))
    (folder / "old").touch()
    export(replace(config, overwrite=True), str(run.path))
    assert not (folder / "old").exists()
    (folder / "README.md").unlink()
    with pytest.raises(InputError, match="something else"):
        export(replace(config, overwrite=True), str(run.path))


@pytest.mark.parametrize("wrong", [lambda x: x * 1.001, lambda x: x * torch.nan])
def test_a_file_that_differs_is_not_published(run, tmp_path, monkeypatch, wrong):
    kind = FORMATS["safetensors"]

    def changed(path):
        network = kind.open(path)
        return lambda *given: wrong(network(*given))

    monkeypatch.setitem(FORMATS, "safetensors", replace(kind, open=changed))
    with pytest.raises(WorkFailedError, match=r"model.safetensors differs from the run by (1\.0e-03|nan)"):
        export(ExportConfig(output=str(tmp_path / "out")), str(run.path))
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_traced_for_any_size_is_bound_to_one(run, tmp_path, monkeypatch, capsys):
    trace = formats.trace

    def only_fixed(network, size):
        if size is None:
            raise RuntimeError("height is specialised")
        return trace(network, size)

    monkeypatch.setattr(formats, "trace", only_fixed)
    folder = export(ExportConfig(format=list(FORMATS), output=str(tmp_path / "out")), str(run.path))
    card, err = (folder / "README.md").read_text(), capsys.readouterr().err
    for name in ("model.onnx", "model.pt2"):
        assert f"`{name}`: 40 x 36 pixels only" in card
        assert f"{name} takes images of 40 x 36 pixels only" in err
    for got, want in opened(run, ("unet", "magnitude"), folder).pairs(images(3, (40, 36))):
        assert relative(got, want) <= 1e-4


def test_a_network_that_cannot_be_traced_at_all_is_an_error(run, tmp_path, monkeypatch):
    def never(network, size):
        raise RuntimeError("no tracing")

    monkeypatch.setattr(formats, "trace", never)
    with pytest.raises(WorkFailedError, match=r"model.pt2 cannot be written, RuntimeError: no tracing"):
        export(ExportConfig(format=["torch-export"], output=str(tmp_path / "out")), str(run.path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_made_up_images_stand_in_for_data_that_are_gone(kind, small_data, tmp_path, capsys):
    run = trained_run(tmp_path / "run", small_data, kind)
    run.config.write_text(run.config.read_text().replace(str(small_data), str(tmp_path / "gone")))
    folder = export(ExportConfig(), str(run.path))
    card = (folder / "README.md").read_text()
    assert "check images: 3 made-up smooth images" in capsys.readouterr().err
    assert "made-up smooth images" in card
    assert "train 4, val 2, test 2; slices and origin not known" in card


def test_other_data_are_used_when_given(run, tmp_path, volume_writer):
    """Also where they cannot be split."""
    (tmp_path / "flat").mkdir()
    volume_writer(tmp_path / "flat" / "a.h5", matrix=(36, 44), n_slices=5)
    folder = export(ExportConfig(data=str(tmp_path / "flat"), output=str(tmp_path / "out")), str(run.path))
    assert "3 images (slices of other data than the training's)" in (folder / "README.md").read_text()
    with pytest.raises(InputError, match="nowhere"):
        export(ExportConfig(data=str(tmp_path / "nowhere"), output=str(tmp_path / "o2")), str(run.path))


def test_the_card_says_nothing_of_data_that_are_not_the_trainings(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "data_manifest", lambda volumes: {"sha256": "other"})
    folder = export(ExportConfig(output=str(tmp_path / "out")), str(run.path))
    assert "slices and origin not known" in (folder / "README.md").read_text()


def test_last_is_not_best(small_data, tmp_path):
    run = trained_run(tmp_path / "run", small_data, ("unet", "magnitude"))
    state = torch.load(run.checkpoint("last"), weights_only=True)
    state["state_dict"] = {name: value + 1 for name, value in state["state_dict"].items()}
    torch.save(state, run.checkpoint("last"))
    hash_file(run.checkpoint("last")).unlink()
    found = {
        which: load_portable(
            export(ExportConfig(checkpoint=which, overwrite=True), str(run.path)) / "model.safetensors"
        )
        for which in ("best", "last")
    }
    weights = {which: network.model.state_dict() for which, network in found.items()}
    name = next(iter(weights["best"]))
    assert torch.equal(weights["last"][name], state["state_dict"][f"model.{name}"])
    assert not torch.equal(weights["last"][name], weights["best"][name])


@pytest.mark.parametrize("missing", FORMATS["onnx"].needs)
def test_missing_packages_are_named_before_any_work(missing, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(InputError, match=rf"needs {missing}: pip install 'mrirecon\[onnx\]'"):
        export(ExportConfig(format=["onnx"]), str(tmp_path / "no run is looked for"))


def test_damaged_and_foreign_files_are_refused(run, tmp_path):
    path = export(ExportConfig(output=str(tmp_path / "out")), str(run.path)) / "model.safetensors"
    assert load_portable(run.weights) is not None  # those of the run say their network too
    save_file(load_file(run.weights), str(tmp_path / "foreign.safetensors"))
    with pytest.raises(InputError, match="has format None"):
        load_portable(tmp_path / "foreign.safetensors")
    content = path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-4])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_portable(tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="no file at"):
        load_portable(tmp_path / "absent.safetensors")


def test_the_header_of_the_weights_is_readable_without_this_package(run, tmp_path):
    """Eight bytes of length, then JSON."""
    path = export(ExportConfig(output=str(tmp_path / "out")), str(run.path)) / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])["__metadata__"]
    assert header["mrirecon_format"] == "1"
    assert json.loads(header["model"])["norm"] == "layer"
