"""Coil sensitivity maps of samples, as methods without training use them."""

from hashlib import blake2b

import torch
from torch import Tensor

from mrirecon.data.samples import Sample
from mrirecon.data.transforms import estimated_smaps, measured_mask
from mrirecon.errors import InputError, unknown_name
from mrirecon.physics.espirit import espirit_smaps

KINDS = ("espirit", "low-resolution")
_KEPT: dict[tuple[object, ...], Tensor] = {}
_KEPT_BYTES = 256 * 2**20


class Maps:
    """Coil sensitivity maps of samples, made of their calibration lines; one coil's is 1 everywhere.

    A slice without any signal has maps of 0, and so an image of 0.

    The maps of the last slices are kept, so that another method or weight finds them. They are found by the values of
    the k-space that they come from, and so are never those of other data.

    Args:
        kind: `espirit` (see `espirit_smaps`) or `low-resolution` (see `low_resolution_smaps`).
        crop: See `espirit_smaps`.

    Raises:
        InputError: Unknown maps, a crop outside of 0 to 1; when called: no calibration lines.
    """

    def __init__(self, kind: str, crop: float) -> None:
        if kind not in KINDS:
            raise unknown_name("maps", kind, KINDS)
        if not 0 <= crop < 1:
            raise InputError(f"crop is {crop:g}; it must be from 0 to below 1")
        self.kind, self.crop = kind, crop

    def __call__(self, sample: Sample) -> Tensor:
        """Return maps `(batch, coils, height, width)` of a collated sample with k-space and mask."""
        are_columns = measured_mask(sample.masked_kspace, sample.mask).ndim == 2
        found = []
        counts = torch.as_tensor(sample.n_center).tolist()
        numbers = torch.as_tensor(sample.slice_idx).tolist()
        for kspace, n_center, volume, i in zip(sample.masked_kspace, counts, sample.volume, numbers, strict=True):
            try:
                found.append(self._of(kspace, n_center, are_columns))
            except InputError as error:
                raise InputError(f"{volume}, slice {i}: {error}") from None
        return torch.stack(found)

    def _of(self, kspace: Tensor, n_center: int, are_columns: bool) -> Tensor:
        if len(kspace) == 1:
            return torch.ones_like(kspace)
        if self.kind == "low-resolution" and n_center < 2:
            raise InputError(
                f"low-resolution maps need at least 2 fully sampled central columns, and there are {n_center}: "
                "use another mask"
            )
        if self.kind == "low-resolution":
            return estimated_smaps(kspace, n_center)
        if not bool(kspace.any()):
            return torch.zeros_like(kspace)
        # of a block that is sampled along both axes, as large a share of the rows
        n_rows = None if are_columns else round(n_center * kspace.shape[-2] / kspace.shape[-1])
        digest = blake2b(torch.view_as_real(kspace).cpu().numpy().tobytes(), digest_size=16).hexdigest()
        key = (digest, tuple(kspace.shape), n_center, n_rows, self.crop, str(kspace.device))
        if key not in _KEPT:
            while _KEPT and sum(map(_n_bytes, _KEPT.values())) + _n_bytes(kspace) > _KEPT_BYTES:
                _KEPT.pop(next(iter(_KEPT)))
            _KEPT[key] = espirit_smaps(kspace, n_center, n_rows=n_rows, crop=self.crop)
        return _KEPT[key]


def forget_maps() -> None:
    """Let go of the maps that were kept: what comes next makes its own, as it does where it comes alone."""
    _KEPT.clear()


def _n_bytes(values: Tensor) -> int:
    return values.numel() * values.element_size()
