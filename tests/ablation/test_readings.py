"""Every reading of verdicts is noted in the study, and so is a margin that changed when reruns were there."""

from types import SimpleNamespace

import pytest
from synthetic import make_study

from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.publish import _log_verdicts
from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.work.prepare import _manifest
from mrirecon.config.ablate import AblateConfig

OPTIMIZER = {"optimizer": {name: {"optimizer.name": name} for name in ("sgd", "adam")}}


@pytest.fixture
def study(tmp_path):
    return SimpleNamespace(folder=StudyFolder(tmp_path))


def read(study, n_seeds, when="2026-01-05 10:00:00", **options):
    grid, results, facts = make_study(OPTIMIZER, seeds=range(n_seeds), reference="adam", trials=2, sweep=0, **options)
    facts |= {"created": when, "readings": study.folder.verdicts()}
    analysed = analyse(grid, results, facts)
    _log_verdicts(study, analysed)
    return analysed


def test_a_reading_says_when_at_how_many_seeds_and_with_which_margin(study):
    first = read(study, 6)
    (noted,) = study.folder.verdicts()
    assert (noted["when"], noted["n_seeds"], noted["alpha"]) == ("2026-01-05 10:00:00", 6, 0.05)
    assert noted["margin"] == first["margin"]
    (comparison,) = first["families"][0]["comparisons"]
    assert noted["verdicts"][comparison["name"]].startswith(comparison["verdict"])


def test_the_same_reading_is_noted_once_and_one_at_more_seeds_again_and_said(study):
    read(study, 6)
    read(study, 6, when="2026-01-06 10:00:00")
    assert len(study.folder.verdicts()) == 1
    later = read(study, 8, when="2026-01-07 10:00:00")
    assert [noted["n_seeds"] for noted in study.folder.verdicts()] == [6, 8]
    assert any("at 6 seeds on 2026-01-05, and seeds were added since" in warning for warning in later["warnings"])


def test_planned_looks_are_noted_and_no_cause_for_a_warning(study):
    looks = {6: 0.5, 8: 0.5}
    read(study, 6, looks=looks)
    later = read(study, 8, looks=looks)
    assert [noted["alpha"] for noted in study.folder.verdicts()] == [0.025, 0.025]
    assert not any("were read before" in warning for warning in later["warnings"])


def test_without_a_verdict_nothing_was_read(study):
    read(study, 4)
    assert study.folder.verdicts() == []


def test_a_margin_that_changes_when_reruns_are_there_is_noted():
    content = {
        "name": "tiny",
        "factors": {"optimizer": ["momentum", "adam"]},
        "seeds": 6,
        "reference": {"optimizer": "adam"},
        "tuning": {"trials": 4, "sweep": 3},
    }
    old = {"grid": content, "common": {"precision": "fp32"}}
    grid = make_grid(content)

    def manifest(changed, has_reruns):
        return _manifest(old, changed, grid, {}, AblateConfig(), has_reruns)

    wider = content | {"margin": 0.05}
    assert "margin_changed" not in manifest(content, True)
    assert "margin_changed" not in manifest(wider, False)
    assert len(manifest(wider, True)["margin_changed"]) == len("2026-01-05")
