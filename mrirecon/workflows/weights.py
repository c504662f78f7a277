"""Which weights a network has, in one hash."""

from hashlib import sha256

import torch
from torch import nn


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over the state dict, sorted by name: of each entry its name, type and shape as a line, then its bytes.

    The same for a checkpoint and for the `weights.safetensors` made of it; 64 hex digits.
    """
    digest = sha256()
    for name, value in sorted(model.state_dict().items()):
        stored = value.detach().cpu().contiguous()
        digest.update(f"{name} {str(stored.dtype).removeprefix('torch.')} {tuple(stored.shape)}\n".encode())
        digest.update(stored.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
