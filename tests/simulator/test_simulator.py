"""The traps of the API, each once, with the real client."""

import base64
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import hcloud
import pytest
import requests
from hcloud import APIException
from hcloud.actions import ActionFailedException
from hcloud.firewalls import FirewallResource, FirewallResourceLabelSelector, FirewallRule
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.networks import NetworkSubnet
from hcloud.servers import ServerCreatePublicNetwork
from hcloud.servers.client import CreateServerResponse

from tests.simulator import Latency, Limits, Simulator
from tests.simulator.conftest import Order, client_of

SSH = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["::/0"])


def settled(created: CreateServerResponse) -> CreateServerResponse:
    """Wait for everything an order has begun."""
    for action in (created.action, *created.next_actions):
        action.wait_until_finished()
    return created


def public_key(number: int) -> str:
    blob = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + bytes([number] * 32)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} someone@example.com"


@pytest.fixture
def slow() -> Simulator:
    """Latencies of the default, on a clock that moves only when told."""
    simulator = Simulator()
    now = datetime(2026, 11, 1, tzinfo=UTC)
    simulator.clock = lambda: now
    return simulator


# Capacity


def test_a_type_may_be_unavailable_in_a_location_although_it_says_otherwise(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    simulator.faults.unavailable("cx23", "fsn1", times=1)

    with pytest.raises(APIException) as failed:
        order()

    assert (failed.value.code, failed.value.message) == ("resource_unavailable", "error during placement")
    kind = client.server_types.get_by_name("cx23")
    assert kind
    assert kind.locations
    assert kind.locations[0].available
    settled(order())
    assert simulator.servers["oak-node-1"].status == "running"


def test_a_location_may_be_closed(simulator: Simulator, order: Order) -> None:
    simulator.faults.location_disabled("fsn1")

    with pytest.raises(APIException, match="server location disabled"):
        order("oak-node-1", "cx33")

    order("oak-node-1", "cx33", "nbg1")


def test_what_is_sold_out_says_so(simulator: Simulator, client: hcloud.Client) -> None:
    simulator.faults.sold_out("cx23", "nbg1")

    kind = client.server_types.get_by_name("cx23")

    assert kind
    assert kind.locations
    assert [each.available for each in kind.locations] == [True, False, True]


@pytest.mark.parametrize("scripted", [True, False])
def test_an_unsupported_location_has_no_fields(simulator: Simulator, order: Order, scripted: bool) -> None:
    if scripted:
        simulator.faults.unsupported_location("cx23", "hel1")

    with pytest.raises(APIException) as failed:
        order("oak-node-1", *(("cx23", "hel1") if scripted else ("cax11", "ash")))

    assert failed.value.code == "invalid_input"
    assert failed.value.message == "unsupported location for server type"
    assert failed.value.details == {}


def test_projects_have_limits() -> None:
    simulator = Simulator(latency=Latency(scale=0), limits=Limits(servers=1, primary_ips=2))
    with simulator.running():
        client = client_of(simulator)
        kind = client.server_types.get_by_name("cx23")
        assert kind
        client.servers.create("oak-node-1", kind, Image(name="debian-13"))

        with pytest.raises(APIException, match="server limit exceeded") as failed:
            client.servers.create("oak-node-2", kind, Image(name="debian-13"))
        with pytest.raises(APIException, match="Primary IP limit exceeded"):
            client.primary_ips.create("ipv4", "mine", Location(name="fsn1"))

    assert failed.value.code == "resource_limit_exceeded"


# Requests


def test_the_bucket_of_requests_empties_and_fills() -> None:
    simulator = Simulator(limits=Limits(requests_per_hour=2))
    now = datetime(2026, 11, 1, tzinfo=UTC)
    simulator.clock = lambda: now
    simulator.faults.token_in_message()
    with simulator.running() as url:
        headers = {"Authorization": f"Bearer {simulator.token}"}

        answers = [requests.get(f"{url}/v1/locations", headers=headers, timeout=5) for _ in range(3)]

        assert [each.status_code for each in answers] == [200, 200, 429]
        assert [each.headers["RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]
        assert answers[2].headers["RateLimit-Limit"] == "2"
        assert int(answers[2].headers["RateLimit-Reset"]) == int(now.timestamp()) + 2
        assert simulator.token in answers[2].json()["error"]["message"]
        simulator.advance(1)
        assert requests.get(f"{url}/v1/locations", headers=headers, timeout=5).status_code == 200
    assert simulator.requests == {"GET /locations": 4}
    assert [status for *_, status in simulator.log] == [200, 200, 429, 200]


def test_tokens(simulator: Simulator, order: Order) -> None:
    with pytest.raises(APIException) as wrong:
        client_of(simulator, "wrong").servers.get_all()
    reader = client_of(simulator, simulator.read_only_token)
    with pytest.raises(APIException) as refused:
        reader.ssh_keys.create("mine", public_key(1))

    assert (wrong.value.code, refused.value.code) == ("unauthorized", "token_readonly")
    assert reader.servers.get_all() == []


@pytest.mark.parametrize("after", ["reset", "timeout"])
def test_a_reply_may_be_lost_after_the_server_was_created(
    simulator: Simulator, order: Order, client: hcloud.Client, after: str
) -> None:
    simulator.faults.lose_reply("POST /servers", after=after)  # type: ignore[arg-type]  # one of two
    client._client._timeout = 0.3

    if after == "reset":
        with pytest.raises(requests.ConnectionError):
            order()
    else:
        with pytest.raises(APIException) as failed:
            order()
        assert failed.value.code == "uniqueness_error"

    assert list(simulator.servers) == ["oak-node-1"]
    assert simulator.requests["POST /servers"] == (1 if after == "reset" else 2)


def test_a_connection_may_be_refused_before_anything_happens(simulator: Simulator, order: Order) -> None:
    simulator.faults.refuse_connection("POST /servers")

    with pytest.raises(requests.ConnectionError):
        order()

    assert simulator.servers == {}


def test_a_slow_request(simulator: Simulator, client: hcloud.Client) -> None:
    simulator.faults.slow("GET /locations", 0.2, times=1)

    client.locations.get_all()

    arrived, replied, _, _ = simulator.log[-1]
    assert replied - arrived >= 0.2


def test_conflicts_and_bad_gateways_are_asked_again_by_the_client(
    simulator: Simulator, client: hcloud.Client
) -> None:
    key = client.ssh_keys.create("mine", public_key(1))
    simulator.faults.status("PUT /ssh_keys/{id}", 409, times=2)
    simulator.faults.status("PUT /*", 502, times=1)

    key.update(name="ours")

    assert simulator.requests["PUT /ssh_keys/{id}"] == 4
    assert list(simulator.ssh_keys) == ["ours"]


def test_unavailable_and_bare_codes_are_not(simulator: Simulator, client: hcloud.Client) -> None:
    simulator.faults.status("GET /servers", 503)

    with pytest.raises(APIException) as failed:
        client.servers.get_all()

    assert failed.value.code == "unavailable"
    assert failed.value.correlation_id


def test_conflicts_at_random_come_from_the_seed(client: hcloud.Client, simulator: Simulator) -> None:
    counts = []
    for _ in range(2):
        simulator.faults.clear()
        simulator.faults._throws.clear()
        simulator.faults.conflict(0.3, seed=3)
        before = simulator.requests["POST /placement_groups"]
        for number in range(10):
            client.placement_groups.create(f"group-{number}", "spread").placement_group.delete()
        counts.append(simulator.requests["POST /placement_groups"] - before)

    assert counts[0] == counts[1] > 10


def test_removed_endpoints(simulator: Simulator, client: hcloud.Client) -> None:
    for path in ("/datacenters", "/actions"):
        with pytest.raises(APIException) as failed:
            client.request("GET", path)
        assert failed.value.code == "deprecated_api_endpoint"


# Actions


def test_the_actions_of_an_order_end_one_after_another(slow: Simulator) -> None:
    with slow.running():
        client = client_of(slow)
        kind = client.server_types.get_by_name("cx23")
        assert kind
        created = client.servers.create("oak-node-1", kind, Image(name="debian-13"))
        ids = [created.action.id, *(each.id for each in created.next_actions)]
        seen = []
        for _ in range(3):
            actions = client.request("GET", "/actions", params={"id": ids})["actions"]
            status = client.servers.get_by_id(created.server.id).status
            seen.append(([each["status"] for each in actions], status))
            slow.advance(3)

    assert [each["command"] for each in actions] == ["create_server", "start_server"]
    assert seen == [
        (["running", "running"], "initializing"),
        (["success", "running"], "starting"),
        (["success", "success"], "running"),
    ]


def test_a_server_may_be_created_and_not_start(simulator: Simulator, order: Order) -> None:
    simulator.faults.action_error("start_server", "unknown_error")
    created = order()
    created.action.wait_until_finished()

    with pytest.raises(ActionFailedException, match="unknown_error"):
        created.next_actions[0].wait_until_finished()

    assert simulator.servers["oak-node-1"].status == "off"


def test_a_firewall_may_fail_to_apply(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    firewall = client.firewalls.create("oak", [SSH]).firewall
    simulator.faults.action_error("apply_firewall")
    created = order(firewalls=[firewall])
    created.next_actions[0].wait_until_finished()

    with pytest.raises(ActionFailedException):
        created.next_actions[1].wait_until_finished()

    server = client.servers.get_by_id(created.server.id)
    assert server.status == "running"
    assert server.public_net
    assert server.public_net.firewalls
    assert server.public_net.firewalls[0].status == "pending"


def test_an_action_may_be_stuck(simulator: Simulator, order: Order) -> None:
    simulator.faults.action_stuck("create_server", 300)
    created = order()

    created.action.reload()
    assert created.action.status == "running"
    simulator.advance(301)
    settled(created)


def test_a_server_is_locked_while_an_action_runs(slow: Simulator) -> None:
    with slow.running():
        client = client_of(slow)
        kind = client.server_types.get_by_name("cx23")
        assert kind
        server = client.servers.create("oak-node-1", kind, Image(name="debian-13")).server
        assert client.servers.get_by_id(server.id).locked

        with pytest.raises(APIException) as failed:
            server.delete()

        assert failed.value.code == "locked"
        slow.advance(10)
        slow.faults.locked("oak-node-1", times=1)
        with pytest.raises(APIException, match="server is locked"):
            server.power_off()
        server.delete()


# Names, labels, lists


@pytest.mark.parametrize("name", ["Oak", "oak_node", "-oak", "o" * 64, ""])
def test_names_are_hostnames(order: Order, name: str) -> None:
    with pytest.raises(APIException) as failed:
        order(name)

    assert failed.value.code == "invalid_input"


def test_names_are_unique(order: Order) -> None:
    order()

    with pytest.raises(APIException, match="server name is already used") as failed:
        order()

    assert failed.value.code == "uniqueness_error"


@pytest.mark.parametrize(
    "labels",
    [{"hetzner.cloud/mine": "1"}, {"address": "2001:db8::1"}, {"-key": ""}, {"key": "x" * 64}, {"a/b/c": ""}],
)
def test_labels_are_checked(order: Order, labels: dict[str, str]) -> None:
    with pytest.raises(APIException) as failed:
        order(labels=labels)

    assert failed.value.code == "invalid_input"


def test_user_data_has_a_limit(order: Order) -> None:
    order("oak-node-1", user_data="x" * 32768)

    with pytest.raises(APIException, match="invalid_input"):
        order("oak-node-2", user_data="x" * 32769)


def test_pages_and_exact_names(client: hcloud.Client) -> None:
    for number in range(30):
        client.placement_groups.create(f"group-{number}", "spread")

    page = client.placement_groups.get_list()
    assert len(page.placement_groups) == 25
    assert page.meta.pagination
    assert page.meta.pagination.next_page == 2
    assert page.meta.pagination.total_entries == 30
    assert len(client.placement_groups.get_all()) == 30
    assert client.placement_groups.get_by_name("group-") is None
    assert len(client.placement_groups.get_list(name="group-1").placement_groups) == 1
    with pytest.raises(APIException) as failed:
        client.placement_groups.get_list(per_page=51)
    assert failed.value.code == "invalid_input"


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("env=prod", "a"),
        ("env==prod", "a"),
        ("env!=prod", "bc"),
        ("env", "ab"),
        ("!env", "c"),
        ("env in (prod, test)", "ab"),
        ("env notin (prod,test)", "c"),
        ("env in (prod,test),tier=1", "b"),
        ("example.com/role=node", "c"),
    ],
)
def test_label_selectors(client: hcloud.Client, selector: str, found: str) -> None:
    wanted = {"a": {"env": "prod"}, "b": {"env": "test", "tier": "1"}, "c": {"example.com/role": "node"}}
    for name, labels in wanted.items():
        client.placement_groups.create(name, "spread", labels=labels)

    groups = client.placement_groups.get_all(label_selector=selector)

    assert "".join(each.name or "" for each in groups) == found


@pytest.mark.parametrize("selector", ["env=a=b", "env in prod", "a b", "=x", "a:b=1"])
def test_selectors_that_are_none(client: hcloud.Client, selector: str) -> None:
    with pytest.raises(APIException) as failed:
        client.placement_groups.get_all(label_selector=selector)

    assert failed.value.code == "invalid_input"


def test_labels_are_replaced_as_a_whole(simulator: Simulator, order: Order) -> None:
    server = order(labels={"a": "1", "b": "2"}).server

    server.update(labels={"b": "3"})

    assert simulator.servers["oak-node-1"].labels == {"b": "3"}


# Servers


def test_addresses(client: hcloud.Client, order: Order) -> None:
    created = order()
    raw = client.request("GET", f"/servers/{created.server.id}")["server"]

    assert ipaddress.IPv6Network(raw["public_net"]["ipv6"]["ip"]).prefixlen == 64
    assert raw["public_net"]["ipv6"]["ip"].endswith("::/64")
    assert raw["public_net"]["ipv4"] is None
    assert "datacenter" not in raw
    assert raw["location"]["name"] == "fsn1"


def test_deprecated_types_are_listed_and_cannot_be_ordered(client: hcloud.Client, order: Order) -> None:
    kind = client.server_types.get_by_name("cx22")

    assert kind
    assert kind.locations
    ends = kind.locations[0].deprecation
    assert ends
    assert ends.unavailable_after
    assert ends.unavailable_after < datetime.now(UTC)
    with pytest.raises(APIException, match="deprecated"):
        order(kind="cx22")


def test_deprecations_are_announced(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    simulator.deprecate("cx23", days=30)

    kind = client.server_types.get_by_name("cx23")

    assert kind
    assert kind.locations
    assert kind.locations[0].deprecation
    assert kind.locations[0].available
    order()


def test_images_are_there_once_per_architecture(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    images = client.images.get_all(name="debian-13")
    arm = client.images.get_by_name_and_architecture("debian-13", "arm")

    assert {each.architecture for each in images} == {"x86", "arm"}
    assert "deprecated" not in client.request("GET", "/images")["images"][0]
    assert arm
    with pytest.raises(APIException, match="architecture"):
        order(image=Image(id=arm.id))
    order("oak-node-2", "cax11")
    assert simulator.servers["oak-node-2"].image == arm.id


def test_keys_are_unique_by_fingerprint_and_by_name(client: hcloud.Client) -> None:
    key = client.ssh_keys.create("mine", public_key(1))

    raw = base64.b64decode(public_key(1).split()[1])
    assert key.fingerprint == ":".join(f"{each:02x}" for each in hashlib.md5(raw).digest())
    assert client.ssh_keys.get_by_fingerprint(key.fingerprint or "")
    for name, number in (("other", 1), ("mine", 2)):
        with pytest.raises(APIException) as failed:
            client.ssh_keys.create(name, public_key(number))
        assert failed.value.code == "uniqueness_error"


def test_a_server_without_a_key_has_a_password(client: hcloud.Client, order: Order) -> None:
    key = client.ssh_keys.create("mine", public_key(1))

    assert order("oak-node-1").root_password
    assert order("oak-node-2", ssh_keys=[key]).root_password is None


def test_groups_spread_ten_servers(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    group = client.placement_groups.create("oak", "spread").placement_group
    for number in range(10):
        order(f"oak-node-{number}", placement_group=group)

    with pytest.raises(APIException) as failed:
        order("oak-node-10", placement_group=group)

    assert failed.value.code == "placement_group_member_limit_reached"
    assert len({each.hypervisor for each in simulator.servers.values()}) == 10
    assert "oak-node-10" not in simulator.servers


def test_a_group_may_be_full_too_early(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    group = client.placement_groups.create("oak", "spread").placement_group
    simulator.faults.placement_full("oak", times=1)

    with pytest.raises(APIException, match="contains already 10 servers"):
        order(placement_group=group)


def test_protection_and_what_is_not_there(simulator: Simulator, order: Order, client: hcloud.Client) -> None:
    server = settled(order()).server
    server.change_protection(delete=True, rebuild=True).wait_until_finished()
    with pytest.raises(APIException) as failed:
        server.delete()
    assert failed.value.code == "protected"

    server.change_protection(delete=False, rebuild=False).wait_until_finished()
    server.delete().wait_until_finished()

    for ask in (server.delete, server.reload, lambda: client.actions.get_by_id(99)):
        with pytest.raises(APIException) as failed:
            ask()
        assert failed.value.code == "not_found"
    assert simulator.billable() == []


def test_primary_ips_stay_unless_they_go_with_their_server(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    mine = client.primary_ips.create("ipv4", "mine", Location(name="fsn1"), auto_delete=False).primary_ip
    net = ServerCreatePublicNetwork(ipv4=mine, enable_ipv4=True, enable_ipv6=True)
    server = settled(order(public_net=net)).server
    assert simulator.servers["oak-node-1"].ipv4 == mine.ip
    with pytest.raises(APIException) as failed:
        mine.delete()
    assert failed.value.code == "must_be_unassigned"

    server.delete().wait_until_finished()

    assert [each.name for each in client.primary_ips.get_all()] == ["mine"]
    mine.reload()
    assert (mine.assignee_id, mine.assignee_type) == (None, "unassigned")
    assert simulator.billable() == ["primary_ip mine"]
    mine.delete()
    assert simulator.billable() == []


def test_power_rebuild_and_networks(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    subnet = NetworkSubnet(type="cloud", network_zone="eu-central", ip_range="10.0.0.0/24")
    network = client.networks.create("inner", "10.0.0.0/16", subnets=[subnet])
    server = settled(order()).server
    state = simulator.servers["oak-node-1"]
    for change, status in (
        (server.shutdown, "off"),
        (server.power_on, "running"),
        (server.reboot, "running"),
        (server.reset, "running"),
        (server.power_off, "off"),
    ):
        change().wait_until_finished()
        assert state.status == status
    server.attach_to_network(network).wait_until_finished()
    server.rebuild(Image(name="ubuntu-24.04")).action.wait_until_finished()
    server.reload()

    assert server.private_net[0].ip == "10.0.0.2"
    assert server.image
    assert server.image.name == "ubuntu-24.04"
    with pytest.raises(APIException, match="resource_in_use"):
        network.delete()
    server.detach_from_network(network).wait_until_finished()
    network.delete()


def test_metrics_are_text_and_know_no_memory(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    server = settled(order()).server
    begin = simulator.clock()
    simulator.advance(600)

    metrics = server.get_metrics(
        ["cpu", "disk", "network"], begin, begin + timedelta(seconds=600), step=10
    ).metrics

    assert not any("memory" in name for name in metrics.time_series)
    values = metrics.time_series["cpu"]["values"]
    assert values[0][1] == "NaN"
    assert all(isinstance(text, str) for _, text in values)
    assert len(values) < 54
    assert values[-1][0] <= (simulator.clock() - timedelta(seconds=60)).timestamp()


# Firewalls


def test_labels_bring_firewalls_a_few_seconds_late(slow: Simulator) -> None:
    with slow.running():
        client = client_of(slow)
        chosen = FirewallResource(
            "label_selector", label_selector=FirewallResourceLabelSelector(selector="forest=oak")
        )
        client.firewalls.create("oak", [SSH], resources=[chosen])
        kind = client.server_types.get_by_name("cx23")
        assert kind
        client.servers.create("oak-node-1", kind, Image(name="debian-13"), labels={"forest": "oak"})
        slow.advance(1.9)
        early = dict(slow.servers["oak-node-1"].firewalls)
        slow.advance(3.2)

        assert early == {}
        assert list(slow.servers["oak-node-1"].firewalls.values()) == ["applied"]


def test_a_firewall_in_use_stays(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    firewall = client.firewalls.create("oak", [SSH]).firewall
    server = settled(order(firewalls=[firewall])).server
    for action in firewall.set_rules([SSH, SSH]):
        action.wait_until_finished()
    assert len(simulator.firewalls["oak"].rules) == 2
    with pytest.raises(APIException, match="still in use") as failed:
        firewall.delete()
    assert failed.value.code == "resource_in_use"
    server.delete().wait_until_finished()
    simulator.faults.zombie_firewall("oak", times=1)

    with pytest.raises(APIException, match="still in use"):
        firewall.delete()

    firewall.delete()
    assert simulator.firewalls == {}


def test_firewalls_are_applied_and_removed(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    firewall = client.firewalls.create("oak", [SSH]).firewall
    resource = FirewallResource("server", server=settled(order()).server)

    for change in (firewall.apply_to_resources, firewall.remove_from_resources):
        for action in change([resource]):
            action.wait_until_finished()

    with pytest.raises(APIException) as failed:
        firewall.remove_from_resources([resource])
    assert failed.value.code == "firewall_resource_not_found"
    assert simulator.servers["oak-node-1"].firewalls == {}


@pytest.mark.parametrize(
    "rule",
    [
        FirewallRule("in", "tcp", source_ips=["::/0"]),
        FirewallRule("in", "icmp", source_ips=["::/0"], port="22"),
        FirewallRule("in", "tcp", source_ips=["::/0"], port="90000"),
        FirewallRule("in", "tcp", source_ips=["house"], port="22"),
        FirewallRule("out", "tcp", source_ips=["::/0"], port="22"),
    ],
)
def test_rules_that_say_nothing(client: hcloud.Client, rule: FirewallRule) -> None:
    with pytest.raises(APIException) as failed:
        client.firewalls.create("oak", [rule])

    assert failed.value.code == "invalid_input"


# Money


def test_hours_are_billed_once_begun(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    server = settled(order()).server
    server.power_off().wait_until_finished()
    price = Decimal(
        client.request("GET", "/server_types?name=cx23")["server_types"][0]["prices"][0]["price_hourly"][
            "net"
        ]
    )
    assert simulator.cost() == price
    simulator.advance(3601)
    assert simulator.cost() == 2 * price
    simulator.change_prices(Decimal(2))

    server.delete().wait_until_finished()
    assert simulator.billable() == []
    simulator.advance(7200)
    assert simulator.cost() == 2 * price
    order("oak-node-2")

    assert simulator.cost() == 4 * price
    assert simulator.billable() == ["server oak-node-2"]


def test_prices_are_texts(client: hcloud.Client) -> None:
    pricing = client.request("GET", "/pricing")["pricing"]

    assert {each["type"] for each in pricing["primary_ips"]} == {"ipv4", "ipv6"}
    assert isinstance(pricing["server_types"][0]["prices"][0]["price_hourly"]["net"], str)
