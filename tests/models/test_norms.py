"""Norm layers against torch's own, against each other, and in both memory layouts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mrirecon.errors import InputError
from mrirecon.models import NORMS, make_norm
from mrirecon.models.groups import count_groups, default_channels_per_group
from mrirecon.models.norms import InstanceNormLeakyReLU

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
REFERENCES = {
    "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "group": lambda x, w, b: F.group_norm(x, 2, w, b),
    "instance": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
    "layer": lambda x, w, b: F.group_norm(x, 1, w, b),
    "none": lambda x, w, b: x,
}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


def image(*shape, layout=torch.contiguous_format, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).to(memory_format=layout)


def build(norm, n_channels=6, affine=False):
    options = {"channels_per_group": n_channels // 2} if norm == "group" else {}
    module = make_norm(norm, n_channels, affine=affine, **options)
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = image(n_channels, seed=seed, dtype=parameter.dtype) + 1
    return module


def values_and_gradients(run, x, upstream, parameters=()):
    x = x.detach().requires_grad_()
    y = run(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *parameters], upstream)]


def test_a_reference_stands_here_for_every_norm():
    assert REFERENCES.keys() == NORMS.keys()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_equal_torchs(norm, affine, batch, dtype, layout):
    x = image(batch, 6, 9, 7, layout=layout, dtype=dtype) * 3 + 2
    upstream = image(batch, 6, 9, 7, layout=layout, dtype=dtype, seed=1)
    module = build(norm, affine=affine).to(dtype)
    ours = values_and_gradients(module, x, upstream, list(module.parameters()))
    weights = [p.detach().double().requires_grad_() for p in module.parameters()]
    scale, shift = weights or (None, None)
    # In one layout: torch's instance norm has a wrong gradient where image and upstream differ in theirs.
    x, upstream = x.double().contiguous(), upstream.double().contiguous()
    theirs = values_and_gradients(lambda x: REFERENCES[norm](x, scale, shift), x, upstream, weights)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < (2e-6 if dtype == torch.float32 else 1e-14) * b.abs().max()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layouts", [("contiguous", "channels-last"), ("channels-last", "contiguous")])
def test_gradients_may_come_in_the_other_layout(norm, batch, layouts):
    x, upstream = image(batch, 6, 9, 7), image(batch, 6, 9, 7, seed=1)
    expected = values_and_gradients(lambda x: REFERENCES[norm](x, None, None), x, upstream)
    x, upstream = (t.to(memory_format=LAYOUTS[name]) for t, name in zip((x, upstream), layouts, strict=True))
    torch.testing.assert_close(values_and_gradients(build(norm).double(), x, upstream), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["instance", "group", "layer"])
@pytest.mark.parametrize("affine", [False, True])
def test_gradients_are_the_numerical_ones(norm, affine, layout):
    module = build(norm, 4, affine).double()
    x = image(2, 4, 3, 5, layout=layout).requires_grad_()

    def run(x, *parameters):
        return torch.func.functional_call(module, dict(zip(("weight", "bias"), parameters, strict=False)), (x,))

    assert torch.autograd.gradcheck(run, (x, *module.parameters()))


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "batch"])
@pytest.mark.parametrize("mean", [0.0, 100.0, 3000.0])
def test_a_large_mean_costs_no_more_than_its_rounding(norm, mean, layout):
    x = image(1, 6, 64, 64, layout=layout, dtype=torch.float32) + mean
    expected = REFERENCES[norm](x.double(), None, None)
    error = (build(norm)(x) - expected).abs().max()
    assert error < 1e-5 + 5e-6 * mean  # torch's channels-last group norm: 0.1 at 100


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "batch"])
def test_statistics_of_bfloat16_are_kept_in_single_precision(norm, layout):
    x = (image(2, 6, 64, 64, layout=layout) * 3 + 5).bfloat16()
    upstream = image(2, 6, 64, 64, layout=layout, seed=1).bfloat16()
    ours = values_and_gradients(build(norm), x, upstream)
    x, upstream = x.double().contiguous(), upstream.double().contiguous()
    theirs = values_and_gradients(lambda x: REFERENCES[norm](x, None, None), x, upstream)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.bfloat16
        gain = (a * b).sum((2, 3)) / (b * b).sum((2, 3))
        assert (gain - 1).abs().max() < 1e-3  # a rounded standard deviation gives up to 4e-3


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("upstream_layout", LAYOUTS.values())
def test_norm_and_activation_in_one_equal_the_two(batch, dtype, layout, upstream_layout):
    x = image(batch, 6, 9, 7, layout=layout, dtype=dtype) * 3 + 2
    upstream = image(batch, 6, 9, 7, layout=upstream_layout, dtype=dtype, seed=1)
    module = InstanceNormLeakyReLU(6, eps=1e-5, negative_slope=0.2)
    ours = values_and_gradients(lambda x: module(x.clone(memory_format=torch.preserve_format)), x, upstream)
    x, upstream = x.double().contiguous(), upstream.double().contiguous()
    theirs = values_and_gradients(lambda x: F.leaky_relu(F.instance_norm(x), 0.2), x, upstream)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < (2e-6 if dtype == torch.float32 else 1e-14) * b.abs().max()


def test_norm_and_activation_in_one_have_the_numerical_gradient(layout):
    module = InstanceNormLeakyReLU(4, eps=1e-5, negative_slope=0.2)
    x = image(2, 4, 3, 5, layout=layout).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x.clone(memory_format=torch.preserve_format)), (x,))


def test_norm_and_activation_in_one_keep_statistics_of_bfloat16_in_single_precision(layout):
    x = (image(2, 6, 64, 64, layout=layout) * 3 + 5).bfloat16()
    upstream = image(2, 6, 64, 64, layout=layout, seed=1).bfloat16()
    module = InstanceNormLeakyReLU(6, eps=1e-5, negative_slope=0.2)
    ours = values_and_gradients(lambda x: module(x.clone(memory_format=torch.preserve_format)), x, upstream)
    x, upstream = x.double().contiguous(), upstream.double().contiguous()
    theirs = values_and_gradients(lambda x: F.leaky_relu(F.instance_norm(x), 0.2), x, upstream)
    for a, b in zip(ours, theirs, strict=True):
        assert (((a * b).sum((2, 3)) / (b * b).sum((2, 3))) - 1).abs().max() < 1e-3


def test_norm_and_activation_in_one_keep_their_result_only():
    kept = []
    x = image(2, 6, 16, 16, layout=torch.channels_last, dtype=torch.float32).requires_grad_()
    convolved = nn.Conv2d(6, 6, 3, bias=False).to(memory_format=torch.channels_last)(x)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = InstanceNormLeakyReLU(6, eps=1e-5, negative_slope=0.2)(convolved)
    assert y.data_ptr() == convolved.data_ptr()
    assert [t.data_ptr() for t in kept if t.shape == y.shape] == [y.data_ptr()]


def test_group_norm_of_one_channel_groups_is_instance_norm(layout):
    x = image(3, 6, 8, 8, layout=layout)
    torch.testing.assert_close(make_norm("group", 6, n_groups=6)(x), make_norm("instance", 6)(x))
    torch.testing.assert_close(make_norm("group", 6, channels_per_group=1)(x), make_norm("instance", 6)(x))


def test_group_norm_of_one_group_is_layer_norm(layout):
    x = image(3, 6, 8, 8, layout=layout)
    expected = F.layer_norm(x, (6, 8, 8))
    torch.testing.assert_close(make_norm("group", 6, n_groups=1)(x), expected)
    torch.testing.assert_close(make_norm("group", 6, channels_per_group=6)(x), expected)
    torch.testing.assert_close(make_norm("layer", 6)(x), expected)


def test_batch_norm_of_one_sample_is_instance_norm(layout):
    x = image(1, 6, 8, 8, layout=layout)
    batch = make_norm("batch", 6).double().train()
    torch.testing.assert_close(batch(x), make_norm("instance", 6)(x))


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "none"])
def test_a_sample_does_not_depend_on_its_batch(norm, layout):
    x = image(3, 6, 8, 8, layout=layout, dtype=torch.float32)
    module = build(norm)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2].clone(memory_format=torch.preserve_format)))


def test_instance_norm_is_the_same_in_evaluation_and_has_no_state():
    module, x = make_norm("instance", 4), image(2, 4, 6, 6)
    assert not module.state_dict()
    assert torch.equal(module.train()(x), module.eval()(x))


@pytest.mark.parametrize("norm", NORMS)
def test_affine_adds_a_scale_and_a_shift_per_channel(norm):
    assert sum(p.numel() for p in make_norm(norm, 8).parameters()) == 0
    assert sum(p.numel() for p in make_norm(norm, 8, affine=True).parameters()) == (0 if norm == "none" else 16)


@pytest.mark.parametrize("norm", sorted(NORMS.keys() - {"none"}))
def test_eps_bounds_what_noise_becomes(norm):
    x = 1e-3 * image(1, 4, 8, 8)
    loud, quiet = (make_norm(norm, 4, eps=eps).double()(x).std() for eps in (1e-12, 1.0))
    assert loud > 0.9
    assert quiet < 2e-3


def test_a_callable_and_a_class_path_are_norms_too():
    assert isinstance(make_norm(nn.BatchNorm2d, 5), nn.BatchNorm2d)
    given = make_norm({"class_path": "torch.nn.BatchNorm2d", "init_args": {"momentum": 0.5}}, 5)
    assert (given.num_features, given.momentum) == (5, 0.5)
    for norm in (nn.BatchNorm2d, {"class_path": "torch.nn.BatchNorm2d"}):
        with pytest.raises(InputError, match="affine is an option of the named norms"):
            make_norm(norm, 5, affine=True)


def test_an_unknown_norm_gets_a_suggestion():
    with pytest.raises(InputError, match="unknown norm 'grup'; did you mean 'group'") as error:
        make_norm("grup", 4)
    assert all(name in str(error.value) for name in NORMS)


@pytest.mark.parametrize("norm", sorted(NORMS.keys() - {"group"}))
@pytest.mark.parametrize("option", ["channels_per_group", "n_groups"])
def test_group_options_belong_to_group_norm(norm, option):
    with pytest.raises(InputError, match=f"norm '{norm}' has no option {option}"):
        make_norm(norm, 4, **{option: 2})


@pytest.mark.parametrize(("base", "expected"), [(1, 1), (2, 1), (16, 8), (32, 16), (63, 31), (64, 32), (128, 32)])
def test_channels_per_group_are_32_from_64_base_channels_else_half(base, expected):
    assert default_channels_per_group(base) == expected


@pytest.mark.parametrize(
    ("n_channels", "options", "groups"),
    [
        (64, {"channels_per_group": 32}, 2),
        (64, {"channels_per_group": 100}, 1),  # never more than the layer has
        (64, {"n_groups": 8}, 8),
        (4, {"n_groups": 8}, 4),
        (1, {"channels_per_group": 16}, 1),
        (64, {}, 2),
        (256, {}, 8),
    ],
)
def test_groups_are_counted(n_channels, options, groups):
    assert count_groups(n_channels, **options) == groups


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels_per_group": 16, "n_groups": 2}, "give one of them"),
        ({"channels_per_group": 24}, "channels_per_group=24 does not divide the 64 channels"),
        ({"n_groups": 12}, "n_groups=12 does not divide the 64 channels"),
        ({"n_groups": 0}, "n_groups is 0; it must be 1 or more"),
        ({"channels_per_group": -1}, "channels_per_group is -1; it must be 1 or more"),
    ],
)
def test_impossible_groups_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_norm("group", 64, **options)
