"""What stands on each machine of a forest: the cluster, its units, its files, and a workload beside it."""

import json

import pytest
from nats.aio.client import Client

from morpheus.machine import NATS, WORKLOAD, places
from tests.hosts.forests.stands import SOON, Stand, monitor, on
from tests.lab import Host
from tests.nats.grove import wait_for

pytestmark = pytest.mark.root

UNITS = [places.UNITS[NATS], places.UNITS[WORKLOAD]]


def shown(host: Host, unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit as systemd knows them."""
    told = host.run(["systemctl", "show", unit, *(f"--property={each}" for each in properties)])
    return dict(line.split("=", 1) for line in told.stdout.splitlines())


def test_its_nodes_are_one_cluster(either: Stand) -> None:
    names = {f"oak-node-{k}" for k in (1, 2, 3)}

    assert {host.name for host in either.hosts} == names
    assert either.counted() == names
    assert either.status.formation.formed


def test_every_server_answers_the_system_account_from_every_node(either: Stand) -> None:
    async def servers(client: Client) -> set[str]:
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        await client.publish("$SYS.REQ.SERVER.PING", reply=inbox)
        return {json.loads((await answers.next_msg(5)).data)["server"]["name"] for _ in either.hosts}

    seed = either.secrets.access.system_seed
    for host in either.hosts:
        assert on(host, servers, nkeys_seed_str=seed) == {"oak-node-1", "oak-node-2", "oak-node-3"}


def test_every_machine_is_well(either: Stand) -> None:
    for host in either.hosts:
        system = host.run(["systemctl", "is-system-running", "--wait"])
        birth = json.loads(host.run(["cat", "/run/cloud-init/result.json"]).stdout)["v1"]

        assert system.stdout == "running\n", host.run(["systemctl", "--failed"]).stdout
        assert birth["errors"] == []


def test_cloud_init_finds_nothing_to_complain_of(either: Stand) -> None:
    host = either.hosts[0]
    told = json.loads(host.run(["cloud-init", "status", "--format", "json"]).stdout)

    assert (told["status"], told["errors"], told.get("recoverable_errors", {})) == ("done", [], {})
    assert host.run(["cloud-init", "schema", "--system"]).returncode == 0


@pytest.mark.parametrize("unit", UNITS)
def test_units_run_and_come_back_with_the_machine(either: Stand, unit: str) -> None:
    for host in either.hosts:
        assert shown(host, unit, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
        assert host.run(["systemctl", "is-enabled", unit]).stdout == "enabled\n"


@pytest.mark.parametrize(("unit", "user"), [(UNITS[0], "nats"), (UNITS[1], "nimsforest")])
def test_what_runs_has_a_user_of_its_own_and_is_hardly_exposed(either: Stand, unit: str, user: str) -> None:
    host = either.hosts[0]
    main = shown(host, unit, "MainPID")["MainPID"]

    owner = host.run(["ps", "-o", "user=", "-p", main]).stdout.strip()
    exposure = host.run(["systemd-analyze", "security", "--no-pager", unit]).stdout.splitlines()[-1]

    assert owner == user
    assert float(exposure.split(":")[1].split()[0]) < 3.0, exposure
    assert host.run(["systemd-analyze", "verify", f"/etc/systemd/system/{unit}"]).stderr == ""


def test_what_nats_says_is_in_the_journal_and_in_its_file(either: Stand) -> None:
    for host in either.hosts:
        journal = host.run(["journalctl", "-q", "--no-pager", "-o", "cat", "-t", "nats-server"]).stdout
        log = host.run(["setpriv", "--reuid=nats", "--clear-groups", "cat", places.LAYOUT.log]).stdout

        for text in (journal, log):
            assert "Server is ready" in text
            assert "Route connection created" in text


def test_the_machine_tells_programs_what_it_is(either: Stand) -> None:
    for host, node in zip(either.hosts, either.forest.staying, strict=True):
        told = json.loads(host.run(["setpriv", "--reuid=nobody", "cat", places.NODE_INFO]).stdout)

        assert (told["forest_id"], told["node_id"], told["provider"]) == ("oak", host.name, "hetzner")
        assert (told["role"], told["location"]) == ("node", "fsn1")
        assert host.run(["hostname"]).stdout.strip() == node.name


def test_jetstream_has_the_limits_that_are_recorded(either: Stand) -> None:
    for host, node in zip(either.hosts, either.forest.staying, strict=True):
        used = monitor(host, "/jsz")["config"]

        assert used["max_memory"] == int(node.metadata["jetstream_memory"])
        assert used["max_storage"] == int(node.metadata["jetstream_file"])
        assert used["store_dir"].startswith(places.STORE)


def test_a_workload_with_its_nats_url_alone_uses_jetstream(either: Stand) -> None:
    async def begun(client: Client) -> dict[str, int]:
        streams = await client.jetstream().streams_info()
        return {str(each.config.name): each.state.messages for each in streams}

    host = either.hosts[0]
    wanted = {f"WORK-oak-node-{k}" for k in (1, 2, 3)}
    at_work = wait_for(lambda: on(host, begun), lambda seen: wanted <= seen.keys(), SOON)

    assert min(at_work[each] for each in wanted) >= 1
    for each in either.hosts:
        main = shown(each, "nimsforest.service", "MainPID")["MainPID"]
        environment = each.run(["cat", f"/proc/{main}/environ"]).stdout.split("\0")
        told = dict(line.split("=", 1) for line in environment if line)
        assert told["NATS_URL"] == "nats://localhost:4222"
        assert told["FOREST_ID"] == "oak"
        assert [key for key in told if "NATS" in key] == ["NATS_URL"]


def test_a_workload_does_not_get_at_the_store_or_at_secrets(either: Stand) -> None:
    host = either.hosts[0]
    main = shown(host, "nimsforest.service", "MainPID")["MainPID"]
    as_workload = ["nsenter", "-t", main, "-m", "setpriv", "--reuid=nimsforest", "--regid=nimsforest"]

    for path in (places.STORE, places.LAYOUT.config, places.LAYOUT.cluster, places.KEY):
        looked = host.run([*as_workload, "--clear-groups", "cat", path])
        assert "Permission denied" in looked.stderr, path
