"""What is told anywhere of a plant on the simulated cloud: never a secret."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
from prefect import get_client
from pydantic import SecretStr

from blocks import HetznerBlock
from flows.grow_check import grow_check
from flows.plant import plant
from flows.teardown import teardown
from morpheus.cloud.hetzner import api
from morpheus.errors import CloudBusyError, MorpheusError
from tasks.servers import ensure_server
from tests.flows.homes import Home, shared
from tests.servers.s3 import S3, SECRET
from tests.simulator import Simulator

pytestmark = pytest.mark.long


def chain(error: BaseException | None) -> Iterator[str]:
    """What *error* says, and all that it came from."""
    while error:
        yield f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def kept_by_prefect() -> str:
    """Every run, its states with their messages, and every artifact."""
    with get_client(sync_client=True) as there:
        kinds = ("flow_runs", "task_runs", "artifacts", "block_documents")
        answers = [there.request("POST", f"/{kind}/filter", json={}).json() for kind in kinds]  # type: ignore[arg-type]
    assert all(answers)
    return json.dumps(answers, ensure_ascii=False)


def test_no_secret_is_told_anywhere(
    house: Callable[[str], Home],
    simulator: Simulator,
    s3: S3,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for logger in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        caplog.set_level(logging.DEBUG, logger)
    monkeypatch.setattr(api, "RETRIES", 0)
    monkeypatch.setattr(ensure_server, "retry_delay_seconds", 0)
    simulator.faults.token_in_message()
    registry = shared(s3, "secrets/registry.json")
    wrong_token, wrong_secret = "w" * 64, "wrong-secret-of-the-registry"
    told: list[str] = []

    home = house("home").settle(registry=registry)
    simulator.faults.status("POST /servers", 429)
    HetznerBlock(token=SecretStr(simulator.token)).save("quiet", overwrite=True)
    plant("oak", nodes=1, cloud="hetzner-cloud/quiet")
    grow_check()
    simulator.faults.status("POST /servers", 429, times=None)
    with pytest.raises(CloudBusyError) as busy:
        plant("elm", nodes=1)
    simulator.faults.clear()
    told += [home.text, *chain(busy.value)]
    for wrong in (
        {"registry": registry, "hetzner": {"token": wrong_token}},
        {"registry": registry | {"password": wrong_secret}},
    ):
        home.settle(**wrong)
        with pytest.raises(MorpheusError) as failed:
            plant("elm", nodes=1)
        told += chain(failed.value)
    home.settle(registry=registry)
    teardown("oak")

    told += [home.text, caplog.text, kept_by_prefect()]
    everything = "\n".join(told)
    assert "token '***' reached" in everything  # the API did tell it
    for secret in (simulator.token, SECRET, wrong_token, wrong_secret):
        assert secret not in everything
        assert json.dumps(secret)[1:-1] not in everything
