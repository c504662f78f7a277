"""One volume's reconstruction in fastMRI's submission layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrirecon.data.hdf5.write import new_hdf5


def write_prediction(path: Path, images: np.ndarray, attrs: Mapping[str, Any] | None = None) -> None:
    """Write images `(slices, height, width)` as the data set `reconstruction`, float32, whole or not at all.

    Raises:
        OSError: They cannot be written there.
    """
    with new_hdf5(path) as file:
        file.create_dataset("reconstruction", data=images.astype(np.float32, copy=False))
        file.attrs.update(attrs or {})
