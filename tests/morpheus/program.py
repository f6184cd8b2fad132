"""The ``morpheus`` command as a program of its own, for a user whom closed folders stop."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 200.0  # seconds
ROOTS_OWN = "-dac_override,-dac_read_search"  # what lets root into folders that are closed to everybody
ORDINARY = ["setpriv", "--bounding-set", ROOTS_OWN, "--inh-caps", ROOTS_OWN] if os.geteuid() == 0 else []

WAITING = "import os, sys; sys.stdin.readline(); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Device:
    """A user's home and data folder; commands run in *here*."""

    home: Path
    here: Path
    more: Mapping[str, str]

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def environment(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
        return ours | {"HOME": str(self.home), "MORPHEUS_DATA_DIR": str(self.data), **self.more}

    def morpheus(self, *arguments: str, meanwhile: Callable[[], object] = lambda: None) -> tuple[int, str]:
        """The exit code and what was said on stderr; *meanwhile* happens once *here* is its folder."""
        program = str(Path(sys.executable).with_name("morpheus"))
        process = subprocess.Popen(
            [*ORDINARY, sys.executable, "-I", "-S", "-c", WAITING, program, *arguments],
            cwd=self.here,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            meanwhile()
            _, said = process.communicate("go on\n", timeout=TIMEOUT)
        finally:
            process.kill()
        return process.returncode, said
