"""Planting on real hosts through the flow, beside a bare script that boots the same hosts. Needs root.

Measured is from the first request to the cloud until the cluster is verified; the cloud answers at once, its
servers are hosts of the lab. The bare script boots the same hosts with a cloud-init that writes a unit, waits
by looking every 20 ms, copies the same nats-server with OpenSSH's programs, writes configurations without
secrets, starts the servers and asks the same questions, up to the same message through the cluster.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.flows import served
from benchmarks.result import Result
from morpheus import folders
from morpheus.machine.binaries import nats_server
from morpheus.nats import admin, monitor
from morpheus.nats.cluster import judge
from tests.lab import Host, Lab
from tests.lab.commands import run as ran
from tests.lab.commands import until
from tests.lab.visitors import Knock, Visitor, knock
from tests.simulator import Latency, Simulator

PAIRS = {"medium": 5, "small": 3, "large": 3}
NODES = {"small": 1, "medium": 3, "large": 5}
POLL, TIMEOUT = 0.02, 120.0  # seconds
QUIET = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
BIRTH = """\
#cloud-config
write_files:
  - path: /etc/systemd/system/nats.service
    content: |
      [Service]
      ExecStart=/opt/nats-server -c /etc/nats.conf
"""
BORN = "until [ -e /run/cloud-init/result.json ]; do sleep 0.02; done"


def run() -> Result:
    if os.geteuid() != 0:
        raise SystemExit("hosts_plant needs root: it boots hosts in namespaces.")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        lab = Lab()
        try:
            with lab.laptop.entered(), served(Path(folder)):
                for size, pairs in PAIRS.items():
                    figures |= _measured(lab, Path(folder), patch, size, pairs)
        finally:
            lab.close()
    ours, bare = (figures[f"large_{side}"] / figures[f"small_{side}"] for side in ("seconds", "bare_seconds"))
    figures["growth_ratio"] = ours / bare
    return Result("hosts_plant", figures, {"medium_ratio": 1.5, "growth_ratio": 1.1})


def _measured(lab: Lab, folder: Path, patch: pytest.MonkeyPatch, size: str, pairs: int) -> dict[str, float]:
    """The medians of *pairs* alternating plants of *size*, ours and bare."""
    rounds: list[dict[str, float]] = []
    bare: list[float] = []
    for pair in range(pairs):
        place = folder / f"{size}-{pair}"
        place.mkdir()
        rounds.append(_ours(lab, place, patch, size))
        bare.append(_bare(lab, place, NODES[size]))
    phases = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    seconds = phases.pop("verified")
    return {
        f"{size}_seconds": seconds,
        f"{size}_bare_seconds": statistics.median(bare),
        f"{size}_ratio": seconds / statistics.median(bare),
        **{f"{size}_until_{phase}": value for phase, value in phases.items()},
    }


def _ours(lab: Lab, folder: Path, patch: pytest.MonkeyPatch, size: str) -> dict[str, float]:
    """Seconds from the first request to each phase's end."""
    from flows.plant import plant  # noqa: PLC0415  # after Prefect's settings
    from flows.teardown import teardown  # noqa: PLC0415
    from tests.flows.homes import Home  # noqa: PLC0415

    simulator = Simulator(latency=Latency(scale=0), validate=False, hosts=lab)
    with lab.cleared(), simulator.running():
        Home(folder / "home", simulator, patch).settle()
        planted = plant("bench", nodes=NODES[size])
        first = min(each[0] for each in simulator.log)
        teardown("bench")
    return {phase: planted.began + seconds - first for phase, seconds in planted.phases.items()}


def _bare(lab: Lab, folder: Path, nodes: int) -> float:
    """Seconds from the first boot to a message through the cluster."""
    visitor = Visitor.with_new_key(folder)
    binary = nats_server(None, folders.cache_dir(), "").path
    with lab.cleared():
        began = time.monotonic()
        hosts = [
            lab.host(f"bare-node-{k + 1}", user_data=BIRTH, ssh_keys=[visitor.public]) for k in range(nodes)
        ]
        _at_once(Host.boot, hosts)
        _at_once(lambda host: _equipped(visitor, host, binary, hosts), hosts)
        _formed(hosts)
        urls = [f"nats://[{host.address}]:4222" for host in hosts]
        asyncio.run(admin.probe(urls, timeout=TIMEOUT))
        return time.monotonic() - began


def _equipped(visitor: Visitor, host: Host, binary: Path, hosts: Sequence[Host]) -> None:
    """Start the server of *host* as soon as it lets us in and its cloud-init has ended."""
    key = ("-i", str(visitor.private))
    until("it answers", lambda: knock(host.address) is Knock.OPEN, timeout=TIMEOUT, interval=POLL)
    until("it is born", lambda: visitor.ssh(host, BORN).returncode == 0, timeout=TIMEOUT, interval=POLL)
    ran(["scp", "-q", *QUIET, *key, str(binary), f"root@[{host.address}]:/opt/nats-server"])
    start = "cat > /etc/nats.conf && systemctl daemon-reload && systemctl start nats"
    ran(["ssh", *QUIET, *key, f"root@{host.address}", start], text=_configuration(host, hosts))


def _configuration(host: Host, hosts: Sequence[Host]) -> str:
    routes = ", ".join(f'"nats://[{each.address}]:6222"' for each in hosts)
    cluster = f'cluster {{ name: bare, listen: "[{host.address}]:6222", routes: [ {routes} ] }}'
    return f"""
        server_name: "{host.name}"
        listen: "[::]:4222"
        http: "[::]:8222"
        jetstream {{ store_dir: "/var/lib/nats", max_memory_store: 1073741824, max_file_store: 10737418240 }}
        {cluster if len(hosts) > 1 else ""}
        """


def _formed(hosts: Sequence[Host]) -> None:
    addresses, names = [(host.address, 8222) for host in hosts], [host.name for host in hosts]

    def formed() -> bool:
        return judge(dict(zip(names, monitor.read_all(addresses), strict=True))).formed

    until("the bare servers form a cluster", formed, timeout=TIMEOUT, interval=POLL)


def _at_once(act: Callable[[Any], object], several: Sequence[Any]) -> None:
    with ThreadPoolExecutor(len(several)) as pool:
        list(pool.map(act, several))
