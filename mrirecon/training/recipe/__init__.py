"""How weights are changed: optimizers, schedules, losses, averages of the weights, norm statistics."""
