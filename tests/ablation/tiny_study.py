"""A grid small enough to be done again and again."""

GRID = {
    "name": "tiny",
    "factors": {"optimizer": ["momentum", "adam"]},
    "base": {
        "model": {"channels": 2, "pools": 1, "norm": "instance", "residual": True},
        "batch_size": 2,
        "max_steps": 6,
        "val_every": 2,
    },
    "seeds": 6,
    "reference": {"optimizer": "adam"},
    "tuning": {"trials": 2, "sweep": 1},
}
