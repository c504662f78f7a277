"""A logger never ends a training, and wandb goes where its own settings say."""

import csv
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from mrirecon.config import DataConfig, ModelConfig, TrainConfig
from mrirecon.training.loop.loggers import Events, _why_offline
from mrirecon.workflows.train import train

KEY = "a" * 40


@pytest.fixture
def config(tmp_path, volume_writer):
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        volume_writer(tmp_path / "data" / split / f"{split}.h5", matrix=(32, 32), patient_id=split, seed=0)
    return TrainConfig(
        data=DataConfig(path=str(tmp_path / "data")),
        model=ModelConfig(channels=4, pools=2),
        max_steps=20,
        val_every=10,
        precision="fp32",
        device="cpu",
        threads=1,
        logger="tensorboard",
        output=str(tmp_path / "run"),
    )


@pytest.mark.parametrize("method", ["__init__", "log_image", "finalize"])
def test_a_logger_that_fails_is_told_once_and_the_training_goes_on(config, monkeypatch, capsys, method):
    def fail(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", "/home/somebody")

    monkeypatch.setattr(Events, method, fail)
    run = train(config)
    err = capsys.readouterr().err
    line = (
        "warning: tensorboard logs no more (PermissionError: [Errno 13] Permission denied: '/home/somebody'); "
        "curves.csv goes on\n"
    )
    assert err.count("logs no more") == err.count(line) == 1
    steps = [int(row["step"]) for row in csv.DictReader(run.curves.read_text().splitlines())]
    assert set(steps) == {10, 20}
    assert run.weights.is_file()


@contextmanager
def server():
    """A host that knows nobody; gives its address and the paths that were asked for."""
    asked = []

    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(401)
            self.end_headers()

        do_GET = do_POST = do_HEAD

        def log_message(self, *_args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", asked
    finally:
        http.shutdown()
        http.server_close()


def settings(url, key=KEY, proxy=None):
    return SimpleNamespace(base_url=url, api_key=key, http_proxy=proxy, https_proxy=None)


def test_any_answer_of_wandbs_own_host_will_do():
    with server() as (url, asked):
        assert _why_offline(settings(url)) == ""
        assert asked == ["/"]


def test_a_proxy_is_asked_in_place_of_the_host():
    with server() as (url, asked):
        assert _why_offline(settings("http://wandb.invalid", proxy=url)) == ""
        assert asked == ["http://wandb.invalid/"]


def test_a_key_in_netrc_is_one_for_its_host_only(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with server() as (url, _):
        assert _why_offline(settings(url, key=None)) == ""
    other = settings("http://wandb.invalid", key=None)
    assert _why_offline(other) == "no key for http://wandb.invalid: wandb login, or WANDB_API_KEY"


def test_nobody_answers():
    with server() as (url, _):
        pass
    assert _why_offline(settings(url)) == f"no answer from {url}: ConnectionError"


def test_a_server_of_ones_own_that_refuses_the_run_is_named_and_wandb_logs_offline(tmp_path, monkeypatch):
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from mrirecon.training.loop.loggers import start_wandb, wandb_in\n"
        "folder = Path(sys.argv[1])\n"
        "with wandb_in(folder):\n"
        "    client = start_wandb(folder, project='mrirecon')\n"
        "    print(json.dumps([client.offline, client.settings.base_url]))\n"
    )
    with server() as (url, asked):
        for name, value in (("BASE_URL", url), ("API_KEY", KEY), ("INIT_TIMEOUT", "4")):
            monkeypatch.setenv(f"WANDB_{name}", value)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, url]
    assert len(asked) > 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert line.startswith(f"note: wandb logs offline, to {tmp_path}/wandb ({url}: ")
