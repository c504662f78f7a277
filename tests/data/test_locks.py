"""Sound files are read where they cannot be locked, and an error says what the system said."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys

import h5py
import pytest

from mrirecon.data.folders.check import check_volumes
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.data.hdf5 import opening
from mrirecon.data.hdf5.opening import open_to_read
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError

NO_LOCKS = (37, 30, 524, 95)  # ENOLCK, EROFS, ENOTSUPP of NFS, EOPNOTSUPP
READ = (
    "import sys\n"
    "from pathlib import Path\n"
    "from mrirecon.cli.command import run_safely\n"
    "from mrirecon.data.folders.check import check_volumes\n"
    "from mrirecon.data.folders.volume_files import list_volumes\n"
    "def work():\n"
    "    volumes = list_volumes(Path(sys.argv[1]))\n"
    "    check_volumes(volumes, 'full')\n"
    "    print(sum(volume.kspace(0).size for volume in volumes))\n"
    "sys.exit(run_safely(work, debug=False))\n"
)


@pytest.fixture(scope="module")
def no_locks(tmp_path_factory):
    """Environment of a process on a file system whose locks fail with an error number."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler to make a file system without locks")
    folder = tmp_path_factory.mktemp("flock")
    flock = 'int flock(int file, int how) { errno = atoi(getenv("NO_LOCK")); return -1; }'
    (folder / "flock.c").write_text(f"#include <errno.h>\n#include <stdlib.h>\n{flock}\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "flock.so", "flock.c"], cwd=folder, check=True)
    return lambda number, **more: {
        **{name: value for name, value in os.environ.items() if name != "HDF5_USE_FILE_LOCKING"},
        "LD_PRELOAD": str(folder / "flock.so"),
        "NO_LOCK": str(number),
        **more,
    }


@pytest.fixture
def folder(tmp_path, volume_writer):
    for i in range(7):
        volume_writer(tmp_path / f"{i}.h5", n_slices=1, n_coils=2, matrix=(8, 8), oversampling=1)
    return tmp_path


def read(folder, env):
    done = subprocess.run([sys.executable, "-c", READ, folder], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", NO_LOCKS)
def test_a_file_system_without_locks(folder, no_locks, number):
    said = subprocess.run(
        [sys.executable, "-c", f"import h5py; h5py.File('{folder}/0.h5')"],
        env=no_locks(number),
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert f"unable to lock file, errno = {number}" in said  # what HDF5 does by itself
    assert read(folder, no_locks(number)) == (0, f"{7 * 2 * 8 * 8}\n", "")


def test_where_locks_are_wanted_and_fail_one_line_names_the_variable(folder, no_locks):
    code, _, err = read(folder, no_locks(37, HDF5_USE_FILE_LOCKING="TRUE"))
    assert code == 2
    assert err == (
        "mrirecon: 0.h5 (and 1.h5, 2.h5, 3.h5, 4.h5, 2 more): cannot be locked (error 37, No locks available) and need "
        "not be, as it is only read; set HDF5_USE_FILE_LOCKING=FALSE (it is TRUE)\n"
    )


def test_a_file_that_another_process_has_locked(folder):
    """As HDF5 does while it writes."""
    script = "import sys, h5py; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, folder / "3.h5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        with (folder / "3.h5").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        volumes = list_volumes(folder)
        check_volumes(volumes, "full")
        assert volumes[3].kspace(0).shape == (2, 8, 8)
        writer.stdin.close()


def test_a_file_that_is_marked_as_being_written(folder):
    script = (
        "import os, sys, h5py; file = h5py.File(sys.argv[1], 'w', libver='latest'); file['kspace'] = 1; "
        "file.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, folder / "3.h5"], check=True)
    with pytest.raises(InputError) as caught:
        check_volumes(list_volumes(folder))
    assert str(caught.value) == (
        "3.h5: another process writes it, or died while it did; wait for its end, or clear the mark (h5clear -s FILE)"
    )


@pytest.mark.parametrize("ours_first", [True, False])
def test_others_may_open_the_same_file_in_this_process(folder, ours_first):
    """HDF5 refuses to open one file with and without locks at the same time."""
    path = folder / "0.h5"
    if ours_first:
        Volume(path).kspace(0)
    with h5py.File(path, "r") as file:
        assert Volume(path).kspace(0).shape == file["kspace"].shape[1:]
    opening.close(path)
    with h5py.File(path, "r", locking=False):
        assert Volume(path).kspace(0).shape == (2, 8, 8)
    opening.close(path)


REFUSED = {
    errno.EMFILE: "files open (ulimit -n), too few; raise the limit",
    errno.EIO: "the disk gives an error; see to the disk or its server",
    errno.ESTALE: "the file server has lost it (stale handle); see to the disk or its server",
    errno.EACCES: "permission denied; change its rights (chmod)",
}


@pytest.mark.parametrize("number", REFUSED)
def test_what_the_system_refuses_is_no_damage(folder, monkeypatch, number):
    """h5py's own words of such a failure."""

    def fail(path, *_args, **_options):
        text = f"Unable to synchronously open file (unable to open file: name = '{path}', errno = {number}, ...)"
        raise OSError(number, text)

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(InputError) as caught:
        Volume(folder / "0.h5").facts  # noqa: B018
    assert str(caught.value).startswith("0.h5: ")
    assert REFUSED[number] in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_what_is_no_lock_is_not_tried_again_without_one(folder, monkeypatch):
    """HDF5's words for a truncated file have "lock" in them, too: sblock->base_addr."""
    tried = []
    real = h5py.File
    monkeypatch.setattr(h5py, "File", lambda *args, **options: tried.append(options) or real(*args, **options))
    os.truncate(folder / "0.h5", (folder / "0.h5").stat().st_size - 100)
    with pytest.raises(OSError, match="truncated.*lock"):
        open_to_read(folder / "0.h5")
    assert tried == [{}]
