"""Headers that would expand, fetch, nest or overflow: refused in one line, or harmless, and always at once."""

import resource
import time

import h5py
import numpy as np
import pytest

from mrirecon.data.folders.check import check_layout, check_volumes
from mrirecon.data.header import Header
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError

SHAPE = (2, 2, 48, 20)


@pytest.fixture
def path(volume_writer, tmp_path):
    return volume_writer(tmp_path / "v.h5", n_slices=2, n_coils=2, matrix=(24, 20))


def header_of(path):
    with h5py.File(path) as file:
        return file["ismrmrd_header"][()].decode()


def with_header(path, text):
    with h5py.File(path, "r+") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = text
    return Volume(path)


def refused(path, text, says):
    volume, start = with_header(path, text), time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        volume.describe()
    with pytest.raises(InputError):
        check_layout([volume])
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**17  # KiB
    message = str(caught.value)
    assert message.startswith("v.h5: ")
    assert says in message
    assert "\n" not in message
    assert len(message) < 400
    return message


def with_dtd(path, dtd, use="&a;"):
    body = header_of(path).split("?>")[1].replace(">48<", f">{use}<", 1)
    return f"<?xml version='1.0'?><!DOCTYPE ismrmrdHeader [{dtd}]>{body}"


NAMES = "abcdefghi"
LAUGHS = '<!ENTITY j "1">' + "".join(
    f'<!ENTITY {name} "{f"&{inner};" * 10}">' for name, inner in zip(NAMES, NAMES[1:] + "j", strict=True)
)
DTDS = {
    "billion laughs": LAUGHS,
    "quadratic blowup": f'<!ENTITY a "{"1" * 100_000}">',
    "one harmless entity": '<!ENTITY a "48">',
    "external entity": '<!ENTITY a SYSTEM "file:///etc/passwd">',
    "external parameter entity": '<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;',
    "elements only": "<!ELEMENT encoding ANY>",
}


@pytest.mark.parametrize("dtd", DTDS)
def test_document_types_are_refused(path, dtd):
    use = {"quadratic blowup": "&a;" * 100, "elements only": "48"}.get(dtd, "&a;")
    message = refused(path, with_dtd(path, DTDS[dtd], use), "not readable XML")
    assert "root:" not in message  # of /etc/passwd


def test_an_external_document_type_is_not_fetched(path, tmp_path):
    (tmp_path / "x.dtd").write_text("<!ENTITY a '48'>")
    for use in ("&a;", "48"):
        text = with_dtd(path, "", use).replace("[]", f'SYSTEM "file://{tmp_path}/x.dtd"')
        refused(path, text, "not readable XML")


def test_an_inclusion_is_plain_text(path):
    """XInclude and processing instructions mean nothing here."""
    secret = path.with_name("secret")
    secret.write_text("48")
    text = header_of(path).replace(
        "<encoding>",
        f'<?include {secret}?><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file://{secret}"/><encoding>',
    )
    assert with_header(path, text).header.encoded_matrix == (48, 20, 1)


@pytest.mark.parametrize("closed", [True, False])
def test_deep_nesting(path, closed):
    n = 140_000 if closed else 300_000
    refused(path, "<a>" * n + "</a>" * n * closed, "not readable XML" if not closed else "has no /encoding")


def test_a_header_of_100_mb(path):
    volume = with_header(path, header_of(path) + " " * 100 * 2**20)
    with pytest.raises(InputError, match=r"^v.h5: ismrmrd_header has \d+ characters, at most 1048576"):
        check_layout([volume])


def test_many_attributes_and_siblings_take_no_time(path):
    start = time.process_time()
    text = header_of(path).replace("<encoding>", "<x/>" * 200_000 + "<encoding>")
    assert with_header(path, text).header.encoded_matrix == (48, 20, 1)
    assert time.process_time() - start < 5


NUMBERS = [
    "-1",
    "0",
    "1e9",
    "1000000000",
    "1e308",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "0.5",
    "",
    "4e1_0",
    "9" * 100_000,
    "٤٨",
    "1\n0",
]
PLACES = ["encodedSpace", "reconSpace", "limits"]


def fault_of(volume):
    try:
        check_volumes([volume])
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: ascii(text[:12]))
def test_absurd_numbers_are_refused_or_leave_the_image_within_kspace(volume_writer, tmp_path, place, number):
    """Without a reference, the header alone says how large the image is."""
    path = volume_writer(tmp_path / "v.h5", n_slices=2, n_coils=2, matrix=(24, 20), target=False)
    text = header_of(path)
    if place == "limits":
        old = text[text.index("<maximum>") : text.index("</maximum>")]
        text = text.replace(old, f"<maximum>{number}")
    else:
        start = text.index(f"<{place}>")
        text = text[:start] + text[start:].replace("<y>20</y>", f"<y>{number}</y>", 1)
    volume, began = with_header(path, text), time.process_time()
    if message := fault_of(volume):
        assert message.startswith("v.h5: ")
        assert "\n" not in message
        assert len(message) < 300
    else:
        height, width = volume.image_shape
        assert 1 <= height <= SHAPE[2]
        assert 1 <= width <= SHAPE[3]
        columns = np.arange(SHAPE[3])[volume.acquired]
        assert len(columns)
        assert Header.from_xml(volume.header.to_xml()) == volume.header
    assert time.process_time() - began < 5


def test_some_numbers_are_harmless_so_the_test_above_is_not_empty(volume_writer, tmp_path):
    path = volume_writer(tmp_path / "v.h5", n_slices=2, n_coils=2, matrix=(24, 20), target=False)
    start, text = "<reconSpace>", header_of(path)
    text = text.replace(
        text[text.index(start) :], text[text.index(start) :].replace("<y>20</y>", "<y>1000000000</y>", 1)
    )
    volume = with_header(path, text)
    check_volumes([volume])
    assert volume.image_shape == (20, 20)  # fastMRI's rule for k-space that is narrower than the image
