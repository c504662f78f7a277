"""Networks that hold k-space against what was measured, with their normalization as a switch, on complex k-space.

`VarNet` is the end-to-end variational network of fastMRI, `UNetDC` a U-Net with data consistency once, at its end.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mrirecon.errors import InputError
from mrirecon.models.norms import Norm
from mrirecon.models.normunet import NormUNet
from mrirecon.models.normunet import smallest_size as smallest_of_normunet
from mrirecon.models.unet import HasPools
from mrirecon.physics import Sense, combine_coils, expand_coils, fft2c, ifft2c, rss
from mrirecon.tables.norms import NORMS

COILS_AT_ONCE = 4  # images in one part of the sensitivity network


class SensitivityNetwork(nn.Module):
    """Estimate coil sensitivity maps from the fully sampled centre: fastMRI's `SensitivityModel`.

    The images of the centre's columns, each through one `NormUNet`, over their root sum of squares (Sriram et al., E2E
    VarNet, MICCAI 2020). It works through `COILS_AT_ONCE` images at a time, which changes no number beyond rounding;
    all at once where its norm takes them together (BatchNorm in training, and classes that nobody knows).

    Args:
        network: Maps complex images `(n, 1, height, width)` to the same.
        one_by_one: The norm of `network` is known to treat images each by itself, BatchNorm in training apart.
        checkpointing: Compute each part a second time for the gradient, in place of keeping all of it.
    """

    def __init__(self, network: NormUNet, one_by_one: bool, checkpointing: bool) -> None:
        super().__init__()
        self.norm_unet = network
        self.one_by_one, self.checkpointing = one_by_one, checkpointing

    def forward(self, masked_kspace: Tensor, n_center: Tensor) -> Tensor:
        """Return maps `(batch, coils, height, width)` of k-space of that shape; 0 where nothing was received.

        There fastMRI's `SensitivityModel` divides 0 by 0; elsewhere it gives the same.

        Args:
            masked_kspace: Complex.
            n_center: Fully sampled central columns of each sample, `(batch,)`.
        """
        center = center_columns(masked_kspace.shape[-1], n_center)[:, None, None]
        zero = masked_kspace.new_zeros(())
        images = ifft2c(torch.where(center, masked_kspace, zero)).flatten(0, 1).unsqueeze(1)
        mixes = not self.one_by_one or any(
            isinstance(m, _BatchNorm) and (m.training or m.running_mean is None) for m in self.modules()
        )
        parts = images.split(len(images) if mixes else COILS_AT_ONCE)
        maps = torch.cat([recomputed(self.norm_unet, x) if self.checkpointing else self.norm_unet(x) for x in parts])
        maps = maps.view_as(masked_kspace)
        magnitude = rss(maps).unsqueeze(1)
        return maps * (1 / torch.where(magnitude > 0, magnitude, torch.inf))


class Cascade(nn.Module):
    """One step of the unrolled gradient method: fastMRI's `VarNetBlock` (Sriram et al., MICCAI 2020).

        k - weight M (k - y) - F S R(S^H F^H k)

    Args:
        model: The regulariser R: maps complex images `(batch, 1, height, width)` to the same.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.dc_weight = nn.Parameter(torch.ones(1))

    def forward(self, kspace: Tensor, measured: Tensor, mask: Tensor, smaps: Tensor) -> Tensor:
        """Map k-space `(batch, coils, height, width)` to the next one, as fastMRI's `VarNetBlock` does.

        Args:
            kspace: Of the last step.
            measured: Masked k-space.
            mask: bool, broadcasts with it.
            smaps: Coil sensitivity maps of the shape of k-space.
        """
        image = combine_coils(ifft2c(kspace), smaps)
        correction = self.model(image.unsqueeze(1)).squeeze(1)
        return soft_consistency(kspace, measured, mask, self.dc_weight) - fft2c(expand_coils(correction, smaps))


