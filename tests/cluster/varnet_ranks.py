"""A training of a varnet on slices of one and of several coils, run on real processes."""

from mrirecon import progress, ranks
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.workflows.train import train


def run(data, output):
    """Train four steps of two slices; no dropout, which is each process's own."""
    progress.quiet = True
    train(
        TrainConfig(
            data=DataConfig(path=data, coils="both"),
            model=ModelConfig("varnet", channels=4, pools=1, cascades=2, sens_channels=4, checkpointing=True),
            optimizer=OptimizerConfig("sgd", 0.1),
            schedule=ScheduleConfig("constant"),
            batch_size=2 // ranks.world_size(),
            max_steps=4,
            val_every=4,
            precision="fp32",
            threads=1,
            device="cpu",
            devices=ranks.world_size(),
            output=output,
        )
    )
