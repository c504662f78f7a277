"""Folders of volumes: which files they hold, how they are split, whether they are sound and still the same."""
