"""Losses by name and by class path."""

import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.training.losses import make_loss


@pytest.mark.parametrize(
    ("loss", "want"), [("l1", 2.0), ("mse", 4.0), ("torch.nn.HuberLoss", 1.5), ({"class_path": "torch.nn.L1Loss"}, 2.0)]
)
def test_values(loss, want):
    assert make_loss(loss)(torch.ones(2, 3), -torch.ones(2, 3)) == want


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("l2", "unknown loss 'l2'"),
        ("torch.nn.Linear", "cannot be made"),
        ("torch.nn.Identity", "no loss"),
        ({"class_path": "torch.nn.L1Loss", "init_args": {"reduction": "none"}}, "one number"),
    ],
)
def test_what_is_no_loss_is_refused_at_once(loss, message):
    with pytest.raises(InputError, match=message):
        make_loss(loss)
