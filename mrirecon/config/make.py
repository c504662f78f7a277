"""The keys of the commands that need no data: `mrirecon data simulate` and `mrirecon demo`."""

from dataclasses import dataclass, field

from mrirecon.config.numbers import NonNegativeInt, PositiveInt
from mrirecon.config.slurm import JobConfig


@dataclass(frozen=True)
class SimulateConfig:
    """Everything `mrirecon data simulate` reads."""

    output: str = ""
    """Folder that gets train/ val/ test/."""
    source: str = "phantom"
    """phantom, or the path of a NIfTI volume (--from)."""
    frame: int | None = None
    """Which volume of a series (x, y, z, t) in that file, counted from 0."""
    train: NonNegativeInt = 24
    """Training volumes."""
    val: NonNegativeInt = 6
    """Validation volumes."""
    test: NonNegativeInt = 6
    """Test volumes."""
    slices: int = 6
    """Slices per volume."""
    matrix: list[int] = field(default_factory=lambda: [128, 128])
    """Height (readout) and width (phase encoding) of the images."""
    oversampling: float = 2.0
    """Readout oversampling of the k-space."""
    coils: int = 8
    """Receive coils, 1 to 32; one coil is uniform and gives single-coil files."""
    snr: float = 30.0
    """Mean RSS signal over the object / SD of the real part of one coil's noise; 0: no noise."""
    snr_range: list[float] = field(default_factory=list)
    """Lowest and highest SNR, drawn per volume in place of `snr`; empty: `snr` for all."""
    contrast: str = ""
    """Phantoms: T1, T2, PD, FLAIR or GRE for all volumes; empty: drawn per volume."""
    noise_correlation: float = 0.0
    """Correlation of the noise of neighbouring coils, 0 to 0.9."""
    texture: bool = True
    """Fine structure inside the tissues."""
    phase: bool = True
    """A smooth phase of the object."""
    axis: str = "axial"
    """Slice orientation: axial, coronal or sagittal."""
    seed: NonNegativeInt = 0
    """Seed of everything drawn."""
    overwrite: bool = False
    """Replace what stands in the output folder."""


@dataclass(frozen=True)
class DemoConfig:
    """Everything `mrirecon demo` reads."""

    output: str = "demo"
    """Folder that gets the data, the run, the tables and the picture."""
    train: PositiveInt = 24
    """Training volumes to simulate."""
    test: PositiveInt = 8
    """Unseen volumes to score, each another anatomy."""
    max_steps: PositiveInt = 500
    """Training steps."""
    seed: NonNegativeInt = 0
    """Seed of the simulation and the training."""
    overwrite: bool = False
    """Replace what stands in the output folder."""


@dataclass(frozen=True)
class NoConfig:
    """The keys of a command that has none."""


@dataclass(frozen=True)
class ShowConfig:
    """Configuration that `mrirecon config show sbatch` reads."""

    devices: int = 1
    """Processes on each node."""
    slurm: JobConfig = field(default_factory=JobConfig)
