"""Every configuration key: its type, its default and what it means. No torch here.

`configs/base.yaml` shows the same keys with the same defaults (tested), and every key is a flag of the
command that reads it.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DataConfig:
    """Which k-space is read and how it is undersampled."""

    path: str = ""
    """Folder of fastMRI .h5 files, or of train/ val/ test/ (or multicoil_train/ ...) folders."""
    mask: str = "auto"
    """random, equispaced, equispaced_fraction, magic, magic_fraction; auto: by anatomy, printed."""
    acceleration: list[int] = field(default_factory=lambda: [4])
    """Nominal accelerations; several are drawn per sample in training and evaluated each in turn."""
    center_fraction: list[float] = field(default_factory=list)
    """Fully sampled share of the columns, one per acceleration; empty: 0.32 / R (0.08 at 4x)."""
    acquisition: list[str] = field(default_factory=list)
    """Only volumes of these `acquisition` attributes (CORPD_FBK, AXT2, ...); empty: all."""
    volumes: int = 0
    """Use this many volumes of a split, drawn by seed; 0: all."""
    slices: list[int] = field(default_factory=list)
    """First and last slice to use, counted from 0, both included; empty: all."""
    coils: str = "auto"
    """single, multi or both where the folder has both kinds of files; auto: the kind that is there."""
    check: str = "auto"
    """Search for NaN before work: full (all slices), quick (middle slices), auto (full up to 4 GiB)."""
    workers: int = 0
    """Worker processes that read and undersample; 0: the main process does."""


@dataclass(frozen=True)
class ModelConfig:
    """The U-Net and its normalization."""

    channels: int = 32
    """Channels of the first level; each level down doubles them."""
    pools: int = 4
    """Number of 2 x 2 average poolings."""
    norm: dict[str, Any] | str = "instance"
    """batch, instance, group, layer, none, or {class_path, init_args}; used in every block."""
    affine: bool = False
    """Learn a scale and a shift in each norm layer."""
    channels_per_group: int = 0
    """Group norm: channels in each group; 0: 32 from 64 base channels upward, else half the base."""
    n_groups: int = 0
    """Group norm: number of groups, in place of channels_per_group."""
    norm_position: str = "between"
    """before the convolution, between convolution and activation, or after the activation."""
    residual: bool = False
    """The network predicts the correction to its input."""
    dropout: float = 0.0
    """Probability of zeroing a channel."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The gradient method; options that a method lacks are refused when set."""

    name: dict[str, Any] | str = "adamw"
    """gd, sgd, momentum, nesterov, rmsprop, adam, adamw, or {class_path, init_args}."""
    lr: float = 1e-3
    """Learning rate at the top of the schedule."""
    momentum: float | None = None
    """momentum, nesterov (default 0.9) and rmsprop (default 0): beta."""
    betas: list[float] = field(default_factory=list)
    """adam, adamw: decay of the first and second moment (default 0.9 0.999)."""
    alpha: float | None = None
    """rmsprop: decay of the second moment (default 0.99)."""
    eps: float | None = None
    """rmsprop, adam, adamw: added to the denominator (default 1e-8)."""
    weight_decay: float = 0.0
    """Decay of convolution weights; norm and bias parameters are never decayed."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves."""

    name: str = "onecycle"
    """constant, step, cosine, onecycle."""
    warmup: float = 0.0
    """Linear warm-up: a share of all steps below 1, a number of steps from 1 on (onecycle: 0 is 0.3)."""
    step_at: float = 0.8
    """step: share of all steps after which the rate drops."""
    factor: float = 0.1
    """step: what the rate is multiplied with."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything `mrirecon train` reads."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: dict[str, Any] | str = "l1"
    """l1 or mse, on normalised, clamped values."""
    batch_size: int = 2
    """Slices per optimizer step and accumulation part; batches hold images of one shape."""
    accumulate: int = 1
    """Batches whose gradients are averaged before a step."""
    max_steps: int = 0
    """Optimizer steps; 0: max_epochs decides."""
    max_epochs: int = 0
    """Passes over the training slices; 0: max_steps decides (both 0: 50 epochs)."""
    clip: float = 0.0
    """Largest gradient norm; 0: no clipping."""
    precision: str = "auto"
    """auto (bf16-mixed where the hardware has it, else fp32), fp32 or bf16-mixed."""
    val_every: int = 0
    """Validate every so many optimizer steps; 0: once per epoch."""
    val_volumes: int = 0
    """Volumes used for validation inside training, drawn by seed; 0: all."""
    checkpoint_every: int = 0
    """Save `last` every so many steps besides each validation; 0: only at validations."""
    logger: str = "csv"
    """csv, or wandb beside it (curves.csv is always written)."""
    seed: int = 0
    """Seed of the weights, the data order, the masks and the splits."""
    threads: int = 0
    """CPU threads; 0: as torch finds them."""
    device: str = "auto"
    """auto, cpu or cuda."""
    output: str = ""
    """Run folder; empty: runs/<norm>-<optimizer>-<date and time>."""
    overwrite: bool = False
    """Replace what stands in the output folder."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Everything `mrirecon evaluate` reads besides the run."""

    data: DataConfig = field(default_factory=DataConfig)
    split: str = "val"
    """train, val, test, or all for every file of the folder."""
    mask_draws: int = 1
    """Masks per volume; the first is fastMRI's own for the file name."""
    checkpoint: str = "best"
    """best or last."""
    bn_stats: str = "running"
    """BatchNorm: running, batch (depends on the batch), or recalibrated with training batches."""
    batch_size: int = 1
    """Slices per forward pass; numbers are comparable bit for bit at equal batch size only."""
    precision: str = "fp32"
    """fp32 or bf16-mixed."""
    figures: list[int] = field(default_factory=list)
    """Slices to draw, counted from 0; empty: the middle slice of each volume, three volumes."""
    save: bool = False
    """Also write the reconstructions as fastMRI prediction files."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 0
    """CPU threads; 0: as torch finds them."""
    seed: int = 0
    """Seed of the split of a flat folder, of further mask draws and of the interval."""
    output: str = ""
    """Folder for the tables and figures; empty: inside the run folder (methods: runs/<method>)."""
    overwrite: bool = False
    """Replace what stands in the output folder."""


@dataclass(frozen=True)
class SimulateConfig:
    """Everything `mrirecon data simulate` reads."""

    output: str = ""
    """Folder that gets train/ val/ test/."""
    source: str = "phantom"
    """phantom, or the path of a NIfTI volume (--from)."""
    train: int = 24
    """Training volumes."""
    val: int = 6
    """Validation volumes."""
    test: int = 6
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
    seed: int = 0
    """Seed of everything drawn."""
    overwrite: bool = False
    """Replace what stands in the output folder."""


@dataclass(frozen=True)
class DemoConfig:
    """Everything `mrirecon demo` reads."""

    output: str = "demo"
    """Folder that gets the data, the run, the tables and the picture."""
    train: int = 24
    """Training volumes to simulate."""
    test: int = 8
    """Unseen volumes to score, each another anatomy."""
    max_steps: int = 1000
    """Training steps."""
    seed: int = 0
    """Seed of the simulation and the training."""
    overwrite: bool = False
    """Replace what stands in the output folder."""
