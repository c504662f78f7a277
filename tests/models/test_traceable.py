"""The traceable twins compute what the networks compute, and know from which size on those do."""

import pytest
import torch

from mrirecon.config import ModelConfig
from mrirecon.errors import InputError
from mrirecon.models import NORMS, NormUNet, UNet
from mrirecon.models.traceable import magnitude, plain_norms, run_normunet, run_unet, statistics
from mrirecon.training.build import build_model, smallest_image


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("affine", [False, True])
def test_unet_of_odd_sizes(norm, affine):
    torch.manual_seed(0)
    model = UNet(1, 1, 4, 3, norm=norm, affine=affine, dropout=0.3, residual=True).eval()
    image = torch.randn(2, 1, 47, 61)
    with torch.no_grad():
        torch.testing.assert_close(run_unet(plain_norms(model), image), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_normunet_real_and_complex(norm):
    torch.manual_seed(0)
    image = torch.randn(2, 1, 30, 41, dtype=torch.complex64) + 3
    both, one = NormUNet(4, 2, norm=norm).eval(), NormUNet(4, 2, 1, 1, norm=norm).eval()
    parts = torch.cat([image.real, image.imag], dim=1)
    with torch.no_grad():
        got, want = run_normunet(plain_norms(both), parts), both(image)
        torch.testing.assert_close(torch.complex(got[:, :1], got[:, 1:]), want, rtol=1e-4, atol=1e-4)
        real = image.abs()
        torch.testing.assert_close(run_normunet(plain_norms(one), real), one(real), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["unet", "normunet"])
@pytest.mark.parametrize("pools", [1, 4, 5])
def test_the_smallest_size_is_the_networks_own(name, pools):
    config = ModelConfig(name, channels=2, pools=pools)
    model, size = build_model(config).eval(), smallest_image(config)
    with torch.no_grad():
        assert model(torch.rand(1, 1, size, size)).shape[-1] == size
        if size > 2:
            with pytest.raises(InputError, match="too small"):
                model(torch.rand(1, 1, size, size - 1))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_statistics_and_magnitudes_are_those_of_double_precision(scale):
    parts = torch.randn(3, 2, 20, 30) * scale
    values = parts.double().numpy()
    mean, std = statistics(parts)
    torch.testing.assert_close(mean.double().numpy()[..., 0, 0], values.mean((2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(std.double().numpy()[..., 0, 0], values.std((2, 3), ddof=1), rtol=1e-6, atol=0)
    want = abs(values[:, 0] + 1j * values[:, 1])
    torch.testing.assert_close(magnitude(parts).double().numpy(), want, rtol=1e-6, atol=0)
