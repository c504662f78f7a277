"""Every configuration key: its type, its default and what it means.

Each key is a flag of the command that reads it.
"""

from mrirecon.config.tasks import (
    CompareConfig,
    DemoConfig,
    EvaluateConfig,
    ExportConfig,
    NoConfig,
    ReconstructConfig,
    ScoreConfig,
    ShowConfig,
    SimulateConfig,
)
from mrirecon.config.train import (
    AugmentConfig,
    AverageConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "AverageConfig",
    "CompareConfig",
    "DataConfig",
    "DemoConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ModelConfig",
    "NoConfig",
    "OptimizerConfig",
    "ReconstructConfig",
    "ScheduleConfig",
    "ScoreConfig",
    "ShowConfig",
    "SimulateConfig",
    "TrainConfig",
]
