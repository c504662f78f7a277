"""The claims ledger: what the lecture says, what a study's cells say of it. One table.

Source of the claims: LeCun & Canziani, NYU Deep Learning 2020, week 5 (gradient methods G, adaptive methods A,
normalization N), in our own words and numbering. Those that are identities are tests of the package; the others stand
here, with a rule or with what a rule would need.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.ablation.claims.claim import MAJORITY, Claim, above, below, entry, within
from mrirecon.ablation.claims.evidence import BETA1, NORM, OPTIMIZER, Evidence, Sources
from mrirecon.ablation.claims.evidence_rules import (
    BATCH_NORM,
    GROUP_NORM,
    bounce_over_rate,
    each_difference,
    failing_gain,
    failing_ratio,
    growth_to_small_batches,
    other_group_sizes,
    position_differences,
    rate_ratio,
    run_ratio,
    score_difference,
    state_differences,
)
from mrirecon.ablation.claims.measures import (
    log_area_ratio,
    log_bounce_ratio,
    log_matched_loss_ratio,
    log_steps_ratio,
)
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import RunResult
from mrirecon.tables.norms import normalises

ALPHA = 0.05  # of all claims that a study decides, together

SGD, MOMENTUM, NESTEROV = ({"optimizer.name": name} for name in ("sgd", "momentum", "nesterov"))
RMSPROP, ADAM = ({"optimizer.name": name} for name in ("rmsprop", "adam"))
NORMED, PLAIN = {"model.norm": normalises}, {"model.norm": "none"}
_NAME, _BETA = ("optimizer.name",), (BETA1,)

_WITHOUT_RULE = {  # claim: what it says, what would decide it
    "G4": (
        "Data are redundant: an early SGD step is nearly one of the full gradient.",
        "gd and sgd, and their gradients' angle",
    ),
    "G5": (
        "Gradient noise finds better minima than the full batch.",
        "batch sizes up to the whole of a small training set",
    ),
    "G6": (
        "Larger batches have less noise; the learning rate changes with the batch, momentum does not.",
        "gradient variances by batch size",
    ),
    "G7": ("Full-batch gradient descent is never the choice; L-BFGS is.", "an L-BFGS optimizer"),
    "G14": (
        "Momentum's gain is mostly less noise, and it helps at any batch size.",
        "sgd and momentum at several batch sizes",
    ),
    "G15": ("SGD needs averaged weights, momentum does not.", "sgd and momentum with and without average: swa"),
    "A1": ("Late layers need smaller learning rates.", "learning rates and update ratios per layer"),
    "A3": ("A small eps does not make adaptive methods blow up.", "adaptive methods at several eps"),
    "A5": ("Adam's bias correction helps a little.", "an Adam without bias correction"),
    "A11": (
        "Large networks end equally good whatever the seed; SGD after Adam is worth a try.",
        "several widths, and a switch of methods",
    ),
    "N8": (
        "Batch norm's noise regularises, and the group size tunes it.",
        "the gap of training and validation loss by batch and group size",
    ),
    "N9": ("The gradient has to pass through mean and variance.", "norms without that gradient"),
    "N10": (
        "Batch norm uses fixed statistics after training, group norm none.",
        "evaluation with the batch's own statistics",
    ),
}

CLAIMS = (
    Claim(
        "G2",
        "The best learning rate lies a little below the one at which training fails.",
        "lowest failing rate / best rate; failing: diverged, or ended below zero-filled",
        failing_ratio,
        below(4, "x"),
        needs="a sweep of the learning rates (tuning.sweep) in five tuning draws",
        grid="mission",
    ),
    Claim(
        "G12",
        "Going from momentum .9 to .99 asks for a tenth of the learning rate.",
        "best rate at .9 / best rate at .99",
        rate_ratio({**MOMENTUM, BETA1: 0.9}, {**MOMENTUM, BETA1: 0.99}, _BETA),
        within(2, "x", centre=10),
        needs="momentum with beta .9 and .99, fixed",
        grid="momentum",
    ),
    Claim(
        "G13",
        "Nesterov's form of momentum is an acceleration for convex problems and gains nothing in networks.",
        "final test SSIM, Nesterov - heavy ball at the same beta",
        score_difference(NESTEROV, MOMENTUM, _NAME),
        below(None, "SSIM"),
        needs="nesterov and momentum",
        grid="optimizer_x_norm",
    ),
    Claim(
        "G16",
        "SGD should practically always have momentum, whatever the norm.",
        "final test SSIM, momentum - SGD, in every pair of cells; the least is shown",
        each_difference(MOMENTUM, SGD, OPTIMIZER),
        above(None, "SSIM"),
        needs="momentum and sgd",
        grid="mission",
    ),
    Claim(
        "G16b",
        "SGD bounces around the bottom, and a lower learning rate makes it bounce less.",
        "slope of log(noise of the validation SSIM late in the run) over log(learning rate), SGD",
        bounce_over_rate(SGD),
        above(0, "per e-fold"),
        needs="sgd and a sweep of its rates, in five tuning draws",
        grid="bounce",
    ),
    Claim(
        "A6",
        "With momentum as an average of gradients, as in Adam, beta can change and the learning rate stay.",
        "Adam's best rate at beta1 .9 / best rate at .99",
        rate_ratio({**ADAM, BETA1: 0.9}, {**ADAM, BETA1: 0.99}, _BETA),
        within(2, "x", centre=1),
        needs="adam with beta1 .9 and .99, fixed",
        grid="momentum",
    ),
    Claim(
        "A7",
        "RMSprop bounces, Adam is smooth.",
        "noise of the validation SSIM late in the run, Adam / RMSprop",
        run_ratio(ADAM, RMSPROP, OPTIMIZER, log_bounce_ratio),
        below(0.8, "x"),
        needs="adam and rmsprop",
        grid="bounce",
    ),
    Claim(
        "A7b",
        "Adam is to be preferred to RMSprop on the way, too.",
        "mean validation loss over the run, Adam / RMSprop",
        run_ratio(ADAM, RMSPROP, OPTIMIZER, log_area_ratio),
        below(0.99, "x"),
        needs="adam and rmsprop",
        grid="bounce",
    ),
    Claim(
        "A9",
        "Adam generalises worse than SGD with momentum on images.",
        "validation loss at the lowest training loss that both reach, Adam / momentum",
        run_ratio(ADAM, MOMENTUM, OPTIMIZER, log_matched_loss_ratio),
        above(1.01, "x"),
        needs="adam and momentum",
        grid="mission",
    ),
    Claim(
        "A10",
        "Adam keeps one buffer more than momentum, and momentum one more than SGD.",
        "optimizer state in copies of the parameters, each method minus the one before",
        state_differences((SGD, MOMENTUM, ADAM), OPTIMIZER),
        within(0.01, "copies", centre=1),
        needs="adam and momentum",
        grid="mission",
    ),
    Claim(
        "N1",
        "It matters little whether the norm stands before the convolution, between it and the activation, or after.",
        "final test SSIM between every two positions; the largest difference is shown",
        position_differences,
        within(0.0005, "SSIM"),
        needs="two positions of the norm",
        grid="norm_position",
    ),
    Claim(
        "N5",
        "Group norm with 32 channels per group is almost always a good choice.",
        "final test SSIM, every other group size - 32 channels per group; the largest gain is shown",
        other_group_sizes(32),
        below(None, "SSIM"),
        needs="group norm with 32 channels per group and with another size",
        grid="group_size",
    ),
    Claim(
        "N6",
        "Group norm stays good in small batches, where batch norm does not.",
        "growth of the final test SSIM of group - batch norm from the largest batch to the smallest, fitted",
        growth_to_small_batches,
        above(None, "SSIM"),
        needs="group and batch norm at two batch sizes",
        grid="batch_size",
    ),
    Claim(
        "N6b",
        "Group norm is usually better than batch norm.",
        "final test SSIM, group - batch norm, in more than half of the pairs of cells",
        each_difference(GROUP_NORM, BATCH_NORM, NORM),
        above(None, "SSIM"),
        quorum=MAJORITY,
        needs="group and batch norm",
        grid="mission",
    ),
    Claim(
        "N7",
        "A norm bears larger learning rates.",
        "lowest failing rate with a norm / without; failing: diverged, or ended below zero-filled",
        failing_gain(NORMED, PLAIN, NORM),
        above(1.25, "x"),
        needs="a norm and none, and a sweep of their rates",
        grid="optimizer_x_norm",
    ),
    Claim(
        "N7b",
        "A norm makes training faster.",
        "steps to the lowest target with a norm / without; runs that miss it count with all their steps",
        run_ratio(NORMED, PLAIN, NORM, log_steps_ratio),
        below(0.9, "x"),
        needs="a norm and none",
        grid="optimizer_x_norm",
    ),
    *(Claim(name, text, needs=needs) for name, (text, needs) in _WITHOUT_RULE.items()),
)


def decide_claims(grid: Grid, results: Sequence[RunResult], study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Decide every claim that a study has the cells for.

    All effects that the claims need share `ALPHA` (Bonferroni): with m of them in the study, decided or not yet, each
    interval is at level 1 - ALPHA / m. Intervals are those of the comparisons: over seeds and patients, or over tuning
    draws for what the tuning found; cells are no draws of anything.
    SUPPORTED: every interval lies where the claim says. REFUTED: one of them lies wholly elsewhere. BELOW MARGIN: the
    sign is as claimed, the effect smaller than what counts. INCONCLUSIVE: none of these, or the reason why there is no
    interval. NOT TESTED: no such cells. Of a claim with the word "usually" more than half of the pairs decide.

    Args:
        grid: The study's plan.
        results: Its records.
        study: What `analyse` made of them: cells, margin, targets, data, model, budget.

    Returns:
        One entry for each of `CLAIMS`, in their order: claim, text, verdict, measure, effect, low, high, margin, unit,
        cells, words, command (see schema 1); of several effects the one that decides.
    """
    sources = Sources(grid, results, study)
    evidence = {claim.id: claim.rule(sources) for claim in CLAIMS if claim.rule}
    n_effects = sum(map(_n_noisy, evidence.values()))
    alpha = ALPHA / max(n_effects, 1)
    wheres = {claim.id: claim.where.with_margin(sources.margin) for claim in CLAIMS if claim.where}
    return [entry(claim, wheres.get(claim.id), evidence.get(claim.id), alpha, study) for claim in CLAIMS]


def _n_noisy(evidence: Evidence) -> int:
    """Effects with noise; a claim that still waits for its runs has one, so that early verdicts are not easier."""
    return bool(evidence.unclear) + sum(bool(estimate.over) for estimate in evidence.estimates)
