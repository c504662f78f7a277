"""What the operating system refuses is one line that names the path; the errors are the system's own."""

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from mrirecon import errors
from mrirecon.cli import main
from mrirecon.cli.command import run_safely
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.data.hdf5.write import new_hdf5
from mrirecon.errors import InputError, WorkFailedError, explained, why_unread
from mrirecon.files import new_folder, write_text
from mrirecon.runs import open_run
from mrirecon.workflows.setup.source_files import list_sources
from mrirecon.yamlfile import parse_yaml

# the call was right, and the same one may work later
WORK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
    *(errno.EBUSY, errno.ETXTBSY),
}


@contextmanager
def mounted(folder, options):
    """A small file system of its own."""
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("no program mount")
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def read_only(tmp_path):
    with mounted(tmp_path / "ro", "size=1m") as folder:
        (folder / "run").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield folder


@pytest.fixture
def small_disk(tmp_path):
    with mounted(tmp_path / "full", "size=64k") as folder:
        yield folder


@pytest.fixture
def forbidden(tmp_path):
    """A folder in which nobody may do anything; of root's powers none are left meanwhile."""
    folder = tmp_path / "mine"
    folder.mkdir()
    folder.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def outcome(capsys, work):
    code = run_safely(work, debug=False)
    return code, capsys.readouterr().err


def command(capsys, *words):
    code = main([*map(str, words)])
    return code, capsys.readouterr().err


def one_line(outcome, code, path, *parts):
    assert outcome[0] == code
    assert outcome[1].startswith(f"mrirecon: {path}: "), outcome[1]
    assert outcome[1].count("\n") == 1
    assert all(part in outcome[1] for part in parts), outcome[1]


@pytest.mark.parametrize("number", errors._OF_PATHS)
def test_every_number_is_one_line_with_the_path(number):
    said = explained(OSError(number, os.strerror(number), "/data/x.csv"))
    assert type(said) is (WorkFailedError if number in WORK else InputError)
    assert str(said).startswith("/data/x.csv: ")
    assert "; " in str(said)
    assert "\n" not in str(said)
    assert why_unread(OSError(number, os.strerror(number))) == str(said).removeprefix("/data/x.csv: ")


