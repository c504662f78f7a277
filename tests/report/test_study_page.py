"""The page of a study shows the study's numbers, needs nothing from outside, and survives gaps and hostile names."""

import base64
import hashlib
import re
from copy import deepcopy
from html.parser import HTMLParser

import pytest
from fake_slices import fake_examples
from fake_study import HOSTILE, fake_study

from mrirecon.errors import InputError
from mrirecon.report.figures.drawing import NothingToDrawError
from mrirecon.report.figures.study import StudyFigure
from mrirecon.report.pages.study_page import write_study_page
from mrirecon.report.pages.study_tables import claims_table, family_table, leaderboard


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, the text of tables and scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.scripts, self.text, self.verdict = [], {}, [], [], []
        self._in_verdict = False
        self._table = self._row = self._cell = self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "table":
            self._table = self.tables.setdefault(attributes["id"], [])
        elif tag == "tr":
            self._row = []
            self._table.append(self._row)
        elif tag in ("td", "th"):
            self._cell = []
        elif tag == "script":
            self._script = []
        elif attributes.get("id") == "verdict":
            self._in_verdict = True
        elif tag == "p" and self._in_verdict:
            self.verdict.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._row.append(" ".join(self._cell))
            self._cell = None
        elif tag == "script":
            self.scripts.append("".join(self._script))
            self._script = None
        elif tag == "div":
            self._in_verdict = False

    def handle_data(self, data):
        if self._script is not None:
            self._script.append(data)
        elif self._cell is not None and data.strip():
            self._cell.append(data.strip())
        elif self._in_verdict and self.verdict:
            self.verdict[-1] += data.strip()
        self.text.append(data)

    def says(self, words):
        return words in " ".join(" ".join(self.text).split())


def page_of(tmp_path, study, examples=None):
    path = tmp_path / "page.html"
    write_study_page(study, examples, path)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study():
    return fake_study()


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("page"), study, fake_examples(study))


@pytest.fixture
def undrawn(monkeypatch):
    """Without figures, which take seconds; for tests of what stands beside them."""

    def nothing(_figure):
        raise NothingToDrawError("left out")

    monkeypatch.setattr(StudyFigure, "draw", nothing)


def test_nothing_comes_from_outside(page):
    places = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")]
    assert len(places) > 20
    assert all(place.startswith(("data:", "#")) for place in places)
    assert not re.search(r"url\(|@import", " ".join(page.text))


def test_only_its_own_scripts_may_run(page):
    policies = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    kinds = [a.get("type") for tag, a in page.elements if tag == "script"]
    run = [text for text, kind in zip(page.scripts, kinds, strict=True) if kind is None]
    allowed = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run}
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert set(re.search("script-src (.*)", policies[0])[1].split()) == allowed


def test_links_and_ids_fit(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [a["href"][1:] for tag, a in page.elements if tag == "a"]
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)


def test_every_picture_has_words(page):
    assert all(a["alt"] for tag, a in page.elements if tag == "img" and a.get("class") == "plot")


def test_the_leaderboard_is_in_order_and_has_the_numbers(page, study):
    _head, *rows = page.tables["leaderboard"]
    order = sorted(study["cells"], key=lambda cell: -cell["final"]["ssim"]["mean"])
    assert [row[0].split()[0] for row in rows] == [cell["cell"] for cell in order] + ["zero-filled"]
    for row, cell in zip(rows, order, strict=False):
        for place, metric, digits in ((1, "ssim", 4), (3, "psnr", 2), (4, "nmse", 4)):
            values = [f"{cell['final'][metric][key]:.{digits}f}" for key in ("mean", "low", "high")]
            assert row[place] == "{} [{}, {}]".format(*values)
    assert rows[-1][1] == "0.8420"


@pytest.mark.parametrize(
    ("table", "words"),
    [("leaderboard", "edge: optimizer.lr at its high end"), ("costs", "edge: optimizer.lr at its high end")],
)
def test_an_edge_is_marked(page, study, table, words):
    marked = [row[0] for row in page.tables[table] if any(words in text for text in row)]
    assert [name.split()[0] for name in marked] == [cell["cell"] for cell in study["cells"] if cell["edge"]]


def test_comparisons_and_claims_have_their_verdicts(page, study):
    comparisons = study["families"][0]["comparisons"]
    shown = [[c["first"], f"{c['verdict']} {c['size']}".strip()] for c in comparisons]
    assert [row[:2] for row in page.tables["family-1"][1:]] == shown
    assert {c["verdict"] for c in comparisons} == {"UNDECIDED", "WORSE"}
    for row, c in zip(page.tables["family-1"][1:], comparisons, strict=True):
        assert row[2] == f"{c['effect']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]".replace("-", "\u2212")
        assert (row[6] == "\u2013") == (c["verdict"] != "UNDECIDED")
    *tested, last = study["claims"]
    assert [row[1] for row in page.tables["claims"][1:]] == [claim["verdict"] for claim in tested]
    assert [row[0].split(":")[0] for row in page.tables["claims-not-tested"][1:]] == [last["claim"]]
    assert all(page.says(c["words"]) for c in comparisons)


