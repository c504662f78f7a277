"""A trained network as files that work without its run, each compared with the run, and a model card."""

from mrirecon.workflows.export.export_run import export

__all__ = ["export"]
