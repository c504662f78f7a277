"""Scores inside boxes: annotations of readers, and what is scored in them."""
