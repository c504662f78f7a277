"""The U-Net against fastMRI's, and what its switches change."""

import copy

import pytest
import torch
from fastmri.models import Unet
from torch import nn

from mrirecon.errors import InputError
from mrirecon.models import NORMS, UNet, check_image_size, make_norm
from mrirecon.models.unet import convolve_side_by_side

KINDS = {norm: type(make_norm(norm, 4)) for norm in NORMS}
PER_SAMPLE = ["instance", "group", "layer", "none"]


def image(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small(norm="instance", **options):
    torch.manual_seed(0)
    return UNet(**{"channels": 4, "pools": 2, "norm": norm, **options})


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(1)
    return Unet(1, 1, chans=32, num_pool_layers=4)


def test_parameters_are_fastmris(reference):
    ours, theirs = UNet().state_dict(), reference.state_dict()
    assert [(name, value.shape) for name, value in ours.items()] == [(n, v.shape) for n, v in theirs.items()]
    assert sum(parameter.numel() for parameter in UNet().parameters()) == 7_756_097


@pytest.mark.parametrize("shape", [(2, 1, 64, 96), (1, 1, 65, 93), (3, 1, 33, 47), (1, 1, 320, 320), (1, 1, 32, 32)])
def test_the_default_equals_fastmri(reference, shape):
    ours = UNet()
    ours.load_state_dict(reference.state_dict(), strict=True)
    x = image(*shape)
    with torch.no_grad():
        exact = copy.deepcopy(reference).double()(x.double())
        found, theirs = ours(x), reference(x)
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-5 * float(exact.abs().max()))
    assert (found - exact).abs().max() < 1.5 * (theirs - exact).abs().max()  # rounding differs, exactness does not


