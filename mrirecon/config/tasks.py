"""The keys of all commands but `mrirecon train` and `mrirecon ablate`: those that need no data come first."""

from dataclasses import dataclass, field
from typing import Any

from mrirecon.config.numbers import NonNegativeInt, PositiveInt
from mrirecon.config.slurm import JobConfig, OneJobConfig
from mrirecon.config.train import DataConfig, ModelConfig


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


# ---- commands that use what `mrirecon train` left, or anybody's images


@dataclass(frozen=True)
class EvaluateConfig:
    """Everything `mrirecon evaluate` reads besides the run, the method or the file."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)  # of a file of weights
    method: dict[str, Any] = field(default_factory=dict)
    """Options of methods, each as --method.OPTION VALUE; of several methods those get it that have it. See below. A
    lambda that is not given is chosen by NMSE on another split than the one scored, val or else train, for each
    acceleration."""
    split: str = "auto"
    """train, val, test, or all for every file of the folder; auto: val, but all of a flat folder that the run was not
    trained on."""
    mask_draws: PositiveInt = 1
    """Masks per volume; the first is fastMRI's own for the file name."""
    checkpoint: str = "best"
    """best or last."""
    protocol: str = "fastmri-v1"
    """How scores are taken: fastmri-v1, or algoperf-v1 (its masks, splits and per-slice SSIM)."""
    metrics: list[str] = field(default_factory=list)
    """What is scored, some of {METRICS}; empty: all that take little time."""
    samples: NonNegativeInt = 0
    """Score the mean of so many passes with dropout, of a network trained with it, and hold their SD against the
    errors; 0: one pass without."""
    ensemble: list[str] = field(default_factory=list)
    """Further runs that differ from RUN in their seed alone: the same of all of them."""
    bn_stats: str = "running"
    """BatchNorm: running, batch (depends on the batch), or recalibrated with training batches."""
    batch_size: PositiveInt = 1
    """Slices per forward pass; numbers are comparable bit for bit at equal batch size only."""
    precision: str = "fp32"
    """fp32 or bf16-mixed."""
    regions: str = ""
    """Also score inside regions: a table of boxes as fastMRI+ has them (flipped up-down); attribute: the JSON list
    annotations of each file (not flipped); or masks: the data set regions of each file."""
    figures: list[int] = field(default_factory=list)
    """Slices to draw, counted from 0 (volumes: --figure-volumes); empty: the middle one of each drawn volume."""
    figure_volumes: list[str] = field(default_factory=list)
    """Volumes to draw: names, patterns ('*T2*'), or all; empty: the first, the middle and the last one."""
    save: bool = False
    """Also write the reconstructions as fastMRI prediction files (several mask draws: in draw-0/, draw-1/, ...)."""
    device: str = "auto"
    """auto, cpu or cuda."""
    devices: int = 1
    """Processes on each node that share the volumes, each on its own GPU or on the CPU; the numbers stay the same."""
    num_nodes: int = 1
    """Nodes; more than one are started by srun or torchrun, or asked for with slurm.nodes."""
    threads: NonNegativeInt = 0
    """CPU threads; 0: as torch finds them."""
    seed: NonNegativeInt = 0
    """Seed of the split of a flat folder (unless data.split_seed is set), of further mask draws, samples and the
    interval."""
    output: str = ""
    """Folder for the tables and figures; empty: inside the run folder (methods: runs/<method>). Several things: one
    folder for each inside, and together/ (empty: runs/<names>)."""
    overwrite: bool = False
    """Replace what stands in the output folder."""
    slurm: OneJobConfig = field(default_factory=OneJobConfig)


