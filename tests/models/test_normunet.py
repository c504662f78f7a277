"""NormUNet equals fastMRI's and survives what theirs does not."""

import pytest
import torch
from fastmri.models.varnet import NormUnet

from mrirecon.errors import InputError
from mrirecon.models import NORMS, NormUNet


def complex_images(shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = NormUnet(4, 3).eval()
    ours = NormUNet(4, 3).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("size", [(32, 32), (40, 37), (16, 33), (31, 47)])
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_loads_fastmris_weights_and_gives_their_output(pair, size, scale):
    ours, theirs = pair
    image = complex_images((2, 1, *size), scale=scale) + scale * (3 - 2j)
    with torch.no_grad():
        got, want = ours(image), torch.view_as_complex(theirs(torch.view_as_real(image)).contiguous())
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * scale)


def test_several_complex_channels_are_standardised_together():
    """Real parts of all channels as one, imaginary parts as one (fastMRI's own code takes one channel only)."""
    torch.manual_seed(0)
    model = NormUNet(4, 2, in_channels=4, out_channels=4)
    image = complex_images((1, 2, 32, 48))
    shifted = torch.complex(3 * image.real + 1, 7 * image.imag - 2)
    with torch.no_grad():
        output, other = model(image), model(shifted)
    torch.testing.assert_close(other.real, 3 * output.real + 1, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.imag, 7 * output.imag - 2, rtol=1e-4, atol=1e-4)


def test_gradients_equal_fastmris(pair):
    ours, theirs = pair
    image = complex_images((1, 1, 32, 32))
    ours(image).abs().sum().backward()
    torch.view_as_complex(theirs(torch.view_as_real(image)).contiguous()).abs().sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * q.grad.abs().max().item(), msg=name)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", [torch.zeros, torch.ones])
def test_constant_slices_are_finite_with_finite_gradients(norm, make):
    """fastMRI's gives NaN for an all-zero slice."""
    torch.manual_seed(0)
    model = NormUNet(4, 2, norm=norm)
    image = torch.cat([make(1, 1, 32, 32, dtype=torch.complex64), complex_images((1, 1, 32, 32))])
    output = model(image)
    output.abs().sum().backward()
    assert torch.equal(output[0], image[0])  # in its own unit, whatever the network makes of zeros
    assert torch.isfinite(torch.view_as_real(output)).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    with torch.no_grad():
        theirs = NormUnet(4, 2)(torch.view_as_real(make(1, 1, 32, 32, dtype=torch.complex64)))
    assert make is not torch.zeros or torch.isnan(theirs).any()


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("scale", [2.0**-80, 2.0**60])
def test_output_scales_with_the_input_exactly(kind, scale):
    """A power of two changes no rounding: k-space of any unit is reconstructed alike."""
    torch.manual_seed(0)
    image = complex_images((2, 1, 32, 32))
    model = NormUNet(4, 2) if kind == "complex" else NormUNet(4, 2, in_channels=1, out_channels=1)
    image = image if kind == "complex" else image.abs()
    with torch.no_grad():
        torch.testing.assert_close(model(image * scale) / scale, model(image), rtol=1e-5, atol=1e-6)


def test_real_images_are_standardised_as_a_whole():
    """A shift and a scale of the input come out as the same shift and scale."""
    torch.manual_seed(0)
    model = NormUNet(4, 2, in_channels=1, out_channels=1)
    image = complex_images((2, 1, 33, 40)).abs()
    with torch.no_grad():
        torch.testing.assert_close(model(5 * image + 100), 5 * model(image) + 100, rtol=1e-4, atol=1e-2)


def test_samples_do_not_mix(pair):
    ours, _ = pair
    images = complex_images((2, 1, 32, 32))
    with torch.no_grad():
        both = ours(torch.stack([images[0], 1000 * images[1]]))
        torch.testing.assert_close(both[:1], ours(images[:1]), rtol=1e-4, atol=1e-5)


def test_small_images_fit_when_padding_makes_them_large_enough():
    """At 3 poolings 16 pixels are needed: 13 are padded to them; at 4 poolings 32, and 13 are too few."""
    model, image = NormUNet(4, 3), complex_images((1, 1, 13, 40))
    model.check_image_size((13, 40))
    assert torch.isfinite(model(image).abs()).all()
    with pytest.raises(InputError, match="13 x 40 pixels are too small"):
        NormUNet(4, 4).check_image_size((13, 40))


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="2 complex channels for a NormUNet of 2 real channels"):
        NormUNet(4, 2)(complex_images((1, 2, 32, 32)))
    with pytest.raises(InputError, match="1 complex channels"):
        NormUNet(4, 2, in_channels=1, out_channels=1)(complex_images((1, 1, 32, 32)))
