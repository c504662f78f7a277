"""The keys of `mrirecon compare`."""

from dataclasses import dataclass, field

from mrirecon.config.numbers import NonNegativeInt


@dataclass(frozen=True)
class CompareConfig:
    """Everything `mrirecon compare` reads besides the runs and tables."""

    metric: str = "ssim"
    """What the verdict is about, one of {METRICS}; all that the tables share are shown."""
    margin: str = "1%"
    """Differences this small are no difference: a share of the zero-filled-to-reference gap, such as 1%, or a number in
    units of the metric, such as 0.001."""
    evaluation: str = ""
    """Name of the folder below RUN/evaluation, where the runs share several."""
    split: str = ""
    """Use the evaluations of this split, where the runs share several."""
    acceleration: float = 0.0
    """Use the evaluations at this nominal acceleration, where the runs share several; 0: any."""
    origin: str = ""
    """Use volumes of this origin only (measured, ...), where tables hold several; empty: there is but one."""
    allow_undeclared: bool = False
    """Compare images of which no mask or acceleration is declared; the verdict repeats it."""
    names: list[str] = field(default_factory=list)
    """What the compared are called, in the order of the table (runs that differ in their seed alone are one)."""
    seed: NonNegativeInt = 0
    """Seed of the resampling."""
    output: str = ""
    """Folder for comparison.json and differences.csv; empty: nothing is written."""
    overwrite: bool = False
    """Replace what stands in the output folder."""
