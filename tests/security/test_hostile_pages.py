"""Pages, cards and pictures show names from data as text: none of them becomes an element, a script or a link."""

import csv
import json

import numpy as np
import pytest
from fake_slices import fake_examples
from fake_study import fake_study
from page_parser import ParsedPage, require_harmless
from PIL import Image
from result_rows import rows

from mrirecon.config import ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.configfile import save
from mrirecon.evaluation.results import write_results
from mrirecon.evaluation.summary import summarize
from mrirecon.report.figures.drawing import NothingToDrawError
from mrirecon.report.figures.slices import Panel, SliceFigure, draw_montage, draw_slice
from mrirecon.report.figures.study import StudyFigure
from mrirecon.report.pages.run_page import write_run_page
from mrirecon.report.pages.study_page import write_study_page
from mrirecon.report.text.card import Artefact, CardFacts, escaped, model_card
from mrirecon.runs import RunFolder
from mrirecon.training.loop.curves import columns

HARMLESS = "plain"
HOSTILE = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "--><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;script&gt;",
    "]]><!--",
    "<iframe src=//elsewhere>",
    "[x](javascript:alert(1))",
    "![x](http://elsewhere/x.png)",
    "`</code><b>x",
    "a|b|c",
    "$\\frac{$",
]


def run_of(root, text):
    """A run folder in which everything that is a text is `text`."""
    name = text.replace("/", "∕")
    run = RunFolder(root / name)
    run.path.mkdir(parents=True)
    config = TrainConfig(
        model=ModelConfig(norm={"class_path": text, "init_args": {text: text}}),
        optimizer=OptimizerConfig(name=text, lr=1e-3),
        loss=text,
        max_steps=10,
    )
    save(config, run.config)
    deep = {text: text, "nested": {text: [text, text]}, "protocol": text, "precision": text, "masks": {"name": text}}
    wandb = {"id": text, "url": text, "name": text, "project": text, "offline_folder": text}
    packages = {"torch": text}
    made = {"mrirecon": text, "python": text, "packages": packages, "git": {"commit": text, "dirty": True}}
    run.provenance.write_text(json.dumps({**deep, **made, "wandb": wandb, "data_manifest": {"sha256": text}}))
    run.split.write_text(json.dumps({text: [text], "val": ["a.h5"]}))
    with run.curves.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns())
        writer.writeheader()
        for step in (5, 10):
            writer.writerow(
                {
                    "step": step,
                    "lr": 1e-3,
                    "train_loss": 1,
                    "val_loss": 1,
                    "val_ssim": 0.9,
                    "val_psnr": 30,
                    "val_nmse": 0.1,
                }
            )
    run.figures.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(run.figures / f"{name[:60]}.png")
    evaluate(run, name, text)
    return run


def evaluate(run, name, text):
    folder = run.path / "evaluation" / name
    (folder / "figures").mkdir(parents=True)
    results = rows(6)
    fields = (
        "volume",
        "patient",
        "origin",
        "acquisition",
        "mask",
        "mask_id",
        "protocol",
        "reconstructor",
        "checkpoint",
    )
    hostile = [type(result)(**{**vars(result), **dict.fromkeys(fields, text)}) for result in results]
    write_results(folder / "volumes.csv", hostile)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "figures" / f"{name[:60]}.png")
    about = dict.fromkeys(("reconstructor", "checkpoint", "data", "split", "mask", "precision"), text)
    summary = {**about, "protocol": {"name": text, "description": text}, **summarize(hostile)}
    (folder / "summary.json").write_text(json.dumps(summary))


def page_of(run):
    def nothing(_rows):
        raise NothingToDrawError(run.name)

    with pytest.MonkeyPatch.context() as patch:  # the curves hold no text of the data
        patch.setattr("mrirecon.report.pages.run_page.draw_run_curves", nothing)
        write_run_page(run, run.report)
    return ParsedPage(run.report.read_text(encoding="utf-8"))


