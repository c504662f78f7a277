"""Make and check everything a training needs before anything is written; check a setting without data and device."""

import copy
import dataclasses
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mrirecon import ranks
from mrirecon.config import ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.config.train import DEFAULT_EPOCHS, DEVICES
from mrirecon.configfile import flatten, require_ranges
from mrirecon.data.folders.manifest import data_manifest, first_difference, half_known, read_record
from mrirecon.data.loading.batch_order import BatchStream
from mrirecon.data.loading.datamodule import ReconDataModule
from mrirecon.data.mask_choice import mask_names, masks_used
from mrirecon.data.samples import collate, to_device
from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation import find_protocol
from mrirecon.evaluation.stats import monitors
from mrirecon.files import read_json
from mrirecon.models.device import PRECISIONS, auto_precision, autocast, choose_device
from mrirecon.progress import say
from mrirecon.runs import RunFolder, provenance
from mrirecon.tables.augmentations import amounts, check_amounts
from mrirecon.tables.optimizers import find_optimizer
from mrirecon.tables.schedules import SCHEDULES
from mrirecon.training.build import Design, read_design
from mrirecon.training.checkpoints.weights_files import GivenWeights, Match, put_weights, read_weights
from mrirecon.training.footprint import ModelSummary, as_gib, machine_memory, memory_of, summarize
from mrirecon.training.loop.loggers import check_logger
from mrirecon.training.module import ReconModule
from mrirecon.training.recipe.lr_finder import LOW
from mrirecon.training.recipe.optimizers import has_modes
from mrirecon.training.recipe.schedules import resolve_auto

