"""Runs a function of a test on several real processes."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parents[1]


def run_ranks(n: int, target: str, *arguments: Any, timeout: float = 120) -> list[Any]:
    """What `module:function` returns on each of `n` processes joined by gloo; modules are found as in pytest.

    Arguments and values are what JSON can hold. A process that fails fails the test with its own words.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = [_start(rank, n, target, arguments, Path(folder)) for rank in range(n)]
        try:
            said = [process.communicate(timeout=timeout)[1] for process in started]
        finally:
            for process in started:
                process.kill()
                process.communicate()
        failed = [text for process, text in zip(started, said, strict=True) if process.returncode]
        assert not failed, "\n".join(failed)
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(n)]


def _start(rank, n, target, arguments, folder):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, __file__, str(rank), str(n), target, json.dumps(arguments), str(folder)]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _main(rank: int, n: int, target: str, arguments: list[Any], folder: Path) -> None:
    import torch.distributed as dist

    sys.path[:0] = [str(_TESTS), *(str(path) for path in _TESTS.iterdir() if path.is_dir())]
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=n)
    module, name = target.split(":")
    value = getattr(importlib.import_module(module), name)(*arguments)
    (folder / f"{rank}.json").write_text(json.dumps(value))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # as mrirecon/__main__.py does


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), Path(sys.argv[5]))
