"""Folders and files of results: what stands there, what they say of themselves, how they appear whole."""
