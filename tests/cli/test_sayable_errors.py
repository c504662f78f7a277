"""What an error quotes of a stranger's file does not steer the terminal, nor fill it."""

import pytest

from mrirecon.cli.command import run_safely
from mrirecon.errors import InputError


def said(capsys, text):
    def work():
        raise InputError(text)

    assert run_safely(work, debug=False) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a 'é' b", "a 'é' b"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
        ("half \udc80", "half \\udc80"),
        ("one\ntwo\rthree", "one\ntwo\\rthree"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_characters(capsys, text, shown):
    assert said(capsys, text) == f"mrirecon: {shown}\n"


def test_length(capsys):
    text = said(capsys, "begin " + "x" * 100_000 + " end")
    assert text.startswith("mrirecon: begin xxx")
    assert text.endswith("xxx end\n")
    assert len(text) < 2100
