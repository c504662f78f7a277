"""Stand-ins for SLURM's programs: they say what a test wants and note how they were called."""

import shlex


class FakePrograms:
    def __init__(self, folder, monkeypatch):
        self.folder = folder / "bin"
        self.folder.mkdir()
        monkeypatch.setenv("PATH", str(self.folder))
        self.calls_file = folder / "calls"

    def says(self, program, text="", code=0, error=""):
        path = self.folder / program
        path.write_text(
            f'#!/bin/sh\necho {program} "$@" >>{shlex.quote(str(self.calls_file))}\n'
            f"printf %s {shlex.quote(text)}\nprintf %s {shlex.quote(error)} >&2\nexit {code}\n"
        )
        path.chmod(0o755)

    @property
    def calls(self):
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
