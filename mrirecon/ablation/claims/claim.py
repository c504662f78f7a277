"""A claim, where its effect has to lie, and what an interval says of it. No torch here."""

import math
from dataclasses import dataclass, replace

from mrirecon.ablation.claims.evidence import Rule
from mrirecon.ablation.claims.measures import Limits

SUPPORTED, REFUTED, INCONCLUSIVE, NOT_TESTED = "SUPPORTED", "REFUTED", "INCONCLUSIVE", "NOT TESTED"
RATIO = "x"  # the unit of effects that are natural logarithms of ratios


@dataclass(frozen=True)
class Where:
    """A region of effects: above or below a margin, or within it around a centre."""

    side: str  # above, below or within
    margin: float | None  # None: the study's margin of equivalence; of ratios a factor
    unit: str
    centre: float = 0.0

    def with_margin(self, margin: float) -> "Where":
        """The same with the study's margin where the claim has none of its own."""
        return replace(self, margin=margin) if self.margin is None else self

    @property
    def limits(self) -> Limits:
        """Of the region, in the unit of the estimates; NaN where the margin is not known."""
        margin, centre = (math.nan if self.margin is None else self.margin), self.centre
        if self.unit == RATIO:
            margin, centre = math.log(margin), math.log(centre or 1)
        if self.side == "within":
            return Limits(centre - margin, centre + margin)
        return Limits(margin, math.inf) if self.side == "above" else Limits(-math.inf, margin)

    def level(self, alpha: float) -> float:
        """Of the intervals: two-sided, and for equivalence that of two one-sided tests."""
        return 1 - 2 * alpha if self.side == "within" else 1 - alpha

    def verdict(self, interval: Limits) -> str:
        """Of one interval."""
        region = self.limits
        if any(math.isnan(end) for end in (*region, *interval)):
            return INCONCLUSIVE
        above_low = interval.low > region.low or region.low == -math.inf
        below_high = interval.high < region.high or region.high == math.inf
        if above_low and below_high:
            return SUPPORTED
        return REFUTED if interval.low > region.high or interval.high < region.low else INCONCLUSIVE

    def distance(self, effect: float) -> float:
        """How far an effect is from where the claim wants it: of several, the largest decides."""
        if self.side == "within":
            return abs(effect - (math.log(self.centre or 1) if self.unit == RATIO else self.centre))
        return -effect if self.side == "above" else effect


def above(margin: float | None, unit: str) -> Where:
    """Effects larger than the margin."""
    return Where("above", margin, unit)


def below(margin: float | None, unit: str) -> Where:
    """Effects smaller than the margin."""
    return Where("below", margin, unit)


def within(margin: float, unit: str, centre: float = 0.0) -> Where:
    """Effects that differ from the centre by less than the margin (of ratios: by a smaller factor)."""
    return Where("within", margin, unit, centre)


@dataclass(frozen=True)
class Claim:
    """One line of the ledger."""

    id: str
    text: str
    measure: str = ""
    rule: Rule | None = None  # None: no grid that is shipped could decide it
    where: Where | None = None
    needs: str = ""  # cells, in words
    grid: str = ""  # shipped one that has them
