"""YAML from anybody: plain values come through as PyYAML reads them, all else is one line that names the file."""

import time

import pytest
import yaml

from mrirecon.configfile import find_config, shipped_configs
from mrirecon.errors import InputError
from mrirecon.yamlfile import parse_yaml


def refusal(tmp_path, text):
    file = tmp_path / "file.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        parse_yaml(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_files_are_read_as_pyyaml_reads_them(name):
    file = find_config(name, grids=name.startswith("ablation/"))
    assert parse_yaml(file) == yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: &x [1, 2]\nb: *x",
        "a: &x {c: 1}\nb: {<<: *x, d: 2}",
        "{a: 1e-3, b: 1.0e-3, c: ~, d: 2001-01-01}",
        "- 'é'",
    ],
)
def test_plain_values_and_aliases(tmp_path, text):
    file = tmp_path / "file.yaml"
    file.write_text(text, encoding="utf-8")
    assert parse_yaml(file) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not readable YAML"),
        ("a: 2001-13-45", "is not readable YAML: month must be in 1..12"),
        ("a: !!bool maybe", "is not readable YAML"),
        ("a: !!int twelve", "is not readable YAML"),
        ("a: " + "9" * 5000, "is not readable YAML"),
        (b"a: \xff", "is not readable YAML"),
        ("a: 1\n---\nb: 2", "is not readable YAML"),
        ("[" * 10_000, "nested too deeply"),
        ("[" * 100 + "]" * 100, "20 levels"),
        ("a: &x [*x]", "20 levels"),
        ("a: !!binary aGVsbG8=", "a value of the kind 'binary' (line 1)"),
        ("a: !!python/object/apply:os.system ['true']", "a value of the kind"),
        ("a: !!set {b, c}", "a value of the kind 'set'"),
        ("a: 1\nb: 2\na: 3", "gives the key 'a' twice (line 3)"),
        ("#" * 200_000, "has 200000 bytes"),
        ("[" + "a, " * 20_000 + "]", "more than 10000 values"),
    ],
)
def test_everything_else_is_one_line(tmp_path, text, says):
    assert says in refusal(tmp_path, text)


def test_what_aliases_stand_for_is_counted_before_it_is_made(tmp_path):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 15)]  # 9^15 values
    began = time.monotonic()
    assert "more than 10000 values" in refusal(tmp_path, "\n".join(rows))
    assert time.monotonic() - began < 5


def test_a_folder_or_a_file_that_may_not_be_read(tmp_path):
    with pytest.raises(InputError, match=": is a folder; give the path of a file"):
        parse_yaml(tmp_path)
    with pytest.raises(InputError, match=": does not exist; make it"):
        parse_yaml(tmp_path / "nothing.yaml")
