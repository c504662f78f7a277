"""The command line: spelling, help, errors, exit codes, start-up time."""

import re
import resource
import shlex
import subprocess
import sys

import pytest
import yaml

from mrirecon import configfile
from mrirecon.cli import COMMANDS, main
from mrirecon.cli.spelling import ELSEWHERE, flag
from mrirecon.config import TrainConfig

RUN = [sys.executable, "-c", "import sys; from mrirecon.cli import main; sys.exit(main())"]


def resolved(capsys, *words):
    assert main(["train", *words, "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def another(key):
    """A value of the key's type that is not its default."""
    if key.type is bool:
        return not key.default
    if key.type is int:
        return key.default + 3
    if getattr(key.type, "__origin__", None) is list:
        return {int: [5, 7], float: [0.25, 0.5], str: ["a", "b*"]}[key.type.__args__[0]]
    either = getattr(key.type, "__args__", ())
    if bool in either:
        return True
    return 0.125 if key.type is float or float in either else "other"


@pytest.mark.parametrize("key", list(configfile.keys(TrainConfig)), ids=lambda key: key.name)
def test_every_key_is_a_flag_that_sets_it_and_alone(key, capsys):
    value = another(key)
    typed = value if isinstance(value, list) else [value]
    words = [f"--{key.name.replace('_', '-')}", *(str(word).lower() for word in typed)]
    changed = configfile.flatten(TrainConfig()) | {key.name: value}
    assert configfile.flatten(configfile.unflatten(TrainConfig, changed)) == changed
    assert resolved(capsys, *words) == yaml.safe_load(configfile.dump(configfile.unflatten(TrainConfig, changed)))


def test_the_help_shows_every_key_with_its_flag_text_and_default(capsys):
    assert main(["train", "--help"]) == 0
    shown = re.sub(r"\n {26,}", " ", capsys.readouterr().out)  # a long flag has its text in the next line
    lines = {words[0]: words[1] for words in (line.split(maxsplit=1) for line in shown.splitlines()) if len(words) > 1}
    for key in configfile.keys(TrainConfig):
        text = lines.get("--output" if key.name == "output" else flag(key.name)) or lines["-o,"]
        assert key.help in text
        assert key.default in ("", [], None) or text.endswith(f"[{key.default}]".replace("'", ""))


def test_short_names_dashes_and_lists(capsys):
    config = resolved(
        capsys, "--norm", "group", "--lr", "1e-4", "--acceleration", "4", "8", "--center-fraction=0.08,0.04"
    )
    assert config["model"]["norm"] == "group"
    assert config["optimizer"]["lr"] == 1e-4
    assert config["data"]["acceleration"] == [4, 8]
    assert config["data"]["center_fraction"] == [0.08, 0.04]


@pytest.mark.parametrize("words", [["down*", "*.bias"], ["down*,*.bias"], ["[down*, '*.bias']"]])
def test_lists_of_texts_are_taken_as_they_are(words, capsys):
    """A star or a bracket begins something else in YAML."""
    assert resolved(capsys, "--freeze", *words)["freeze"] == ["down*", "*.bias"]
    assert resolved(capsys, "--freeze", "[du]p*", "[a-c]*")["freeze"] == ["[du]p*", "[a-c]*"]
    assert resolved(capsys, "--acquisition", "AXT1", "1", "null")["data"]["acquisition"] == ["AXT1", "1", "null"]


@pytest.mark.parametrize(
    ("words", "lr"),
    [
        ("-c fastmri --optimizer lion", "0.001"),
        ("--optimizer lion -c mine.yaml", "0.01"),
        ("-c fastmri --optimizer lion --lr 3e-4", ""),
        ("-c fastmri --optimizer lion --lr auto", ""),
        ("-c optimizer/lion --optimizer lion", ""),  # its own
        ("-c fastmri --optimizer torch.optim.Adamax", ""),  # of which nothing is known
        ("--optimizer lion --lr 3e-4", ""),
        ("-c fastmri", ""),
    ],
)
def test_a_rate_of_a_file_that_is_not_the_optimizers_own_is_said_once(words, lr, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("optimizer: {lr: 0.01}\n")
    assert main(["train", *words.split(), "--data", "nowhere"]) == 2
    said = f"note        lr {lr} is that of the file; lion's own is 0.0002 (--lr auto)"
    assert [line for line in capsys.readouterr().err.splitlines() if "lr" in line] == ([said] if lr else [])


def test_flags_win_over_files_in_any_order_and_later_files_over_earlier(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("optimizer: {lr: 0.5}\nbatch_size: 7\n")
    (tmp_path / "b.yaml").write_text("batch_size: 9\n")
    files = ["-c", str(tmp_path / "a.yaml"), "-c", str(tmp_path / "b.yaml")]
    for words in ([*files, "--lr", "0.1"], ["--lr", "0.1", *files]):
        config = resolved(capsys, *words)
        assert (config["optimizer"]["lr"], config["batch_size"]) == (0.1, 9)


def test_shipped_overlay_by_name(capsys):
    assert resolved(capsys, "-c", "optimizer/nesterov")["optimizer"]["name"] == "nesterov"


def test_class_path_on_the_command_line(capsys):
    config = resolved(capsys, "--optimizer", "{class_path: torch.optim.NAdam, init_args: {eps: 1.0e-7}}")
    assert config["optimizer"]["name"] == {"class_path": "torch.optim.NAdam", "init_args": {"eps": 1e-7}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "did you mean 'train'?"),
        (["data", "simulat"], "did you mean 'data simulate'?"),
        (["train", "--nrom", "group"], "did you mean '--norm'?"),
        (["train", "--bath-size", "2"], "did you mean '--batch-size'?"),
        (["train", "--lr", "fast"], "optimizer.lr: Expected a float"),
        (["train", "--lr"], "--lr needs a value"),
        (["train", "--resume", "--device", "cpu"], "--resume needs a value"),
        (["train", "--allow-import", "-o", "x"], "--allow-import needs a value"),
        (["train", "--max-slice-gib", "-1"], "--max-slice-gib -1; give a number above 0"),
        (["train", "group"], "'group' is not expected here"),
        (["train", "-c", "nothing"], "no file or shipped configuration 'nothing'"),
        (["train", "--augment.flip", "-0.5"], "augment.flip is -0.5; it must be at least 0"),
        (["train", "--augment.rotate", "nan"], "augment.rotate is nan; it must be at least 0"),
        (["train", "--augment.shift", "1.5"], "augment.shift: Expected an int"),
        (["train", "--data", "x", "--augment.rotate90", "1.5"], "must be at least 0 (off) and at most 1"),
        (["train", "--data", "x", "--augment.contrast", "1"], "must be at least 0 (off) and below 1"),
        (["train", "--overwrite", "maybe"], "overwrite: Expected a bool"),
        (["evaluate"], "evaluate needs RUN|METHOD"),
        (["data", "simulate"], "needs OUT"),
        (["--fast"], "a command comes first"),
    ],
)
def test_wrong_calls_get_one_line_and_exit_code_2(words, message, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("mrirecon: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert f"mrirecon {command}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "--print-config"], ["--version"]])
def test_help_and_configuration_start_without_torch_and_fast(words):
    """Seconds of computing: those on the wall depend on what else runs."""
    code = f"import sys; from mrirecon.cli import main; main({words!r}); assert 'torch' not in sys.modules"
    seconds = [float("inf")]
    while min(seconds) >= 0.5 and len(seconds) <= 7:  # a core that is shared with another work counts its time twice
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 0.5


def test_no_command_imports_torch_to_help_or_to_print_its_configuration():
    words = [[*command.split(), word] for command in COMMANDS for word in ("--help", "--print-config")]
    code = f"import sys; from mrirecon.cli import main; [main(w) for w in {words!r}]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_debug_shows_the_traceback(capsys):
    assert main(["train", "--lr", "fast", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("key", [key.name for key in configfile.keys(TrainConfig) if key.name.startswith("slurm.")])
def test_keys_of_a_job_go_by_their_whole_name_only(key, capsys):
    bare = f"--{key.removeprefix('slurm.')}"
    assert main(["train", bare, "1", "--print-config"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"unknown option '{bare}'; give " in err
    assert f"--{key} (" in err
    assert main(["train", f"--{key}", "true" if key.endswith("follow") else "1", "--print-config"]) == 0


@pytest.mark.parametrize(
    ("call", "usage"),
    [
        ("reconstruct RUN --data d", "mrirecon reconstruct RUN|METHOD|FILE FILES... [options]"),
        ("score predictions --data d", "mrirecon score PREDICTIONS TARGETS [options]"),
        ("train --zzz 3", "mrirecon train [options]"),
    ],
)
def test_an_option_that_a_command_does_not_have_shows_what_it_takes(call, usage, capsys):
    assert main(call.split()) == 2
    option = next(word for word in call.split() if word.startswith("--"))
    command = call.split()[0]
    assert capsys.readouterr() == (
        "",
        f"mrirecon: unknown option '{option}'; usage: {usage}; see mrirecon {command} --help\n",
    )


@pytest.mark.parametrize("command", ["train", "evaluate zero-filled", "reconstruct zero-filled x", "ablate run smoke"])
@pytest.mark.parametrize("word", ELSEWHERE)
def test_words_of_other_programs_lead_to_ours(command, word, capsys):
    """Where a command has what may be meant; nothing is taken for it silently."""
    assert main([*command.split(), f"--{word.replace('_', '-')}", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"unknown option '--{word.replace('_', '-')}'; " in err
    for option in re.findall(r"(--[a-z.-]+) \(", err):
        assert main([*command.split(), option, "1", "--print-config"]) == 0 or "Expected" in capsys.readouterr().err
    if ELSEWHERE[word][0] == "device":
        assert "; give --device (auto, cpu or cuda)" in err
        assert ("--devices (" in err) == (command != "ablate run smoke")


@pytest.fixture
def places(tmp_path, monkeypatch, volume_writer):
    """In the current folder: data, a run, an overlay, a volume of images."""
    monkeypatch.chdir(tmp_path)
    volume_writer(tmp_path / "data" / "val" / "v.h5")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("batch_size: 7\n")
    for name in ("best", "last"):
        (tmp_path / "run" / "checkpoints" / f"{name}.ckpt").touch()
    (tmp_path / "my.yaml").write_text("batch_size: 9\n")
    (tmp_path / "T1.nii.gz").touch()
    return tmp_path


REMEDIES = {
    "train data": "train --data data",
    "train data --norm batch": "train --data data --norm batch",
    "train --norm batch data": "train --norm batch --data data",
    "train data/val/v.h5": "train --data data/val",
    "train my.yaml --lr .1": "train -c my.yaml --lr .1",
    "train lecture --data data": "train -c lecture --data data",
    "train run": "train --resume run",
    "evaluate zero-filled data": "evaluate zero-filled --data data",
    "evaluate run data --split val": "evaluate run --data data --split val",
    "evaluate data": "evaluate zero-filled --data data",
    "evaluate data/val/v.h5 --quiet": "evaluate zero-filled --data data/val",
    "evaluate --data data run": "evaluate run --data data",
    "evaluate run/checkpoints": "evaluate run",
    "reconstruct data run -o out": "reconstruct run data -o out",
    "reconstruct data/val/v.h5 zero-filled -o out": "reconstruct zero-filled data/val/v.h5 -o out",
    "reconstruct data -o out": "reconstruct RUN data -o out",
    "reconstruct -o out run data": "reconstruct run -o out",
    "export run/checkpoints/last.ckpt": "export run --checkpoint last",
    "ablate run data": "ablate run GRID --data data",
    "ablate run smoke data --dry-run": "ablate run smoke --data data --dry-run",
    "data simulate out T1.nii.gz": "data simulate out --from T1.nii.gz",
}


@pytest.mark.parametrize("typed", REMEDIES)
def test_a_misplaced_word_gets_the_call_that_was_meant(places, typed, capsys):
    before = sorted(places.rglob("*"))
    assert main(typed.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    meant = f"mrirecon {REMEDIES[typed]}"
    assert f": {meant}" in err
    assert sorted(places.rglob("*")) == before
    if not typed.startswith("reconstruct -o"):  # there the first of two words is put right
        assert err.rstrip("\n").endswith(meant)
        assert main([*shlex.split(meant)[1:], "--print-config"]) == 0


def test_all_that_is_evaluated_comes_before_the_options(places, capsys):
    (places / "other run" / "checkpoints").mkdir(parents=True)
    (places / "other run" / "config.yaml").touch()
    for word, typed in (("other run", "'other run'"), ("tv", "tv")):
        assert main(["evaluate", "run", "--split", "val", word]) == 2
        assert f"mrirecon evaluate run {typed} --split val" in capsys.readouterr().err


def test_data_among_what_is_evaluated_is_told_its_place(places, capsys):
    assert main(["evaluate", "zero-filled", "data", "--split", "val"]) == 2
    assert "mrirecon evaluate zero-filled --data data --split val" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("score a", "mrirecon score a TARGETS"),
        ("reconstruct zero-filled", "mrirecon reconstruct zero-filled FILES..."),
        ("evaluate", "mrirecon evaluate RUN|METHOD|FILE..."),
    ],
)
def test_a_missing_word_is_shown_in_its_place(typed, meant, capsys):
    assert main(typed.split()) == 2
    err = capsys.readouterr().err
    assert err.endswith(f"call it as: {meant}\n")
    assert err.count("\n") == 1


def test_a_file_for_data_names_its_folder(places, capsys):
    assert main(["train", "--data", "data/val/v.h5"]) == 2
    assert "give the folder that holds the .h5 files: --data data/val\n" in capsys.readouterr().err