CHECKPOINTS = ("all", "end")
_LARGEST_INT, _LARGEST_FLOAT = 2**53, 1e30  # beyond them single precision, or a table, cannot hold a setting
_MOST_OF_A_MACHINE = 4096
# What may differ when a run goes on: where things are, not what is computed.
MAY_CHANGE = (
    *("data.path", "data.workers", "data.stage", "data.check_reference", "device", "threads", "logger"),
    *("devices", "num_nodes"),  # but not their product
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The numbers of a run, all resolved."""

    n_steps: int  # optimizer steps
    accumulate: int  # batches per step
    val_every: int  # steps
    epochs: float


def build_module(
    config: TrainConfig,
    optimizer: OptimizerConfig,
    design: Design,
    network: torch.nn.Module,
    n_steps: int,
    stream: BatchStream | None = None,
) -> ReconModule:
    """Build the Lightning module of a training, which fails where a name or an option is wrong.

    Args:
        config: The training's configuration.
        optimizer: With the rate that it begins with.
        design: What describes the network.
        network: Made by it.
        n_steps: Optimizer steps of the whole training.
        stream: Order of its batches; None: it cannot be trained, only checked.
    """
    return ReconModule(
        network,
        optimizer,
        config.schedule,
        n_steps,
        config.loss,
        stream,
        config.seed,
        average=config.average,
        l1_weight=config.l1_weight,
        monitor=config.monitor,
        freeze=config.freeze,
        predict=design.predict,
    )


class TrainingWork:
    """Everything a fit needs, made and checked before anything is written.

    Args:
        config: Its configuration.
        goes_on: From a checkpoint, so that the weights to begin with (`weights`) are not read again.
    """

    def __init__(self, config: TrainConfig, goes_on: bool = False) -> None:
        config = dataclasses.replace(config, weights=config.weights and str(Path(config.weights).absolute()))
        self.lr_is_recommended = config.optimizer.lr == "auto"
        given = read_weights(config.weights) if config.weights and not goes_on else None
        config = dataclasses.replace(config, optimizer=config.optimizer.with_lr(), model=_decided(config.model, given))
        self.config = config
        check_numbers(config)
        _check_processes(config)
        self.device = choose_device(config.device).type
        _use_threads(config, self.device)
        self.precision = _precision(config.precision, self.device)
        check_logger(config.logger)
        self.design = read_design(config.model)
        self._n_local = config.devices if self.device == "cpu" else 1  # processes that share a memory
        self.design.require_memory(2 * self._n_local, self.device)
        self.protocol = find_protocol(config.protocol)
        self.data = ReconDataModule(
            config.data,
            config.batch_size,
            config.val_volumes,
            config.seed,
            protocol=self.protocol,
            normalised_together=config.batch_size * (ranks.world_size() if config.sync_batchnorm else 1),
            needs=self.design.needs,
            augment=config.augment,
        )
        for shape in set(self.data.train_set.image_shapes):
            self.design.check_image_size(shape)
        self.design.check_coils({volume.n_coils for volume in self.data.train_volumes})
        torch.manual_seed(config.seed)
        self.model = self.design.build()
        self.given: Match | None = None
        if given is not None:
            self.given = put_weights(self.model, config.model, given)
        self.plan: Plan = make_plan(config, self.data.stream.batches_per_epoch)
        self.data.plan(self.plan.n_steps * self.plan.accumulate)
        self.module = build_module(
            config, _first_optimizer(config.optimizer), self.design, self.model, self.plan.n_steps, self.data.stream
        )
        self.module.recalibration_batches = self.data.recalibration_batches
        made = self.module.configure_optimizers()  # a wrong name fails here, not after the start
        self._is_schedule_free = has_modes(made["optimizer"])
        self.schedule = resolve_auto(config.schedule, made["optimizer"])

    def go_on_with(self, stored: Mapping[str, Any]) -> None:
        """Take the schedule that `auto` was where a run began, by the settings of its checkpoint.

        Those of earlier versions do not tell; it was onecycle for every method but the Schedule-Free ones.

        Raises:
            InputError: They name a schedule that does not exist.
        """
        if self.config.schedule.name == "auto" and not self._is_schedule_free:
            name = str(stored.get("schedule", "onecycle"))
            if name not in SCHEDULES:
                raise unknown_name("schedule", name, SCHEDULES)
            self.schedule = dataclasses.replace(self.schedule, name=name)
            self.module.schedule = self.schedule

    def set_lr(self, lr: float) -> None:
        """The rate that a range test found."""
        optimizer = dataclasses.replace(self.config.optimizer, lr=lr)
        self.config = dataclasses.replace(self.config, optimizer=optimizer)
        self.module.optimizer = optimizer

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that decide the result, with what `auto` became here of the precision, and of the schedule."""
        elsewhere = (*MAY_CHANGE, "output", "overwrite", "precision")
        flat = {key: value for key, value in flatten(self.config).items() if key not in elsewhere}
        flat = {key: value for key, value in flat.items() if not key.startswith("slurm.")}
        decided = {"precision": self.precision, "schedule": self.schedule.name}
        return flat | decided | {"processes": ranks.world_size()}

    @property
    def slices_per_step(self) -> int:
        """Slices of all processes that an optimizer step averages over."""
        return self.config.batch_size * ranks.world_size() * self.plan.accumulate

    @cached_property
    def summary(self) -> ModelSummary:
        """The network's size and a training step's, measured on the largest training image, or k-space."""
        shapes = self.data.train_set.batch_shapes
        largest = max(range(len(shapes)), key=lambda i: math.prod(shapes[i]))
        sample = collate([self.data.train_set[largest]])
        device = torch.device(self.device)
        precision = autocast(device, self.precision)
        n = min(self.config.batch_size, max(Counter(self.data.train_set.batch_shapes).values()))
        found = summarize(self.model, sample, n, self.config.optimizer, device, precision, self.module.predict)
        if self._n_local * found.step_bytes > machine_memory(self.device):
            of = f" on each of {self._n_local} processes" if self._n_local > 1 else ""
            raise InputError(
                f"a training step of {n} slices takes more than {as_gib(found.step_bytes)}{of}, and "
                f"{memory_of(self.device)}; use a smaller --batch-size (with --accumulate) or fewer channels"
            )
        return found

    def compile(self) -> None:
        """Compile the network for a training step and for validation, where that is asked; say how long it took.

        Raises:
            InputError: torch finds no compiler here, or cannot compile this network.
        """
        if not self.config.compile:
            return
        began = time.monotonic()
        before = copy.deepcopy(self.model.state_dict())  # statistics of BatchNorm, which a step moves
        device, shapes = torch.device(self.device), self.data.train_set.batch_shapes
        alike = [i for i, shape in enumerate(shapes) if shape == shapes[0]][: self.config.batch_size]
        sample = to_device(collate([self.data.train_set[i] for i in alike]), device)
        self.module.to(device).model.compile()
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(device, self.precision):
                self.module.sample_loss(sample).backward()
                with torch.inference_mode():
                    self.module.eval()(sample)
        except Exception as error:
            raise InputError(
                f"the network cannot be compiled here ({type(error).__name__}: {str(error).strip().splitlines()[0]}); "
                "leave out --compile, or install what torch asks for (a C++ compiler, on a CPU)"
            ) from error
        finally:
            self.module.train().zero_grad()
            self.model.load_state_dict(before)
        if ranks.is_first():
            say(f"compiled    in {time.monotonic() - began:.0f} s")

    def provenance(self) -> dict[str, Any]:
        """The facts beside the configuration."""
        begun = {} if self.given is None else {"weights": self.given.facts()}
        if self.config.freeze:
            begun["frozen"] = self.module.frozen.facts()
        return provenance(
            device=self.device,
            precision=self.precision,
            seed=self.config.seed,
            data_manifest=self._manifest(),
            masks=masks_used(self.data.spec, self.data.train_volumes),
            protocol=self.protocol.name,
            batch={
                "size": self.config.batch_size,
                "processes": ranks.world_size(),
                "accumulate": self.plan.accumulate,
                "slices_per_step": self.slices_per_step,
            },
            model=self.summary.as_dict(),
            **begun,
        )

    def require_settings(self, stored: Mapping[str, Any], run: RunFolder) -> None:
        """Another configuration in the same folder would not be a resume either."""
        n, now = stored.get("processes", 1), self.settings["processes"]
        if n != now:
            raise InputError(
                f"{run.path} was trained with {n} process{'' if n == 1 else 'es'}, not {now}; go on with as many "
                "(--devices times --num-nodes), or train anew"
            )
        # A run of an earlier version lacks younger keys: it was trained with their defaults.
        young = {key: value for key, value in flatten(TrainConfig()).items() if key in self.settings}
        for key, value in {**(young if stored else {}), **stored}.items():
            if self.settings.get(key) != value:
                raise InputError(
                    f"{run.config} was edited: {key} is {self.settings.get(key)}, the run was trained with {value}; "
                    f"put it back, or train anew: mrirecon train -c {run.config}"
                )

    def require_same_data(self, run: RunFolder) -> None:
        """Another data set under the same folder would not be a resume."""
        try:
            stored = read_json(run.provenance)["data_manifest"]["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{run.provenance} does not name the training data ({type(error).__name__}: {error}); "
                f"this run cannot go on, start again: mrirecon train -c {run.config}"
            ) from None
        recorded = read_record(run.data) if run.data.is_file() else []
        difference = ranks.first_said(first_difference(recorded, self.data.volumes) if recorded else "")
        if difference or self._manifest()["sha256"] != stored:
            raise InputError(
                f"the files under {self.config.data.path} are not those that {run.path} was trained on"
                f"{difference and f': {difference}'}; a resumed run needs the same data: put them back, say where they "
                f"are (--data), or train anew: mrirecon train -c {run.config}"
            )
        if not recorded:
            say(f"note: {run.path} is of an earlier version, without a record of samples; only headers were compared")
        elif n := half_known(recorded, self.data.volumes):
            say(
                f"note: {n} files were written anew since the run began, copied for example; of each the middle slice "
                "was compared and is the same (all are where a run was begun with --data.check full)"
            )

    def _manifest(self) -> dict[str, Any]:
        return data_manifest(self.data.volumes)


def _decided(model: ModelConfig, given: GivenWeights | None) -> ModelConfig:
    """The network with what `residual: auto` is: learned where it begins anew, else as the weights say, or false."""
    if given is None:
        return model.with_residual(True)
    return model.with_residual(given.model is not None and given.model.residual is True)


def _first_optimizer(optimizer: OptimizerConfig) -> OptimizerConfig:
    """The optimizer with the rate it begins with: `find` begins a range test at its lowest."""
    return dataclasses.replace(optimizer, lr=LOW) if optimizer.lr == "find" else optimizer


def _check_processes(config: TrainConfig) -> None:
    asked, found = config.devices * config.num_nodes, ranks.world_size()
    if asked != found:
        raise InputError(
            f"devices {config.devices} x num_nodes {config.num_nodes} is {asked}, but {found} processes run together; "
            "make them equal"
        )
    if config.optimizer.lr == "find" and found > 1:
        raise InputError(
            f"--lr find searches with one process; find the rate with --devices 1 --num-nodes 1 --batch-size "
            f"{config.batch_size * found} --max-steps 1, then give it (--lr)"
        )


def _use_threads(config: TrainConfig, device: str) -> None:
    """Processes on the CPUs of one machine share its cores, a SLURM job has those that it asked for.

    More threads than cores wait for each other.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    elif device == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        of_task = os.environ.get("SLURM_CPUS_PER_TASK")  # a cluster need not bind a task to its cores
        own = min(cores, int(of_task or cores))
        if "RANK" in os.environ or not of_task:  # several processes in one task, or without SLURM
            own //= config.devices
        torch.set_num_threads(max(1, min(torch.get_num_threads(), own)))


def _precision(name: str, device: str) -> str:
    if name == "auto":
        return "bf16-mixed" if auto_precision(device) == "bf16-mixed" else "fp32"
    if name not in PRECISIONS:
        raise InputError(f"unknown precision '{name}'; use auto, {' or '.join(PRECISIONS)}")
    return name


def check_numbers(config: TrainConfig) -> None:
    """Raise an InputError for a number out of range, two limits at once, an unknown kind of checkpoints or score."""
    _require_possible(config)
    require_ranges(config)
    for name, value in (("threads", config.threads), ("data.workers", config.data.workers)):
        if value > _MOST_OF_A_MACHINE:
            raise InputError(f"{name} is {value}; at most {_MOST_OF_A_MACHINE}")
    if not isinstance(config.optimizer.lr, str) and not config.optimizer.lr > 0:
        raise InputError(f"--lr {config.optimizer.lr:g}; it must be above 0 (or auto, or find)")
    check_amounts(amounts(config.augment))
    if config.max_steps and config.max_epochs:
        raise InputError(f"max_steps {config.max_steps} and max_epochs {config.max_epochs} were both given; give one")
    if config.checkpoints not in CHECKPOINTS:
        raise unknown_name("checkpoints", config.checkpoints, CHECKPOINTS)
    if config.monitor not in monitors():
        raise unknown_name("monitor", config.monitor, monitors())
    method = config.optimizer.name
    if _takes_whole_set(config) and config.optimizer.lr == "find":
        raise InputError(
            f"--lr find with {method} would pass 140 times over the training set; find the rate with sgd, or give it"
        )
    if _takes_whole_set(config) and config.accumulate != 1:
        raise InputError(f"{method} uses all training slices in each step; leave accumulate at 1 (or use sgd)")


def _takes_whole_set(config: TrainConfig) -> bool:
    method = find_optimizer(config.optimizer.name)
    return method is not None and method.whole_set


def _require_possible(config: TrainConfig) -> None:
    """Raise an InputError for numbers that are none, or that no setting has."""
    for key, values in flatten(config).items():
        for value in values if isinstance(values, list) else [values]:
            limit = _LARGEST_INT if isinstance(value, int) else _LARGEST_FLOAT
            if isinstance(value, int | float) and not abs(value) <= limit:
                raise InputError(f"{key} is {value}; it must be a number between {-limit:.4g} and {limit:.4g}")


def make_plan(config: TrainConfig, batches_per_epoch: int) -> Plan:
    """Resolve `max_steps`, `max_epochs`, `accumulate` and `val_every` for a training set.

    A method that takes the whole training set in each step (`gd`) accumulates over it.

    Raises:
        InputError: The training set is empty.
    """
    if batches_per_epoch < 1:
        raise InputError("the training set has no batch; it needs at least one slice")
    accumulate = batches_per_epoch if _takes_whole_set(config) else config.accumulate
    steps_per_epoch = batches_per_epoch / accumulate
    n_steps = config.max_steps or math.ceil((config.max_epochs or DEFAULT_EPOCHS) * steps_per_epoch)
    val_every = config.val_every or max(1, round(steps_per_epoch))
    return Plan(n_steps, accumulate, min(val_every, n_steps), n_steps / steps_per_epoch)


def check_setting(config: TrainConfig) -> None:
    """Raise an InputError for a name or a number that no training takes; what a foreign class raises comes as it is."""
    check_numbers(config)
    find_protocol(config.protocol)
    for kind, name, known in (
        ("device", config.device, DEVICES),
        ("precision", config.precision, ("auto", *PRECISIONS)),
        ("mask", config.data.mask, mask_names()),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    check_logger(config.logger)
    optimizer = _first_optimizer(config.optimizer.with_lr())
    given = read_weights(config.weights) if config.weights else None
    model = _decided(config.model, given)
    design = read_design(model)
    network = design.build()
    if given is not None:
        put_weights(network, model, given)
    n_steps = config.max_steps or 10  # epochs have no length without data
    build_module(config, optimizer, design, network, n_steps).configure_optimizers()
