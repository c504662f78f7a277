"""Names that an earlier version had, in programs and in configurations, are still there (`public_names.txt`)."""

import importlib
from pathlib import Path

from mrirecon.classpaths import MOVED, resolve_class
from mrirecon.errors import InputError
from mrirecon.models import make_norm

LIST = Path(__file__).parent / "public_names.txt"


def named(kind):
    lines = [line.split() for line in LIST.read_text().splitlines()]
    return [path for word, path in lines if word == kind]


def lost(paths):
    """Those that do not resolve to a class, with the reason."""
    found = []
    for path in paths:
        try:
            resolve_class(path)
        except InputError as error:
            found.append(f"{path}: {error}")
    return found


def test_the_list_is_whole():
    assert len(named("import")) == 79
    assert len(named("class")) == 55


def test_every_name_can_still_be_imported_from_its_package():
    missing = []
    for path in named("import"):
        package, _, name = path.rpartition(".")
        try:
            getattr(importlib.import_module(package), name)
        except (ImportError, AttributeError) as error:
            missing.append(f"{path}: {error}")
    assert not missing, "\n".join(["programs of users import these; keep the package and the name:", *missing])


def test_the_import_of_earlier_model_cards_still_works():
    from mrirecon.training import load_portable
    from mrirecon.training.portable import load_portable as named_by_cards

    assert named_by_cards is load_portable


def test_every_class_path_still_gives_a_class():
    gone = lost(named("class"))
    assert not gone, "\n".join(
        [
            "configurations of users may name these; enter 'old path': 'new path' in MOVED of mrirecon/classpaths.py:",
            *gone,
        ]
    )


def test_a_lost_name_is_seen_and_an_alias_finds_it_again(monkeypatch):
    monkeypatch.delattr("mrirecon.models.norms.GroupNorm")
    assert [text.split(":")[0] for text in lost(named("class"))] == ["mrirecon.models.norms.GroupNorm"]
    monkeypatch.setitem(MOVED, "mrirecon.models.norms.GroupNorm", "mrirecon.models.norms.InstanceNorm")
    assert lost(named("class")) == []


def test_a_moved_norm_of_a_configuration_is_made(monkeypatch):
    monkeypatch.setitem(MOVED, "mrirecon.models.layers", "mrirecon.models.norms")
    made = make_norm({"class_path": "mrirecon.models.layers.GroupNorm", "init_args": {"n_groups": 2}}, 4)
    assert made.num_groups == 2