def test_the_verdict_stands_on_top(page, study):
    """The sentences of the analysis, in their order, and how its claims stand; before the first section."""
    claims = "Of 4 claims, 1 supported, 1 refuted, 1 inconclusive, 1 not tested."
    assert page.verdict == [*study["verdict"], claims]
    tags = [(tag, attributes.get("id")) for tag, attributes in page.elements]
    assert tags.index(("div", "verdict")) < tags.index(("nav", None)) < tags.index(("main", None))


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_claims_says_nothing_of_them(tmp_path, study):
    assert page_of(tmp_path, study | {"claims": []}).verdict == study["verdict"]


@pytest.mark.usefixtures("undrawn")
def test_the_head_says_what_the_numbers_stand_on(tmp_path, study):
    data = "12 test volumes of 12 patients (simulated-from-phantom); random 4x"
    trained = "U-Net, 8 channels, 4 pools, 0.48 M parameters; 300 steps x 4 slices; protocol fastmri-v1"
    assert page_of(tmp_path, study).says(f"{data}; {trained}")
    two = study | {"data": study["data"] | {"acceleration": [4.0, 8.0], "origins": ["measured", "other"]}, "budget": ""}
    found = page_of(tmp_path, two)
    assert found.says("(measured, other); random 4x and 8x; U-Net, 8 channels, 4 pools, 0.48 M parameters; protocol")


@pytest.mark.usefixtures("undrawn")
def test_hostile_names_stay_text(tmp_path, page):
    study = fake_study({"optimizer": [HOSTILE, "_$x_1$"], "norm": ['"><img src=x onerror=alert(1)>', "group"]})
    study |= {"name": HOSTILE, "warnings": [HOSTILE], "model": HOSTILE, "verdict": [HOSTILE]}
    study["claims"][0] |= {"text": HOSTILE, "command": HOSTILE, "words": HOSTILE}
    study["cells"][0]["error"] = HOSTILE
    found = page_of(tmp_path, study, fake_examples(study))
    assert len(found.scripts) == len(page.scripts)
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in page.elements}
    assert not [a for _, a in found.elements if "onerror" in a]
    assert found.verdict == [HOSTILE, page.verdict[-1]]


def without(study, **changes):
    """A copy in which parts of every cell or of the study are missing."""
    copy = deepcopy(study)
    of_study = {key: changes.pop(key) for key in list(changes) if key in copy}
    for cell in copy["cells"]:
        cell.update(changes)
    return copy | of_study


NO_SCORES = {"final": None, "volumes": None, "best_ssim": None, "area": None}
NO_TUNING = {"tuning": None, "sweep": None, "values": {}, "winners": []}


def test_a_study_that_has_just_begun(tmp_path, study):
    empty = without(study, **NO_SCORES, curve=None, times=[], families=[], claims=[], targets=[])
    for cell in empty["cells"]:
        cell.update(NO_TUNING, step_seconds=None, peak_memory=0, n_parameters=0, n_seeds=0)
    empty |= {"margin": {"ssim": None, "share": 0.01}, "zero_filled": dict.fromkeys(("ssim", "psnr", "nmse"))}
    found = page_of(tmp_path, empty)
    for words in (
        "No test scores: no rerun is finished.",
        "No cell has a validation SSIM yet",
        "No learning rates to show: no tuning run is finished.",
        "No expected best of k",
        "No targets: they are set when the reference has been rerun and is better than zero-filled.",
        "No pairs of volumes",
        "No comparisons",
        "No claims",
        "No example images",
        "No cell has a gradient norm yet",
    ):
        assert found.says(words), words


@pytest.mark.parametrize(
    ("changes", "gone", "changed"),
    [
        (NO_SCORES, set(), {"leaderboard"}),
        ({"sweep": None}, set(), {"costs"}),
        (NO_TUNING, set(), {"leaderboard", "costs"}),
        ({"curve": None, "times": []}, set(), {"times"}),
        ({"targets": []}, {"times"}, set()),
        ({"zero_filled": None, "margin": None}, set(), {"leaderboard"}),
        ({"families": []}, {"family-1"}, set()),
        ({"claims": []}, {"claims", "claims-not-tested"}, set()),
        ({"second": {"cells": [], "families": []}}, set(), set()),
        ({"provenance": None, "tuning": None, "data": None}, set(), set()),
    ],
    ids=lambda value: "-".join(sorted(value)),
)
@pytest.mark.usefixtures("undrawn")
def test_any_gap_leaves_the_rest(tmp_path, page, study, changes, gone, changed):
    """Only the tables that show what is missing differ from those of the whole study."""
    found = page_of(tmp_path, without(study, **changes))
    assert page.tables.keys() - found.tables.keys() == gone
    assert {name for name, rows in found.tables.items() if rows != page.tables[name]} == changed
    ids = [[a["id"] for tag, a in one.elements if tag == "section"] for one in (page, found)]
    assert ids[0] == ids[1]


