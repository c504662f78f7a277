"""The ISMRMRD header: read, written, and the columns it calls measured."""

import dataclasses
from unittest import mock

import fastmri.data
import h5py
import ismrmrd
import pytest
from defusedxml.ElementTree import fromstring

from mrirecon.data.header import Header
from mrirecon.errors import InputError

HEADER = Header((640, 368, 1), (320, 320, 1), (280.0, 161.0, 4.5), (140.0, 140.0, 4.5), (0, 160, 319), 15, 2.89)


def fastmri_metadata(path):
    with mock.patch.object(fastmri.data.SliceDataset, "__init__", return_value=None):
        return fastmri.data.SliceDataset()._retrieve_metadata(path)[0]


def test_what_is_written_is_read_back():
    assert Header.from_xml(HEADER.to_xml()) == HEADER
    bare = dataclasses.replace(HEADER, n_coils=None, field_strength_T=None)
    assert Header.from_xml(bare.to_xml().decode()) == bare


def test_written_header_is_valid_ismrmrd():
    document = ismrmrd.xsd.CreateFromDocument(HEADER.to_xml())
    encoding = document.encoding[0]
    assert encoding.encodedSpace.matrixSize.x == 640
    assert encoding.encodingLimits.kspace_encoding_step_1.center == 160
    assert document.experimentalConditions.H1resonanceFrequency_Hz == round(42.577478518e6 * 2.89)
    in_schema_order = [element.tag for element in fromstring(ismrmrd.xsd.ToXML(document).encode()).iter()]
    assert [element.tag for element in fromstring(HEADER.to_xml()).iter()] == in_schema_order


@pytest.mark.parametrize("padding", [(0, 0), (3, 5), (4, 0), (0, 7)])
@pytest.mark.parametrize("width", [40, 41])
def test_measured_columns_are_fastmris(volume_writer, tmp_path, padding, width):
    path = volume_writer(tmp_path / "a.h5", matrix=(32, width), padding=padding, n_slices=1)
    metadata = fastmri_metadata(path)
    with h5py.File(path) as file:
        header = Header.from_xml(file["ismrmrd_header"][()])
    assert header.acquired(width) == slice(metadata["padding_left"], metadata["padding_right"])
    assert header.acquired(width) == slice(padding[0], width - padding[1])
    assert header.encoded_matrix == metadata["encoding_size"]
    assert header.crop_shape == metadata["recon_size"][:2]


@pytest.mark.realdata
def test_real_headers(shared_data):
    paths = sorted(shared_data.glob("*coil*/*.h5"))
    assert len(paths) == 9
    for path in paths:
        with h5py.File(path) as file:
            text, shape = file["ismrmrd_header"][()], file["kspace"].shape
        metadata = fastmri_metadata(path)
        header = Header.from_xml(text)
        assert header.encoded_matrix[:2] == shape[-2:]
        assert header.crop_shape == metadata["recon_size"][:2]
        assert header.acquired(shape[-1]) == slice(0, shape[-1])
        assert Header.from_xml(header.to_xml()) == header


def test_any_namespace_prefix_and_encoding():
    text = HEADER.to_xml().decode().replace("<", "<m:").replace("<m:/", "</m:").replace("<m:?", "<?")
    text = text.replace("xmlns=", "xmlns:m=").replace("utf-8", "utf-16")
    assert Header.from_xml(text.encode("utf-16")) == HEADER


def test_limits_and_field_of_view_are_optional():
    text = HEADER.to_xml().decode()
    start, end = text.index("<encodingLimits>"), text.index("</encodingLimits>") + len("</encodingLimits>")
    header = Header.from_xml(text[:start] + text[end:])
    assert header.encoding_limits == (0, 184, 367)
    assert header.acquired(368) == slice(0, 368)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</ismrmrdHeader>", "", "not readable XML"),
        ("<ismrmrdHeader", "ismrmrdHeader", "not readable XML"),
        ("encoding>", "coding>", "has no /encoding"),
        ("reconSpace>", "space>", "has no /encoding/reconSpace"),
        ("<x>640</x>", "", "has no /encoding/encodedSpace/matrixSize/x"),
        ("<x>640</x>", "<x>wide</x>", "'wide', not a finite number"),
        ("<x>640</x>", "<x>0</x>", "positive whole"),
        ("<x>640</x>", "<x>nan</x>", "not a finite number"),
        ("<x>640</x>", "<x>inf</x>", "not a finite number"),
        ("<y>368</y>", "<y>-368</y>", "positive whole"),
        ("<center>160</center>", "<center>nan</center>", "not a finite number"),
        ("<center>160</center>", "<center>1.5</center>", "1.5, not a whole number"),
        ("<receiverChannels>15", "<receiverChannels>many", "'many', not a finite number"),
    ],
)
def test_a_broken_header_says_what_is_wrong(old, new, message):
    text = HEADER.to_xml().decode()
    assert old in text
    with pytest.raises(InputError, match=message):
        Header.from_xml(text.replace(old, new))


@pytest.mark.parametrize("text", ["", b"", b"\xff\xfe\x00", "\x00", "<a/>", b"\x89HDF"])
def test_anything_else_is_an_input_error(text):
    with pytest.raises(InputError, match="ismrmrd_header"):
        Header.from_xml(text)


def test_entities_are_refused():
    bomb = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>'
    file = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    for doctype in (bomb, file):
        with pytest.raises(InputError, match="not readable XML"):
            Header.from_xml(doctype + "<ismrmrdHeader>&b;</ismrmrdHeader>")


def test_padding_of_another_width_is_an_error():
    assert HEADER.acquired(368) == slice(24, 344)
    with pytest.raises(InputError, match="encodes 368 columns"):
        HEADER.acquired(320)
    full = dataclasses.replace(HEADER, encoding_limits=(0, 184, 367))
    assert full.acquired(320) == slice(0, 320)


def test_limits_without_a_measured_column_are_an_error():
    with pytest.raises(InputError, match="leave no measured column"):
        dataclasses.replace(HEADER, encoding_limits=(0, 600, 10)).acquired(368)


def test_equal_numbers_of_two_types_keep_their_texts():
    whole, real = (Header((8, 8, 1), (8, 8, 1), (0.0,) * 3, (0.0,) * 3, (0, 4, 7), None, tesla) for tesla in (3, 3.0))
    assert whole == real
    assert b"Strength_T>3<" in whole.to_xml()
    assert b"Strength_T>3.0<" in real.to_xml()
