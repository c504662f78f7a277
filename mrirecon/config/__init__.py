"""Every configuration key: its type, its default and what it means.

Each key is a flag of the command that reads it.
"""

from mrirecon.config.make import DemoConfig, NoConfig, ShowConfig, SimulateConfig
from mrirecon.config.train import (
    AugmentConfig,
    AverageConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from mrirecon.config.use import CompareConfig, EvaluateConfig, ExportConfig, ReconstructConfig, ScoreConfig

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
