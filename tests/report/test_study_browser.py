"""The page of a study in a real browser: it loads alone, sorts, slides, fits narrow windows, runs only its scripts."""

import shutil

import numpy as np
import pytest
from fake_slices import fake_examples
from fake_study import FACTORS, HOSTILE, fake_study

from mrirecon.report.pages.study_page import write_study_page

pytestmark = pytest.mark.browser

WIDE, NARROW = 1280, 400  # pixels
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium without a window; nothing is downloaded."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install selenium)")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def study():
    """One level's name is a script, one's is long."""
    study = fake_study({**FACTORS, "norm": ["batch", HOSTILE, "group"]}, n_seeds=4, n_volumes=5)
    return study | {"warnings": [HOSTILE], "name": HOSTILE}


@pytest.fixture(scope="module")
def url(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_study_page(study, fake_examples(study), path)
    return path.as_uri()


@pytest.fixture
def page(browser, url):
    resize(browser, WIDE)
    browser.get(url)
    return browser


def resize(browser, width):
    """The window's inner width; a headless window has no less than 500 pixels by itself."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def one(page, selector):
    return page.find_element("css selector", selector)


def column(page, table, place):
    script = (
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map(r => r.cells[arguments[1]].innerText)"
    )
    return page.execute_script(script, table, place)


def head(page, table, place):
    return one(page, f"#{table} thead th:nth-child({place + 1})")


def test_it_loads_alone_and_without_an_error(page):
    assert page.get_log("browser") == []
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert all(name.startswith("data:") for name in loaded)
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.execute_script(broken) == 0
    assert page.execute_script("return document.images.length") > 30


def test_a_foreign_script_stays_text(page, study):
    assert page.execute_script("return window.hacked") is None
    assert page.title == HOSTILE
    assert one(page, "h1").text == HOSTILE
    assert f"sgd/{HOSTILE}" in "\n".join(column(page, "leaderboard", 0))


def test_the_policy_stops_what_would_be_let_in(page):
    page.execute_script(
        "const s = document.createElement('div'); s.innerHTML = '<img src=x onerror=\"window.hacked=1\">';"
        "document.body.append(s)"
    )
    page.execute_async_script("setTimeout(arguments[0], 100)")
    assert page.execute_script("return window.hacked") is None
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


def test_numbers_are_sorted_as_numbers_and_back(page, study):
    values = [cell["final"]["ssim"]["mean"] for cell in study["cells"]]
    button = head(page, "leaderboard", 1).find_element("css selector", "button")
    button.click()
    assert head(page, "leaderboard", 1).get_attribute("aria-sort") == "descending"
    shown = [float(text.split()[0]) for text in column(page, "leaderboard", 1)]
    np.testing.assert_allclose(shown, sorted([*values, 0.842], reverse=True), atol=5e-5)
    button.click()
    assert head(page, "leaderboard", 1).get_attribute("aria-sort") == "ascending"
    shown = [float(text.split()[0]) for text in column(page, "leaderboard", 1)]
    np.testing.assert_allclose(shown, sorted([*values, 0.842]), atol=5e-5)


def test_text_is_sorted_by_the_keyboard_too(page):
    button = head(page, "costs", 0).find_element("css selector", "button")
    page.execute_script("arguments[0].focus()", button)
    button.send_keys("\ue007")  # Enter
    names = [text.split("\n")[0] for text in column(page, "costs", 0)]
    assert [name.split("/")[0] for name in names] == ["adam"] * 3 + ["momentum"] * 3 + ["sgd"] * 3
    assert head(page, "costs", 0).get_attribute("aria-sort") == "ascending"
    head(page, "costs", 5).find_element("css selector", "button").send_keys(" ")
    assert head(page, "costs", 0).get_attribute("aria-sort") is None
    assert head(page, "costs", 5).get_attribute("aria-sort") == "descending"


def test_gaps_stay_last(page):
    for _ in range(2):
        head(page, "leaderboard", 5).find_element("css selector", "button").click()
        assert column(page, "leaderboard", 5)[-1] == ""  # zero-filled has no best validation


def test_sliders_change_slice_and_cell(page, study):
    def shown():
        pictures = {name: one(page, f"#viewer-{name}").get_attribute("src") for name in ("target", "right", "left")}
        return pictures, one(page, "#viewer-right-name").text, one(page, "#viewer-slice-name").text

    pictures, name, label = shown()
    assert name.startswith(study["cells"][0]["cell"])
    one(page, "#viewer-cell").send_keys("\ue014")  # right
    moved, name, same = shown()
    assert name.startswith(study["cells"][1]["cell"])
    assert (moved["target"], moved["left"], same) == (pictures["target"], pictures["left"], label)
    assert moved["right"] != pictures["right"]
    one(page, "#viewer-slice").send_keys("\ue014")
    again, _, label = shown()
    assert label == "volume1.h5, slice 4"
    assert all(again[place] != moved[place] for place in again)


def test_a_small_picture_or_the_list_chooses(page, study):
    last = page.find_elements("css selector", "#viewer-chosen button")[-1]
    last.click()
    assert one(page, "#viewer-right-name").text.startswith(study["cells"][-1]["cell"])
    assert last.get_attribute("aria-pressed") == "true"
    one(page, "#viewer-beside option:nth-child(3)").click()
    assert one(page, "#viewer-left-name").text.startswith(study["cells"][1]["cell"])
    error = one(page, "#viewer-left-error").get_attribute("src")
    assert error != one(page, "#viewer-right-error").get_attribute("src")


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_it_does_not_scroll_sideways(page, width):
    resize(page, width)
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    outside = """return [...document.querySelectorAll('main *, header *')].filter(e =>
        !e.closest('.scroll, pre, [hidden], details') && e.getBoundingClientRect().right > innerWidth + 1).length"""
    assert page.execute_script(outside) == 0


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_it_can_be_read(page, width):
    resize(page, width)
    texts = "[...document.querySelectorAll('p, td, dd, th, figcaption, .small')]"
    sizes = page.execute_script(f"return {texts}.map(e => parseFloat(getComputedStyle(e).fontSize))")
    assert min(sizes) >= 12
    scale = "return [...document.querySelectorAll('img.plot')].map(i => i.clientWidth / i.naturalWidth)"
    assert min(page.execute_script(scale)) > 0.9  # the figures' own letters have 12 pixels


def test_wide_tables_scroll_in_their_own_box(page):
    resize(page, NARROW)
    box = one(page, "#leaders .scroll")
    assert page.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", box)
    page.execute_script("arguments[0].scrollLeft = 200", box)
    left = "return document.querySelector('#leaderboard tbody td').getBoundingClientRect().left"
    assert page.execute_script(left) >= 0  # the names stay in sight


def test_a_long_comparison_wraps_so_that_its_table_fits(browser, study, tmp_path):
    """The longest name that a grid of two factors gives, on a window of an older screen."""
    family = study["families"][0]
    long = family["comparisons"][0] | {
        "first": "(momentum - adam) at batch",
        "second": "at group",
        "name": "optimizer x norm: (momentum - adam) at batch - at group",
    }
    path = tmp_path / "index.html"
    write_study_page({**study, "families": [{**family, "comparisons": [long]}]}, [], path)
    resize(browser, 1200)
    browser.get(path.as_uri())
    assert long["name"] in column(browser, "family-1", 0)[0]
    box = "const b = document.querySelector('#family-1').parentElement; return [b.scrollWidth, b.clientWidth]"
    inside, room = browser.execute_script(box)
    assert inside <= room
