"""`load_portable`, under the path that model cards of earlier versions name."""

from mrirecon.training.checkpoints.weights_files import load_portable

__all__ = ["load_portable"]
