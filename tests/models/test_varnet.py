"""VarNet equals fastMRI's, in parts and recomputed too, and a single coil needs no maps."""

import warnings
from contextlib import nullcontext

import fastmri.models
import pytest
import torch
from torch import nn

from mrirecon.errors import InputError
from mrirecon.models import NORMS, UNetDC, VarNet
from mrirecon.models import varnet as varnet_module
from mrirecon.models.varnet import center_columns, center_of, recomputed, soft_consistency
from mrirecon.physics import fft2c, ifft2c, low_resolution_smaps, rss

SMALL = {"channels": 4, "pools": 2, "cascades": 2, "sens_channels": 3}


def undersampled(shape, seed=0, padding=(0, 0), n_center=8):
    """K-space of smooth random images, and its mask of columns; zeros in the padding."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, _, width = shape
    columns = torch.rand(batch, width, generator=generator) < 0.3
    columns[:, width // 2 - n_center // 2 : width // 2 - n_center // 2 + n_center] = True
    columns[:, : padding[0]] = False
    columns[:, width - padding[1] :] = False
    kspace = torch.randn(*shape, dtype=torch.complex64, generator=generator)
    kspace = kspace * center_weight(shape[-2:])
    return torch.where(columns[:, None, None], kspace, torch.zeros(())), columns


def center_weight(shape):
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    return 1 / (0.05 + y**2 + x**2)


def trained_a_little(network):
    """Weights of the data consistency away from 1, as a trained network has them."""
    with torch.no_grad():
        for i, cascade in enumerate(network.cascades):
            cascade.dc_weight.fill_(0.5 + 0.2 * i)
    return network


def both_networks(seed):
    torch.manual_seed(seed)
    theirs = trained_a_little(fastmri.models.VarNet(3, sens_chans=3, sens_pools=3, chans=6, pools=2).eval())
    ours = VarNet(6, 2, cascades=3, sens_channels=3, sens_pools=3)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs


@pytest.fixture(scope="module")
def pair():
    return both_networks(0)


def theirs_of(network, kspace, columns, n_center=None):
    return network(torch.view_as_real(kspace), columns[:, None, None, :, None], n_center)


def relative(image, reference):
    return float((image - reference).norm() / reference.norm())


@pytest.mark.parametrize("shape", [(1, 2, 40, 36), (2, 3, 41, 37), (1, 5, 33, 48), (3, 4, 31, 47)], ids=str)
@pytest.mark.parametrize("padding", [(0, 0), (4, 3)])
@pytest.mark.parametrize("n_center", [None, 5, 8])
def test_loads_fastmris_weights_and_gives_their_images(pair, shape, padding, n_center):
    ours, theirs = pair
    kspace, columns = undersampled(shape, padding=padding)
    with torch.no_grad():
        want = theirs_of(theirs, kspace, columns, n_center)
        got = ours(kspace, columns, None if n_center is None else torch.full(shape[:1], n_center))
    assert relative(got, want) < 1e-5
    assert relative(rss(ifft2c(kspace)), want) > 1e-2  # the network does something


def test_gradients_equal_fastmris():
    """With weights of which no activation lies so near 0 that rounding decides the slope of its LeakyReLU."""
    ours, theirs = both_networks(1)
    kspace, columns = undersampled((2, 3, 33, 40), seed=1)
    ours(kspace, columns).square().mean().sqrt().backward()
    theirs_of(theirs, kspace, columns).square().mean().sqrt().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad) or relative(p.grad, q.grad) < 1e-4, name
    assert not ours.cascades[0].dc_weight.grad.any()  # the first cascade begins with what was measured
    assert ours.cascades[1].dc_weight.grad.any()


def test_a_single_coil_has_maps_of_one(pair):
    """fastMRI's cascades, with ones in place of what its sensitivity network says."""
    ours, theirs = pair
    kspace, columns = undersampled((2, 1, 40, 37))
    current, real = torch.view_as_real(kspace), torch.view_as_real(kspace)
    ones = torch.view_as_real(torch.ones_like(kspace))
    with torch.no_grad():
        for cascade in theirs.cascades:
            current = cascade(current, real, columns[:, None, None, :, None], ones)
        want = ifft2c(torch.view_as_complex(current.contiguous()))[:, 0].abs()
        assert relative(ours(kspace, columns), want) < 1e-5
        alone = VarNet(6, 2, cascades=3, sens_channels=0).eval()
        alone.load_state_dict({k: v for k, v in ours.state_dict().items() if k.startswith("cascades")})
        assert torch.equal(alone(kspace, columns), ours(kspace, columns))
    with pytest.raises(
        InputError, match=r"without sensitivity network .* reconstructs a single coil; these data have 3"
    ):
        alone(*undersampled((1, 3, 32, 32)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_the_sensitivity_network_in_parts_equals_the_whole(monkeypatch, norm, training):
    torch.manual_seed(0)
    network = VarNet(**SMALL, norm=norm).train(training)
    kspace, columns = undersampled((2, 5, 32, 36))
    sizes = []
    network.sens_net.norm_unet.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    maps = network.sensitivities(kspace, columns)
    together = norm == "batch" and training
    assert sizes == ([10] if together else [4, 4, 2])
    monkeypatch.setattr(varnet_module, "COILS_AT_ONCE", 100)
    torch.testing.assert_close(maps, network.sensitivities(kspace, columns), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rss(maps), torch.ones(2, 32, 36))


class Foreign(nn.BatchNorm2d):
    """A norm that nobody knows."""


def test_a_foreign_norm_sees_all_coils_at_once():
    network = VarNet(**SMALL, norm=Foreign).eval()
    sizes = []
    network.sens_net.norm_unet.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    network.sensitivities(*undersampled((1, 6, 32, 32)))
    assert sizes == [6]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bf16", [False, True])
def test_checkpointing_changes_neither_gradients_nor_buffers(norm, bf16):
    """Also with dropout, whose second draw is the first one again."""
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = trained_a_little(VarNet(**SMALL, norm=norm, dropout=0.3, checkpointing=checkpointing))
        kspace, columns = undersampled((2, 5, 32, 36))
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            image = network(kspace, columns)
        image.square().mean().sqrt().backward()
        network(kspace, columns)  # a second time, as buffers of a step are those of the next
        found.append((image, [p.grad for p in network.parameters()], list(network.buffers())))
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again, rtol=0, atol=0)
    assert len(found[0][2]) > 0 or norm != "batch"


def test_checkpointing_keeps_less_for_the_gradient():
    kept = {}
    for checkpointing in (False, True):
        network, n = VarNet(**SMALL, checkpointing=checkpointing), 0

        def count(tensor):
            nonlocal n
            n += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(*undersampled((1, 6, 64, 64)))
        kept[checkpointing] = n
    assert kept[True] < 0.3 * kept[False]


def test_nothing_is_recomputed_without_gradients():
    calls = []
    module = nn.Identity()
    module.register_forward_hook(lambda *_args: calls.append(1))
    with torch.no_grad():
        assert recomputed(module, torch.ones(2)).sum() == 2
    assert calls == [1]


@pytest.mark.parametrize("scale", [2.0**-70, 2.0**40])
def test_the_image_scales_with_kspace(pair, scale):
    kspace, columns = undersampled((2, 3, 40, 36))
    with torch.no_grad():
        assert relative(pair[0](kspace * scale, columns) / scale, pair[0](kspace, columns)) < 1e-5


@pytest.mark.parametrize("norm", NORMS)
def test_an_empty_slice_is_finite_with_finite_gradients(norm):
    torch.manual_seed(0)
    network = VarNet(**SMALL, norm=norm)
    kspace, columns = undersampled((2, 3, 32, 36))
    kspace[0] = 0
    image = network(kspace, columns)
    image.sum().backward()
    assert not image[0].any()
    assert image[1].any()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_samples_do_not_mix(pair):
    kspace, columns = undersampled((2, 3, 40, 36))
    n_center = torch.tensor([4, 0])
    with torch.no_grad():
        both = pair[0](kspace, columns, n_center)
        for i in range(2):
            alone = pair[0](kspace[i : i + 1], columns[i : i + 1], n_center[i : i + 1] if i == 0 else None)
            assert relative(alone[0], both[i]) < 1e-5


def test_an_unused_sensitivity_network_has_gradients_of_zero_in_training():
    network = VarNet(**SMALL)
    network(*undersampled((1, 1, 32, 32))).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in network.sens_net.parameters())