@dataclass(frozen=True)
class ReconstructConfig:
    """Everything `mrirecon reconstruct` reads besides the run, the method or the file, and the volumes."""

    model: ModelConfig = field(default_factory=ModelConfig)  # of a file of weights
    method: dict[str, Any] = field(default_factory=dict)
    """Options of a method, each as --method.OPTION VALUE; see below."""
    output: str = ""
    """Folder for the reconstructions, one file per volume under the volume's name (-o)."""
    format: list[str] = field(default_factory=lambda: ["h5"])
    """h5 (fastMRI's submission layout), png (a montage of all slices), or both."""
    checkpoint: str = "best"
    """best or last."""
    samples: NonNegativeInt = 0
    """Write the mean of so many passes with dropout, of a network trained with it, and their SD per pixel as data set
    reconstruction_sd; 0: one pass without."""
    ensemble: list[str] = field(default_factory=list)
    """Further runs that differ from RUN in their seed alone: the same of all of them."""
    bn_stats: str = "running"
    """BatchNorm: running, batch (depends on the batch), or recalibrated with training batches."""
    batch_size: PositiveInt = 1
    """Slices per forward pass."""
    precision: str = "fp32"
    """fp32 or bf16-mixed."""
    check: str = "auto"
    """Search for NaN before work: full (all slices), quick (middle slices), auto (full up to 4 GiB), none."""
    workers: NonNegativeInt = 0
    """Worker processes that read; 0: the main process does."""
    device: str = "auto"
    """auto, cpu or cuda."""
    devices: int = 1
    """Processes on each node that share the volumes, each on its own GPU or on the CPU; the numbers stay the same."""
    num_nodes: int = 1
    """Nodes; more than one are started by srun or torchrun, or asked for with slurm.nodes."""
    threads: NonNegativeInt = 0
    """CPU threads; 0: as torch finds them."""
    seed: NonNegativeInt = 0
    """Seed of samples."""
    overwrite: bool = False
    """Replace reconstructions in the output folder that another run or checkpoint made."""
    slurm: JobConfig = field(default_factory=JobConfig)


@dataclass(frozen=True)
class ScoreConfig:
    """Everything `mrirecon score` reads besides the two folders."""

    mask: str = "undeclared"
    """A declaration, not checked: the mask they were made from ({MASKS}, or file)."""
    acceleration: float = 0.0
    """A declaration, not checked: their nominal acceleration; 0: undeclared."""
    crop: str = "none"
    """none (the target's full grid), or square (both cropped to the target's width, as fastMRI's command does)."""
    acquisition: list[str] = field(default_factory=list)
    """Only targets of these `acquisition` attributes (CORPD_FBK, AXT2, ...); empty: all."""
    name: str = ""
    """What the reconstructions are called in the table; empty: the folder's name."""
    metrics: list[str] = field(default_factory=list)
    """What is scored, some of {METRICS}; empty: all that take little time."""
    seed: NonNegativeInt = 0
    """Seed of the interval."""
    output: str = ""
    """Folder for the tables; empty: runs/<name>/evaluation/<targets>-all-<mask>-<R>x (or -undeclared)."""
    overwrite: bool = False
    """Replace what stands in the output folder."""


@dataclass(frozen=True)
class ExportConfig:
    """Everything `mrirecon export` reads besides the run."""

    format: list[str] = field(default_factory=lambda: ["safetensors"])
    """safetensors, onnx, torch-export; several may be given."""
    checkpoint: str = "best"
    """best or last."""
    data: str = ""
    """Data folder for the check images; empty: that of the training, else made-up images."""
    output: str = ""
    """Folder for the exported files; empty: RUN/export."""
    overwrite: bool = False
    """Replace what stands in the output folder."""


@dataclass(frozen=True)
class CompareConfig:
    """Everything `mrirecon compare` reads besides the runs and tables."""

    metric: str = "ssim"
    """What the verdict is about, one of {METRICS}; all that the tables share are shown."""
    margin: str = ""
    """Differences this small are no difference: a number in units of the metric, such as 0.001, or a share of the
    zero-filled-to-reference gap of these scores, such as 1%; empty: none is, and nothing is called equivalent."""
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
    group: list[str] = field(default_factory=list)
    """NAME=GLOB, again for each method: tables or runs that are seeds of one method, such as adam='runs/adam-s*'."""
    names: list[str] = field(default_factory=list)
    """What the compared are called, in the order of the table (runs that differ in their seed alone are one)."""
    seed: NonNegativeInt = 0
    """Seed of the sign flips that are drawn above 15 seeds."""
    output: str = ""
    """Folder for comparison.json and differences.csv; empty: nothing is written."""
    overwrite: bool = False
    """Replace what stands in the output folder."""
