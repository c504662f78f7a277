"""The order in which slices are read, by whom, and in which batches."""
