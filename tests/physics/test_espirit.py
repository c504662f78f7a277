"""ESPIRiT maps equal BART's, are the true ones of a simulated scan, and say when there is nothing to calibrate on."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from bart_program import coils_last, needs_bart, run

from mrirecon.config import SimulateConfig
from mrirecon.errors import InputError
from mrirecon.physics import center_crop, espirit, expand_coils, fft2c, ifft2c, rss
from mrirecon.physics.espirit import espirit_smaps
from mrirecon.simulate.head.phantom import Phantom
from mrirecon.simulate.scanner.acquisition import coil_maps, complex_noise, random_receiver, scan_slice
from mrirecon.simulate.scanner.geometry import Geometry


def smooth_maps(n_coils, height, width):
    """Complex maps of unit norm that vary slowly, as those of coils around an object."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    angles = torch.arange(n_coils) * 2 * torch.pi / n_coils
    maps = [
        torch.exp(-((y - 1.2 * torch.sin(a)) ** 2 + (x - 1.2 * torch.cos(a)) ** 2) / 2 + 1j * (x * a.sin() + y))
        for a in angles
    ]
    maps = torch.stack(maps)
    return maps / torch.linalg.vector_norm(maps, dim=0)


def disc(height, width):
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    inside = (x**2 + y**2 < 0.6).float()
    return (inside * (1 + 0.3 * torch.cos(9 * x) * torch.cos(7 * y))).to(torch.complex64)


def scan(n_coils=6, height=64, width=56):
    maps, image = smooth_maps(n_coils, height, width), disc(height, width)
    return fft2c(expand_coils(image, maps)), maps, image.abs() > 0


def likeness(first, second):
    """Modulus of the correlation over coils in each pixel, of maps of unit norm `(coils, height, width)`."""
    return (first.conj() * second).sum(0).abs()


