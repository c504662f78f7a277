"""Class paths: what may be named in a configuration, and what may not."""

import importlib
import subprocess
import sys

import pytest

from mrirecon.classpaths import ALLOWED_PREFIXES, MOVED, construct, resolve_class
from mrirecon.errors import InputError


def test_a_path_gives_the_class():
    import torch

    assert resolve_class("torch.optim.AdamW") is torch.optim.AdamW
    assert resolve_class({"class_path": "torch.nn.L1Loss"}) is torch.nn.L1Loss


def test_init_args_are_bound():
    loss = resolve_class({"class_path": "torch.nn.HuberLoss", "init_args": {"delta": 0.5}})()
    assert loss.delta == 0.5


def test_prefixes_are_those_of_the_design():
    assert ALLOWED_PREFIXES == ("mrirecon.", "torch.nn.", "torch.optim.", "timm.optim.", "schedulefree.")


@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.Popen", "torch.hub.load", "mrireconx.Evil", "builtins.eval", ""]
)
def test_other_packages_are_refused(path):
    with pytest.raises(InputError, match="may not be imported|class_path is missing|must start"):
        resolve_class(path)


@pytest.mark.parametrize(
    "path",
    [
        "torch.nn.functional.conv2d",  # not a class
        "torch.nn.modules.container.OrderedDict",  # a class of somebody else
        "torch.nn.modules.module.functools.partial",
        "torch.nn.modules.module.torch.hub.load",
        "mrirecon.files.os",
        "mrirecon.files.Path",
    ],
)
def test_what_a_module_has_imported_is_out_of_reach(path):
    with pytest.raises(InputError):
        resolve_class(path)


def test_an_extra_prefix_is_the_callers_choice():
    assert resolve_class({"class_path": "fractions.Fraction", "init_args": {}}, ["fractions"])(1, 2) == 0.5
    with pytest.raises(InputError, match="--allow-import fractions"):
        resolve_class("fractions.Fraction")
    with pytest.raises(InputError):
        resolve_class("fractionsx.Fraction", ["fractions"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torch.nn.BatchNorm2", "has no class 'BatchNorm2'; did you mean 'BatchNorm2d'"),
        ("torch.optm.Adam", "did you mean 'torch.optim.'"),
        ("torch.nn.nowhere.Layer", "cannot import 'torch.nn.nowhere'"),
        ({"class_pth": "torch.nn.ReLU"}, "unknown key 'class_pth' .*did you mean 'class_path'"),
        ({"init_args": {}}, "class_path is missing"),
        ({"class_path": "torch.nn.ReLU", "init_args": [1]}, "must be a mapping"),
        (3, "a class is given by its path"),
        ("torch.nn.", "is none; it is names joined by dots"),
        ("mrirecon.__main__.main", "is none"),  # importing it would run the program
        ("mrirecon." * 300 + "x", "is none"),
        ("mrirecon..errors.InputError", "is none"),
        ("torch.nn.ReLU\n", "is none"),
    ],
)
def test_mistakes_are_named_in_one_line(spec, message):
    with pytest.raises(InputError, match=message) as error:
        resolve_class(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("error", [RuntimeError("too\nlarge"), MemoryError(), AssertionError("no")])
def test_a_class_that_cannot_be_made_is_one_line(monkeypatch, error):
    def refusing(self, *arguments):
        raise error

    monkeypatch.setattr("torch.nn.ReLU.__init__", refusing)
    with pytest.raises(InputError, match="torch.nn.ReLU cannot be made with {}: (too large|MemoryError|no)$"):
        construct("torch.nn.ReLU")


def test_a_path_of_an_earlier_version_gives_the_class_that_has_moved(monkeypatch):
    """A class, and all classes of a module; the path of the class goes before that of its module."""
    from mrirecon.models import NormUNet, UNet
    from mrirecon.models.norms import GroupNorm

    monkeypatch.setitem(MOVED, "mrirecon.networks", "mrirecon.models")
    monkeypatch.setitem(MOVED, "mrirecon.networks.layers.Groups", "mrirecon.models.norms.GroupNorm")
    assert resolve_class("mrirecon.networks.layers.Groups") is GroupNorm
    assert resolve_class("mrirecon.networks.unet.UNet") is UNet
    assert resolve_class("mrirecon.networks.NormUNet") is NormUNet
    made = construct({"class_path": "mrirecon.networks.layers.Groups", "init_args": {"n_groups": 2}}, 4)
    assert isinstance(made, GroupNorm)
    with pytest.raises(InputError, match=r"class path 'mrirecon\.networksx\.UNet': cannot import"):
        resolve_class("mrirecon.networksx.UNet")


def test_what_has_moved_is_there():
    for old, new in MOVED.items():
        assert old.startswith("mrirecon."), old
        try:
            importlib.import_module(new)
        except ModuleNotFoundError:
            resolve_class(new)  # not a module, so a class; else the error names it


def test_importing_it_does_not_import_torch():
    code = "import sys, mrirecon.classpaths; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
