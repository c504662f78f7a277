"""The recipe that changes weights: optimizers, schedules, losses, averages of the weights, norm statistics."""
