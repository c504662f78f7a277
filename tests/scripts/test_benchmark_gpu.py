"""scripts/benchmark_gpu.py goes all its ways on a CPU, at tiny sizes, and sees what it is there to see."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mrirecon import progress

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
COLUMNS = ["section", "what", "here", "against", "ratio or bound"]


@pytest.fixture(scope="module")
def script():
    path, loaded = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(SCRIPTS))
    import benchmark_gpu

    yield benchmark_gpu
    sys.path[:] = path
    for name in ("benchmark_gpu", "gpu_beside_fastmri", "benchmark"):
        if name not in loaded:
            del sys.modules[name]


@pytest.fixture(scope="module")
def beside(script):
    return sys.modules["gpu_beside_fastmri"]


@pytest.fixture(autouse=True)
def patient(script, monkeypatch):
    """Sections are not cut on a busy machine."""
    monkeypatch.setattr(progress, "quiet", False)
    for name, section in script.SECTIONS.items():
        monkeypatch.setitem(script.SECTIONS, name, section._replace(seconds=200.0))


@pytest.fixture
def run(script, tmp_path, capsys):
    """Run sections on the CPU: exit code, the cells of the table's lines, and what the JSON file holds."""

    def ran(*sections, flags=()):
        out = tmp_path / "figures.json"
        code = script.main(["--device", "cpu", "--tiny", "--out", str(out), "--only", *sections, *flags])
        heading, _, *lines = capsys.readouterr().out.strip().split("\n")
        cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
        found = json.loads(out.read_text())
        assert [path.name for path in tmp_path.iterdir()] == [out.name]
        assert heading == f"## {found['machine']}"
        assert torch.__version__ in heading
        assert cells[:2] == [COLUMNS, ["---"] * 5]
        assert {len(line) for line in cells} == {5}
        of_rows = [[row[key] for key in ("section", "what", "here", "against")] for row in found["rows"]]
        assert [[cell.replace("\\|", "|") for cell in line[:4]] for line in cells[2:]] == of_rows
        return code, cells[2:], found["rows"]

    return ran


def test_every_section_fills_its_part_of_the_table(script, run, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part, **options: compiled.append((type(part), options)))
    names = [name for name in script.SECTIONS if name != "two processes"]  # which starts programs: see below
    code, _, rows = run(*names, flags=["--limit", "2000"])
    assert [row["here"] for row in rows if row["verdict"] not in ("PASS", "") or "not measured" in row["here"]] == []
    assert code == 0
    # with its sensitivity network, a VarNet of one cascade has two
    assert [kind.__name__ for kind, _ in compiled] == ["UNet", "Unet", *["UNet"] * 2, *["Unet"] * 2]
    assert all(options == {"backend": "eager", "dynamic": False} for _, options in compiled)
    assert list(dict.fromkeys(row["section"] for row in rows)) == names
    assert {(row["section"] == "equality", row["verdict"]) for row in rows} == {(True, "PASS"), (False, "")}
    timed = [row for row in rows if "slices" in row["figures"]]
    assert len(timed) == 4 + 4 + 2 + 2 + 2
    assert all(row["figures"][side]["seconds"] > 0 for row in timed for side in ("here", "against"))
    (curves,) = (row["figures"] for row in rows if row["what"] == "final SSIM")
    for side in ("here", "against"):
        seconds, scores, steps = zip(*curves[side], strict=True)
        assert list(seconds) == sorted(seconds)
        assert seconds[-1] > 0
        assert list(steps) == sorted(set(steps))
        assert all(-1 < score < 1 for score in scores)


def test_a_wrong_kernel_fails(script, run, monkeypatch):
    """The device's transform errs by a thousandth: seen where it is used, in nothing else."""
    right, calls = script.zero_filled, []

    def wrong_on_the_device(*given):
        calls.append(given)
        return right(*given) * (1 if len(calls) % 2 else 1.001)  # the CPU comes first

    monkeypatch.setattr(script, "zero_filled", wrong_on_the_device)
    code, cells, rows = run("equality")
    assert code == 1
    assert [row["what"] for row in rows if row["verdict"] == "FAIL"] == ["k-space to zero-filled image"]
    (row,) = (row for row in rows if row["verdict"] == "FAIL")
    assert row["figures"]["difference"] == pytest.approx(1e-3, rel=1e-3)
    assert ["equality", row["what"], "1.0e-03", "CPU", "FAIL (bound 1e-05)"] in cells


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_pass_and_no_number_of_the_json(script, value):
    given = iter([torch.ones(2), torch.tensor([1.0, value])])
    row = script.difference(script.CPU, "x", 1e-3, lambda _: next(given))
    assert (row.verdict, row.figures["difference"]) == ("FAIL", None)


