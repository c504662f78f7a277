"""Seeded changes to how a file is stored: filters, chunks, claimed sizes; and links that lead elsewhere."""

import h5py
import numpy as np
from content_mutations import put


def change_storage(file: h5py.File, rng: np.random.Generator) -> None:
    """The same numbers under another layout and other filters: all of them readable."""
    key = ["kspace", "reconstruction_rss" if "reconstruction_rss" in file else "kspace"][rng.integers(2)]
    values = file[key][()]
    options = [
        {"chunks": True, "compression": "gzip", "compression_opts": int(rng.integers(10))},
        {"chunks": True, "compression": "lzf", "shuffle": True},
        {"chunks": (1,) * values.ndim},
        {"chunks": tuple(2 * n for n in values.shape), "maxshape": (None,) * values.ndim},
        {"chunks": tuple(max(n // 2, 1) for n in values.shape), "fletcher32": True},
        {"maxshape": (None, *values.shape[1:]), "chunks": True},
        {"track_times": True, "fillvalue": 3},
    ][rng.integers(7)]
    put(file, key, values, **options)


def claim_size(file: h5py.File, rng: np.random.Generator) -> None:
    """Shapes of which nothing, or next to nothing, is stored."""
    key = [key for key in ("kspace", "reconstruction_rss", "mask", "ismrmrd_header") if key in file][rng.integers(3)]
    dtype = {"kspace": "c8", "mask": "?", "ismrmrd_header": "S1"}.get(key, "f4")
    huge = 2 ** int(rng.integers(8, 31))
    shapes = {
        "kspace": [
            (2, 3, huge, 20),
            (huge, 3, 24, 20),
            (2, huge, 24, 20),
            (2, 3, 24, huge),
            (huge, 24, 20),
            (huge,) * 2,
        ],
        "mask": [(huge,), (huge, 20)],
        "ismrmrd_header": [(huge,), ()],
    }.get(key, [(2, 16, huge), (huge, 16, 20), (2, huge, huge)])
    shape = shapes[rng.integers(len(shapes))]
    if np.prod([float(n) for n in shape]) > 2.0**58:
        shape = (*shape[:-2], 64, 64)
    del file[key]
    made = file.create_dataset(key, shape, dtype, chunks=tuple(min(n, 16) for n in shape) or None)
    if rng.random() < 0.5 and shape:
        made[tuple(slice(0, 1) for _ in shape)] = np.ones((), dtype)


def bomb(file: h5py.File, rng: np.random.Generator) -> None:
    """Zeros that take a thousandth of their size once compressed."""
    slices, height = int(rng.integers(1, 9)), int(rng.choice([64, 512, 2048]))
    put(file, "kspace", np.zeros((slices, 3, height, 20), np.complex64), chunks=True, compression="gzip")


def link_elsewhere(file: h5py.File, rng: np.random.Generator) -> None:
    """Data that lie in another file, or in another place of this one; nobody may follow what leaves the file."""
    key = [key for key in ("kspace", "mask", "ismrmrd_header", "reconstruction_rss") if key in file][rng.integers(3)]
    stored = file[key]
    values, shape, dtype = stored[()], stored.shape, stored.dtype
    del file[key]
    kind = rng.integers(5)
    if kind == 0:
        file[key] = h5py.ExternalLink(
            ["sound.bin", "/proc/self/exe", "../sound.bin", "nothing.h5"][rng.integers(4)], key
        )
    elif kind == 1 and shape:
        size = int(np.prod(shape)) * dtype.itemsize
        file.create_dataset(
            key, shape, dtype, external=[(["sound.bin", "/etc/passwd", "/dev/zero"][rng.integers(3)], 0, size)]
        )
    elif kind == 2 and shape:
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("sound.bin", key, shape=shape)
        file.create_virtual_dataset(key, layout)
    elif kind == 3:
        file[key] = h5py.SoftLink(["/nothing", f"/{key}", "/"][rng.integers(3)])
    else:
        file["elsewhere"] = values if isinstance(values, np.ndarray) else np.array(values, h5py.string_dtype())
        file[key] = h5py.SoftLink("/elsewhere")
    if rng.random() < 0.3 and kind == 3:
        file["loop"] = h5py.SoftLink("/loop")


STORAGE = {"storage": change_storage, "claimed sizes": claim_size, "compression bombs": bomb, "links": link_elsewhere}