@pytest.mark.parametrize("norm", ["instance", nn.InstanceNorm2d, {"class_path": "torch.nn.InstanceNorm2d"}])
@pytest.mark.parametrize("shape", [(2, 2, 37, 50), (1, 2, 37, 50), (1, 2, 8, 8)])
def test_values_and_gradients_equal_fastmris_in_double_precision(norm, shape):
    torch.manual_seed(0)
    theirs = Unet(2, 3, chans=20, num_pool_layers=2).double()
    ours = UNet(2, 3, channels=20, pools=2, norm=norm).double()  # 20, 40, 80: both memory layouts occur
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, upstream = image(*shape, dtype=torch.float64), image(shape[0], 3, *shape[2:], seed=1, dtype=torch.float64)
    outputs, gradients = [], []
    for model in (ours, theirs):
        outputs.append(model(x))
        gradients.append(torch.autograd.grad(outputs[-1], list(model.parameters()), upstream))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_bfloat16_is_as_close_to_double_precision_as_fastmris(reference):
    ours = UNet()
    ours.load_state_dict(reference.state_dict())
    x = image(1, 1, 96, 96)
    with torch.no_grad():
        exact = copy.deepcopy(reference).double()(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            errors = [(model(x) - exact).norm() / exact.norm() for model in (ours, reference)]
    assert errors[0] < 1.1 * errors[1]
    assert errors[0] < 0.05


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", ["before", "between", "after"])
def test_every_block_has_the_asked_norm_and_no_other(norm, position):
    model = small(norm, norm_position=position)
    blocks = [m for m in model.modules() if type(m).__name__ in ("ConvBlock", "TransposeConvBlock")]
    assert len(blocks) == 7  # 2 down, 1 lowest, 2 transpose, 2 up
    for block in blocks:
        kinds = [type(layer) for layer in block.layers]
        convolutions = sum(issubclass(kind, (nn.Conv2d, nn.ConvTranspose2d)) for kind in kinds)
        assert sum(issubclass(kind, KINDS[norm]) for kind in kinds) == convolutions
    others = tuple(set(KINDS.values()) - {KINDS[norm], nn.Identity})
    assert not any(isinstance(module, others) for module in model.modules())
    if norm == "layer":
        assert all(m.num_groups == 1 for m in model.modules() if isinstance(m, nn.GroupNorm))


@pytest.mark.parametrize(
    ("position", "order"),
    [("before", "norm conv act"), ("between", "conv norm act"), ("after", "conv act norm")],
)
def test_norm_position_is_the_order_of_the_layers(position, order):
    names = {nn.Conv2d: "conv", nn.ConvTranspose2d: "conv", nn.BatchNorm2d: "norm", nn.LeakyReLU: "act"}
    for module in small("batch", norm_position=position).modules():
        if type(module).__name__ in ("ConvBlock", "TransposeConvBlock"):
            found = [names[type(layer)] for layer in module.layers if type(layer) in names]
            assert found == order.split() * (len(found) // 3)


def test_norm_position_changes_the_output():
    x, outputs = image(1, 1, 16, 16), []
    for position in ("before", "between", "after"):
        model = small(norm_position=position)
        assert [p.shape for p in model.parameters()] == [p.shape for p in small().parameters()]
        outputs.append(model(x))
    assert all((a - b).abs().max() > 1e-3 for a, b in [outputs[:2], outputs[1:], outputs[::2]])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", ["before", "between", "after"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 1, 17, 13), (2, 1, 16, 11)])
def test_any_size_and_batch_gives_an_image_and_gradients(norm, position, affine, shape):
    model = small(norm, norm_position=position, affine=affine)
    output = model(image(*shape))
    assert output.shape == shape
    output.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(block.layers[0 if position != "before" else 1].weight.grad.any() for block in model.up_transpose_conv)


@pytest.mark.parametrize("norm", NORMS)
def test_affine_adds_two_parameters_per_norm_and_channel(norm):
    plain, affine = (sum(p.numel() for p in small(norm, affine=a).parameters()) for a in (False, True))
    # channels behind the convolutions: 2 x (4 + 8) down, 2 x 16 lowest, 3 x (8 + 4) up
    assert affine - plain == (0 if norm == "none" else 2 * (2 * 12 + 2 * 16 + 3 * 12))


@pytest.mark.parametrize("norm", NORMS)
def test_a_state_dict_comes_back(norm, tmp_path):
    model, other = small(norm, affine=True), UNet(channels=4, pools=2, norm=norm, affine=True)
    model(image(2, 1, 16, 16))  # moves running statistics
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    x = image(1, 1, 16, 16, seed=1)
    assert torch.equal(model.eval()(x), other.eval()(x))
    assert all(value.is_contiguous() for value in model.state_dict().values())  # safetensors asks for it


@pytest.mark.parametrize("norm", PER_SAMPLE)
def test_a_sample_does_not_depend_on_its_batch(norm):
    model, x = small(norm), image(3, 1, 17, 20)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_evaluation_and_repetition_are_deterministic(norm):
    model, x = small(norm, dropout=0.3).eval(), image(2, 1, 16, 16)
    assert torch.equal(model(x), model(x))


def test_dropout_drops_while_training_only():
    model, x = small(dropout=0.5), image(1, 1, 16, 16)
    assert not torch.equal(model(x), model(x))
    torch.testing.assert_close(model.eval()(x), small().eval()(x))


def test_residual_learning_adds_the_input():
    x = image(2, 1, 16, 16)
    torch.testing.assert_close(small(residual=True)(x), small()(x) + x)
    with pytest.raises(InputError, match="as many channels out as in, got 2 and 1"):
        small(residual=True, in_channels=2)


@pytest.mark.parametrize("channels", [16, 64])
def test_group_size_follows_the_base_channels(channels):
    model = UNet(channels=channels, pools=1, norm="group")
    groups = {m.num_channels // m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {8 if channels == 16 else 32}
    model = UNet(channels=channels, pools=1, norm="group", n_groups=4)
    assert all(m.num_groups == 4 for m in model.modules() if isinstance(m, nn.GroupNorm))


def test_a_callable_norm_reaches_every_block():
    asked = []
    model = small(lambda n_channels: asked.append(n_channels) or nn.BatchNorm2d(n_channels))
    assert asked == [4, 4, 8, 8, 16, 16, 8, 8, 8, 4, 4, 4]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == len(asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "instanc"}, "unknown norm 'instanc'; did you mean 'instance'"),
        ({"norm_position": "betwen"}, "unknown norm position 'betwen'; did you mean 'between'"),
        ({"norm": "group", "channels_per_group": 2, "n_groups": 2}, "give one of them"),
        ({"norm": "group", "channels_per_group": 3}, "does not divide the 4 channels"),
        ({"norm": "batch", "n_groups": 2}, "norm 'batch' has no option n_groups"),
        ({"pools": 0}, "pools is 0; it must be 1 or more"),
        ({"channels": -1}, "channels is -1; it must be 1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message):
    with pytest.raises(InputError, match=message) as error:
        small(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pools", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", NORMS)
def test_the_smallest_image_has_two_pixels_at_the_lowest_level(norm, pools):
    side = 2 * 2**pools
    model = UNet(channels=2, pools=pools, norm=norm)
    assert model(image(1, 1, side, side)).isfinite().all()
    with pytest.raises(InputError, match=f"{pools} pools need {side} x {side}"):
        model(image(1, 1, side, side - 1))


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((31, 400), "use 3 pools"),
        ((16, 16), "use 3 pools"),
        ((15, 99), "use 2 pools"),
        ((4, 5), "use 1 pools"),
        ((3, 9), "no U-Net"),
    ],
)
def test_a_small_image_is_told_how_many_pools_fit(shape, advice):
    with pytest.raises(InputError, match=advice) as error:
        check_image_size(shape, 4)
    assert "32 x 32" in str(error.value)


@pytest.mark.parametrize("norm", NORMS)
def test_the_network_is_one_graph(norm):
    model, x = small(norm).eval(), image(1, 1, 16, 19)
    with torch.no_grad():
        program = torch.export.export(model, (x,)).module()
        torch.testing.assert_close(program(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_training_compiles_without_a_graph_break(norm):
    model, x = small(norm), image(2, 1, 16, 19)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    gradients = []
    for network in (model, compiled):
        model.zero_grad()
        network(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("width", [3, 5])
def test_images_side_by_side_are_convolved_as_if_joined(width):
    conv = nn.Conv2d(2 + width, 4, kernel_size=3, padding=1, bias=False).double()
    images = (image(2, 2, 7, 8, dtype=torch.float64), image(2, width, 7, 8, seed=1, dtype=torch.float64))
    torch.testing.assert_close(convolve_side_by_side(conv, images), conv(torch.cat(images, dim=1)))
