"""The command line: spelling, help, errors, exit codes, start-up time."""

import resource
import subprocess
import sys

import pytest
import yaml

from mrirecon import configfile
from mrirecon.cli import COMMANDS, main
from mrirecon.config import TrainConfig

RUN = [sys.executable, "-c", "import sys; from mrirecon.cli import main; sys.exit(main())"]


def resolved(capsys, *words):
    assert main(["train", *words, "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("key", [key.name for key in configfile.keys(TrainConfig)])
def test_every_key_is_a_flag_and_in_the_help(key, capsys):
    default = {k.name: k for k in configfile.keys(TrainConfig)}[key].default
    value = default[0] if isinstance(default, list) and default else 1
    main(["train", f"--{key.replace('_', '-')}", str(value).lower(), "--print-config"])
    out = capsys.readouterr()
    assert out.err == "" or "Expected" in out.err  # the flag is known; its type may refuse a 1
    main(["train", "--help"])
    assert key.rsplit(".", 1)[-1].replace("_", "-") in capsys.readouterr().out


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
    seconds = []
    for _ in range(3):
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
