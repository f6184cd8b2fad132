"""The simulator as a program: what it prints, so that it can be used and looked at by hand."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hcloud
import pytest

from tests.simulator.clients import ordered_box


def until(program: "subprocess.Popen[str]", what: str) -> list[str]:
    """What it prints, up to the line that has *what* in it."""
    assert program.stdout
    lines: list[str] = []
    for line in program.stdout:
        lines.append(line.rstrip("\n"))
        if what in line:
            return lines
    raise AssertionError(lines)


@contextlib.contextmanager
def started(*options: str) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-m", "tests.simulator", "--scale", "0", *options]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=folder, env=os.environ) as program:
        try:
            yield program
        finally:
            program.kill()


@pytest.fixture
def program() -> Iterator["subprocess.Popen[str]"]:
    with started() as program:
        yield program


def test_it_tells_how_to_use_it_and_what_costs(program: "subprocess.Popen[str]") -> None:
    said = until(program, "What costs at the moment")
    url, token = (line.split()[-1] for line in said[:2])
    assert f"machine.hetzner.api_url {url} machine.hetzner.boxes_url {url}" in "\n".join(said)
    assert any(f"HETZNER_API_TOKEN={token}" in line for line in said)
    assert f"kill -USR1 {program.pid}" in said[-1]

    program.send_signal(signal.SIGUSR1)
    assert until(program, "Until now EUR")[-2:] == ["  nothing", "Until now EUR 0.0000, without VAT."]
    box = ordered_box(hcloud.Client(token, api_endpoint=url, api_endpoint_hetzner=url))
    assert str(box.server).endswith(".invalid")
    program.send_signal(signal.SIGINT)

    assert "  storage_box registry" in until(program, "Until now EUR")
    assert program.wait(timeout=10) == 0


def test_boxes_have_files_and_a_certificate(tmp_path: Path) -> None:
    with started("--boxes", str(tmp_path)) as program:
        said = "\n".join(until(program, "What costs at the moment"))

    (certificate,) = (word for word in said.split() if word.startswith("SSL_CERT_FILE="))
    assert Path(certificate.partition("=")[2]).is_file()
    assert "init --storagebox --yes" in said
