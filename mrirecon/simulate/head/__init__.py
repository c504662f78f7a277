"""The object: a random head as bodies painted one over the other, or a real volume."""
