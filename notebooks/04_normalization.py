# %% [markdown]
# # Normalization layers
# A normalization layer subtracts a mean and divides by a standard deviation, somewhere between two convolutions. Part
# of what the lecture says of it is identity and holds to rounding; of the rest we say what decides it. All of it takes
# about half a minute; `LONG=1 jupyter lab` trains ten times longer.

# %%
import os
import tempfile
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mrirecon import progress
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, SimulateConfig, TrainConfig
from mrirecon.data import SliceDataset, normalize
from mrirecon.data.samples import collate
from mrirecon.evaluation import ssim
from mrirecon.models import NORMS, UNet, make_norm
from mrirecon.models.groups import count_groups, level_widths
from mrirecon.reconstruct.network import set_bn_stats
from mrirecon.training import load_reconstructor, make_optimizer
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train

LONG = bool(os.environ.get("LONG"))
WORK = tempfile.mkdtemp(prefix="norms-")
progress.quiet = True
difference = partial(torch.dist, p=torch.inf)  # the largest one
plt.rcParams |= {"figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True, "legend.fontsize": 8}

# %% [markdown]
# ## What a layer does
# Of values $x$ with mean $\mu$ and standard deviation $\sigma$ it makes $y = \frac{a}{\sigma}(x - \mu) + b$. With
# $a = 1$, $b = 0$ the result has mean 0 and standard deviation 1, whatever came in. Where $a$ and $b$ are learned, one
# pair per channel, they say what mean and deviation come out, and the weights before the layer have no say in it.

# %% tags=["N3"]
torch.manual_seed(0)
features = 5 + 3 * torch.randn(4, 6, 16, 16)  # images, channels, height, width
for name in ("batch", "layer", "instance", "group"):
    layer = make_norm(name, 6, affine=True)  # begins with a = 1, b = 0
    plain, layer.weight.data, layer.bias.data = layer(features), torch.full((6,), 0.5), torch.full((6,), 2.0)
    words = (f"mean {y.mean().abs():.2f}, sd {y.std():.2f}" for y in (features, plain, layer(features)))
    print("{:9} before: {}   a = 1, b = 0: {}   a = 0.5, b = 2: {}".format(name, *words))

# %% [markdown]
# ## Which values share a mean
# While they train, the four layers differ in nothing else. Two values share statistics exactly when one's output has a
# gradient with respect to the other, so we ask autograd: what does the value in the front top right corner depend on?

# %% tags=["N4"]
values = torch.randn(3, 4, 1, 5, requires_grad=True)  # 3 images, 4 channels, 5 pixels
fig, axes = plt.subplots(1, 4, figsize=(11, 2.9), subplot_kw={"projection": "3d"})
for ax, name in zip(axes, ["batch", "layer", "instance", "group"], strict=True):
    layer = make_norm(name, 4, channels_per_group=2 if name == "group" else None)
    (gradient,) = torch.autograd.grad(layer(values)[0, -1, 0, -1], values)
    shared = (gradient[:, :, 0] != 0).permute(1, 0, 2).numpy()
    ax.voxels(np.ones_like(shared), facecolors=np.where(shared, "tab:orange", "whitesmoke"), edgecolor="grey", lw=0.4)
    ax.set(title=f"{name}: {shared.sum()} of {shared.size} values", xlabel="channels", ylabel="images", zlabel="pixels")
    ax.set(xticks=[], yticks=[], zticks=[], box_aspect=(4, 3, 5))
    ax.zaxis.labelpad = -12
plt.show()

# %% [markdown]
# *Batch norm* takes one channel over all images, *layer norm* all channels of one image, *instance norm* one channel of
# one image. *Group norm*, here with two channels per group, contains the last two: with all channels in a group it is
# layer norm, with one it is instance norm. And batch norm of a single image **is** instance norm while it trains.

# %% tags=["N4"]
instance, layer, batch = (make_norm(name, 6) for name in ("instance", "layer", "batch"))
one_each, all_six = (make_norm("group", 6, channels_per_group=n) for n in (1, 6))
pairs = {
    "group, 1 channel per group - instance": (one_each(features), instance(features)),
    "group, all channels - layer": (all_six(features), layer(features)),
    "batch, 1 image - instance": (batch(features[:1]), instance(features[:1])),
    "batch, 4 images - instance": (batch(features), instance(features)),
}
print(*(f"{name:38} {difference(*pair):.1e}" for name, pair in pairs.items()), sep="\n")

# %% [markdown]
# ## Does it change what a network can express?
# The lecture says no. For batch norm after training that is so: mean and deviation are constants by then, and the layer
# folds into the convolution before it, with weights $W / \sigma$ and bias $-\mu / \sigma$. The others measure the image
# at hand, and so they forget its scale: of twice the image they make the same, which no convolution does.

# %% tags=["N2"]
conv, norm = nn.Conv2d(6, 8, 3, bias=False), make_norm("batch", 8)
norm(conv(features))  # one step of training, so that there are running statistics
sigma = (norm.eval().running_var + norm.eps).sqrt()
folded = F.conv2d(features, conv.weight / sigma[:, None, None, None], -norm.running_mean / sigma)
print(f"convolution and batch norm afterwards - folded: {difference(norm(conv(features)), folded):.1e}")
print(f"instance norm of 2 x - instance norm of x: {difference(instance(2 * features), instance(features)):.1e}")

# %% [markdown]
# ## Where it stands
# Before the convolution, between it and the activation (usual), or after both. The lecture expects little difference.

# %% tags=["N1"]
for position in ("before", "between", "after"):
    block = UNet(channels=8, pools=2, norm="group", norm_position=position).down_sample_layers[0]
    y = block(torch.randn(4, 1, 32, 32))
    kinds = " > ".join(type(layer).__name__ for layer in block.layers[:3])
    print(f"{position:8} {kinds:33} hands on: mean {y.mean().abs():.2f}, sd {y.std():.2f}")

# %% [markdown]
# Only `after` hands on standardised values. Whether that shows in images is a matter of thousandths of SSIM, too fine
# for half a minute: `configs/ablation/norm_position.yaml` decides it.
# ## The two meanings of "group size 32"
# The lecture recommends groups of size 32, "almost always", and means 32 *channels per group*. The first argument of
# `torch.nn.GroupNorm` is the *number of groups*. In a U-Net of 32 to 512 channels these are different networks: at the
# first level one is layer norm, the other instance norm. Which size is best: `configs/ablation/group_size.yaml`.

# %% tags=["N5"]
for width in level_widths(channels=32, pools=4):
    n, m = count_groups(width, channels_per_group=32), count_groups(width, n_groups=32)
    print(f"{width:3} channels: 32 per group are {n:2} groups of 32;   32 groups are 32 groups of {width // m:2}")

# %% [markdown]
# ## Larger steps, less care
# A network with a norm, the claim goes, bears larger learning rates and cares less about its initial weights. We
# simulate small heads and train a small U-Net on zero-filled images, by momentum, four slices a step.

# %% tags=["N7"]
DATA = simulate_dataset(SimulateConfig(f"{WORK}/data", train=6, val=1, test=2, slices=4, matrix=[64, 64], coils=2))
slices = SliceDataset(DATA / "train", "random", acceleration=4, needs=("image",))
sample = collate([slices[i] for i in range(len(slices))])
filled, target = (normalize(of, sample.mean, sample.std)[:, None] for of in (sample.image, sample.target))


def fit(norm, lr, gain=1.0, steps=250 if LONG else 25):
    """Losses of a small U-Net whose initial weights are multiplied by `gain`."""
    torch.manual_seed(0)
    network = UNet(channels=8, pools=2, norm=norm)
    network.load_state_dict({k: v * gain if v.ndim == 4 else v for k, v in network.state_dict().items()})
    optimizer, losses = make_optimizer("momentum", network, lr=lr), []
    for _ in range(steps):
        chosen = torch.randperm(len(filled))[:4]
        loss = F.l1_loss(network(filled[chosen]), target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


fig, axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
for norm in ("none", "group"):
    by_rate = {rate: np.mean(fit(norm, rate)[-5:]) for rate in (0.03, 0.1, 0.3, 1.0)}
    by_gain = {gain: np.mean(fit(norm, 0.03, gain)[-5:]) for gain in (0.1, 1.0, 10.0)}
    for ax, label, ends in zip(axes, ("learning rate", "initial weights times"), (by_rate, by_gain), strict=True):
        ax.semilogx(ends.keys(), ends.values(), "o-", label=norm)
        ax.set(xlabel=label, ylabel="loss, last 5 steps")
        print(f"{norm:5} {label}:", *(f"{x:g}: {loss:.3f} " for x, loss in ends.items()))
axes[0].legend(title="norm")
plt.show()

# %% [markdown]
# Without a norm training fails (nan, not drawn) at a rate of 0.3; with one it still learns there, but hardly at 1. From
# weights a tenth as large the plain network learns next to nothing, from ten times as large ones it fails; with the
# norm it learns from both. That is one seed and few steps: `configs/ablation/optimizer_x_norm.yaml` decides.
# ## The gradient through the statistics
# $\mu$ and $\sigma$ depend on the input, and the gradient has to pass through them, or training diverges, says the
# lecture; moving averages in their place fail as well. Instance norm by hand, in three ways:


# %% tags=["N9"]
class ByHand(nn.Module):
    """Instance norm with the gradient through its statistics, detached from them, or by averages of the batches."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.old = kind, None

    def forward(self, x):
        """Normalise `x` (images, channels, height, width)."""
        axes = (0, 2, 3) if self.kind == "average" else (2, 3)
        now = torch.stack([x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)])
        now = now if self.kind == "through" else now.detach()
        used = now if self.old is None else self.old
        self.old = 0.9 * used + 0.1 * now if self.kind == "average" else None
        return (x - used[0]) / (used[1] + 1e-5).sqrt()


print(f"by hand - make_norm: {difference(ByHand('through')(features), instance(features)):.1e}")
_, ax = plt.subplots(figsize=(6, 2.4))
for kind in ("through", "detached", "average"):
    losses = fit(lambda _, kind=kind: ByHand(kind), 0.3, steps=600 if LONG else 60)
    ax.plot(losses, label=kind)
    print(f"{kind:8}: mean loss of the last 20 steps {np.mean(losses[-20:]):.3f}, largest {np.nanmax(losses):.2g}")
ax.set(xlabel="step", ylabel="loss", ylim=(0.2, 1.0), title="learning rate 0.3")
ax.legend()
plt.show()

# %% [markdown]
# Moving averages do fail, within a few steps. Without the gradient training ends worse, but does not diverge here, with
# one seed and not even in the long form (no study yet: it needs norms without that gradient).
# ## Statistics after training
# In training, batch norm makes an image depend on its batch: noise that regularises, says the lecture (N8; no study
# yet: it needs the gap of training and validation loss by batch and group size). Afterwards it uses running averages.
# Instance norm, too, says the lecture; in practice, in torch's default as here, that measures every image, always.
#
# How good are they? In batches of one slice batch norm *trains as instance norm*, so what goes wrong comes from the
# evaluation. There are three: by running averages; *recalibrated*, by averages measured anew on the training slices
# while the weights stand still; and by the statistics of the batch, here the image, at hand.

# %% tags=["N6", "N10"]
for layer in (*(make_norm(name, 6) for name in ("batch", "layer", "instance", "group")), nn.InstanceNorm2d(6)):
    change = difference(layer(features), layer.eval()(features))
    print(f"{layer._get_name():14} training - evaluation {change:.1e}, {len(list(layer.buffers()))} buffers")
unseen = [collate([s]) for s in SliceDataset(DATA / "test", "random", acceleration=4, needs=("image",))]
images = {"target": [s.target[0] for s in unseen]}
for norm, kinds in (("batch", ("running", "recalibrated", "batch")), ("instance", ("",)), ("group", ("",))):
    data, method, steps = DataConfig(path=str(DATA)), OptimizerConfig("adamw"), 1200 if LONG else 120
    model, to = ModelConfig(channels=8, pools=2, norm=norm, residual=False), f"{WORK}/{norm}"
    config = TrainConfig(data, model, method, batch_size=1, max_steps=steps, val_every=120, precision="fp32", output=to)
    run = train(config)
    for kind in kinds:
        network = load_reconstructor(run, "last")
        set_bn_stats(network, "recalibrated" if kind == "recalibrated" else "running", config)
        network.train(kind == "batch")  # then it normalises by the batch
        images[f"{norm} {kind}"] = [network(s)[0].detach() for s in unseen]
fig, axes = plt.subplots(1, len(images), figsize=(11, 2.2))
for ax, (title, of) in zip(axes, images.items(), strict=True):
    score = np.mean([ssim(s.target[0], image, float(s.data_range)) for s, image in zip(unseen, of, strict=True)])
    ax.imshow(of[2], cmap="gray", vmin=0, vmax=float(images["target"][2].max()) / 2)
    print(f"{title:20} SSIM {score:.3f}")
    ax.set(title=f"{title}\nmean SSIM {score:.3f}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# One slice shows the eye little, the mean score more. By the image's own statistics batch norm is the network that
# instance norm is, but for rounding, which training magnifies. By fixed ones it is worse, and recalibrating hardly
# helps: the averages were not stale, but no image was trained with them. Whether group norm is better in small batches
# is not for one run to say: `configs/ablation/batch_size.yaml`.
# ## Several processes
# Processes that share a batch average their gradients: the gradient of the whole batch, except with batch norm whose
# statistics are not summed over them (`sync_batchnorm: true` does that; usually it is left off). We play two of them.

# %% tags=["N11"]
for norm in NORMS:
    network = UNet(channels=8, pools=2, norm=norm).double()
    for part, weight in ((slice(0, 4), 1), (slice(0, 2), -0.5), (slice(2, 4), -0.5)):
        (weight * F.l1_loss(network(filled[part].double()), target[part].double())).backward()
    print(f"{norm:9} whole gradient - mean of the parts: {max(p.grad.abs().max() for p in network.parameters()):.1e}")
