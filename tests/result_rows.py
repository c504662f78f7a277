"""Made-up rows of volumes.csv for tests."""

from mrirecon.evaluation.results import VolumeResult


def row(volume="v0.h5", **changes):
    values = {
        "volume": volume,
        "patient": volume,
        "origin": "measured",
        "acquisition": "AXT2",
        "n_slices": 12,
        "acceleration": 4.0,
        "acceleration_true": 3.75,
        "mask": "random",
        "mask_draw": 0,
        "mask_id": "c814b1134c27",
        "protocol": "fastmri-v1",
        "reconstructor": "unet",
        "checkpoint": "best",
        "ssim": 0.9,
        "psnr": 33.0,
        "nmse": 0.02,
        "zf_ssim": 0.7,
        "zf_psnr": 28.0,
        "zf_nmse": 0.05,
        "seconds": 1.25,
    }
    return VolumeResult(**values | changes)


def rows(n=7, draws=1):
    """`n` patients with a volume each; SSIM rises with the volume, and by .01 from draw to draw."""
    return [
        row(f"v{i}.h5", mask_draw=d, ssim=0.8 + 0.01 * i + 0.01 * d, acquisition=["AXT1", "AXT2"][i % 2])
        for d in range(draws)
        for i in range(n)
    ]


def foreign_row(volume="v0.h5", **changes):
    """A row of `mrirecon score`, which knows nothing of masks; every NaN is a different object, as after reading."""
    unknown = ("acceleration", "acceleration_true", "zf_ssim", "zf_psnr", "zf_nmse", "seconds")
    values = dict.fromkeys(("mask_id", "checkpoint"), "") | {name: float("nan") for name in unknown}
    return row(volume, **{"mask": "undeclared", "reconstructor": "theirs", **values, **changes})
