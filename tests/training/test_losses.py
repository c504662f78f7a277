"""Losses equal their sources, by name and by class path."""

import pytest
import torch
import torch.nn.functional as F
from fastmri.losses import SSIMLoss
from skimage.metrics import structural_similarity

from mrirecon.errors import InputError
from mrirecon.training.recipe.losses import LOSSES, LossInput, make_loss


def batch(prediction, target, **changes):
    values = {"image": prediction, "reference": target, "data_range": torch.ones(len(prediction))}
    return LossInput(prediction, target, **values | changes)


@pytest.fixture
def images():
    """Two slices with different data ranges and a bright spot that clamping would cut."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 24, 20, generator=generator, dtype=torch.float64)
    reference[1] *= 5
    reference[0, 3, 4] = 40.0
    image = (reference + 0.1 * torch.randn(2, 24, 20, generator=generator)).requires_grad_()
    return image, reference, torch.tensor([50.0, 6.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "want"),
    [
        ("l1", 2.0),
        ("mse", 4.0),
        ("charbonnier", (4 + 1e-6) ** 0.5),
        ("torch.nn.HuberLoss", 1.5),
        ({"class_path": "torch.nn.L1Loss"}, 2.0),
        (lambda prediction, target: (prediction - target).sum(), 12.0),
    ],
)
def test_values(loss, want):
    assert make_loss(loss)(batch(torch.ones(2, 3), -torch.ones(2, 3))).item() == pytest.approx(want, rel=1e-6)


def test_ssim_is_fastmris_and_skimages_on_unclamped_images(images):
    image, reference, data_range = images
    nothing = torch.full_like(reference, torch.nan)  # normalised values have no say
    got = make_loss("ssim")(LossInput(nothing, nothing, image.float(), reference.float(), data_range))
    theirs = SSIMLoss()(image.float()[:, None], reference.float()[:, None], data_range.float())
    by_slice = [
        structural_similarity(r.numpy(), i.detach().numpy(), data_range=float(d))
        for i, r, d in zip(image, reference, data_range, strict=True)
    ]
    assert got.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert got.item() == pytest.approx(1 - sum(by_slice) / 2, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-24, 1e-5, 1e12])
def test_the_scale_of_kspace_changes_nothing(images, scale):
    """fastMRI's own loss is 0 / 0 at a scale of 1e-24."""
    image, reference, data_range = (x.detach() * scale for x in images)
    image.requires_grad_()
    loss = make_loss("ssim")(LossInput(image, image, image.float(), reference.float(), data_range))
    (gradient,) = torch.autograd.grad(loss, image)
    plain = make_loss("ssim")(
        batch(images[0], images[0], image=images[0].float(), reference=images[1].float(), data_range=images[2])
    )
    assert loss.item() == pytest.approx(plain.item(), rel=1e-4)
    assert torch.isfinite(gradient).all()


def test_l1_ssim_is_the_weighted_sum(images):
    image, reference, data_range = (x.detach().float() for x in images)
    prediction, target = image * 3, reference * 3
    inputs = LossInput(prediction, target, image, reference, data_range)
    want = SSIMLoss()(image[:, None], reference[:, None], data_range) + 0.25 * F.l1_loss(prediction, target)
    assert make_loss("l1_ssim", 0.25)(inputs).item() == pytest.approx(want.item(), rel=1e-5)
    assert make_loss("l1_ssim", 0.0)(inputs).item() == pytest.approx(make_loss("ssim")(inputs).item())


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_least_for_the_target_and_points_there(name, images):
    """Zero (or charbonnier's eps) at the target, with a gradient that leads a step towards it; never NaN."""
    _, reference, data_range = (x.detach().float() for x in images)
    loss = make_loss(name)
    at_target = loss(LossInput(reference, reference, reference, reference, data_range))
    assert at_target.item() == pytest.approx(1e-3 if name == "charbonnier" else 0.0, abs=1e-5)
    off = (reference + 0.2 * torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    value = loss(LossInput(off, reference, off, reference, data_range))
    (gradient,) = torch.autograd.grad(value, off)
    closer = off.detach() - 0.05 * gradient / gradient.abs().amax()
    assert at_target < loss(LossInput(closer, reference, closer, reference, data_range)) < value


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("l2", "unknown loss 'l2'"),
        ("torch.nn.Linear", "cannot be made"),
        ("torch.nn.Identity", "no loss"),
        ("torch.nn.BCELoss", "no loss .* between 0 and 1"),
        ({"class_path": "torch.nn.L1Loss", "init_args": {"reduction": "none"}}, "one number"),
    ],
)
def test_what_is_no_loss_is_refused_at_once(loss, message):
    with pytest.raises(InputError, match=message):
        make_loss(loss)


def test_a_negative_weight_is_refused():
    with pytest.raises(InputError, match=r"l1_weight is -0\.1"):
        make_loss("l1_ssim", -0.1)
