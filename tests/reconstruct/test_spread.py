"""Mean and deviation of several reconstructions, where both are known in closed form; and what decides the draws."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mrirecon.data.samples import Sample, collate
from mrirecon.errors import InputError
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.spread import of_dropout, of_networks
from mrirecon.runs import RunFolder
from mrirecon.training.prediction import TrainedNetwork, of_raw_magnitude

P = 0.3
WEIGHTS = torch.tensor([0.5, -0.2, 0.4, 0.3])


class Toy(nn.Module):
    """The image times the weights of the channels that are not dropped, over 1 - p: its mean and variance are known."""

    def __init__(self, p=P):
        super().__init__()
        self.dropout, self.norm = nn.Dropout2d(p), nn.BatchNorm2d(4, affine=False)

    def forward(self, image):
        return (self.dropout(self.norm(image * WEIGHTS[:, None, None]))).sum(1, keepdim=True)


def reconstructor(network, name="toy", checkpoint="best"):
    module = TrainedNetwork(network, of_raw_magnitude).eval()
    return Reconstructor(name, module, RunFolder("runs/toy"), torch.device("cpu"), checkpoint=checkpoint)


def sample(*indices, volume="val/a.h5"):
    empty = torch.empty(0)
    made = []
    for i in indices:
        image = 1 + torch.arange(12.0).reshape(3, 4) * (i + 1)
        made.append(Sample(image, empty, image.mean(), image.std(), 0.0, volume, i, 4.0, 4.0, ""))
    return collate(made)


def test_mean_and_deviation_are_those_of_the_closed_form():
    """Channel c is kept with probability 1 - p: mean x sum(w), variance x^2 sum(w^2) p / (1 - p)."""
    n = 4000
    several = of_dropout(reconstructor(Toy()), n, 0, 1)
    batch = sample(0)
    image, scale = batch.image[0], math.sqrt(1 + 1e-5)  # of BatchNorm's running variance of 1
    mean, sd = several(batch)[0], several.reconstruct.sd[0]
    expected = image * math.sqrt(float((WEIGHTS**2).sum()) * P / (1 - P)) / scale
    assert (mean - image * WEIGHTS.sum() / scale).abs().max() < 5 * expected.max() / math.sqrt(n)
    torch.testing.assert_close(sd / expected, torch.ones(3, 4), rtol=0, atol=5 / math.sqrt(2 * n))


def test_mean_and_deviation_equal_numpys_of_the_passes():
    several = of_dropout(reconstructor(Toy()), 7, 3, 2)
    batch = sample(0, 1)
    passes = np.stack([image.double().numpy() for image in several.reconstruct.members(batch)])
    assert len({a.tobytes() for a in passes}) > 3
    np.testing.assert_allclose(several(batch), passes.mean(0), rtol=1e-6)
    np.testing.assert_allclose(several.reconstruct.sd, passes.std(0, ddof=1), rtol=1e-6)


def test_draws_depend_on_seed_file_and_slice_alone():
    def made(batch, seed=0, before=0):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        several = of_dropout(reconstructor(Toy()), 5, seed, 1)
        image = several(batch)
        assert torch.equal(torch.get_rng_state(), state)  # nobody else's draws move
        return torch.stack([image, several.reconstruct.sd])

    first = made(sample(2))
    assert torch.equal(first, made(sample(2), before=1))
    assert torch.equal(first, made(sample(2, volume="a.h5")))  # as fastMRI's masks: the bare name
    assert not torch.equal(first, made(sample(2), seed=1))
    assert not torch.equal(first, made(sample(2, volume="b.h5")))
    other = made(sample(3))
    assert not torch.equal(first[1] / sample(2).image, other[1] / sample(3).image)


def test_other_layers_stay_as_they_are_and_dropout_is_off_again():
    toy = Toy()
    several = of_dropout(reconstructor(toy), 3, 0, 1)
    before = toy.norm.running_mean.clone()
    several(sample(0))
    assert torch.equal(toy.norm.running_mean, before)
    assert not any(module.training for module in toy.modules())


def test_equal_passes_have_no_deviation_at_any_scale():
    """Summed squares would leave one that rounding made."""
    several = of_networks([reconstructor(nn.Identity()) for _ in range(3)])
    batch = sample(0)._replace(image=torch.full((1, 3, 4), 1e6 / 3))
    assert torch.equal(several(batch), batch.image)
    assert torch.equal(several.reconstruct.sd, torch.zeros(1, 3, 4))


def test_an_ensemble_is_the_mean_over_networks():
    several = of_networks([reconstructor(Scale(k)) for k in (1.0, 2.0, 6.0)])
    batch = sample(0)
    torch.testing.assert_close(several(batch), 3 * batch.image)
    torch.testing.assert_close(several.reconstruct.sd, batch.image * math.sqrt(7))


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, image):
        return self.factor * image


def test_without_dropout_there_is_nothing_to_draw():
    for given, message in [
        (reconstructor(Toy(0.0)), r"toy has no dropout \(model\.dropout is 0\); give a network"),
        (reconstructor(nn.Identity()), "toy has no dropout"),
        (Reconstructor("tv", lambda s: s.image, RunFolder("runs/tv"), torch.device("cpu")), "tv is a method"),
    ]:
        with pytest.raises(InputError, match=f"--samples 4 draws by dropout, but {message}"):
            of_dropout(given, 4, 0, 1)
