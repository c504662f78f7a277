"""Seeded changes to the ISMRMRD header of a file: its XML text, its numbers, its encoding, its data set."""

import re

import h5py
import numpy as np
from content_mutations import put

_NUMBERS = (
    *(
        "0",
        "-1",
        "1",
        "2",
        "7",
        "19",
        "20",
        "21",
        "24",
        "40",
        "1e3",
        "1e400",
        "-0",
        "nan",
        "inf",
        "0x10",
        "1_0",
        "\u0663",
    ),
    *(
        "2147483648",
        "9223372036854775808",
        "1" * 400,
        "1" * 5000,
        "",
        " 20 ",
        "20.0",
        "20.5",
        "twenty",
        "20 20",
        "<y/>",
    ),
)
_BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'


def change_header(file: h5py.File, rng: np.random.Generator) -> None:
    """One of the changes below."""
    text = file["ismrmrd_header"][()].decode()
    change = _CHANGES[rng.integers(len(_CHANGES))]
    new = change(text, rng)
    if isinstance(new, str):
        new = new.encode()
    if isinstance(new, bytes):
        put(file, "ismrmrd_header", new.replace(b"\0", b" "), dtype=h5py.string_dtype())
    else:
        put(file, "ismrmrd_header", new)


def _number(text, rng):
    """One to three of its numbers."""
    for _ in range(rng.integers(1, 4)):
        found = list(re.finditer(r">(-?[\d.]+)<", text))
        if found:
            match = found[rng.integers(len(found))]
            text = text[: match.start(1)] + _NUMBERS[rng.integers(len(_NUMBERS))] + text[match.end(1) :]
    return text


def _tag(text, rng):
    """An element goes, comes twice or is called otherwise."""
    tags = re.findall(r"<([A-Za-z_0-9]+)>", text)
    tag = tags[rng.integers(len(tags))]
    element = re.search(f"<{tag}>.*?</{tag}>", text, re.S)
    inside = element[0] if element else ""
    return [
        text.replace(inside, "", 1),
        text.replace(inside, inside * 2, 1),
        text.replace(f"<{tag}>", f"<{tag}2>").replace(f"</{tag}>", f"</{tag}2>"),
        text.replace(f"<{tag}>", f"<z:{tag} xmlns:z='q'>").replace(f"</{tag}>", f"</z:{tag}>"),
        text.replace(inside, f"<!-- {inside} -->", 1),
    ][rng.integers(5)]


def _characters(text, rng):
    """Characters anywhere."""
    letters = list(text)
    for position in rng.integers(len(letters), size=rng.integers(1, 9)):
        letters[position] = chr(int(rng.choice([60, 62, 38, 34, 47, 9, 32, 48, 57, 233, 0x1F600, 1])))
    return "".join(letters)


def _bytes(text, rng):
    data = bytearray(text.encode())
    for position in rng.integers(len(data), size=rng.integers(1, 9)):
        data[position] = rng.integers(1, 256)
    return bytes(data)


def _hostile(text, rng):
    """Entities, outside documents, nesting, size."""
    body = text.split("?>", 1)[1]
    return [
        _BOMB + body.replace("20", "&c;", 1),
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + body.replace("20", "&e;", 1),
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">' + body,
        "<a>" * 20000,
        "<a>" * 20000 + "</a>" * 20000,
        text + " " * 2_000_000,
        "<?xml version='1.0' encoding='utf-16'?>" + body,
        "<?xml version='1.0' encoding='no-such'?>" + body,
        "<?xml version='1.0' encoding='latin-1'?>" + body,
        body.replace("<encoding>", "<encoding>" + "<x/>" * 100_000, 1),
    ][rng.integers(10)]


def _stored_otherwise(text, rng):
    """Another data set of the same text."""
    return [
        np.bytes_(text),
        np.array([text.encode()], dtype=h5py.string_dtype()),
        np.array([text.encode()] * 2, dtype=h5py.string_dtype()),
        np.frombuffer(text.encode(), np.uint8),
        h5py.Empty("S1"),
        np.void(text.encode()),
        b"",
    ][rng.integers(7)]


def _cut(text, rng):
    return text[: rng.integers(len(text))]


_CHANGES = (_number, _number, _number, _tag, _tag, _characters, _bytes, _hostile, _stored_otherwise, _cut)
