"""What the records of a study show, as plain data: scores, tuning, curves, comparisons."""