class VarNet(nn.Module):
    """End-to-end variational network (Sriram et al., MICCAI 2020) as in fastMRI.

    Loads the state dict of `fastmri.models.VarNet` and gives the same output (tested to 1e-4). A single coil needs no
    maps: they are 1, and the sensitivity network has no part in it. Its output scales with its input.

    Args:
        channels: Channels of the first level of each cascade's `NormUNet`.
        pools: Number of its 2 x 2 average poolings.
        cascades: Number of cascades.
        sens_channels: Channels of the first level of the sensitivity network; 0: there is none, for a single coil.
        sens_pools: Its poolings; 0: as many as `pools`.
        norm, affine, norm_position, dropout: Of all `UNet`s.
        channels_per_group: Group norm: channels in each group, of the cascades; the sensitivity network has as many
            groups in its first level.
        n_groups: Group norm: number of groups of each.
        checkpointing: Compute each cascade, and each part of the sensitivity network, a second time for the gradient,
            in place of keeping all that it needs: less memory, a third more time.

    Raises:
        InputError: Values that do not go together, or from `UNet`.
    """

    def __init__(
        self,
        channels: int = 18,
        pools: int = 4,
        cascades: int = 8,
        sens_channels: int = 8,
        sens_pools: int = 0,
        norm: Norm = "instance",
        affine: bool = False,
        channels_per_group: int | None = None,
        n_groups: int | None = None,
        norm_position: str = "between",
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        for name, value, least in (("cascades", cascades, 1), ("sens_channels", sens_channels, 0)):
            if value < least:
                raise InputError(f"model.{name} is {value}; it must be {least} or more")
        if sens_pools < 0:
            raise InputError(f"model.sens_pools is {sens_pools}; it must be 0 (as many as pools) or more")
        options: dict[str, Any] = {"norm": norm, "affine": affine, "norm_position": norm_position, "dropout": dropout}
        options["n_groups"] = n_groups
        self.pools, self.sens_pools, self.checkpointing = pools, sens_pools or pools, checkpointing
        self.sens_net: SensitivityNetwork | None = None
        if sens_channels:
            size = _group_size(channels_per_group, channels, sens_channels)
            network = NormUNet(sens_channels, self.sens_pools, channels_per_group=size, **options)
            is_known = isinstance(norm, str) and norm in NORMS
            self.sens_net = SensitivityNetwork(network, is_known, checkpointing)
        options["channels_per_group"] = channels_per_group
        self.cascades = nn.ModuleList(Cascade(NormUNet(channels, pools, **options)) for _ in range(cascades))

    def check_image_size(self, shape: Sequence[int]) -> None:
        """Raise InputError for k-space (height, width) that is too small."""
        for network in self.modules():
            if isinstance(network, NormUNet):
                network.check_image_size(shape)

    def forward(self, masked_kspace: Tensor, mask: Tensor, n_center: Tensor | None = None) -> Tensor:
        """Map k-space to magnitude images `(batch, height, width)`, the root sum of squares of the last coil images.

        Equals `forward` of fastMRI's `VarNet` for several coils (tested). One of a fully sampled mask without
        `n_center` differs: all its columns are the centre here, one in fastMRI.

        Args:
            masked_kspace: Complex `(batch, coils, height, width)`, 0 where not sampled.
            mask: What was sampled, bool: columns `(batch, width)` or positions `(batch, height, width)`.
            n_center: Fully sampled central columns, `(batch,)`, which the maps are made of; None, or 0 for a sample:
                those of the mask.

        Raises:
            InputError: Several coils for a network without sensitivity network, or k-space that is too small.
        """
        rows = mask.unsqueeze(1) if mask.ndim == 2 else mask
        smaps = self.sensitivities(masked_kspace, rows.any(1), n_center)
        kspace, mask = masked_kspace, rows.unsqueeze(1)
        for cascade in self.cascades:
            inputs = (kspace, masked_kspace, mask, smaps)
            kspace = recomputed(cascade, *inputs) if self.checkpointing else cascade(*inputs)
        return rss(ifft2c(kspace))

    def sensitivities(self, masked_kspace: Tensor, columns: Tensor, n_center: Tensor | None = None) -> Tensor:
        """Return the maps that the cascades see, of the shape of k-space; of a single coil, ones.

        Arguments as of `forward` (Sriram et al., MICCAI 2020), with sampled columns `(batch, width)`.
        """
        n_coils = masked_kspace.shape[1]
        if n_coils == 1:
            return torch.ones_like(masked_kspace) + self._nothing()
        if self.sens_net is None:
            raise InputError(_needs_maps([n_coils]))
        found = center_of(columns)
        if n_center is not None:
            found = torch.where(n_center > 0, n_center, found)
        maps: Tensor = self.sens_net(masked_kspace, found)
        return maps

    def _nothing(self) -> Tensor | float:
        """Zero, of which the unused sensitivity network has a gradient of zero: processes wait for each one's."""
        if self.sens_net is None or not (self.training and torch.is_grad_enabled()):
            return 0.0
        return 0.0 * torch.stack([p.sum() for p in self.sens_net.parameters()]).sum()


class VarNetKeys(HasPools, Protocol):
    """A `VarNet`, or the keys of one."""

    @property
    def sens_channels(self) -> int:
        """Channels of the sensitivity network: `sens_chans` of fastMRI's `VarNet`."""

    @property
    def sens_pools(self) -> int:
        """Poolings of the sensitivity network; 0: as many as `pools`."""


class _Deepest(NamedTuple):
    pools: int


def smallest_size(keys: VarNetKeys) -> int:
    """Return the smallest height and width in pixels that a `VarNet` takes."""
    return smallest_of_normunet(_Deepest(max(keys.pools, keys.sens_pools if keys.sens_channels else 0)))


def check_coils(keys: VarNetKeys, numbers: Sequence[int]) -> None:
    """Raise an InputError for training data, of so many coils, with which a `VarNet` cannot be trained."""
    if not keys.sens_channels and max(numbers) > 1:
        raise InputError(_needs_maps(sorted(set(numbers) - {1})))
    if keys.sens_channels and max(numbers) == 1:
        raise InputError(
            "all training data have a single coil, from which varnet's sensitivity network learns nothing; "
            "leave it out (--sens-channels 0)"
        )


def center_of(columns: Tensor) -> Tensor:
    """Count the sampled columns around the centre, as many to either side, 1 where there are none: `(batch,)`.

    As fastMRI's `SensitivityModel` does.

    Args:
        columns: bool `(batch, width)`.
    """
    middle = columns.shape[-1] // 2
    left, right = columns[:, :middle].flip(1), columns[:, middle:]
    run = torch.minimum(*(side.long().cumprod(1).sum(1) for side in (left, right)))
    return (2 * run).clamp(min=1)


def center_columns(width: int, n_center: Tensor) -> Tensor:
    """Return the `n_center` `(batch,)` central columns, bool `(batch, width)`, where fastMRI puts them."""
    n = n_center.unsqueeze(1)
    start, column = (width - n + 1) // 2, torch.arange(width, device=n_center.device)
    return (column >= start) & (column < start + n)


def _group_size(channels_per_group: int | None, channels: int, sens_channels: int) -> int | None:
    """Channels per group of the sensitivity network, for as many groups as `channels` have."""
    if channels_per_group is None:
        return None
    n_groups = max(1, channels // channels_per_group)
    if sens_channels % n_groups:
        raise InputError(
            f"model.channels_per_group {channels_per_group} makes {n_groups} groups of {channels} channels, which do "
            f"not divide the {sens_channels} of the sensitivity network; choose another, or other sens_channels"
        )
    return sens_channels // n_groups


def _needs_maps(numbers: Sequence[int]) -> str:
    return (
        f"a varnet without sensitivity network (model.sens_channels 0) reconstructs a single coil; these data have "
        f"{', '.join(map(str, numbers))}: use a network that was trained with sens_channels above 0"
    )


# ---- soft data consistency of k-space


def soft_consistency(kspace: Tensor, measured: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Move predicted k-space towards what was measured: `k - weight M (k - y)`, `(..., coils, height, width)`.

    A gradient step of the data term, as in variational networks (Hammernik et al., MRM 2018; Sriram et al., MICCAI
    2020); with a weight of 1 the measured samples are put in.

    Args:
        kspace: Predicted, complex.
        measured: Of the same shape; what stands outside the mask does not count.
        mask: bool, broadcasts with both.
        weight: One number.
    """
    return kspace - weight * torch.where(mask, kspace - measured, kspace.new_zeros(()))


# ---- modules whose intermediate results are computed a second time for the gradient, in place of being kept


def recomputed(module: nn.Module, *inputs: Any) -> Any:
    """Return `module(*inputs)`, of which the inputs alone are kept (gradient checkpointing, Chen et al. 2016).

    The gradient is that of a plain call, in the same precision, with the same dropout. What the module counts in its
    buffers, as BatchNorm its running statistics, it counts once. Without gradients it is a plain call.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return module(*inputs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _buffers_kept(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give `module` its buffers back as they were; autograd, which may have saved them, is not told."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)


# ---- a U-Net on the coil-combined image with data consistency at its end: the step between U-Net and VarNet


class UNetDC(nn.Module):
    """Refine the coil-combined image, then hold its coils' k-space against what was measured.

        k = F S U(A^H y),  then  k - weight M (k - y)  and the root sum of squares of the coil images

    with `A = M F S` (Pruessmann et al., SENSE, MRM 1999), U a `NormUNet` and a learned weight that begins at 1 (a soft
    data-consistency layer as of Schlemper et al., TMI 2018). With it, a fully sampled image comes back as it is.

    Args:
        channels, pools, options: Of the `NormUNet`.
    """

    def __init__(self, channels: int = 32, pools: int = 4, **options: Any) -> None:
        super().__init__()
        self.model = NormUNet(channels, pools, **options)
        self.dc_weight = nn.Parameter(torch.ones(1))
        self.pools = pools

    def check_image_size(self, shape: Sequence[int]) -> None:
        """Raise InputError for k-space (height, width) that is too small."""
        self.model.check_image_size(shape)

    def forward(self, masked_kspace: Tensor, mask: Tensor, smaps: Tensor) -> Tensor:
        """Map k-space `(batch, coils, height, width)` to magnitude images `(batch, height, width)`.

        Args:
            masked_kspace: Complex, 0 where not sampled.
            mask: What was sampled, bool: columns `(batch, width)` or positions `(batch, height, width)`.
            smaps: Coil sensitivity maps (Pruessmann et al., MRM 1999) of the shape of k-space.
        """
        rows = mask.unsqueeze(1) if mask.ndim == 2 else mask
        image = Sense.of_batch(smaps, rows).adjoint(masked_kspace)
        kspace = fft2c(expand_coils(self.model(image.unsqueeze(1)).squeeze(1), smaps))
        return rss(ifft2c(soft_consistency(kspace, masked_kspace, rows.unsqueeze(1), self.dc_weight)))