@pytest.mark.parametrize("width", [36, 37])
def test_the_centre_of_a_mask_is_where_fastmri_finds_it(width):
    theirs = fastmri.models.varnet.SensitivityModel(2, 1)
    columns = torch.rand(64, width, generator=torch.Generator().manual_seed(0)) < 0.8
    columns[:, 0] = columns[:, -1] = False  # fastMRI takes a side without gap for one without centre
    pad, n = theirs.get_pad_and_num_low_freqs(columns[:, None, None, :, None])
    assert torch.equal(center_of(columns), n)
    assert len(set(n.tolist())) > 4
    for found, start, size in zip(center_columns(width, n), pad.tolist(), n.tolist(), strict=True):
        assert found.nonzero().flatten().tolist() == list(range(start, start + size))
    assert center_of(torch.ones(1, width, dtype=torch.bool)).tolist() == [2 * (width // 2)]


def test_groups_of_the_sensitivity_network_are_as_many():
    network = VarNet(8, 1, sens_channels=4, norm="group", channels_per_group=2, cascades=1)
    first = next(m for m in network.sens_net.modules() if isinstance(m, nn.GroupNorm))
    assert first.num_groups == 4
    with pytest.raises(InputError, match="makes 4 groups of 8 channels, which do not divide the 6 of the sensitivity"):
        VarNet(8, 1, sens_channels=6, norm="group", channels_per_group=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cascades": 0}, "model.cascades is 0; it must be 1 or more"),
        ({"sens_channels": -1}, "model.sens_channels is -1; it must be 0 or more"),
        ({"sens_pools": -1}, "model.sens_pools is -1"),
        ({"norm": "grup"}, "unknown norm 'grup'"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        VarNet(**{**SMALL, **changes})


def test_kspace_that_is_too_small_is_refused():
    VarNet(4, 2, sens_channels=4, cascades=1).check_image_size((8, 8))
    with pytest.raises(InputError, match="20 x 20 pixels are too small: 5 pools need 64 x 64"):
        VarNet(4, 2, sens_channels=4, sens_pools=5, cascades=1).check_image_size((20, 20))


def test_soft_consistency_in_closed_form():
    kspace, measured = (torch.randn(2, 3, 4, 5, dtype=torch.complex64) for _ in range(2))
    mask = torch.rand(2, 1, 1, 5) < 0.5
    moved = soft_consistency(kspace, measured, mask, torch.tensor(0.25))
    torch.testing.assert_close(moved, torch.where(mask, 0.75 * kspace + 0.25 * measured, kspace))


class TestUNetDC:
    """The step between U-Net and VarNet."""

    def test_a_fully_sampled_image_comes_back_whatever_the_weights(self):
        torch.manual_seed(0)
        kspace = torch.randn(2, 3, 33, 36, dtype=torch.complex64) * center_weight((33, 36))
        network = UNetDC(4, 2)
        image = network(kspace, torch.ones(2, 36, dtype=torch.bool), low_resolution_smaps(kspace, 16))
        torch.testing.assert_close(image, rss(ifft2c(kspace)), rtol=1e-4, atol=1e-4)

    def test_without_consistency_it_is_the_normunet_on_the_combined_image(self):
        torch.manual_seed(0)
        kspace, columns = undersampled((1, 4, 32, 36))
        smaps = low_resolution_smaps(kspace, 8)
        network = UNetDC(4, 2)
        nn.init.zeros_(network.dc_weight)
        combined = (smaps.conj() * ifft2c(kspace)).sum(1)
        refined = network.model(combined[:, None])[:, 0].abs()
        torch.testing.assert_close(network(kspace, columns, smaps), refined * rss(smaps), rtol=1e-4, atol=1e-4)

    def test_measured_columns_of_the_coils_are_put_in(self):
        """With a weight of 1, of one coil: what the network adds lies outside the mask."""
        kspace, columns = undersampled((1, 1, 32, 36))
        network = UNetDC(4, 2)
        seen = {}
        network.model.register_forward_hook(lambda _m, _i, output: seen.update(image=output[:, 0]))
        image = network(kspace, columns, torch.ones_like(kspace))
        want = torch.where(columns[:, None], kspace[:, 0], fft2c(seen["image"]))
        torch.testing.assert_close(image, ifft2c(want).abs(), rtol=1e-4, atol=1e-4)


def test_no_warning_of_checkpoints():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VarNet(**SMALL, checkpointing=True)(*undersampled((1, 2, 32, 32))).sum().backward()
    assert caught == []
