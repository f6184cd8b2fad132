"""A script of the operator's that fails: fresh machines once, and then nothing is left.

There are no commands in a valley, so every script fails there.
"""

from pathlib import Path

import pytest

from flows.plant import plant
from morpheus.errors import MachineError, MissingPartError
from tests.flows.homes import Home, nothing_is_left
from tests.flows.valleys import Valley
from tests.simulator import Simulator

pytestmark = pytest.mark.long


def test_where_it_fails_again_nothing_is_left(
    home: Home, simulator: Simulator, valley: Valley, tmp_path: Path
) -> None:
    script = tmp_path / "bootstrap.sh"
    script.write_text("#!/bin/sh\nexit 1\n")
    home.settle(integration={"bootstrap_script": str(script)})

    with pytest.raises(MachineError, match="no commands in a valley"):
        plant("oak", nodes=3)

    assert simulator.requests["POST /servers"] == 6  # each once, and once anew
    assert valley.effects.matching("start * nats") == []
    nothing_is_left(simulator)
    assert home.forests == {}


def test_where_it_cannot_be_read_nothing_is_begun(home: Home, simulator: Simulator, tmp_path: Path) -> None:
    home.settle(integration={"bootstrap_script": str(tmp_path / "nothing")})

    with pytest.raises(MissingPartError, match=r"integration\.bootstrap_script"):
        plant("oak", nodes=1)

    assert simulator.requests["POST /servers"] == 0
    assert home.forests == {}
