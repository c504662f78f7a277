"""Checkpoints and weights as files: written, verified, read, gone on from."""