def test_a_number_without_words_of_ours_has_the_systems():
    assert str(explained(OSError(errno.EXDEV, os.strerror(errno.EXDEV), "a"))) == "a: Invalid cross-device link"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/a/.x.csv.123.tmp", "/a/x.csv"),
        ("/a/.run.7.tmp/figures/.b.png.7.tmp", "/a/run/figures/b.png"),
        (".last.ckpt.tmp", "last.ckpt"),
        (b"/a/.x.1.tmp", "/a/x"),
        ("/a.tmp/x.tmp", "/a.tmp/x.tmp"),
    ],
)
def test_a_temporary_name_stands_for_the_lasting_one(name, shown):
    assert str(explained(OSError(errno.EACCES, "", name))).startswith(f"{shown}: permission denied")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        OSError("no number"),
        PermissionError(errno.EPERM, "Operation not permitted"),  # of a signal, for example
        RuntimeError("some shared memory of a GPU"),
        KeyError("x"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    assert explained(error) is None


def test_too_long_a_name(tmp_path, capsys):
    path = tmp_path / ("x" * 300)
    one_line(outcome(capsys, lambda: write_text(path / "y", "")), 2, path, "too long; choose a shorter one")
    for words in (
        ("evaluate", "zero-filled", "--data", path),
        ("train", "--data", path),
        ("reconstruct", "zero-filled", path, "-o", tmp_path / "out"),
        ("report", path),
        ("compare", path, path),
        ("config", "show", path),
        ("train", "--resume", path),
        ("ablate", "status", path),
        ("data", "simulate", path, "--train", "1", "--val", "0", "--test", "0", "--matrix", "32", "32"),
    ):
        code, err = command(capsys, *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert f"{path}" in err
        assert "the name is too long; choose a shorter one" in err
        assert "damaged" not in err


def test_a_file_where_a_folder_should_be(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    one_line(outcome(capsys, (tmp_path / "file" / "x").read_text), 2, tmp_path / "file" / "x", "is no folder")
    one_line(
        outcome(capsys, lambda: write_text(tmp_path / "file" / "x", "")), 2, tmp_path / "file", "as something else"
    )


def test_a_circle_of_links(tmp_path, capsys):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    one_line(outcome(capsys, (tmp_path / "a").read_text), 2, tmp_path / "a", "lead in a circle; mend the link")


def test_a_read_only_place(read_only, tmp_path, capsys, volume_writer):
    says = ("is on a read-only file system", "-o, --output")
    one_line(outcome(capsys, lambda: write_text(read_only / "x.csv", "")), 2, read_only / "x.csv", *says)
    volume_writer(tmp_path / "data" / "a.h5", n_slices=1, n_coils=2, matrix=(16, 16))
    evaluate = ("evaluate", "zero-filled", "--data", tmp_path / "data", "--split", "all", "--quiet", "-o")
    one_line(command(capsys, *evaluate, read_only / "run" / "scores"), 2, read_only / "run" / "scores", *says)
    simulate = ("data", "simulate", read_only / "D", "--train", "1", "--matrix", "32", "32", "--quiet")
    one_line(command(capsys, *simulate), 2, read_only / "D", *says)
    code, err = command(capsys, "reconstruct", "zero-filled", tmp_path / "data", "-o", read_only / "images")
    assert (code, err) == (2, f"mrirecon: {read_only} is on a read-only file system; choose another --output\n")


def test_a_full_disk(small_disk, tmp_path, capsys):
    full = ("the disk is full; make room",)
    path = small_disk / "x.csv"
    one_line(outcome(capsys, lambda: write_text(path, "x" * 100_000)), 1, path, *full)

    def folder():
        with new_folder(small_disk / "scores") as temporary:
            (temporary / "a.csv").write_text("x" * 100_000)

    one_line(outcome(capsys, folder), 1, small_disk / "scores", *full)

    def hdf5():
        with new_hdf5(small_disk / "a.h5") as file:
            file["kspace"] = np.ones(100_000)

    one_line(outcome(capsys, hdf5), 1, small_disk / "a.h5", *full)
    simulate = ("data", "simulate", small_disk / "D", "--train", "2", "--val", "0", "--test", "0", "--quiet")
    code, err = command(capsys, *simulate, "--slices", "1", "--matrix", "64", "64")
    one_line((code, err), 1, small_disk / "D/train/train_0000.h5", *full)
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_as_hdf5_tells_it(small_disk):
    """It is asked in a process of its own, which may crash at its end."""
    script = (
        "import sys, h5py, numpy, os\n"
        "from mrirecon.errors import explained\n"
        "try:\n"
        "    with h5py.File(sys.argv[1], 'w') as file:\n"
        "        file['a'] = numpy.ones(10**6)\n"
        "except Exception as error:\n"
        "    print(type(explained(error)).__name__, explained(error), flush=True)\n"
        "os._exit(0)\n"
    )
    path = small_disk / "a.h5"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.stdout == (f"WorkFailedError {path}: the disk is full; make room, then give the same command again\n")


def test_a_missing_right(forbidden, capsys):
    says = ("permission denied; change its rights (chmod)",)
    one_line(outcome(capsys, (forbidden / "x").touch), 2, forbidden / "x", *says)
    one_line(outcome(capsys, lambda: list(forbidden.iterdir())), 2, forbidden, *says)
    one_line(outcome(capsys, lambda: list_volumes(forbidden)), 2, forbidden, *says)
    one_line(outcome(capsys, lambda: list_sources([forbidden / "a.h5"])), 2, forbidden / "a.h5", *says)
    one_line(outcome(capsys, lambda: open_run(forbidden / "run")), 2, forbidden / "run", *says)
    one_line(outcome(capsys, lambda: parse_yaml(forbidden / "a.yaml")), 2, forbidden / "a.yaml", *says)


def test_a_limit_on_the_size_of_files(tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        done = outcome(capsys, lambda: write_text(tmp_path / "x", "y" * 10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    one_line(done, 1, tmp_path / "x", "larger than allowed; see ulimit -f")
    assert list(tmp_path.iterdir()) == []


def test_too_many_open_files(tmp_path, capsys):
    path = tmp_path / "a.h5"
    h5py.File(path, "w").close()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))  # the numbers 0 to 2 are taken
    try:
        opened = outcome(capsys, path.open)
        by_hdf5 = outcome(capsys, lambda: h5py.File(path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for code, err in (opened, by_hdf5):
        assert code == 1
        assert err.startswith("mrirecon: a process may have ")
        assert err.endswith("files open (ulimit -n), too few; raise the limit (ulimit -n 4096) or lower --workers\n")


def test_no_memory(capsys):
    code, err = outcome(capsys, lambda: np.empty(2**50))
    assert (code, err) == (1, "mrirecon: there is no memory left; free some, or lower --batch-size or --workers\n")


def test_debug_shows_where(tmp_path, capsys):
    assert run_safely((tmp_path / "nothing").read_text, debug=True) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert "FileNotFoundError" in err
    assert err.endswith(f"mrirecon: {tmp_path / 'nothing'}: does not exist; make it, or give another path\n")


@pytest.mark.parametrize("gib", [0.5, 2.9])
def test_a_limit_of_memory_that_has_no_place_for_torch_is_told_in_one_line(tmp_path, gib):
    """Between the two, the library aborts while it is loaded, and no Python could say anything."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({int(gib * 2**30)},) * 2); "
    code = f"{limit}from mrirecon.cli import main; raise SystemExit(main(['train', '--data', {str(tmp_path)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        f"mrirecon: torch cannot be loaded: there is no memory left; a process may have {gib} GiB (ulimit -v): "
        "raise that limit\n"
    )
