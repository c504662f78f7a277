"""One volume's reconstruction in fastMRI's submission layout."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrirecon.files import replacing


def write_prediction(path: Path, images: np.ndarray, attrs: Mapping[str, Any] | None = None) -> None:
    """Write images `(slices, height, width)` as the data set `reconstruction`, float32, whole or not at all.

    Raises:
        OSError: They cannot be written there.
    """
    content = BytesIO()  # HDF5 does not survive a full disk: it may crash when the file is closed
    with h5py.File(content, "w") as file:
        file.create_dataset("reconstruction", data=images.astype(np.float32, copy=False))
        file.attrs.update(attrs or {})
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())
