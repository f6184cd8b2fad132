"""What can be ordered and what it costs: read only."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.simulator import catalogue
from tests.simulator.errors import ApiError, not_found
from tests.simulator.routes.call import Call, Handler, Reply, find_by_id, listed, price, text
from tests.simulator.state import Json
from tests.simulator.world import World

GONE = ApiError(410, "deprecated_api_endpoint", "datacenters were removed; use locations")


def location_view(location: catalogue.Location) -> Json:
    return {
        "id": location.id,
        "name": location.name,
        "description": f"{location.city} DC Park 1",
        "city": location.city,
        "country": location.country,
        "latitude": 50.0,
        "longitude": 12.0,
        "network_zone": location.zone,
    }


def deprecation_view(world: World, name: str) -> Json | None:
    if name not in world.deprecated:
        return None
    announced, ends = world.deprecated[name]
    return {"announced": text(announced), "unavailable_after": text(ends)}


def server_type_view(world: World, kind: catalogue.ServerType) -> Json:
    deprecation = deprecation_view(world, kind.name)
    over = kind.name in world.deprecated and world.deprecated[kind.name][1] <= world.now()
    return {
        "id": kind.id,
        "name": kind.name,
        "description": kind.name.upper(),
        "category": "General Purpose" if kind.dedicated else "Cost-Optimized",
        "cores": kind.cores,
        "memory": kind.memory,
        "disk": kind.disk,
        "cpu_type": "dedicated" if kind.dedicated else "shared",
        "architecture": kind.architecture,
        "storage_type": "local",
        "deprecated": deprecation is not None,
        "deprecation": deprecation,
        "prices": _prices(world, kind),
        "locations": [
            {
                "id": catalogue.LOCATIONS[name].id,
                "name": name,
                "deprecation": deprecation,
                "available": not over and not world.faults.is_sold_out(kind.name, name),
                "recommended": deprecation is None,
            }
            for name in kind.locations
        ],
    }


def image_view(world: World, image: catalogue.Image) -> Json:
    return {
        "id": image.id,
        "type": "system",
        "status": "available",
        "name": image.name,
        "description": image.name,
        "image_size": None,
        "disk_size": 10,
        "created": text(catalogue.LONG_AGO),
        "created_from": None,
        "bound_to": None,
        "os_flavor": image.flavor,
        "os_version": image.name.partition("-")[2],
        "rapid_deploy": True,
        "protection": {"delete": False},
        "deprecation": deprecation_view(world, image.name),
        "deleted": None,
        "labels": {},
        "architecture": image.architecture,
    }


def box_type_view(world: World, kind: catalogue.BoxType) -> Json:
    net = kind.price * world.price_factor
    return {
        "id": kind.id,
        "name": kind.name,
        "description": kind.name.upper(),
        "size": kind.size,
        "snapshot_limit": 10,
        "automatic_snapshot_limit": 10,
        "subaccounts_limit": kind.subaccounts,
        "deprecation": deprecation_view(world, kind.name),
        "prices": [
            {"location": each, **_times(net), "setup_fee": price(Decimal(0))} for each in catalogue.EUROPE
        ],
    }


def _times(net: Decimal) -> Json:
    return {"price_hourly": price(net), "price_monthly": price(net * catalogue.HOURS_PER_MONTH)}


def _prices(world: World, kind: catalogue.ServerType) -> list[Json]:
    traffic = {"included_traffic": 20 * 2**40, "price_per_tb_traffic": price(Decimal(1))}
    return [
        {"location": name, **_times(kind.price * world.price_factor), **traffic} for name in kind.locations
    ]


def pricing(call: Call) -> Reply:
    world, per_gb = call.world, {"price_per_gb_month": price(Decimal("0.05"))}
    addresses = [
        {
            "type": kind,
            "prices": [
                {"location": each, **_times(net * world.price_factor)} for each in catalogue.LOCATIONS
            ],
        }
        for kind, net in catalogue.PRIMARY_IP.items()
    ]
    types = [
        {"id": kind.id, "name": kind.name, "prices": _prices(world, kind)}
        for kind in catalogue.SERVER_TYPES.values()
    ]
    found = {
        "currency": "EUR",
        "vat_rate": f"{catalogue.VAT:.6f}",
        "floating_ip": {"price_monthly": price(Decimal(3))},
        "floating_ips": [],
        "image": per_gb,
        "load_balancer_types": [],
        "primary_ips": addresses,
        "server_backup": {"percentage": "20.0000000000"},
        "server_types": types,
        "volume": per_gb,
    }
    return 200, {"pricing": found}


def list_server_types(call: Call) -> Reply:
    kinds = sorted(catalogue.SERVER_TYPES.values(), key=lambda kind: kind.id)
    return listed(call, "server_types", kinds, lambda kind: server_type_view(call.world, kind))


def list_images(call: Call) -> Reply:
    images = [
        each
        for each in catalogue.IMAGES.values()
        if str(call.first("include_deprecated")).lower() == "true" or each.name not in call.world.deprecated
    ]
    return listed(
        call,
        "images",
        images,
        lambda image: image_view(call.world, image),
        architecture=lambda image: image.architecture,
        type=lambda _: "system",
        status=lambda _: "available",
    )


def list_locations(call: Call) -> Reply:
    return listed(call, "locations", catalogue.LOCATIONS.values(), location_view)


def list_box_types(call: Call) -> Reply:
    kinds = catalogue.BOX_TYPES.values()
    return listed(call, "storage_box_types", kinds, lambda kind: box_type_view(call.world, kind))


def get_server_type(call: Call) -> Reply:
    kind = _by_id(catalogue.SERVER_TYPES, call, "server type")
    return 200, {"server_type": server_type_view(call.world, kind)}


def get_image(call: Call) -> Reply:
    return 200, {"image": image_view(call.world, find_by_id(catalogue.IMAGES, call.path["id"], "image"))}


def get_location(call: Call) -> Reply:
    return 200, {"location": location_view(_by_id(catalogue.LOCATIONS, call, "location"))}


def get_box_type(call: Call) -> Reply:
    kind = _by_id(catalogue.BOX_TYPES, call, "storage box type")
    return 200, {"storage_box_type": box_type_view(call.world, kind)}


def _by_id(things: Mapping[str, Any], call: Call, what: str) -> Any:
    for each in things.values():
        if str(each.id) == call.path["id"]:
            return each
    raise not_found(what, call.path["id"])


def removed(_: Call) -> Reply:
    raise GONE


ROUTES: dict[str, Handler] = {
    "GET /datacenters": removed,
    "GET /datacenters/{id}": removed,
    "GET /images": list_images,
    "GET /images/{id}": get_image,
    "GET /locations": list_locations,
    "GET /locations/{id}": get_location,
    "GET /pricing": pricing,
    "GET /server_types": list_server_types,
    "GET /server_types/{id}": get_server_type,
    "GET /storage_box_types": list_box_types,
    "GET /storage_box_types/{id}": get_box_type,
}
