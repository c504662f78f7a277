"""The SENSE operator has the adjoint that it says, the gradients of its formula, and equals numpy and fastMRI."""

import fastmri
import numpy as np
import pytest
import torch
from fastmri.models.varnet import VarNetBlock

from mrirecon.physics import Sense, fft2c

HEIGHT, WIDTH, COILS = 6, 5, 3
MASKS = {  # by what their shape says
    "columns": (WIDTH,),
    "positions": (HEIGHT, WIDTH),
    "a batch of columns": (2, 1, WIDTH),
    "a batch of positions": (2, HEIGHT, WIDTH),
}


def random_complex(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def random_mask(shape, seed=3):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def operator(mask, leading=(2,)):
    return Sense(random_complex(*leading, COILS, HEIGHT, WIDTH), random_mask(MASKS[mask]))


def by_numpy(image, smaps, mask):
    """`M F S x`, coil by coil, with numpy's transform and no broadcasting."""
    kspace = np.zeros(smaps.shape, complex)
    for b in range(len(image)):
        of_one = mask[b] if mask.ndim == 3 else mask
        for c in range(smaps.shape[1]):
            coil = np.fft.fft2(np.fft.ifftshift(image[b] * smaps[b, c]), norm="ortho")
            kspace[b, c] = np.fft.fftshift(coil) * of_one
    return kspace


@pytest.mark.parametrize("mask", MASKS)
def test_equals_numpy(mask):
    sense, image = operator(mask), random_complex(2, HEIGHT, WIDTH, seed=1)
    expected = by_numpy(image.numpy(), sense.smaps.numpy(), sense.mask.numpy())
    np.testing.assert_allclose(sense.forward(image), expected, atol=1e-13)
    single = Sense(sense.smaps.to(torch.complex64), sense.mask).forward(image.to(torch.complex64))
    assert single.dtype == torch.complex64
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mask", MASKS)
def test_the_adjoint_is_the_adjoint(mask):
    """`<A x, y> = <x, A^H y>`."""
    sense = operator(mask)
    image, kspace = random_complex(2, HEIGHT, WIDTH, seed=1), random_complex(2, COILS, HEIGHT, WIDTH, seed=2)
    left = torch.vdot(sense.forward(image).flatten(), kspace.flatten())
    right = torch.vdot(image.flatten(), sense.adjoint(kspace).flatten())
    assert abs(left - right) < 1e-12 * abs(left)


@pytest.mark.parametrize("mask", MASKS)
def test_the_normal_operator_is_adjoint_after_forward(mask):
    sense, image = operator(mask), random_complex(2, HEIGHT, WIDTH, seed=1)
    torch.testing.assert_close(sense.normal(image), sense.adjoint(sense.forward(image)), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["forward", "adjoint", "normal"])
@pytest.mark.parametrize("mask", MASKS)
def test_gradients_are_those_of_finite_differences(mask, name):
    """Of the argument and of the maps, which a network may estimate."""
    shape = (2, COILS, HEIGHT, WIDTH) if name == "adjoint" else (2, HEIGHT, WIDTH)
    values = random_complex(*shape, seed=1).requires_grad_()
    smaps, kept = random_complex(2, COILS, HEIGHT, WIDTH).requires_grad_(), random_mask(MASKS[mask])
    assert torch.autograd.gradcheck(lambda x, s: getattr(Sense(s, kept), name)(x), (values, smaps))


def test_one_coil_of_ones_is_the_fourier_transform_alone():
    image, mask = random_complex(4, HEIGHT, WIDTH), random_mask((WIDTH,))
    sense = Sense(torch.ones(1, HEIGHT, WIDTH, dtype=torch.complex128), mask)
    torch.testing.assert_close(sense.forward(image), (fft2c(image) * mask).unsqueeze(1))
    full = Sense(sense.smaps, torch.ones(WIDTH, dtype=torch.bool))
    torch.testing.assert_close(full.normal(image), image)


def test_maps_of_unit_energy_and_a_full_mask_give_the_image_back():
    smaps = random_complex(2, COILS, HEIGHT, WIDTH)
    smaps = smaps / torch.linalg.vector_norm(smaps, dim=1, keepdim=True)
    image = random_complex(2, HEIGHT, WIDTH, seed=1)
    torch.testing.assert_close(Sense(smaps, torch.ones(WIDTH, dtype=torch.bool)).normal(image), image)
    sense = Sense(smaps[0], random_mask((WIDTH,)))
    dense = torch.stack([sense.normal(e.view(HEIGHT, WIDTH)).flatten() for e in torch.eye(HEIGHT * WIDTH) + 0j], dim=1)
    eigenvalues = torch.linalg.eigvalsh(dense.to(torch.complex128))
    assert eigenvalues.min() > -1e-6
    assert eigenvalues.max() < 1 + 1e-6


def test_equals_fastmris_expand_and_reduce():
    """Of its VarNet, whose `sens_expand` has no mask and whose `sens_reduce` masks nothing."""
    block = VarNetBlock(torch.nn.Identity())
    smaps, image = (random_complex(*shape, dtype=torch.complex64) for shape in ((2, COILS, 8, 9), (2, 8, 9)))
    sense = Sense(smaps, torch.ones(9, dtype=torch.bool))
    real = torch.view_as_real
    expanded = block.sens_expand(real(image).unsqueeze(1), real(smaps))
    torch.testing.assert_close(real(sense.forward(image)), expanded, rtol=1e-5, atol=1e-6)
    reduced = block.sens_reduce(expanded, real(smaps)).squeeze(1)
    torch.testing.assert_close(real(sense.adjoint(torch.view_as_complex(expanded))), reduced, rtol=1e-5, atol=1e-5)
    assert torch.equal(fft2c(image), torch.view_as_complex(fastmri.fft2c(real(image))))


def test_a_batch_as_it_is_collated_is_the_same_one_by_one():
    """Also where the batch is as long as the images are high, so that the mask's shape alone could mean either."""
    smaps, columns = random_complex(HEIGHT, COILS, HEIGHT, WIDTH), random_mask((HEIGHT, WIDTH))
    image = random_complex(HEIGHT, HEIGHT, WIDTH, seed=1)
    together = Sense.of_batch(smaps, columns).forward(image)
    for k in range(HEIGHT):
        torch.testing.assert_close(together[k], Sense(smaps[k], columns[k]).forward(image[k]))
    positions = random_mask((HEIGHT, HEIGHT, WIDTH))
    together = Sense.of_batch(smaps, positions).adjoint(together)
    assert together.shape == image.shape


def test_what_was_not_sampled_is_not_read():
    """Not a product with 0: k-space may hold anything there."""
    sense = operator("columns")
    kspace = random_complex(2, COILS, HEIGHT, WIDTH)
    spoilt = torch.where(sense.mask, kspace, torch.full((), torch.nan, dtype=kspace.dtype))
    assert torch.equal(sense.adjoint(spoilt), sense.adjoint(kspace))


@pytest.mark.parametrize(
    ("smaps", "mask", "says"),
    [
        (torch.ones(2, 4, 5), torch.ones(5, dtype=torch.bool), "smaps must be complex"),
        (torch.ones(4, 5) + 0j, torch.ones(5, dtype=torch.bool), "smaps must be complex"),
        (torch.ones(2, 4, 5) + 0j, torch.ones(5), r"must be bool .*got torch.float32 \(5,\)"),
        (torch.ones(2, 4, 5) + 0j, torch.ones(4, dtype=torch.bool), r"got torch.bool \(4,\)"),
        (torch.ones(3, 2, 4, 5) + 0j, torch.ones(3, 5, dtype=torch.bool), "Sense.of_batch"),
    ],
)
def test_what_does_not_fit_is_refused(smaps, mask, says):
    with pytest.raises(ValueError, match=says):
        Sense(smaps, mask)


@pytest.mark.parametrize("name", ["forward", "adjoint", "normal"])
@pytest.mark.parametrize("leading", [(), (2,), (1,), (3, 2)])
def test_leading_dimensions_broadcast(name, leading):
    sense = operator("a batch of columns")
    shape = (COILS, HEIGHT, WIDTH) if name == "adjoint" else (HEIGHT, WIDTH)
    values = random_complex(*leading, *shape, seed=1)
    done = getattr(sense, name)(values)
    for k, (smaps, mask) in enumerate(zip(sense.smaps, sense.mask, strict=True)):
        one = values if not leading else values[..., min(k, leading[-1] - 1), *(slice(None),) * len(shape)]
        expected = getattr(Sense(smaps, mask), name)(one)
        torch.testing.assert_close(done[..., k, *(slice(None),) * (done.ndim - len(leading or (1,)))], expected)


@pytest.mark.parametrize("shape", [(HEIGHT, 1), (1, WIDTH), (WIDTH, HEIGHT), (WIDTH,), (3, HEIGHT, WIDTH)])
@pytest.mark.parametrize("name", ["forward", "normal"])
def test_an_image_of_another_size_is_refused(name, shape):
    """Also where broadcasting would make one that fits."""
    with pytest.raises(ValueError, match=r"image must be complex .* = \(..., 6, 5\).*got torch.complex128 \("):
        getattr(operator("columns"), name)(random_complex(*shape))


@pytest.mark.parametrize(
    "shape", [(1, HEIGHT, WIDTH), (HEIGHT, WIDTH), (COILS, HEIGHT, 1), (COILS, 1, WIDTH), (4, COILS, HEIGHT, WIDTH)]
)
def test_kspace_of_another_size_is_refused(shape):
    """One coil's k-space is not that of each."""
    with pytest.raises(ValueError, match=r"k-space must be complex .* = \(..., 3, 6, 5\)"):
        operator("columns").adjoint(random_complex(*shape))


def test_what_is_real_is_refused():
    for name, shape in {"forward": (HEIGHT, WIDTH), "adjoint": (COILS, HEIGHT, WIDTH)}.items():
        with pytest.raises(ValueError, match=r"must be complex .*got torch.float32"):
            getattr(operator("columns"), name)(torch.ones(shape))
