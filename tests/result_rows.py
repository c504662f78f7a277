"""Made-up rows of volumes.csv for tests."""

from dataclasses import replace

from mrirecon.evaluation.results import VolumeResult
from mrirecon.tables.metrics import METRICS


def three(ssim, psnr, nmse):
    """Scores of one image, or a validation's."""
    return {"ssim": ssim, "psnr": psnr, "nmse": nmse}


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
    values |= changes
    columns = {key for key in values if key.removeprefix("zf_") in METRICS}
    scores = {key: values[key] for key in columns if not key.startswith("zf_")}
    zero_filled = {key.removeprefix("zf_"): values[key] for key in columns if key.startswith("zf_")}
    about = {key: value for key, value in values.items() if key not in columns}
    in_order = [name for name in METRICS if name in scores]
    return VolumeResult(
        **about,
        scores={name: scores[name] for name in in_order},
        zero_filled={name: zero_filled[name] for name in in_order},
    )


def changed_row(result, **changes):
    """A row with other scores, given by column (`ssim`, `zf_psnr`), or other facts."""
    columns = {key: changes.pop(key) for key in list(changes) if key.removeprefix("zf_") in METRICS}
    own = {key: value for key, value in columns.items() if not key.startswith("zf_")}
    theirs = {key.removeprefix("zf_"): value for key, value in columns.items() if key.startswith("zf_")}
    return replace(result, scores={**result.scores, **own}, zero_filled={**result.zero_filled, **theirs}, **changes)


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
