"""Registering everything with the Prefect server that the environment names; running it again is fine."""

import subprocess
import sys
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import yaml
from prefect import get_client
from prefect.automations import Automation
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists
from prefect.utilities.asyncutils import run_coro_as_sync

from blocks import HetznerBlock, LocalRegistry, S3Registry, SecretKeyBlock, StorageBoxRegistry

POOL = "morpheus"
ZOMBIES = "morpheus: runs whose process is gone have crashed"
# Flow runs send a heartbeat every 180 s; one that was not heard of for three of them is gone.
SILENCE = timedelta(seconds=600)
_HEARTBEAT = "prefect.flow-run.heartbeat"


def root() -> Path:
    """The folder below which the flows' entrypoints are found."""
    return Path(str(files("flows"))).parent


def prefect_file() -> Path:
    """prefect.yaml: beside the packages in a checkout, inside this one when installed."""
    beside = root() / "prefect.yaml"
    return beside if beside.exists() else Path(str(files("deployments"))) / "prefect.yaml"


def names() -> list[str]:
    """The deployments as ``<flow>/<deployment>``, as prefect.yaml lists them."""
    entries = yaml.safe_load(prefect_file().read_text())["deployments"]
    flows = (Path(entry["entrypoint"].partition(":")[0]).stem.replace("_", "-") for entry in entries)
    return [f"{flow}/{entry['name']}" for flow, entry in zip(flows, entries, strict=True)]


def ensure_pool() -> None:
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        except ObjectAlreadyExists:
            return


def ensure_automation() -> None:
    """Have the server mark runs as crashed whose process was killed together with its worker."""
    try:
        run_coro_as_sync(Automation.aread(name=ZOMBIES))
    except ValueError:
        ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
        trigger = EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *ends},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        )
        crashed = ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process is gone")
        run_coro_as_sync(Automation(name=ZOMBIES, trigger=trigger, actions=[crashed]).acreate())


def deploy() -> None:
    command = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file())]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=root(), capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def register() -> None:
    ensure_pool()
    for block in (HetznerBlock, LocalRegistry, StorageBoxRegistry, S3Registry, SecretKeyBlock):
        block.register_type_and_schema()
    ensure_automation()
    deploy()
    print(*names(), sep="\n")
