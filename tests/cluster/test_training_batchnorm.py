"""Synchronised BatchNorm is BatchNorm of the batches of all processes together."""

import pytest
import torch
from ranks_of_a_test import run_ranks
from torch import nn

from mrirecon import ranks
from mrirecon.data.transforms import ImageSample
from mrirecon.training.recipe.batchnorm import (
    SyncBatchNorm,
    count_batches_of,
    recalibrate,
    synchronised,
    take_buffers_of_the_first,
)

SIZES = [2, 3, 1]  # slices of each process
LAYERS = {
    "plain": {},
    "affine": {"affine": True},
    "cumulative": {"momentum": None},
    "no statistics": {"track_running_stats": False},
}


def layer_of(options):
    torch.manual_seed(1)
    layer = nn.BatchNorm2d(3, **{"affine": False, **options}).double()
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return layer


def images(n):
    return torch.randn(9, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))[:n] * 3 + 7


def result(layer, batch):
    """Output, gradients of input and parameters for a loss that is no sum, and the buffers."""
    batch = batch.clone().requires_grad_()
    output = layer(batch)
    (output * torch.arange(output.numel()).reshape(output.shape).cos() + output**3).sum().backward()
    return output.detach(), batch.grad, [p.grad for p in layer.parameters()], list(layer.buffers())


def share_of(n_counted):
    """On each process: its part of a batch, normalised twice."""
    sizes = [size if rank < n_counted else 1 for rank, size in enumerate(SIZES)]
    first = sum(sizes[: ranks.rank()])
    found = {}
    for name, options in LAYERS.items():
        layer = synchronised(nn.Sequential(layer_of(options)), "cpu")
        assert isinstance(layer[0], SyncBatchNorm)
        count_batches_of(layer, n_counted)
        layer(images(sum(sizes))[first : first + sizes[ranks.rank()]])
        output = layer(images(sum(sizes))[first : first + sizes[ranks.rank()]])
        found[name] = [output.tolist(), [buffer.tolist() for buffer in layer.buffers()], sorted(layer.state_dict())]
    return found


@pytest.mark.parametrize("n_counted", [3, 2, 1])
def test_outputs_and_buffers_are_those_of_the_whole_batch(n_counted):
    """Processes from `n_counted` on have a slice that does not count; it is normalised like the others."""
    of_rank = run_ranks(3, "test_training_batchnorm:share_of", n_counted)
    n = sum(SIZES[:n_counted])
    for name, options in LAYERS.items():
        layer = nn.Sequential(layer_of(options))
        layer(images(n))
        expected = layer(images(n))
        output = torch.cat([torch.tensor(found[name][0], dtype=torch.float64) for found in of_rank[:n_counted]])
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
        for found in of_rank:
            assert found[name][2] == sorted(layer.state_dict())
            for buffer, whole in zip(found[name][1], layer.buffers(), strict=True):
                torch.testing.assert_close(torch.tensor(buffer, dtype=whole.dtype), whole, rtol=1e-12, atol=0)


class Network(nn.Module):
    """BatchNorm of a sample's image as its three channels."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, sample):
        return self.norm(sample.image[:, None].expand(-1, 3, -1, -1))


def recalibrated():
    """Statistics taken from the first process, then measured on batches that differ between processes."""
    network = synchronised(Network(), "cpu")
    network.norm.running_mean.fill_(ranks.rank() + 5)
    take_buffers_of_the_first(network)
    taken = network.norm.running_mean.tolist()
    image = images(2 + ranks.rank()).float()[:, 0]
    recalibrate(network, [network.norm], [ImageSample(image, *[torch.zeros(0)] * 9)] * 2)
    return taken, network.norm.running_mean.tolist(), image.mean().item(), network.norm.synchronises


def test_statistics_are_those_of_the_first_process_and_recalibration_is_each_one_s_own():
    first, second = run_ranks(2, "test_training_batchnorm:recalibrated")
    assert first[0] == second[0] == [5.0] * 3
    for _, measured, expected, synchronises in (first, second):
        assert measured == pytest.approx([expected] * 3, rel=1e-5)
        assert synchronises
    assert first[1] != pytest.approx(second[1], rel=1e-3)


def test_one_process_is_left_alone():
    """Without a group the layer is torch's."""
    layer = layer_of(LAYERS["affine"])
    alone = synchronised(nn.Sequential(layer_of(LAYERS["affine"])), "cpu")
    for a, b in zip(result(layer, images(3)), result(alone, images(3)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
