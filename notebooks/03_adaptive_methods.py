# %% [markdown]
# # Adaptive methods
#
# Gradient descent moves all weights with one learning rate. *Adaptive methods* give each weight its own, taken from the
# gradients it has seen. We follow the lecture on quadratics, with a small U-Net at both ends (`LONG=1`: longer, other
# numbers).

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch

from mrirecon.config import ModelConfig, SimulateConfig
from mrirecon.data import SliceDataset
from mrirecon.data.samples import collate
from mrirecon.training import ReconModule, build_model, make_optimizer
from mrirecon.training.footprint import optimizer_bytes
from mrirecon.workflows.simulate import simulate_dataset

LONG = bool(os.environ.get("LONG"))
plt.rcParams |= {"figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True, "legend.fontsize": 7}

# %% [markdown]
# ## One rate does not fit all weights
#
# A U-Net before its first step: for every convolution, the norm of its gradient over the norm of its weights. SGD at
# the rate $\gamma$ changes the layer by $\gamma$ times that.


# %% tags=["A1"]
def network(norm="instance"):
    """A small U-Net with the package's loss, always with the same first weights."""
    torch.manual_seed(0)
    return ReconModule(build_model(ModelConfig(channels=8, pools=3, norm=norm)))


size = {"train": 24 if LONG else 3, "val": 1, "test": 0, "slices": 4, "matrix": [64, 64], "coils": 2}
DATA = simulate_dataset(SimulateConfig(tempfile.mkdtemp(), **size))
slices, held_out = (list(SliceDataset(DATA / s, "random", acceleration=4, needs=("image",))) for s in ("train", "val"))
ax = plt.figure(figsize=(7, 2.2)).add_subplot(xlabel="convolution, input to output", ylabel="|gradient| / |weights|")
for norm in ("none", "instance"):
    module = network(norm)
    module.sample_loss(collate(slices)).backward()
    weights = [w for name, w in module.named_parameters() if w.ndim == 4 and "transpose" not in name]
    ax.semilogy([float(w.grad.norm() / w.detach().norm()) for w in weights], "o-", label=f"norm: {norm}")
    ax.legend()

# %% [markdown]
# Late layers act directly on the output and need smaller rates, says the lecture. The last layer does have a larger
# gradient than the first. But the smallest are in the middle, on the lowest level: over seven powers of ten below the
# largest, with a norm less than two (A1, no study yet: needs learning rates and update ratios per layer).
#
# ## RMSprop
#
# Divide each gradient $g_t = \nabla f(w_t)$ by its root mean square, kept as an exponential moving average:
# $v_{t+1} = \alpha v_t + (1-\alpha)\,g_t^2$ and $w_{t+1} = w_t - \gamma\,g_t/(\sqrt{v_{t+1}}+\epsilon)$. By hand on the
# valley $f(w) = \frac12 (w_1^2 + 25\,w_2^2)$; `descend` runs the package's methods.


# %% tags=["A2"]
def descend(method, rate, gradient, w, steps, box=float("inf"), **options):
    """The path of a method: weights before the first step and after each one, held inside [-box, box]."""
    path, w = [w], torch.nn.Parameter(w.clone())
    optimizer = make_optimizer(method, [w], rate, **options)
    for t in range(steps):
        w.grad = gradient(w.detach(), t)
        optimizer.step()
        path.append(w.detach().clamp_(-box, box).clone())
    return torch.stack(path)


STEEP = torch.tensor([1.0, 25.0], dtype=torch.float64)
start = torch.tensor([1.0, -0.6], dtype=torch.float64)
w, v = start, 0
for _ in range(50):
    v = 0.99 * v + 0.01 * (STEEP * w) ** 2
    w = w - 0.02 * STEEP * w / (v.sqrt() + 1e-8)
packaged = descend("rmsprop", 0.02, lambda w, _: STEEP * w, start, 50)
print(f"by hand = package: difference {(w - packaged[-1]).abs().max():.0e}")
print(f"first gradient {(STEEP * start).numpy()}, first step {(packaged[1] - packaged[0]).numpy().round(6)}")

# %% [markdown]
# The first step is equally long in both directions: only *signs* of the gradient are left, times
# $\gamma/\sqrt{1-\alpha}$. So SGD starts across the valley, RMSprop towards the solution, says the lecture. We look.

# %% tags=["A7"]
TURNED = torch.tensor([[13.0, -12.0], [-12.0, 13.0]], dtype=torch.float64)
circle = torch.view_as_real(torch.exp(1j * torch.arange(0.5, 360, dtype=torch.float64).deg2rad()))
fig, axes = plt.subplots(1, 2, figsize=(8, 3.8))
for ax, H, words in zip(axes, (STEEP.diag(), TURNED), ("on the axes", "turned"), strict=True):
    ax.plot(*(circle @ torch.linalg.cholesky(H).inverse()).T, color="0.8", label="equal loss")
    for method, rate in (("sgd", 0.03), ("rmsprop", 0.02), ("adam", 0.1)):
        path, steps = (descend(method, rate, lambda w, _, H=H: w @ H, w, 60) for w in (start, circle))
        ax.plot(*path.T, ".-", ms=3, lw=0.8, label=f"{method}, rate {rate}")
        cosine = torch.cosine_similarity(steps[1] - steps[0], -circle).mean()
        print(f"valley {words:11} {method:8} mean cosine of first step and solution, 360 starts: {cosine:.2f}")
    ax.set(title=f"valley {words}", xlabel="$w_1$", ylabel="$w_2$", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    ax.legend()

# %% [markdown]
# On the axes it is so. In a valley turned by 45 degrees the lead is lost: both weights have the same curvature, and
# there is nothing that a rate *per weight* could tell apart.
#
# ## Adam
#
# Adam is RMSprop with momentum, as an average: $m_{t+1} = \beta m_t + (1-\beta)\,g_t$ takes the place of the
# gradient that is divided. The lecture prints $m_t$ there, a slip, as we see. Both averages begin at zero, so they are
# divided by $1-\beta^{t+1}$ and $1-\alpha^{t+1}$ (*bias correction*).


# %% tags=["A4"]
def adam_by_hand(rate, gradient, w, steps, stale=False, corrected=True):
    """Adam; `stale` takes m as printed, `corrected=False` leaves out bias correction."""
    m, v, path = torch.zeros_like(w), torch.zeros_like(w), [w]
    for t in range(steps):
        g, before = gradient(w, t), m
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_scale, v_scale = (1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)) if corrected else (1, 1)
        w = w - rate * (before if stale else m) / m_scale / ((v / v_scale).sqrt() + 1e-8)
        path.append(w)
    return torch.stack(path)


packaged = descend("adam", 0.1, lambda w, _: STEEP * w, start, 50)
for stale in (False, True):
    difference = (adam_by_hand(0.1, lambda w, _: STEEP * w, start, 50, stale) - packaged).abs().max()
    print(f"m as printed: {stale!s:5}, largest difference to the package's Adam {difference:.0e}")

# %% [markdown]
# Bias correction is "not necessary, but helps a little"; without it the first step is ten times smaller, says the
# lecture. That is true of $m$ alone. But we divide by $\sqrt v$, which starts too small as well, by
# $\sqrt{1-\alpha} = 0.032$. For a constant gradient the uncorrected step is $\gamma\,(1-\beta^t)/\sqrt{1-\alpha^t}$.

# %% tags=["A5"]
t, zero = np.arange(1, 3001), torch.zeros(1, dtype=torch.float64)
path = adam_by_hand(1.0, lambda w, _: w * 0 + 1, zero, len(t), corrected=False)
length = -path.diff(dim=0)[:, 0].numpy()
ax = plt.figure(figsize=(6, 2)).add_subplot(xlabel="step, constant gradient", ylabel="length / rate")
ax.loglog(t, length, label="Adam without correction")
ax.loglog(t, (1 - 0.9**t) / np.sqrt(1 - 0.999**t), "k:", label="formula")
ax.loglog(t, 1 - 0.9**t, label="if only m were uncorrected")
ax.legend()
print(f"first step {length[0]:.2f} rates, longest {length.max():.2f} at step {length.argmax() + 1}")

# %% [markdown]
# The uncorrected Adam starts too *fast* and still is after a thousand steps. There is no NaN, of which a notebook of
# the lecture warns. What it costs networks is open (A5, no study yet: needs an Adam without bias correction).
#
# $\epsilon$, about $10^{-8}$, avoids a division by zero and may be small, says the lecture: where $v$ is tiny, so is
# what it divides. We add noise to the valley's gradients, do 30 runs at once (the methods work on each number alone),
# and multiply all gradients by 1, $10^{-3}$ and $10^{-6}$, as if the loss had another unit.

# %% tags=["A3"]
starts = circle[::12]
noise = torch.randn(200, 30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EPS = [10.0**k for k in range(-13, 0, 2)]
ax = plt.figure(figsize=(6, 2.2)).add_subplot(xlabel=r"$\epsilon$", ylabel="mean loss", ylim=(0.05, 20))
for c in (1.0, 1e-3, 1e-6):
    paths = [descend("adam", 0.1, lambda w, t, c=c: c * (STEEP * w + noise[t]), starts, 200, eps=e) for e in EPS]
    ax.loglog(EPS, [float((path**2 @ STEEP / 2).mean()) for path in paths], ".-", label=f"gradients x {c:g}")
    ax.legend()

# %% [markdown]
# Small is safe, far above the gradients is not (A3, no study of networks yet: needs adaptive methods at several eps).
#
# ## Which method is best?
#
# RMSprop bounces around the bottom as SGD does, Adam does not and is to be preferred, says the lecture. We run each at
# many rates and score twice: the mean loss (*on the way*) and that of the last quarter (*at the end*). Besides: does
# *centring* $v$ matter? May the rate stay when $\beta$ changes, as Adam's momentum is an average, heavy ball's a sum?

# %% tags=["A2", "A6", "A7"]
METHODS = {
    "sgd": ("sgd", (1e-3, 0.08), {}),
    "momentum 0.5": ("momentum", (1e-4, 0.05), {"momentum": 0.5}),
    "momentum 0.9": ("momentum", (1e-4, 0.05), {}),
    "rmsprop": ("rmsprop", (1e-3, 1.0), {}),
    "rmsprop centred": ({"class_path": "torch.optim.RMSprop", "init_args": {"centered": True}}, (1e-3, 1.0), {}),
    "adam 0.5": ("adam", (1e-3, 1.0), {"betas": (0.5, 0.999)}),
    "adam 0.9": ("adam", (1e-3, 1.0), {}),
}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for name, (method, ends, options) in METHODS.items():
    rates = np.geomspace(*ends, 61 if LONG else 16)
    paths = [descend(method, rate, lambda w, t: STEEP * w + noise[t], starts, 200, **options) for rate in rates]
    curves = np.array([(path**2 @ STEEP / 2).mean(1).numpy() for path in paths])
    scores = {"on the way": curves.mean(1), "at the end": curves[:, -50:].mean(1)}
    for ax, (words, score) in zip(axes, scores.items(), strict=True):
        ax.loglog(rates, score, "--" if "5" in name or "centred" in name else ".-", label=name)
        ax.set(title=words, xlabel="learning rate", ylabel="loss", ylim=(4e-3, 3))
        rate, way, end = (values[score.argmin()] for values in (rates, *scores.values()))
        print(f"{name:15} best {words} at {rate:.4f}: loss on the way {way:.3f}, at the end {end:.4f}")
    axes[0].legend(loc="lower left")

# %% [markdown]
# Tuned for the way, RMSprop bounces as SGD does (.023, .024 at the end) and Adam *more* (.056): it needs a high rate to
# get there. Tuned for the end, Adam and RMSprop share the first place (.005), SGD is last (.009). The ranking is one of
# tunings as much as of methods; at the same high rate Adam does bounce less than RMSprop (right branches). Heavy ball's
# best rate falls about fivefold from $\beta = 0.5$ to $0.9$, as $1-\beta$ does; Adam's hardly changes. Centring changes
# next to nothing. On networks: `configs/ablation/bounce.yaml` (A7) and `configs/ablation/momentum.yaml` (A6).
#
# ## Where Adam fails
#
# Reddi, Kale and Kumar (2018) found a problem with one weight $x \in [-1, 1]$: the gradient is $C$ at every $n$-th
# step, else $-1$, with $C > n - 1$. Its mean is positive, so $x = -1$ is best. AMSGrad divides by the largest $v$ so
# far. Left, their case without momentum; in the middle, with a long memory; right, with momentum.

# %% tags=["A8"]
CASES = (3, 3, (0.0, 0.1), 300), (3, 3, (0.0, 0.999), 300), (110, 101, (0.9, 0.99), 4000)
fig, axes = plt.subplots(1, 3, figsize=(9, 2.3), sharey=True)
for ax, (C, n, betas, steps) in zip(axes, CASES, strict=True):
    ax.set(title=rf"C = {C}, n = {n}, ($\beta$, $\alpha$) = {betas}", xlabel="step", ylabel="x")
    for method in ("adam", "amsgrad"):
        path = descend(method, 0.04, lambda w, t, C=C, n=n: w * 0 + (-1 if t % n else C), zero, steps, 1, betas=betas)
        ax.plot(path, lw=0.9, label=method)
        ax.legend()

# %% [markdown]
# Adam ends at the *worst* point: the rare large gradient is divided by its own size, and forgotten when the small ones
# come. A memory longer than $n$ steps helps (middle); AMSGrad never forgets. Whether Adam generalises worse than SGD on
# images takes long training to see (A9: `configs/ablation/mission.yaml`).
#
# SGD with momentum or Adam: *try both*, is the advice at the end. Adam keeps three buffers and SGD two, it says,
# counting the weights, and SGD with momentum. (*late*: the last three validations)

# %% tags=["A10", "A11"]
ax = plt.figure(figsize=(8, 2.8)).add_subplot(xlabel="step", ylabel="validation loss (L1)")
for method, rate in (("momentum", 0.01), ("momentum", 0.1), ("rmsprop", 0.01), ("adam", 0.03), ("adam", 0.3)):
    module, validated = network(), []
    optimizer = make_optimizer(method, module, rate)
    for step in range(400 if LONG else 40):
        optimizer.zero_grad()
        module.sample_loss(collate([slices[(2 * step + i) % len(slices)] for i in (0, 5)])).backward()
        optimizer.step()
        if step % 4 == 3:
            validated.append(float(module.sample_loss(collate(held_out)).detach()))
    ax.plot(np.arange(4, step + 2, 4), validated, ".-", label=f"{method}, rate {rate:g}")
    ax.legend()
    buffers = 1 + optimizer_bytes(optimizer) / sum(p.nbytes for p in module.parameters())
    mean, late = np.mean(validated), np.mean(validated[-3:])
    print(f"{method:8} {rate:4}: {buffers:.0f} buffers; validation loss: mean {mean:.3f}, late {late:.3f}")

# %% [markdown]
# Again two rankings after 40 steps: in the mean RMSprop is lowest, late momentum and Adam at their lower rates; after
# 400, RMSprop in both. With one seed and one head that decides nothing: `configs/ablation/mission.yaml` does. Whether
# SGD after Adam pays, and large networks end equal: A11, no study yet (several widths, a switch of methods).
