"""DNS zones and their record sets."""

import ipaddress
import re

from tests.simulator.errors import ApiError, invalid, not_found, protected, taken
from tests.simulator.labels import check_labels
from tests.simulator.routes.actions import action_view, started
from tests.simulator.routes.call import Call, Handler, Reply, check_free, listed, named, text, update
from tests.simulator.state import Json, RecordSetState, ZoneState
from tests.simulator.world import World

NAME = re.compile(r"@|(\*|[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*")
DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\.[a-z][a-z0-9-]*[a-z0-9]")
ADDRESSES = {"A": ipaddress.IPv4Address, "AAAA": ipaddress.IPv6Address}
MOST_PER_PAGE = 100
SERVERS = ["hydrogen.ns.hetzner.com.", "oxygen.ns.hetzner.com.", "helium.ns.hetzner.de."]


def view(zone: ZoneState) -> Json:
    return {
        "id": zone.id,
        "name": zone.name,
        "mode": zone.mode,
        "ttl": zone.ttl,
        "labels": zone.labels,
        "status": "ok",
        "registrar": "other",
        "record_count": sum(len(each.records) for each in zone.rrsets.values()),
        "primary_nameservers": zone.primary_nameservers,
        "protection": zone.protection,
        "authoritative_nameservers": {
            "assigned": SERVERS,
            "delegated": SERVERS,
            "delegation_last_check": text(zone.created),
            "delegation_status": "valid",
        },
        "created": text(zone.created),
    }


def rrset_view(zone: ZoneState, rrset: RecordSetState) -> Json:
    return {
        "id": rrset.id,
        "name": rrset.name,
        "type": rrset.type,
        "ttl": rrset.ttl,
        "labels": rrset.labels,
        "protection": rrset.protection,
        "records": rrset.records,
        "zone": zone.id,
    }


def create(call: Call) -> Reply:
    world, body = call.world, call.body
    check_labels(body.get("labels"))
    check_free(world.zones, body["name"], "zone")
    if not DOMAIN.fullmatch(body["name"]):
        raise invalid("a zone is a domain right under a public suffix", "name")
    zone = ZoneState(
        id=world.new_id(),
        name=body["name"],
        created=world.now(),
        labels=dict(body.get("labels", {})),
        mode=body["mode"],
        ttl=body.get("ttl", 3600),
        primary_nameservers=body.get("primary_nameservers", []),
    )
    _add(world, zone, {"name": "@", "type": "NS", "records": [{"value": each} for each in SERVERS]})
    for each in body.get("rrsets", []):
        _add(world, zone, each)
    world.zones[zone.id] = zone
    action = world.act("create_zone", 0, ("zone", zone.id))
    return 201, {"zone": view(zone), "action": action_view(world, action)}


def get_list(call: Call) -> Reply:
    return listed(call, "zones", call.world.zones.values(), view, mode=lambda zone: zone.mode)


def get(call: Call) -> Reply:
    return 200, {"zone": view(_zone(call))}


def put(call: Call) -> Reply:
    update(call, call.world.zones, zone := _zone(call), "zone")
    return 200, {"zone": view(zone)}


def delete(call: Call) -> Reply:
    zone = _zone(call)
    if zone.protection["delete"]:
        raise protected("zone")
    del call.world.zones[zone.id]
    return _done(call, zone, "delete_zone")


def change_zone_ttl(call: Call) -> Reply:
    zone = _primary(call)
    zone.ttl = call.body["ttl"]
    return _done(call, zone, "change_ttl")


def change_zone_protection(call: Call) -> Reply:
    zone = _zone(call)
    zone.protection = {"delete": call.body.get("delete", zone.protection["delete"])}
    return _done(call, zone, "change_protection")


def list_rrsets(call: Call) -> Reply:
    zone = _primary(call)
    rrsets = zone.rrsets.values()
    return listed(
        call,
        "rrsets",
        rrsets,
        lambda rrset: rrset_view(zone, rrset),
        most=MOST_PER_PAGE,
        type=lambda rrset: rrset.type,
    )


def create_rrset(call: Call) -> Reply:
    zone = _primary(call)
    rrset = _add(call.world, zone, call.body)
    action = call.world.act("create_rrset", 0, ("zone", zone.id))
    return 201, {"rrset": rrset_view(zone, rrset), "action": action_view(call.world, action)}


def get_rrset(call: Call) -> Reply:
    zone = _primary(call)
    return 200, {"rrset": rrset_view(zone, _rrset(call, zone))}


def put_rrset(call: Call) -> Reply:
    zone = _primary(call)
    rrset = _rrset(call, zone)
    check_labels(call.body.get("labels"))
    rrset.labels = dict(call.body.get("labels", rrset.labels))
    return 200, {"rrset": rrset_view(zone, rrset)}


def delete_rrset(call: Call) -> Reply:
    zone = _primary(call)
    del zone.rrsets[_changeable(call, zone).id]
    return _done(call, zone, "delete_rrset")


def set_records(call: Call) -> Reply:
    """All records anew; the ttl stays."""
    zone = _primary(call)
    rrset = _changeable(call, zone)
    rrset.records = _records(rrset.type, call.body["records"])
    return _done(call, zone, "set_rrset_records")


