"""The keys of `mrirecon train`; `configs/base.yaml` shows the same ones with the same defaults (tested)."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from mrirecon.config.numbers import NonNegativeFloat, NonNegativeInt, PositiveInt
from mrirecon.config.slurm import JobConfig
from mrirecon.tables.models import MODELS
from mrirecon.tables.optimizers import recommended_lr

DEVICES = ("auto", "cpu", "cuda")
DEFAULT_EPOCHS = 50  # where neither max_steps nor max_epochs is given
LOGGERS = ("csv", "tensorboard", "wandb", "none")


@dataclass(frozen=True)
class DataConfig:
    """Settings of the k-space that is read and of its undersampling."""

    path: str = ""
    """Folder of fastMRI .h5 files, or of train/ val/ test/ (or multicoil_train/ ...) folders."""
    mask: str = "auto"
    """{MASKS}: drawn, for full k-space; file: the files' own masks, or the gaps in their k-space; auto: the files' own
    where there are some, else drawn by anatomy."""
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
    """Search for NaN before work: full (all slices), quick (middle slices), auto (full up to 4 GiB), none."""
    check_reference: str = "refuse"
    """References that are not the RSS image of k-space: refuse (where surely wrong, else a note), warn, off."""
    split_seed: int = -1
    """Seed of the splits and of the selected volumes, 0 or more; -1: that of the run (`seed`)."""
    fixed_masks: bool = False
    """Each training slice keeps one mask for the whole run, in place of a new one every epoch."""
    workers: NonNegativeInt = 0
    """Worker processes that read and undersample; 0: the main process does."""
    stage: str = ""
    """Local folder of each node ('$TMPDIR') for verified copies of the files, removed at the end; empty: no copies."""


@dataclass(frozen=True)
class AugmentConfig:
    """Changes of the training slices, drawn anew in every epoch; 0: off."""

    flip: NonNegativeFloat = 0.0
    """Probability of a mirror image, along each axis."""
    rotate90: NonNegativeFloat = 0.0
    """Probability of a turn by 90, 180 or 270 degrees (of the central square, where images are not square)."""
    shift: NonNegativeInt = 0
    """Most whole pixels of a displacement along each axis."""
    scale: NonNegativeFloat = 0.0
    """Most change of size, below 1: images become up to 1 + this times as large or as small."""
    rotate: NonNegativeFloat = 0.0
    """Most degrees of a turn either way."""
    contrast: NonNegativeFloat = 0.0
    """Most change of contrast, below 1: the magnitude over its maximum is raised to a power of up to 1 + this, or of
    its inverse."""


@dataclass(frozen=True)
class ModelConfig:
    """The network, what it gets to see and its normalization layers."""

    name: str = "unet"
    """{MODELS:help}."""
    input: str = "magnitude"
    """{TRANSFORMS:help}."""
    normalize: str = "auto"
    """Who standardises: sample (the data do, for unet), network (normunet does), auto: the one that fits."""
    channels: int = 32
    """Channels of the first level; each level down doubles them."""
    pools: int = 4
    """Number of 2 x 2 average poolings."""
    norm: dict[str, Any] | str = "instance"
    """{NORMS}, or {class_path, init_args}; used in every block."""
    affine: bool = False
    """Learn a scale and a shift in each norm layer."""
    channels_per_group: int = 0
    """{NORMS:channels_per_group}: channels in each group; 0: 32 from 64 base channels upward, else half the base."""
    n_groups: int = 0
    """{NORMS:n_groups}: number of groups, in place of channels_per_group."""
    norm_position: str = "between"
    """before the convolution, between convolution and activation, or after the activation."""
    residual: bool | Literal["auto"] = "auto"
    """The network predicts the correction to its input; auto: one that is trained anew does, weights that are given
    decide (where their file does not tell, as fastMRI's: false)."""
    dropout: float = 0.0
    """Probability of zeroing a channel."""
    cascades: int = 8
    """{MODELS:cascades}: number of cascades, each with a U-Net of its own."""
    sens_channels: int = 8
    """{MODELS:sens_channels}: channels of the first level of the sensitivity network; 0: none, for single-coil data."""
    sens_pools: int = 0
    """{MODELS:sens_pools}: poolings of the sensitivity network; 0: as many as pools."""
    checkpointing: bool = False
    """{MODELS:checkpointing}: compute cascades a second time for the gradient: less memory, more time."""

    def with_residual(self, auto: bool) -> "ModelConfig":
        """With a value in place of `residual: auto`: the given one, and false for a network that has no such key."""
        has_it = self.name in MODELS and "residual" in MODELS[self.name].keys
        return replace(self, residual=auto and has_it) if self.residual == "auto" else self


@dataclass(frozen=True)
class OptimizerConfig:
    """The gradient method; options that a method lacks are refused when set."""

    name: dict[str, Any] | str = "muon"
    """{OPTIMIZERS}, or {class_path, init_args}."""
    lr: float | Literal["auto", "find"] = "auto"
    """Learning rate at the top of the schedule; auto: recommended for the method ({OPTIMIZERS:lr}; of a class
    0.001); find: from a range test before the training."""
    momentum: float | None = None
    """Beta of momentum; by method: {OPTIMIZERS:momentum}."""
    betas: list[float] = field(default_factory=list)
    """Decay of the first and second moment; by method: {OPTIMIZERS:betas}."""
    alpha: float | None = None
    """Decay of the second moment; by method: {OPTIMIZERS:alpha}."""
    eps: float | None = None
    """Added to the denominator; by method: {OPTIMIZERS:eps}."""
    weight_decay: float = 0.0
    """Decay of convolution weights; norm and bias parameters are never decayed."""

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of the method besides its rate and weight decay."""
        others = ("name", "lr", "weight_decay")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in others}

    def with_lr(self) -> "OptimizerConfig":
        """With a number in place of `auto`: the rate that is recommended for the method."""
        return replace(self, lr=recommended_lr(self.name)) if self.lr == "auto" else self


@dataclass(frozen=True)
class ScheduleConfig:
    """Settings of the learning rate's course over training."""

    name: str = "auto"
    """{SCHEDULES:help}; auto: linear for muon, constant after 5 % warm-up for Schedule-Free methods, else onecycle."""
    warmup: float = 0.0
    """Linear warm-up: a share of all steps below 1, a number of steps from 1 on (onecycle: 0 is 0.3)."""
    step_at: float = 0.8
    """{SCHEDULES:step_at}: share of all steps after which the rate drops."""
    factor: float = 0.1
    """{SCHEDULES:factor}: what the rate is multiplied with."""
    final: float = 0.0
    """{SCHEDULES:final}: share of the rate that is left at the end."""
    power: float = 0.9
    """{SCHEDULES:power}: exponent of the decay; 1 is linear."""
    decay: float = 0.2
    """{SCHEDULES:decay}: share of all steps over which the rate decays at the end."""
    patience: int = 5
    """{SCHEDULES:patience}: validations in a row without a better score (see monitor) that are borne; the next lowers
    the rate."""


@dataclass(frozen=True)
class AverageConfig:
    """Settings of the weights that are validated, saved and used later."""

    name: str = "none"
    """none (those being trained), ema (exponential moving average) or swa (mean of the last part of the run)."""
    decay: float = 0.999
    """ema: weight of the past; in the first steps (1 + n) / (10 + n) where that is less."""
    start: float = 0.75
    """swa: share of all steps after which the mean begins."""
    bn_batches: int = 50
    """Training batches that BatchNorm is recalibrated with before averaged weights are evaluated or saved."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything `mrirecon train` reads."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    weights: str = ""
    """Begin with these weights in place of random ones: a run folder (its best), a checkpoint of one, or a file
    (.safetensors, .ckpt, .pt, .pth; fastMRI's too) of the same network."""
    freeze: list[str] = field(default_factory=list)
    """Patterns ('down*' 'conv.*') of the names of parameters that stay as they are, and of BatchNorm's statistics."""
    loss: dict[str, Any] | str = "l1"
    """{LOSSES:help}, or {class_path, init_args}."""
    l1_weight: float = 0.01
    """{LOSSES:l1_weight}: weight of l1 beside 1 - SSIM."""
    batch_size: PositiveInt = 1
    """Slices of each process per optimizer step and accumulation part; batches hold images of one shape."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are averaged before a step."""
    max_steps: NonNegativeInt = 0
    """Optimizer steps; 0: max_epochs decides."""
    max_epochs: NonNegativeInt = 0
    """Passes over the training slices; 0: max_steps decides (both 0: 50 epochs)."""
    clip: NonNegativeFloat = 0.0
    """Largest gradient norm; 0: no clipping."""
    precision: str = "auto"
    """auto (bf16-mixed where the hardware has it, else fp32), fp32 or bf16-mixed."""
    val_every: NonNegativeInt = 0
    """Validate every so many optimizer steps; 0: once per epoch."""
    val_volumes: NonNegativeInt = 0
    """Volumes used for validation inside training, drawn by seed; 0: all."""
    checkpoint_every: NonNegativeInt = 0
    """Save `last` every so many steps besides each validation; 0: only at validations."""
    checkpoints: str = "all"
    """all (last and best, at each validation), or end (last alone, when training ends or is asked to stop)."""
    early_stop: NonNegativeInt = 0
    """Stop after so many validations without a better score (see monitor), once an average has begun; 0: never."""
    monitor: str = "ssim"
    """Score by which `best` is chosen, training stops early and plateau acts: {METRICS} or loss."""
    protocol: str = "fastmri-v1"
    """How validation scores: fastmri-v1, or algoperf-v1 (its masks, splits and per-slice SSIM)."""
    logger: str = "csv"
    """csv, tensorboard, wandb or none; curves.csv is always written."""
    seed: NonNegativeInt = 0
    """Seed of the weights, the data order, the masks and the splits."""
    threads: NonNegativeInt = 0
    """CPU threads of each process; 0: as torch finds them, a share where processes share a machine, SLURM's number."""
    compile: bool = False
    """Compile the network (torch.compile) before the first step, which takes a while and then saves time in each."""
    device: str = "auto"
    """auto, cpu or cuda."""
    devices: int = 1
    """Processes on each node, each on its own GPU or on a share of the CPU cores; each takes batch_size slices."""
    num_nodes: int = 1
    """Nodes; more than one are started by srun or torchrun, or asked for with slurm.nodes."""
    sync_batchnorm: bool = False
    """BatchNorm normalises with the statistics of all processes, as one process with the whole batch would."""
    output: str = ""
    """Run folder; empty: runs/<norm>-<optimizer>-<date and time>, or in a batch job of SLURM -<job>."""
    overwrite: bool = False
    """Replace what stands in the output folder."""
    slurm: JobConfig = field(default_factory=JobConfig)


def run_name(config: TrainConfig) -> str:
    """Return `<norm>-<optimizer>`, the name of a run that was given none."""
    return f"{short_name(config.model.norm)}-{short_name(config.optimizer.name)}"


def short_name(value: Any) -> str:
    """Return the name of a norm or an optimizer, or the class of its class path."""
    return value if isinstance(value, str) else str(value.get("class_path", "custom")).rsplit(".")[-1]
