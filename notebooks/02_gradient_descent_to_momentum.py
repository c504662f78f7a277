# %% [markdown]
# # From gradient descent to momentum
# Networks learn by small steps against a gradient: of all data, of a few samples, then with a memory. We follow the
# lecture on problems whose answer is known, with the optimizers of `mrirecon train`. `LONG=1` trains the U-Net longer.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.optimize import minimize

from mrirecon import config, progress
from mrirecon.models import NORMS, make_norm
from mrirecon.training import OPTIMIZERS, make_optimizer, make_schedule
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train

plt.rcParams |= {"figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True, "legend.fontsize": 8}


def descend(name, start, gradient, lr, steps, schedule="constant", **options):
    """Follow the optimizer `name`; return all weights on the way, the start first."""
    w = torch.nn.Parameter(start.clone())
    optimizer = make_optimizer(name, [w], lr, **options)
    rates = make_schedule(optimizer, config.ScheduleConfig(name=schedule), steps)
    path = [start]
    for _ in range(steps):
        w.grad = gradient(w.detach())
        optimizer.step()
        rates.step()
        path.append(w.detach().clone())
    return torch.stack(path)


def draw(paths):
    """Draw paths on the contours of the bowl w A w / 2, side by side."""
    points = np.stack(np.meshgrid(np.linspace(-3, 3, 80), np.linspace(-3, 3, 80)))
    bowl = 0.5 * np.einsum("iyx,ij,jyx->yx", points, A.numpy(), points)
    _, axes = plt.subplots(1, len(paths), figsize=(2.4 * len(paths), 2.9), sharey=True)
    for ax, (title, path) in zip(axes, paths.items(), strict=True):
        ax.contour(*points, bowl, levels=np.geomspace(0.1, 60, 9), colors="0.8", linewidths=0.8)
        ax.plot(*path.T, ".-", ms=4, lw=0.8)
        ax.set(title=title, xlim=(-3, 3), ylim=(-3, 3), xlabel="$w_1$", ylabel="$w_2$")


# %% [markdown]
# ## Gradient descent on a bowl
# $w' = w - \gamma\,\nabla f(w)$, with the *learning rate* $\gamma$. For $f(w) = \frac12 w^\top A w$ a step multiplies
# the error along an eigenvector of $A$ by $1 - \gamma\lambda$. With eigenvalues from $\mu$ to $L$ it contracts at least
# by $\max(|1 - \gamma\mu|, |1 - \gamma L|)$, and for $\gamma > 2/L$ it grows. Here $\mu = 1$ and $L = 10$.

# %% tags=["G1"]
mu, L, (axis, start) = 1.0, 10.0, torch.tensor([[0.6, 0.8], [-2.5, -1.0]], dtype=torch.float64)
A = L * torch.eye(2, dtype=torch.float64) - (L - mu) * torch.outer(axis, axis)  # mu along the axis, L across
paths = {}
for lr in (0.5 / L, 1 / L, 2 / (L + mu), 2.05 / L):
    path = descend("gd", start, lambda w: A @ w, lr, 60)
    factor, theory = path[-1].norm() / path[-2].norm(), max(abs(1 - lr * mu), abs(1 - lr * L))
    paths[f"$\\gamma$ = {lr * L:.2f}/L: factor {factor:.4f}\ntheory {theory:.4f}"] = path
draw(paths)

# %% [markdown]
# The last step's factor is the theory's. The best rate, $2/(\mu + L)$, is a little below those that diverge.
# ## One sample at a time
# A training loss is a mean, $f = \frac1N\sum f_i$. *Stochastic* gradient descent (SGD) takes the gradient of one random
# $f_i$, which is right on average: $E\,\nabla f_i = \nabla f$. Is a network's loss such a mean? We compare the mean of
# six images' gradients with the gradient of their batch, for each norm of the package.

# %% tags=["G3"]
torch.manual_seed(0)
images = torch.randn(6, 1, 12, 12, dtype=torch.float64)
for norm in NORMS:
    layers = torch.nn.Conv2d(1, 4, 3), make_norm(norm, 4), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(4, 1, 3)
    network = torch.nn.Sequential(*layers).double()
    losses = [(network(part) - 1).square().mean() for part in (images, *images.split(1))]
    batch, *singles = (torch.autograd.grad(loss, network[0].weight)[0] for loss in losses)
    print(f"{norm:9} mean gradient - gradient of the batch: {(sum(singles) / 6 - batch).norm() / batch.norm():.0e}")

# %% [markdown]
# With batch norm each output depends on the other images: its steps are no SGD in this sense. All others are.
# ## Why a few samples are enough
# From here on: a regression, 512 samples, 10 weights, $L/\mu \approx 100$, 32 runs side by side. Data are *redundant*:
# far from the minimum a few samples point where all of them do. A *minibatch* of $B$ has a $B$-th of the variance.

# %% tags=["G4", "G6"]
N, origin, generator = 512, torch.zeros(32, 10, dtype=torch.float64), torch.Generator().manual_seed(0)
X, w_true, noise = (torch.randn(n, generator=generator, dtype=torch.float64) for n in ((N, 10), (10,), (N,)))
X, y = X * torch.logspace(0, -1, 10, dtype=torch.float64), X @ w_true + 0.5 * noise
H, best = X.T @ X / N, torch.linalg.lstsq(X, y[:, None]).solution[:, 0]


def excess(w):
    """Return how far the loss is above its minimum."""
    return 0.5 * torch.einsum("...i,ij,...j", w - best, H, w - best)


def gradient_of(batch):
    """Return the gradient of `batch` random samples, others for each row of w; N: of all samples."""
    draws = torch.Generator().manual_seed(1)

    def gradient(w):
        i = torch.randint(N, (len(w), batch), generator=draws)
        return torch.einsum("rbi,rb->ri", X[i], torch.einsum("rbi,ri->rb", X[i], w) - y[i]) / batch

    return gradient if batch < N else lambda w: (w - best) @ H


_, ax = plt.subplots(figsize=(4.5, 2.4))
for batch, lr in ((1, 0.1), (8, 0.3), (64, 0.6), (N, 1.0)):
    path = descend("sgd", origin, gradient_of(batch), lr, 5 * N // batch)
    ax.semilogy(np.arange(len(path)) * batch / N, excess(path).mean(1), label=f"B = {batch}")
    for where, w in (("start", origin[0]), ("minimum", best + 0.1)):
        full, some = gradient_of(N)(w), gradient_of(batch)(w.expand(4000, 10))
        cosine, variance = torch.cosine_similarity(some, full).mean(), (some - full).square().sum(1).mean()
        print(f"B = {batch:3}, near the {where:7}: cosine {cosine:.2f}, variance x B = {variance * batch:5.2f}")
ax.set(xlabel="passes over the data", ylabel="excess loss")
_ = ax.legend()

# %% [markdown]
# Eight samples point where all 512 do with a cosine of 0.61 at the start, 0.35 near the minimum. Per pass over the data
# the small batches are far ahead; in the end their noise holds them up ($B = 1$).
#
# Noise can do good, too: full gradients run into the nearest minimum, noise can cross a barrier, and *annealing*, a
# rate that falls to zero, lets it settle. $w^4/4 - w^2/2 - 0.15 w$ is lower on the right; 500 runs start on the left.

# %% tags=["G5"]
slopes, left = torch.randn(64, generator=generator, dtype=torch.float64) * 3, torch.full((500,), -0.9).double()
for batch in (1, 4, 16, 64):
    draws = torch.randint(64, (300, 500, batch), generator=generator)
    noise = iter((slopes - slopes.mean())[draws].mean(2) * (batch < 64))  # 64: all of them, no noise
    ends = descend("sgd", left, lambda w, noise=noise: w**3 - w - 0.15 + next(noise), 0.1, 300, "cosine")[-1]
    print(f"B = {batch:2}: {float((ends > 0).double().mean()):.0%} of the runs end in the lower minimum")

# %% [markdown]
# It can, in a loss made for it; that networks gain from it is not shown by that.
# ## Momentum, in three forms
# $p' = \beta p + \nabla f_i(w)$, $w' = w - \gamma p'$ remembers past gradients. Two more forms are the *heavy ball*,
# $w' = w - \gamma\nabla f_i(w) + \beta (w - w_\mathrm{prev})$, and an average: $z' = z - \eta\nabla f_i(x)$ and
# $x' = \beta x + (1-\beta) z'$ with $\eta = \gamma/(1-\beta)$. We hold them against the package, also with a rate that
# falls in a straight line. Below, paths for growing $\beta$ at $\gamma = 0.3/L$.

# %% tags=["G8", "G9", "G10", "G11"]
beta, rate = 0.9, 0.05
for schedule, rates in (("constant", np.full(50, rate)), ("linear", rate * (1 - np.arange(50) / 50))):
    w = ball = ball_before = scaled = scaled_before = x = z = start
    p, errors, betas = 0, [], beta * rates / np.roll(rates, 1)
    package = descend("momentum", start, lambda w: A @ w, rate, 50, schedule, momentum=beta)
    for now, beta_k, expected in zip(rates, betas, package[1:], strict=True):
        p = beta * p + A @ w
        w = w - now * p
        ball, ball_before = ball - now * (A @ ball) + beta * (ball - ball_before), ball
        scaled, scaled_before = scaled - now * (A @ scaled) + beta_k * (scaled - scaled_before), scaled
        z = z - now / (1 - beta) * (A @ x)
        x = beta * x + (1 - beta) * z
        errors.append([float((form - expected).norm()) for form in (w, ball, scaled, x)])
    print(f"{schedule:8} rate, errors:", *(f"{error:.0e}" for error in np.max(errors, 0)))
betas = (0, 0.5, 0.9, 0.99, 1.01)
draw({f"$\\beta$ = {b}": descend("momentum", start, lambda w: A @ w, 0.3 / L, 100, momentum=b) for b in betas})

# %% [markdown]
# At a constant rate all agree. Where it falls, ball (2nd) and average (4th) are another method; the ball then needs
# $\beta_k = \beta\gamma_k/\gamma_{k-1}$ (3rd). The larger $\beta$, the later paths turn; above 1 they blow up.
# ## Which rate, and what is momentum good for?
# Rates are tried on a logarithmic grid, here for three batch sizes: the loss after 200 steps, if it is below the first.

# %% tags=["G2", "G6", "G12", "G14"]
grid, (_, axes) = np.logspace(-3, 1, 17), plt.subplots(1, 3, figsize=(10, 2.6), sharey=True)
for ax, batch in zip(axes, (1, 8, N), strict=True):
    for beta in (0, 0.9, 0.99):
        ends = [descend("momentum", origin, gradient_of(batch), lr, 200, momentum=beta)[-1] for lr in grid]
        losses = np.array([excess(w).mean() for w in ends])
        fine = losses < float(excess(origin[0]))
        i, fails = np.nanargmin(losses), grid[~fine][0]
        ax.loglog(grid, np.where(fine, losses, np.nan), ".-", label=f"$\\beta$ = {beta}")
        words = f"best {losses[i]:.1e} at {grid[i]:.3f}, fails from {fails:.2f} on, {fails / grid[i]:.1f}x"
        print(f"B = {batch:3}, beta = {beta:4}: {words}")
    ax.set(title=f"B = {batch}", xlabel="rate", ylabel="excess loss")
_ = axes[0].legend()

# %% [markdown]
# *The best rate is a little below failing*: 1.8 to 3.2 times without momentum, up to 32 times with it. *Larger batches
# bear larger rates*: so it is. *From $\beta$ 0.9 to 0.99 rates fall to a tenth*: a 10th and an 18th with noise, a
# third without, where 0.99 fails no earlier. *Momentum mostly smooths noise and helps at any batch size*: it gains 1.2
# and 1.3 times with noise, over 10,000 times without; here it is an acceleration, which noise undoes.
# ## Nesterov, and a method for full gradients
# *Nesterov's* form is $w' = w - \gamma(\nabla f + \beta p')$. On a bowl with $\kappa = L/\mu$ a step multiplies its
# error by about $1 - 1/\sqrt\kappa$, and that of gradient descent by $1 - 1/\kappa$. For full gradients the lecture
# takes neither, but L-BFGS, which learns the curvature.

# %% tags=["G7", "G13"]
(low, *_, top), full = torch.linalg.eigvalsh(H).tolist(), gradient_of(N)
q = (low / top) ** 0.5
for name, theory, options in (("gd", 1 - q**2, {}), ("nesterov", 1 - q, {"momentum": (1 - q) / (1 + q)})):
    loss = excess(descend(name, origin[0], full, 1 / top, 1000, **options))
    factor, n = float(loss[200] / loss[100]) ** (1 / 200), int((loss > 1e-6).sum())
    print(f"{name:8}: error x {factor:.3f} per step, theory about {theory:.3f}; {n} gradients to 1e-6")
value, slope = (lambda w: float(excess(torch.tensor(w)))), (lambda w: full(torch.tensor(w)).numpy())
found = minimize(value, np.zeros(10), jac=slope, method="L-BFGS-B")
print(f"L-BFGS  : {found.njev} gradients to {found.fun:.0e}")

# %% [markdown]
# So it is here. Training has minibatches only, and the package's table has no L-BFGS.
# ## At the bottom: bouncing, averaging, annealing
# Noise makes SGD bounce around the minimum, less at lower rates. Rest comes from a rate that falls, or from a mean of
# the weights, which the lecture's theory asks of SGD and not of momentum. We start at the minimum; then from zero, at
# the best rates from above.

# %% tags=["G14", "G15", "G16"]
for name, lr in (("sgd", 0.4), ("momentum", 0.04), ("sgd", 0.1), ("momentum", 0.01)):
    path = descend(name, best.expand(32, 10), gradient_of(8), lr, 400)
    print(f"{name:8} at {lr:4}, from the minimum: {excess(path[200:]).mean():.4f} above it on average")
for name, lr in (("sgd", 0.56), ("momentum", 0.1)):
    path = descend(name, origin, gradient_of(8), lr, 400)
    ends = {"last": path[-1], "mean of all": path.mean(0), "mean of the second half": path[200:].mean(0)}
    ends["rate falling as a cosine"] = descend(name, origin, gradient_of(8), lr, 400, "cosine")[-1]
    print(f"{name:8} at {lr:4}:", ", ".join(f"{word} {float(excess(w).mean()):.4f}" for word, w in ends.items()))

# %% [markdown]
# Four times the rate bounces 4.5 to 4.9 times as high, and momentum little less than SGD at equal $\gamma/(1-\beta)$.
# From zero, the mean of all weights is poor; that of the second half is 3 times better than the last for SGD and 27
# times for momentum, which does gain from a mean here, and 9 times from the falling rate, which stops SGD on its way.
# ## The same on a U-Net
# Three of the methods train a small U-Net on simulated heads, each at the rate that the package recommends for it.

# %% tags=["G13", "G16"]
progress.quiet, work = True, tempfile.mkdtemp(prefix="momentum-")
heads = config.SimulateConfig(f"{work}/data", train=5, val=1, test=0, slices=4, matrix=[64, 64], coils=4)
files, model = config.DataConfig(str(simulate_dataset(heads))), config.ModelConfig(channels=8, pools=2, residual=False)
often = {"max_steps": 400 if os.environ.get("LONG") else 80, "val_every": 10, "batch_size": 2, "precision": "fp32"}
_, axes = plt.subplots(1, 2, figsize=(9, 2.4))
for name in ("sgd", "momentum", "nesterov"):
    method, constant = config.OptimizerConfig(name), config.ScheduleConfig("constant")
    run = train(config.TrainConfig(files, model, method, constant, **often, output=f"{work}/{name}"))
    curves = np.genfromtxt(run.curves, delimiter=",", names=True)
    for ax, key in zip(axes, ("train_loss", "val_ssim_object"), strict=True):
        known = curves[~np.isnan(curves[key])]
        ax.plot(known["step"], known[key], ".-", label=f"{name}, rate {OPTIMIZERS[name].lr}")
        ax.set(xlabel="step", ylabel=key)
_ = axes[0].legend()

# %% [markdown]
# After 80 steps Nesterov is ahead, SGD level with momentum; after 400 SGD's loss is the highest, the scores are alike.
# One seed at untuned rates decides nothing. `mrirecon ablate run NAME` tunes, and pairs seeds: `mission` for G2 (best
# and failing rate) and G16 (momentum or not), `bounce` (SGD's bouncing), `momentum` for G12, `optimizer_x_norm` for
# G13. No study yet: G4 needs the angle of `gd` and `sgd` gradients, G5 batches up to the whole set, G6 gradient
# variances, G7 an L-BFGS optimizer, G14 `sgd` and `momentum` at several batch sizes, G15 both with `average: swa`.
