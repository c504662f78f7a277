"""Can a training be made? Its names and numbers, without data and without its device."""

from dataclasses import replace

from mrirecon.config import TrainConfig
from mrirecon.config.train import DEVICES
from mrirecon.data.masking import mask_names
from mrirecon.errors import unknown_name
from mrirecon.evaluation import find_protocol
from mrirecon.models.device import PRECISIONS
from mrirecon.training.build import build_model
from mrirecon.training.checkpoints.given_weights import put_weights, read_weights
from mrirecon.training.loop.loggers import check_logger
from mrirecon.training.loop.plan import check_numbers
from mrirecon.training.module import ReconModule
from mrirecon.training.recipe.lr_range_test import LOW


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
    optimizer = config.optimizer.with_lr()
    optimizer = replace(optimizer, lr=LOW) if optimizer.lr == "find" else optimizer
    network = build_model(config.model)
    if config.weights:
        put_weights(network, config.model, read_weights(config.weights))
    n_steps = config.max_steps or 10  # max_epochs of no one knows what
    module = ReconModule(
        network,
        optimizer,
        config.schedule,
        n_steps,
        config.loss,
        average=config.average,
        l1_weight=config.l1_weight,
        monitor=config.monitor,
        freeze=config.freeze,
    )
    module.configure_optimizers()
