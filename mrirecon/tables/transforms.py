"""What a network gets to see of a slice, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mrirecon.tables.entry import builder


@dataclass(frozen=True)
class TransformEntry:
    """Called with a k-space sample it gives the image sample, by the function that `build` names."""

    help: str
    build: str | Callable[..., Any]

    def __call__(self, sample: Any) -> Any:
        """The image sample of a k-space sample."""
        return builder(self.build)(sample)


TRANSFORMS: dict[str, TransformEntry] = {
    "magnitude": TransformEntry("RSS over coils", "mrirecon.data.transforms:to_image"),
    "complex": TransformEntry("coil-combined, as two channels", "mrirecon.data.transforms:to_complex_image"),
}
