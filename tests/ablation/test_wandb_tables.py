import time

from synthetic import make_study

from mrirecon.ablation.claims.ledger import decide_claims
from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.publish import log_study, wandb_tables


def study():
    grid, results, facts = make_study()
    analysed = analyse(grid, results, facts)
    return grid, analysed | {"claims": decide_claims(grid, results, analysed)}


def test_every_cell_comparison_and_claim_is_a_row():
    grid, analysed = study()
    found = wandb_tables(analysed)
    columns, rows = found["leaderboard"]
    assert [row[columns.index("cell")] for row in rows] == [cell["cell"] for cell in analysed["cells"]]
    assert rows[0][columns.index("ssim")] == analysed["cells"][0]["final"]["ssim"]["mean"]
    assert len(found["comparisons"][1]) == sum(len(family["comparisons"]) for family in analysed["families"])
    assert len(found["claims"][1]) == len(analysed["claims"])
    assert all(len(row) == len(columns) for columns, rows in found.values() for row in rows)
    assert grid.reference in {row[0] for row in rows}


def test_wandb_offline_gets_the_tables_in_the_studys_group(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    _, analysed = study()
    log_study("mission", tmp_path, analysed)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    missing = {b"mission", b"leaderboard", b"comparisons", b"claims"}
    end = time.monotonic() + 60
    while missing and time.monotonic() < end:  # wandb's own process writes it, some time after `finish`
        missing = {word for word in missing if word not in file.read_bytes()}
        time.sleep(0.1)
    assert not missing
