"""Optimizer x normalization studies: a grid, its runs on any number of workers, and what they show.

Nothing here imports torch but `execute` and what it calls, so that a grid, its state and its results are read at once.
"""
