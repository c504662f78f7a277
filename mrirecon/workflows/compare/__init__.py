"""Compare finished runs and tables: paired differences, what they rest on, a verdict in words."""

from mrirecon.workflows.compare.compare_tables import compare

__all__ = ["compare"]
