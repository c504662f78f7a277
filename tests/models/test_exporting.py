"""What an export traces is what the network computes; `tests/workflows/test_export.py` holds whole files against it."""

import pytest
import torch

from mrirecon.config import ModelConfig
from mrirecon.errors import InputError
from mrirecon.models import NORMS, NormUNet, UNet
from mrirecon.models.normunet import statistics
from mrirecon.training.build import build_model, read_design
from mrirecon.training.deployable import magnitude


@pytest.fixture
def traced(monkeypatch):
    """Calls a function as `torch.export` does: it takes the branches of an exported graph."""

    def call(function, *arguments, **options):
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(torch.compiler, "is_exporting", lambda: True)
            return function(*arguments, **options)

    return call


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(47, 61), (33, 46), (48, 64)])
def test_unet_of_odd_sizes(traced, norm, affine, shape):
    torch.manual_seed(0)
    model = UNet(1, 1, 4, 3, norm=norm, affine=affine, dropout=0.3, residual=True).eval()
    image = torch.randn(2, 1, *shape)
    with torch.no_grad():
        torch.testing.assert_close(traced(model, image), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_normunet_real_and_complex(traced, norm):
    torch.manual_seed(0)
    image = torch.randn(2, 1, 30, 41, dtype=torch.complex64) + 3
    both, one = NormUNet(4, 2, norm=norm).eval(), NormUNet(4, 2, 1, 1, norm=norm).eval()
    parts = torch.cat([image.real, image.imag], dim=1)
    with torch.no_grad():
        got, want = traced(both.of_parts, parts, n_parts=2), both(image)
        torch.testing.assert_close(torch.complex(got[:, :1], got[:, 1:]), want, rtol=1e-4, atol=1e-4)
        real = image.abs()
        torch.testing.assert_close(traced(one, real), one(real), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "norm"), [("unet", {"norm": "instance"}), ("normunet", {"norm": "group", "channels_per_group": 1})]
)
def test_one_graph_takes_images_of_any_size(network, norm):
    """The graph of one example is that of other sizes, odd ones too."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(network, channels=2, pools=1, **norm)).eval()
    axes = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    with torch.no_grad():
        graph = torch.export.export(model, (torch.rand(1, 1, 9, 6),), dynamic_shapes=(axes,), strict=False).module()
        for size in ((4, 4), (5, 4), (16, 17), (21, 32), (40, 33)):
            image = torch.rand(1, 1, *size)
            torch.testing.assert_close(graph(image), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "normunet"])
@pytest.mark.parametrize("pools", [1, 4, 5])
def test_the_smallest_size_is_the_networks_own(name, pools):
    config = ModelConfig(name, channels=2, pools=pools)
    model, size = build_model(config).eval(), read_design(config).smallest()
    with torch.no_grad():
        assert model(torch.rand(1, 1, size, size)).shape[-1] == size
        if size > 2:
            with pytest.raises(InputError, match="too small"):
                model(torch.rand(1, 1, size, size - 1))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_statistics_and_magnitudes_are_those_of_double_precision(scale):
    parts = torch.randn(3, 2, 20, 30) * scale
    values = parts.double().numpy()
    mean, std = statistics(parts, n_axes=2)
    torch.testing.assert_close(mean.double().numpy()[..., 0, 0], values.mean((2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(std.double().numpy()[..., 0, 0], values.std((2, 3), ddof=1), rtol=1e-6, atol=0)
    want = abs(values[:, 0] + 1j * values[:, 1])
    torch.testing.assert_close(magnitude(parts).double().numpy(), want, rtol=1e-6, atol=0)
