"""No logger of a study or a run hears of a patient; wandb's own training log is read in tests/training."""

import dataclasses

import pytest
from synthetic import make_study

from mrirecon.ablation.claims.ledger import decide_claims
from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.publish import log_study, wandb_tables

PATIENT = "-".join(("Arthur", "Dent", "1952"))  # in parts: wandb also keeps changes of the code, this file among them


@pytest.fixture(scope="module")
def analysed():
    """A study of made-up runs whose volumes belong to patients with a name."""
    grid, results, facts = make_study()
    renamed = []
    for result in results:
        scores = [dataclasses.replace(score, patient=f"{PATIENT}-{score.patient}") for score in result.scores]
        renamed.append(dataclasses.replace(result, scores=type(result.scores)(scores)))
    assert PATIENT in repr(renamed)
    found = analyse(grid, renamed, facts)
    return found | {"claims": decide_claims(grid, renamed, found)}


def test_the_tables_of_a_study_name_no_patient(analysed):
    found = wandb_tables(analysed)
    assert found["leaderboard"][1]
    assert PATIENT not in repr(found)


@pytest.mark.filterwarnings("ignore")  # the client warns about its own future
def test_wandb_of_a_study_holds_no_patient(analysed, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    log_study("mission", tmp_path, analysed)
    wandb.teardown()  # its own process may still be writing
    contents = [path.read_bytes() for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    assert any(b"leaderboard" in content for content in contents)
    assert not [content for content in contents if PATIENT.encode() in content]
