"""The ISMRMRD header of a fastMRI file: matrix sizes, field of view and which columns were measured."""

import math
from dataclasses import dataclass
from functools import lru_cache
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mrirecon.data.hdf5.limits import HEADER_BYTES
from mrirecon.errors import InputError

_NAMESPACE = "http://www.ismrm.org/ISMRMRD"
_LARGEST = 1e9  # of all numbers that are read
_PROTON_HZ_PER_T = 42.577478518e6  # CODATA 2018, gamma / 2 pi


@dataclass(frozen=True)
class Header:
    """The part of an ISMRMRD header that reconstruction needs: x is the readout (height), y the phase encoding.

    A field of view of 0 means not known.
    """

    encoded_matrix: tuple[int, int, int]
    recon_matrix: tuple[int, int, int]
    encoded_fov_mm: tuple[float, float, float]
    recon_fov_mm: tuple[float, float, float]
    encoding_limits: tuple[int, int, int]  # minimum, center, maximum of kspace_encoding_step_1
    n_coils: int | None = None
    field_strength_T: float | None = None

    @property
    def crop_shape(self) -> tuple[int, int]:
        """`(height, width)` of the reconstruction: fastMRI's `recon_size`."""
        return self.recon_matrix[:2]

    def acquired(self, width: int) -> slice:
        """The measured columns of k-space of `width` columns; the others are zero padding.

        fastMRI's rule: from `encoded y // 2 - center`, `maximum + 1` columns.

        Raises:
            InputError: The header leaves no measured column, or describes padding of another width.
        """
        encoded = self.encoded_matrix[1]
        _, center, maximum = self.encoding_limits
        start = encoded // 2 - center
        left, right = max(start, 0), min(start + maximum + 1, encoded)
        if right <= left:
            raise InputError(
                f"the header's encoding limits {self.encoding_limits} (minimum, center, maximum) leave no "
                f"measured column of {encoded}; correct kspace_encoding_step_1 in ismrmrd_header"
            )
        if encoded == width:
            return slice(left, right)
        if (left, right) != (0, encoded):
            raise InputError(
                f"the header encodes {encoded} columns ({right - left} measured), kspace has {width}: "
                "where its padding is cannot be told; correct encodedSpace in ismrmrd_header"
            )
        return slice(0, width)

    @classmethod
    def from_xml(cls, text: str | bytes) -> "Header":
        """Read the first encoding of an ISMRMRD XML header (Inati et al. 2017).

        Raises:
            InputError: Too long, not well-formed, unsafe (entities), or a needed element is missing or not a number.
        """
        if len(text) > HEADER_BYTES:
            raise InputError(f"ismrmrd_header has {len(text)} characters, at most {HEADER_BYTES} are read; cut it")
        try:
            root = fromstring(text, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
            raise InputError(f"ismrmrd_header is not readable XML ({error}); copy it anew from the raw data") from error
        encoding = _Node(root).child("encoding")
        encoded, recon = encoding.child("encodedSpace"), encoding.child("reconSpace")
        matrix = encoded.triple("matrixSize")
        system = _Node(root).child_or_none("acquisitionSystemInformation")
        channels = system.number_or_none("receiverChannels") if system else None
        return cls(
            encoded_matrix=_positive(matrix, "encodedSpace"),
            recon_matrix=_positive(recon.triple("matrixSize"), "reconSpace"),
            encoded_fov_mm=encoded.triple("fieldOfView_mm", 0.0),
            recon_fov_mm=recon.triple("fieldOfView_mm", 0.0),
            encoding_limits=_limits(encoding, int(matrix[1])),
            n_coils=None if channels is None else int(channels),
            field_strength_T=system.number_or_none("systemFieldStrength_T") if system else None,
        )

    @classmethod
    def from_shapes(cls, kspace: tuple[int, int], image: tuple[int, int]) -> "Header":
        """The header of fully measured k-space `(height, width)` with reference images `(height, width)`.

        Its encoding limits are those of ISMRMRD (Inati et al. 2017): from 0, the centre at `width // 2`.
        """
        unknown = (0.0, 0.0, 0.0)
        limits = (0, kspace[1] // 2, kspace[1] - 1)
        return cls((*kspace, 1), (*image, 1), unknown, unknown, limits)

    def to_xml(self) -> bytes:
        """An ISMRMRD header with these values, valid under the ISMRMRD schema (Inati et al. 2017)."""
        return _to_xml(self, repr(self))


@lru_cache(maxsize=256)  # a data set has thousands of files and a few protocols
def _to_xml(header: Header, _as_written: str) -> bytes:
    """`_as_written` tells 3 from 3.0, which are equal and make different texts."""
    root = Element("ismrmrdHeader", xmlns=_NAMESPACE)
    if header.field_strength_T is not None or header.n_coils is not None:
        system = SubElement(root, "acquisitionSystemInformation")
        _add(system, "systemFieldStrength_T", header.field_strength_T)
        _add(system, "receiverChannels", header.n_coils)
    frequency = round(_PROTON_HZ_PER_T * (header.field_strength_T or 0.0))
    _add(SubElement(root, "experimentalConditions"), "H1resonanceFrequency_Hz", frequency)
    encoding = SubElement(root, "encoding")
    _add_space(encoding, "encodedSpace", header.encoded_matrix, header.encoded_fov_mm)
    _add_space(encoding, "reconSpace", header.recon_matrix, header.recon_fov_mm)
    step = SubElement(SubElement(encoding, "encodingLimits"), "kspace_encoding_step_1")
    minimum, center, maximum = header.encoding_limits
    for tag, value in (("minimum", minimum), ("maximum", maximum), ("center", center)):
        _add(step, tag, value)
    _add(encoding, "trajectory", "cartesian")
    return tostring(root, encoding="utf-8", xml_declaration=True)


class _Node:
    """An XML element whose children are found by tag, whatever the namespace prefix."""

    def __init__(self, element: Element, path: str = "") -> None:
        self.element, self.path = element, path

    def child_or_none(self, tag: str) -> "_Node | None":
        found = (e for e in self.element if str(e.tag).rpartition("}")[2] == tag)
        element = next(found, None)
        return None if element is None else _Node(element, f"{self.path}/{tag}")

    def child(self, tag: str) -> "_Node":
        node = self.child_or_none(tag)
        if node is None:
            raise InputError(f"ismrmrd_header has no {self.path}/{tag}; copy the header anew from the raw data")
        return node

    def number_or_none(self, tag: str) -> float | None:
        node = self.child_or_none(tag)
        return None if node is None else node.number()

    def number(self) -> float:
        text = self.element.text or ""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= _LARGEST:
            raise InputError(
                f"ismrmrd_header: {self.path} is '{text[:40]}', not a finite number up to {_LARGEST:g}; correct it"
            )
        return value

    def whole(self) -> int:
        value = self.number()
        if not value.is_integer():
            raise InputError(f"ismrmrd_header: {self.path} is {value}, not a whole number; correct the header")
        return int(value)

    def triple(self, tag: str, missing: float | None = None) -> tuple:
        node = self.child_or_none(tag) if missing is not None else self.child(tag)
        if node is None:
            return (missing,) * 3
        values = (node.child(axis).number() for axis in "xyz")
        return tuple(values)


def _positive(matrix: tuple[float, ...], space: str) -> tuple[int, int, int]:
    if any(not (size >= 1 and float(size).is_integer()) for size in matrix):
        raise InputError(f"ismrmrd_header: matrixSize of {space} is {matrix}; it must be positive whole numbers")
    x, y, z = (int(size) for size in matrix)
    return x, y, z


def _limits(encoding: _Node, width: int) -> tuple[int, int, int]:
    """Optional in the schema; without them every encoded column was measured."""
    parent = encoding.child_or_none("encodingLimits")
    step = parent.child_or_none("kspace_encoding_step_1") if parent else None
    if step is None:
        return 0, width // 2, width - 1
    minimum, center, maximum = (step.child(tag).whole() for tag in ("minimum", "center", "maximum"))
    return minimum, center, maximum


def _add(parent: Element, tag: str, value: object) -> None:
    if value is not None:
        SubElement(parent, tag).text = str(value)


def _add_space(encoding: Element, tag: str, matrix: tuple[int, ...], fov_mm: tuple[float, ...]) -> None:
    space = SubElement(encoding, tag)
    for name, triple in (("matrixSize", matrix), ("fieldOfView_mm", fov_mm)):
        node = SubElement(space, name)
        for axis, value in zip("xyz", triple, strict=True):
            _add(node, axis, value)