@pytest.mark.realdata
@needs_bart
@pytest.mark.parametrize("acceleration", [1, 4])
@pytest.mark.parametrize("name", ["brain_t1_7ch", "brain_gre_3t_16ch"])
def test_it_equals_bart(shared_data, tmp_path, name, acceleration):
    with h5py.File(shared_data / "multicoil" / f"{name}.h5") as file:
        full = torch.from_numpy(file["kspace"][0])
    width = full.shape[-1]
    kspace, n_center = full, width
    if acceleration > 1:
        n_center = 24
        columns = torch.zeros(width, dtype=torch.bool)
        columns[::acceleration] = True
        columns[width // 2 - n_center // 2 :][:n_center] = True
        kspace = torch.where(columns, full, 0)
    theirs = torch.from_numpy(run(tmp_path, "ecalib -m1 {kspace} {out}", kspace=coils_last(kspace)))
    theirs = theirs.movedim(-1, 0)
    ours = espirit_smaps(kspace, n_center)
    ours_inside, theirs_inside = ours.abs().sum(0) > 0, theirs.abs().sum(0) > 0
    assert (ours_inside == theirs_inside).float().mean() >= 0.99
    image = rss(ifft2c(full))
    signal = (image > 0.1 * image.max()) & ours_inside & theirs_inside
    assert float(likeness(ours, theirs)[signal].min()) >= 0.9999
    phase = (ours.conj() * theirs).sum(0)[signal].angle()  # the same relative phase everywhere, too
    assert float((torch.exp(1j * (phase - phase.median())) - 1).abs().quantile(0.99)) < 0.02


def test_maps_are_the_leading_eigenvectors_to_the_last_digit():
    """The power iteration has arrived: LAPACK finds the same vectors."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(5, 4, 6, 6, generator=generator, dtype=torch.complex64))[0]
    matrices = (vectors * torch.tensor([1.0, 0.8, 0.5, 0.1, 0.0, 0.0])) @ vectors.mH
    found, values = espirit._leading(matrices, torch.randn(6, 5, 4, generator=generator, dtype=torch.complex64))
    torch.testing.assert_close(values, torch.ones(5, 4), rtol=1e-5, atol=0)
    expected = torch.linalg.eigh(matrices)[1][..., -1].movedim(-1, 0).conj()
    torch.testing.assert_close(likeness(found, expected), torch.ones(5, 4), rtol=1e-5, atol=0)


def test_it_finds_the_maps_of_a_simulated_scan():
    kspace, maps, inside = scan()
    found = espirit_smaps(kspace, 24)
    assert float(likeness(found, maps)[inside].min()) > 0.999
    norm = torch.linalg.vector_norm(found, dim=0)
    torch.testing.assert_close(norm[inside], torch.ones_like(norm[inside]))


def head_scan(seed, n_coils, size=96):
    """One slice of a simulated head, noise-free: k-space of an array and of a body coil, true maps, and where it is."""
    rng, config = np.random.default_rng(seed), SimulateConfig(coils=n_coils)
    head = Phantom.random(rng, True, "T2")
    stack = Geometry("axial", (size, size), 1.0, 1, 0.2).random_stack(
        rng, head.box, head.slice_range_mm("axial"), (4, 6)
    )
    receiver, (plane,) = random_receiver(head, config, rng), stack.planes
    kspace, inside = scan_slice(head, plane, stack, receiver)
    body, _ = scan_slice(head, plane, stack, replace(receiver, loops=[], unit=1.0))
    pixels = (np.arange(size) - size // 2) * stack.finer + plane.shape[0] // 2  # their centres on the object's grid
    maps = coil_maps(plane, receiver.loops)[:, pixels][:, :, pixels]
    return torch.from_numpy(kspace), torch.from_numpy(body), torch.from_numpy(maps), torch.from_numpy(inside)


@pytest.mark.parametrize("acceleration", [1, 4])
@pytest.mark.parametrize(
    ("n_coils", "snr", "median", "least"),
    [(8, None, 0.9995, 0.998), (8, 30, 0.999, 0.997), (16, 30, 0.999, 0.995), (4, 10, 0.998, 0.99)],
)
def test_maps_are_those_of_the_coils_and_what_a_body_coil_measures(n_coils, snr, median, least, acceleration):
    """They are the true ones up to a phase and a length of each pixel, which no array can know of itself."""
    kspace, body, true, inside = head_scan(n_coils, n_coils)
    measured = ifft2c(kspace) / ifft2c(body)
    if snr:
        sd = float(rss(ifft2c(kspace))[inside].mean()) / snr
        kspace = kspace + torch.from_numpy(complex_noise(np.random.default_rng(0), tuple(kspace.shape), sd))
    width, n_center = kspace.shape[-1], 24 if acceleration > 1 else kspace.shape[-1]
    columns = torch.arange(width) % acceleration == 0
    columns[width // 2 - n_center // 2 :][:n_center] = True
    found = espirit_smaps(torch.where(columns, kspace, 0), n_center)
    image = rss(ifft2c(kspace))
    signal = inside & (image > 0.1 * image.max())
    assert float((found.abs().sum(0) > 0)[signal].float().mean()) > 0.999  # none of it is cropped
    for reference in (true, measured):
        alike = likeness(found, reference / torch.linalg.vector_norm(reference, dim=0))[signal]
        assert float(alike.median()) > median
        assert float(alike.quantile(0.01)) > least
    # how strong neighbouring coils are against each other, where both receive
    unit = true / torch.linalg.vector_norm(true, dim=0)
    both = (unit[1:].abs() > 0.2) & (unit[:-1].abs() > 0.2) & signal
    ratios = (found[1:] / found[:-1]).abs()[both] / (true[1:] / true[:-1]).abs()[both]
    assert both.sum() > 3000
    assert float(ratios.median()) == pytest.approx(1, abs=0.01)
    assert float((ratios - 1).abs().quantile(0.9)) < (0.1 if snr == 10 else 0.05)


def test_outside_of_the_object_maps_are_zero_unless_nothing_is_cropped():
    kspace, _, inside = scan()
    far = torch.zeros_like(inside)
    far[:4, :4] = True
    assert float(espirit_smaps(kspace, 24)[:, far].abs().max()) == 0
    kept = torch.linalg.vector_norm(espirit_smaps(kspace, 24, crop=0), dim=0)
    torch.testing.assert_close(kept, torch.ones_like(kept))


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-2])
def test_maps_have_length_one_where_eigenvalues_are_tiny_too(noise):
    """Around a small object in a large field of view; a length that is not 1 makes iterations diverge."""
    maps = smooth_maps(8, 96, 96)
    image = torch.zeros(96, 96, dtype=torch.complex64)
    image[40:56, 40:56] = disc(16, 16) + 0.5
    generator = torch.Generator().manual_seed(0)
    kspace = fft2c(expand_coils(image, maps))
    kspace = kspace + noise * torch.randn(kspace.shape, generator=generator, dtype=kspace.dtype)
    length = torch.linalg.vector_norm(espirit_smaps(kspace, 8, crop=0), dim=0)
    torch.testing.assert_close(length, torch.ones_like(length))


def test_scale_and_phase_of_the_kspace_do_not_matter():
    kspace, _, _ = scan()
    maps = espirit_smaps(kspace, 24)
    for factor in (1e-12, 1e12, 1j):
        torch.testing.assert_close(espirit_smaps(kspace * factor, 24), maps, rtol=1e-3, atol=1e-4)


def test_maps_of_a_batch_are_those_of_its_slices_and_rows_are_done_in_parts(monkeypatch):
    kspace, _, _ = scan()
    batch = torch.stack([kspace, kspace.flip(-2)])
    together = espirit_smaps(batch, 24)
    monkeypatch.setattr(espirit, "_ROWS_AT_ONCE", 6 * 6 * 56 * 5)
    for i in range(2):
        torch.testing.assert_close(together[i], espirit_smaps(batch[i], 24), rtol=1e-4, atol=1e-5)


def test_maps_of_the_middle_rows_are_the_middle_of_all():
    kspace, _, _ = scan(height=80)
    cut = espirit_smaps(kspace, 24, shape=(40, 56))
    torch.testing.assert_close(cut, center_crop(espirit_smaps(kspace, 24), (40, 56)), rtol=1e-4, atol=1e-5)


def test_few_calibration_columns_still_give_maps():
    kspace, maps, inside = scan(n_coils=8)
    columns = torch.zeros(56, dtype=torch.bool)
    columns[28 - 3 : 28 + 3] = True
    found = espirit_smaps(torch.where(columns, kspace, 0), 6, crop=0)
    assert float(likeness(found, maps)[inside].quantile(0.05)) > 0.98


@pytest.mark.parametrize(
    ("change", "n_center", "words"),
    [
        (lambda k: k[:1], 24, "needs several coils, and this k-space has one"),
        (lambda k: k, 3, "at least 4 fully sampled central columns of 6 samples, and there are 3 of 64"),
        (lambda k: k * 0, 24, "all zero or not finite"),
        (lambda k: k * np.nan, 24, "all zero or not finite"),
    ],
)
def test_what_it_cannot_calibrate_on(change, n_center, words):
    with pytest.raises(InputError, match=words):
        espirit_smaps(change(scan()[0]), n_center)