@pytest.mark.usefixtures("undrawn")
def test_numbers_that_are_null(tmp_path, study):
    one_seed = deepcopy(study)
    for cell in one_seed["cells"]:
        cell["final"]["ssim"] |= {"low": None, "high": None, "sd_seeds": None}
        cell["best_ssim"] = {"mean": None, "low": None, "high": None}
    for item in one_seed["families"][0]["comparisons"]:
        item.update(dict.fromkeys(("margin", "superiority", "low", "high", "p_these_patients")), verdict="NO VERDICT")
        item.update(size="", refused="one run says nothing")
    found = page_of(tmp_path, one_seed)
    assert {row[1] for row in found.tables["family-1"][1:]} == {"NO VERDICT one run says nothing"}
    assert all("None" not in text and "nan" not in text for table in found.tables.values() for r in table for text in r)


@pytest.mark.usefixtures("undrawn")
def test_failures_and_warnings_are_told(tmp_path, study):
    failed = deepcopy(study)
    failed["cells"][2]["error"] = "out of memory"
    found = page_of(tmp_path, failed)
    assert found.says("1 warning, 1 failed cell")
    assert found.says(f"{failed['cells'][2]['cell']} out of memory")


@pytest.mark.usefixtures("undrawn")
def test_the_second_objective_has_its_own_tables(tmp_path, study):
    second = {"cells": study["cells"][:4], "families": study["families"]}
    found = page_of(tmp_path, study | {"second": second})
    assert len(found.tables["second-leaders"]) == 1 + 4 + 1
    assert found.tables["second-family-1"] == found.tables["family-1"]


def test_another_schema_is_refused(tmp_path, study):
    with pytest.raises(InputError, match="schema 2"):
        write_study_page(study | {"schema": 2}, None, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_figures_that_are_files_are_not_drawn_again(tmp_path, study, undrawn):
    file = tmp_path / "heat-map.svg"
    file.write_text("<svg/>")
    write_study_page(study, None, tmp_path / "page.html", [file, tmp_path / "volumes.png"])
    found = Page((tmp_path / "page.html").read_text())
    shown = [a["src"] for tag, a in found.elements if tag == "img" and a.get("class") == "plot"]
    assert shown == ["data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()]


def test_speed_stands_on_seeds_alone_and_one_volume_is_one(study):
    family = deepcopy(study["families"][0])
    for comparison in family["comparisons"]:
        comparison |= {"runs": "one run of each", "n_volumes": 1, "n_patients": 1, "over": ""}
    assert family_table(family, "t").caption == "SSIM; one run of each, 1 volume, 1 patient."
    for comparison in family["comparisons"]:
        comparison |= {"metric": "steps", "runs": "6 paired seeds", "over": "seeds"}
    assert family_table(family, "t").caption == "steps; 6 paired seeds; speaks about seeds."


def test_survivors_do_not_head_the_leaderboard(study):
    best = deepcopy(study)
    best["cells"][3]["n_diverged"] = 9
    best["cells"][3]["divergence"] = {"n": 9, "of": 10, "low": 0.555, "high": 0.9975}
    best["cells"][3]["final"]["ssim"]["mean"] = 0.99
    assert leaderboard(best, best["cells"]).rows[0][0].text == best["cells"][3]["cell"]  # scored as zero-filled: ranked
    excluded = leaderboard(best | {"diverged": "exclude"}, best["cells"])
    assert excluded.rows[0][0].text != best["cells"][3]["cell"]
    last = next(row for row in excluded.rows if row[0].text == best["cells"][3]["cell"])
    assert "not ranked" in last[0].note
    assert last[-1].note == "9 diverged (95 % interval 56 to 100 %)"


def test_accelerations_have_their_columns(study):
    two = deepcopy(study)
    for cell in two["cells"]:
        ssim = cell["final"]["ssim"]
        cell["by_acceleration"] = {"4x": {"ssim": ssim}, "8x": {"ssim": {**ssim, "mean": ssim["mean"] - 0.1}}}
    table = leaderboard(two, two["cells"])
    titles = [column.title for column in table.columns]
    assert titles[1:5] == ["test SSIM, mean of 4x and 8x", "interval", "SSIM at 4x", "SSIM at 8x"]
    assert all(len(row) == len(titles) for row in table.rows)


def test_variances_are_shown_with_what_pairing_takes_away(page):
    assert [row[0] for row in page.tables["variances-1"][1:]][:2] == ["seeds", "patients"]
    assert page.says("Correlation of two methods' scores: 0.20 over seeds, 0.98 over patients.")


def test_a_margin_is_rounded_as_the_sentence_beside_it(study):
    """1.01 x is no margin of 1 x."""
    claim = {**study["claims"][0], "margin": 1.01, "unit": "x"}
    assert claims_table([claim], tested=True).rows[0][3].text == "1.01 x"