def card_of(run, text):
    data = {"train_volumes": 1, "train_slices": 1, "val_volumes": 1, "origins": {text: 1}, "acquisitions": {text: 1}}
    return model_card(
        CardFacts(
            run=run,
            checkpoint="best",
            inputs={"image": "(batch, height, width)"},
            n_parameters=1,
            smallest_size=32,
            artefacts=[Artefact("safetensors", "model.safetensors", 1, 0.0)],
            n_images=1,
            checked_on="validation slices",
            data=data,
            made_with={},
        )
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    run = run_of(tmp_path_factory.mktemp("clean"), HARMLESS)
    return page_of(run), card_of(run, HARMLESS)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_of_a_run_shows_it_as_text(tmp_path, clean, text):
    page = page_of(run_of(tmp_path, text))
    require_harmless(page, clean[0])
    assert page.says(" ".join(text.split()))
    assert len(page.elements) == len(clean[0].elements)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_model_card_shows_it_as_text(tmp_path, clean, text):
    """Markdown takes HTML, links and pictures: without a bare `<`, `[` or backtick there are none."""
    card = card_of(run_of(tmp_path, text), text)
    assert "<" not in card
    for mark in ("[", "]", "`", "|", "!["):
        assert bare(card, mark) == bare(clean[1], mark), mark
    assert card.count("\n") == clean[1].count("\n")


def bare(text, mark):
    """How often a mark stands without a backslash before it."""
    found, start = 0, text.find(mark)
    while start >= 0:
        before = len(text[:start]) - len(text[:start].rstrip("\\"))
        found += before % 2 == 0
        start = text.find(mark, start + 1)
    return found


def test_escaping_changes_no_ordinary_name():
    for name in ("fastmri-v1", "torch.nn.BatchNorm2d", "AXT2", "simulated-from-phantom", "c0ffee", "3.12.1"):
        assert escaped(name) == name
    assert escaped({"a<": ["b|", 1, None]}) == {"a&lt;": ["b\\|", 1, None]}


@pytest.mark.parametrize("text", [HOSTILE[0], "![x](http://elsewhere/x.png)", "$\\frac{$", "最急降下法", "a\nb"])
def test_pictures_take_any_text(tmp_path, text):
    """No mark-up in captions, no formula, and no text of the picture that a viewer would take for one."""
    image = np.random.default_rng(0).random((24, 20))
    draw_slice(tmp_path / "slice.png", SliceFigure(image, [Panel(text, image, text)], text, [text]))
    draw_montage(tmp_path / "montage.png", image[None], text, {"source": text})
    for name in ("slice.png", "montage.png"):
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            texts = {key: value for key, value in picture.info.items() if isinstance(value, str)}
    assert texts == {"source": text}


@pytest.fixture(scope="module")
def study_page(tmp_path_factory):
    return study_of(tmp_path_factory.mktemp("study"), HARMLESS)


def study_of(root, text):
    """The page of a study all of whose names are `text`, without figures, which `label` draws (tests/report)."""
    with pytest.MonkeyPatch.context() as patch:

        def nothing(_figure):
            raise NothingToDrawError(text)

        patch.setattr(StudyFigure, "draw", nothing)
        study = fake_study({"optimizer": [text, "adam"], "norm": ["batch", f"{text} "]}, n_seeds=2, n_volumes=2)
        study |= dict.fromkeys(("name", "command", "created", "model", "budget", "protocol"), text)
        study["verdict"] = [text]
        study |= {"warnings": [text], "provenance": {text: {text: [text]}}}
        study["data"] |= {"path": text, "origins": [text], "mask": text, "manifest": text}
        study["cells"][0]["error"] = text
        for claim in study["claims"]:
            claim |= {"text": text, "words": text, "command": text}
        write_study_page(study, fake_examples(study), root / "page.html")
    return ParsedPage((root / "page.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_of_a_study_shows_it_as_text(tmp_path, study_page, text):
    page = study_of(tmp_path, text)
    require_harmless(page, study_page)
    (data,) = page.data
    assert any(text in image["name"] for image in json.loads(data)["images"])
    assert page.says(" ".join(text.split()))