def test_a_broken_section_says_so_and_the_rest_goes_on(script, run, monkeypatch):
    def broken(machine):
        yield script.Row("first", "1 | 2")
        raise RuntimeError("no\nkernel | image")

    monkeypatch.setitem(script.SECTIONS, "evaluation", script.Section(broken, 5))
    code, cells, rows = run("evaluation", "data")
    assert code == 1
    assert cells[0] == ["evaluation", "first", r"1 \| 2", "", ""]
    assert [(row["section"], row["what"], row["verdict"]) for row in rows] == [
        ("evaluation", "first", ""),
        ("evaluation", "the rest", "ERROR"),
        ("data", "simulated heads", ""),
    ]
    assert rows[1]["here"] == "RuntimeError: no kernel | image"


def test_a_section_that_does_not_fit_is_left_out_and_said(script, run, monkeypatch):
    called = []
    for name, seconds in (("evaluation", 1000.0), ("data path", 10.0)):
        work = lambda machine, name=name: called.append(name) or iter(())  # noqa: E731
        monkeypatch.setitem(script.SECTIONS, name, script.Section(work, seconds))
    code, cells, rows = run("evaluation", "data path", flags=["--limit", "60"])
    assert (code, called) == (0, ["data path"])
    assert [row["verdict"] for row in rows] == ["SKIPPED"]
    assert cells == [["evaluation", "all of it", "not run: it may take 1000 s, and 60 s are left", "", "SKIPPED"]]


def test_a_section_ends_when_its_budget_is_spent_whatever_it_catches(script, run, monkeypatch):
    def endless(machine):
        yield script.Row("first", "1")
        while True:
            try:
                torch.ones(9).sum()
            except Exception:
                continue

    monkeypatch.setitem(script.SECTIONS, "data path", script.Section(endless, 0.2))
    code, _, rows = run("data path")
    assert code == 1
    assert [row["here"] for row in rows] == ["1", "OutOfTime: cut after 0 s, its budget"]


def test_budgets_fit_into_eight_minutes(script, monkeypatch):
    monkeypatch.undo()  # budgets as they are
    assert sum(section.seconds for section in script.SECTIONS.values()) <= script.LIMIT_S < 8 * 60


def test_a_missing_compiler_is_said_in_its_lines(script, beside, run, monkeypatch):
    monkeypatch.setattr(script, "TINY", script.TINY._replace(compiler="inductor"))

    def no_compiler(*_args, **_options):
        raise RuntimeError("Cannot find a working triton installation")

    monkeypatch.setattr(torch.nn.Module, "compile", no_compiler)
    code, cells, _ = run("compiled")
    assert code == 0
    assert len(cells) == 2
    said = "not measured: RuntimeError: Cannot find a working triton installation"
    assert all(line[2:] == [said, f"fastMRI {said}", ""] for line in cells)


def test_what_runs_on_a_device_meets_no_tensor_of_the_cpu(script, beside, monkeypatch, tmp_path):
    """The device `meta` refuses them as a GPU does; it has no values, so that only what reads none is done there."""

    def once(machine, makers, calls=1):
        for name in makers.keys() & wanted:
            makers[name]()()
            done.append(name)
        return dict.fromkeys(makers, beside.Measured(1.0))

    monkeypatch.setattr(beside, "measured", once)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # which `meta` has not
    machine = script.Machine(torch.device("meta"), script.TINY, tmp_path)
    fp32 = {"fp32": beside.Setting(tf32=False)}
    for wanted, rows in (
        ({("fp32", 0), ("fp32", 1)}, beside.unet_steps(machine, fp32, [2])),
        ({("fp32", 0)}, beside.varnet_steps(machine, fp32)),  # fastMRI's reads a value
        ({"theirs on"}, beside.data_path(machine)),  # and ours here
        ({"ours", "theirs"}, beside.evaluation(machine)),
    ):
        done = []
        list(rows)
        assert set(done) == wanted


def test_one_gpu_runs_no_two_processes(script, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    (row,) = script.two_processes(script.Machine(torch.device("cuda"), script.TINY, tmp_path))
    assert (row.here, row.verdict) == ("one GPU: not run", "")


@pytest.mark.slow  # half a minute of tracing
@pytest.mark.filterwarnings("default")  # of torch about itself
def test_networks_are_compiled(run):
    code, _, rows = run("compiled")
    assert (code, len(rows)) == (0, 2)
    assert all(row["figures"][side]["seconds"] > 0 for row in rows for side in ("here", "against"))


@pytest.mark.slow  # three programs that import torch
def test_two_processes_end_where_one_does(run):
    code, cells, rows = run("two processes")
    assert code == 0
    assert [row["what"] for row in rows] == ["final SSIM, gloo", "training, gloo"]
    assert cells[0][4] == "PASS (bound 1e-03)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_what_to_do(script, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(["--out", str(tmp_path / "figures.json")])
    assert "torch finds no CUDA device here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_the_work(script, tmp_path, capsys):
    for place in (tmp_path, tmp_path / "nowhere" / "figures.json"):
        with pytest.raises(SystemExit, match="2"):
            script.main(["--device", "cpu", "--tiny", "--out", str(place)])
        assert f"--out is {place}; give a file in a folder that is there" in capsys.readouterr().err
