"""Optimizer x normalization studies: a grid, its runs on any number of workers, and what they show.

Torch is imported where a run is done or tried, so that a grid, its state and its results are read at once.
"""