def add_records(call: Call) -> Reply:
    """Makes the record set when there is none."""
    zone, given = _primary(call), call.body
    key = f"{call.path['rr_name']}/{call.path['rr_type']}"
    if key not in zone.rrsets:
        whole = {"name": call.path["rr_name"], "type": call.path["rr_type"], **given}
        _add(call.world, zone, whole)
        return _done(call, zone, "add_rrset_records")
    rrset = _changeable(call, zone)
    if "ttl" in given and given["ttl"] != rrset.ttl:
        raise invalid("ttl differs from that of the record set", "ttl")
    rrset.records = _records(rrset.type, rrset.records + given["records"])
    return _done(call, zone, "add_rrset_records")


def remove_records(call: Call) -> Reply:
    """Removes the record set when it becomes empty."""
    zone = _primary(call)
    rrset = _changeable(call, zone)
    gone = {each["value"] for each in call.body["records"]}
    if missing := gone - {each["value"] for each in rrset.records}:
        raise ApiError(404, "not_found", f"records {sorted(missing)} not found")
    rrset.records = [each for each in rrset.records if each["value"] not in gone]
    if not rrset.records:
        del zone.rrsets[rrset.id]
    return _done(call, zone, "remove_rrset_records")


def change_ttl(call: Call) -> Reply:
    zone = _primary(call)
    _changeable(call, zone).ttl = call.body["ttl"]
    return _done(call, zone, "change_rrset_ttl")


def change_protection(call: Call) -> Reply:
    zone = _primary(call)
    _rrset(call, zone).protection = {"change": call.body["change"]}
    return _done(call, zone, "change_rrset_protection")


def _add(world: World, zone: ZoneState, given: Json) -> RecordSetState:
    check_labels(given.get("labels"))
    if not NAME.fullmatch(given["name"]):
        raise invalid("a name is relative to its zone, in lower case, and has no trailing dot", "name")
    rrset = RecordSetState(
        name=given["name"],
        type=given["type"],
        ttl=given.get("ttl"),
        records=_records(given["type"], given["records"]),
        created=world.now(),
        labels=dict(given.get("labels", {})),
    )
    if rrset.id in zone.rrsets:
        raise taken(f"rrset {rrset.id} already exists")
    zone.rrsets[rrset.id] = rrset
    return rrset


def _records(kind: str, records: list[Json]) -> list[Json]:
    """Records as they are shown; 422 for doubles and for values that are not of their type."""
    values = [each["value"] for each in records]
    if len(set(values)) != len(values) or not values:
        raise invalid("records must be there and distinct", "records")
    for value in values:
        if kind in ADDRESSES:
            try:
                ADDRESSES[kind](value)
            except ValueError:
                raise invalid(f"{value!r} is no {kind} record", "records") from None
        if kind == "TXT" and not (value.startswith('"') and value.endswith('"')):
            raise invalid("values of TXT records are quoted", "records")
    return [{"value": each["value"], "comment": each.get("comment", "")} for each in records]


def _zone(call: Call) -> ZoneState:
    zone = named(call.world.zones, call.path["id_or_name"])
    if zone is None:
        raise not_found("zone", call.path["id_or_name"])
    return zone


def _primary(call: Call) -> ZoneState:
    zone = _zone(call)
    if zone.mode != "primary":
        raise ApiError(422, "incorrect_zone_mode", "the zone is not primary")
    return zone


def _rrset(call: Call, zone: ZoneState) -> RecordSetState:
    key = f"{call.path['rr_name']}/{call.path['rr_type']}"
    if key not in zone.rrsets:
        raise not_found("rrset", key)
    return zone.rrsets[key]


def _changeable(call: Call, zone: ZoneState) -> RecordSetState:
    rrset = _rrset(call, zone)
    if rrset.protection["change"]:
        raise ApiError(423, "protected", "rrset is protected from changes")
    return rrset


def _done(call: Call, zone: ZoneState, command: str) -> Reply:
    return started(call, call.world.act(command, 0, ("zone", zone.id)))


_ONE = "/zones/{id_or_name}/rrsets/{rr_name}/{rr_type}"

ROUTES: dict[str, Handler] = {
    "GET /zones": get_list,
    "POST /zones": create,
    "GET /zones/{id_or_name}": get,
    "PUT /zones/{id_or_name}": put,
    "DELETE /zones/{id_or_name}": delete,
    "POST /zones/{id_or_name}/actions/change_ttl": change_zone_ttl,
    "POST /zones/{id_or_name}/actions/change_protection": change_zone_protection,
    "GET /zones/{id_or_name}/rrsets": list_rrsets,
    "POST /zones/{id_or_name}/rrsets": create_rrset,
    f"GET {_ONE}": get_rrset,
    f"PUT {_ONE}": put_rrset,
    f"DELETE {_ONE}": delete_rrset,
    f"POST {_ONE}/actions/set_records": set_records,
    f"POST {_ONE}/actions/add_records": add_records,
    f"POST {_ONE}/actions/remove_records": remove_records,
    f"POST {_ONE}/actions/change_ttl": change_ttl,
    f"POST {_ONE}/actions/change_protection": change_protection,
}
