"""A fit of a Lightning trainer and what happens along it: validation, curves, loggers, signals."""
