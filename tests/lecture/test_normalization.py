"""The identities of the lecture's part on normalization layers, N1 to N11."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ranks_of_a_test import run_ranks
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mrirecon import ranks
from mrirecon.models import NORMS, UNet, make_norm
from mrirecon.training.recipe.batchnorm import synchronised

NORMALISING = sorted(name for name, entry in NORMS.items() if entry.normalises)
PER_IMAGE = ["instance", "group", "layer"]
N, C, H, W = 4, 6, 8, 10


def features(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 5 + 3 * torch.randn(*(shape or (N, C, H, W)), dtype=torch.float64, generator=generator)


def norm_of(name, n_channels=C, **options):
    if name == "group":
        options = {"channels_per_group": 2, **options}
    return make_norm(name, n_channels, **options).double()


def in_sets(name, values):
    """`values` by the sets that share a mean, written out for numpy: (sets, members)."""
    x = values.numpy()
    return {
        "batch": x.transpose(1, 0, 2, 3).reshape(C, -1),
        "layer": x.reshape(N, -1),
        "instance": x.reshape(N * C, -1),
        "group": x.reshape(N * C // 2, -1),
    }[name]


def test_n2_batch_norm_after_training_folds_into_the_convolution():
    """A norm does not change what a network can express: with fixed statistics it is part of the convolution."""
    conv, norm = nn.Conv2d(C, 8, 3).double(), norm_of("batch", 8, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for seed in range(3):
        norm(conv(features(seed=seed)))
    conv.eval()
    norm.eval()
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = (conv.bias - norm.running_mean) * scale + norm.bias
    expected = norm(conv(features()))
    by_hand = F.conv2d(features(), conv.weight * scale[:, None, None, None], bias)
    torch.testing.assert_close(by_hand, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(fuse_conv_bn_eval(conv, norm)(features()), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", PER_IMAGE)
def test_n2_norms_of_one_image_are_no_part_of_a_convolution(norm):
    """These measure the image, so that its scale is lost, which is linear in no weights."""
    layer, x = norm_of(norm, eps=0).eval(), features()
    torch.testing.assert_close(layer(3 * x), layer(x), rtol=0, atol=1e-12)
    fixed = norm_of("batch").eval()
    torch.testing.assert_close(fixed(3 * x), 3 * fixed(x), rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", NORMALISING)
def test_n3_without_scale_and_shift_mean_0_and_deviation_1(norm):
    """y = (x - mu) / sigma has mean 0 and deviation 1 in each set that shares them, whatever came in."""
    sets = in_sets(norm, norm_of(norm, eps=1e-30)(features()))
    np.testing.assert_allclose(sets.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(sets.std(1), 1, atol=1e-12)


@pytest.mark.parametrize("norm", NORMALISING)
def test_n3_scale_and_shift_are_the_channels_own(norm):
    """y = a (x - mu) / sigma + b, with one a and one b for each channel."""
    plain, layer = norm_of(norm), norm_of(norm, affine=True)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    a, b = (p.detach().numpy()[:, None, None] for p in (layer.weight, layer.bias))
    expected = a * plain(features()).numpy() + b
    np.testing.assert_allclose(layer(features()).detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMALISING)
def test_n4_which_values_share_a_mean(norm):
    """Batch: a channel of all images; layer: an image; instance: a channel of an image; group: some of its channels."""
    eps = 1e-5
    sets, ours = in_sets(norm, features()), in_sets(norm, norm_of(norm, eps=eps)(features()))
    expected = (sets - sets.mean(1, keepdims=True)) / np.sqrt(sets.var(1, keepdims=True) + eps)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_n4_group_norm_spans_instance_to_layer_norm():
    """One channel per group is instance norm, all of them are layer norm."""
    x, layer = features(), nn.LayerNorm([C, H, W], elementwise_affine=False).double()
    for same in (norm_of("instance"), nn.InstanceNorm2d(C), lambda x: F.group_norm(x, C)):
        torch.testing.assert_close(norm_of("group", channels_per_group=1)(x), same(x), rtol=0, atol=1e-12)
    for same in (norm_of("layer"), layer, lambda x: F.group_norm(x, 1)):
        torch.testing.assert_close(norm_of("group", channels_per_group=C)(x), same(x), rtol=0, atol=1e-12)


def test_n4_batch_norm_of_one_image_is_instance_norm():
    """In training, with a batch of one image; with two it is not."""
    layer = norm_of("batch").train()
    torch.testing.assert_close(layer(features()[:1]), F.instance_norm(features()[:1]), rtol=0, atol=1e-12)
    assert (layer(features()[:2]) - F.instance_norm(features()[:2])).abs().max() > 0.01


@pytest.mark.parametrize("norm", PER_IMAGE)
def test_n10_norms_of_one_image_need_no_fixed_statistics(norm):
    """The lecture fixes the statistics of instance norm, too; torch's default, as ours, measures every image."""
    for layer in [norm_of(norm), *([nn.InstanceNorm2d(C)] if norm == "instance" else [])]:
        trained = layer.train()(features())
        assert torch.equal(layer.eval()(features()), trained)
        assert not list(layer.buffers())


def test_n10_batch_norm_uses_running_statistics_after_training():
    """Exponential averages of the means and the unbiased variances of the batches, with share 0.1."""
    layer, mean, var = norm_of("batch"), 0.0, 1.0
    for seed in range(5):
        x = features(seed=seed)
        trained = layer.train()(x)
        mean = 0.9 * mean + 0.1 * x.numpy().mean((0, 2, 3), keepdims=True)
        var = 0.9 * var + 0.1 * x.numpy().var((0, 2, 3), ddof=1, keepdims=True)
    after = layer.eval()(x)
    np.testing.assert_allclose(after.numpy(), (x.numpy() - mean) / np.sqrt(var + 1e-5), rtol=0, atol=1e-12)
    assert (after - trained).abs().max() > 0.1


def gradient(norm, image, target):
    """Of the mean squared error of a small U-Net, (parameters,)."""
    torch.manual_seed(0)
    network = UNet(channels=4, pools=1, norm=norm.removeprefix("synchronised ")).double()
    if norm == "synchronised batch":
        network = synchronised(network, "cpu")
    loss = F.mse_loss(network(image), target)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, network.parameters())])


KINDS = [*sorted(NORMS), "synchronised batch"]


def batch_of_four():
    return features(4, 1, 8, 8), features(4, 1, 8, 8, seed=1)


def mean_gradients():
    """On each of two processes: the mean over them of the gradients of half a batch each."""
    part = slice(2 * ranks.rank(), 2 * ranks.rank() + 2)
    found = {}
    for norm in KINDS:
        mine = gradient(norm, *(values[part] for values in batch_of_four()))
        torch.distributed.all_reduce(mine)
        found[norm] = (mine / 2).tolist()
    return found


def test_n11_only_batch_norm_has_to_be_synchronised():
    """Two processes have the gradient of one with the whole batch; with batch norm only where it is synchronised."""
    shared, other = run_ranks(2, "test_normalization:mean_gradients", timeout=60)
    assert shared == other
    for norm in KINDS:
        whole = gradient(norm, *batch_of_four())
        error = (torch.tensor(shared[norm], dtype=torch.float64) - whole).norm() / whole.norm()
        assert error > 1e-3 if norm == "batch" else error < 1e-12, norm
