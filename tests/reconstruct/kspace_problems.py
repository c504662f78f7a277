"""A small scan with known maps, and the operators that reconstructions must agree with, as dense matrices."""

import torch

from mrirecon.data.samples import Sample, collate
from mrirecon.physics import Sense, expand_coils, fft2c

SIZE = (24, 20)


def maps_and_image(n_coils=4, size=SIZE, dtype=torch.complex128):
    y, x = torch.meshgrid(torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij")
    angles = torch.arange(n_coils) * 2 * torch.pi / n_coils
    maps = torch.stack([torch.exp(-((y - a.sin()) ** 2 + (x - a.cos()) ** 2) / 2 + 1j * x * a.cos()) for a in angles])
    image = ((x**2 + y**2 < 0.7).float() + (x.abs() + y.abs() < 0.4).float()) * torch.exp(0.5j * y)
    return (maps / torch.linalg.vector_norm(maps, dim=0)).to(dtype), image.to(dtype)


def columns(width=SIZE[1], center=6):
    mask = torch.zeros(width, dtype=torch.bool)
    mask[::3] = True
    mask[width // 2 - center // 2 :][:center] = True
    return mask


def kspace_of(image, maps, mask, noise=0.0):
    generator = torch.Generator().manual_seed(0)
    full = fft2c(expand_coils(image, maps))
    return torch.where(mask, full + noise * torch.randn(full.shape, generator=generator, dtype=full.dtype), 0)


def dense(maps, mask):
    """The matrix of `A`, from pixels to samples, by the package's tested operator on unit images."""
    size = maps.shape[-2:]
    units = torch.eye(size[0] * size[1], dtype=maps.dtype).reshape(-1, *size)
    return Sense(maps, mask).forward(units).flatten(1).T


def sample_of(kspace, mask, shape, n_center=6, volume="v.h5", noise_covariance=None):
    """A collated sample of one slice, as `needs=("kspace", "mask", "noise")` gives it."""
    nothing = torch.empty(0)
    return collate(
        [
            Sample(
                image=nothing,
                target=nothing,
                mean=nothing,
                std=nothing,
                data_range=0.0,
                volume=volume,
                slice_idx=0,
                acceleration=4.0,
                acceleration_true=4.0,
                mask_id="",
                masked_kspace=kspace,
                mask=mask,
                n_center=n_center,
                crop_shape=shape,
                object_mask=nothing,
                noise_covariance=torch.zeros(len(kspace), len(kspace))
                if noise_covariance is None
                else noise_covariance,
            )
        ]
    )
