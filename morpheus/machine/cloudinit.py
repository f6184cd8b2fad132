"""What a machine is told at birth: cloud-init's user data, from the templates beside this module.

It holds what is known before the machine exists and is no secret; SSH brings the rest. The one exception is
the birth host key, by which the machine is recognised at the first connection and never again.

The document is a template, whose values pass the filter ``yaml``: it writes them as YAML itself would, so
that nothing in them can become a part of the document.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import yaml

from morpheus.errors import InvalidInputError
from morpheus.forest import Node, check_name
from morpheus.machine import NATS, WORKLOAD, places, store_marker
from morpheus.machine.limits import MIB
from morpheus.settings import IntegrationSettings
from morpheus.sizes import size_bytes

if TYPE_CHECKING:
    import jinja2

MAX_BYTES = 32 * 1024  # that Hetzner's API takes
HEAP_SHARE = 0.9  # of the unit's memory: Go collects before the kernel throttles or kills


@dataclass(frozen=True, slots=True)
class Resources:
    """What the NATS unit may use, as systemd writes it: ``200%``, ``1.5G``; None: all there is."""

    cpu_quota: str | None = None
    memory_high: str | None = None
    memory_max: str | None = None

    @property
    def heap(self) -> str | None:
        """GOMEMLIMIT where the unit's memory is limited."""
        caps = [size_bytes(cap) for cap in (self.memory_high, self.memory_max) if cap]
        return f"{int(min(caps) * HEAP_SHARE) // MIB}MiB" if caps else None

    @classmethod
    def of(cls, settings: IntegrationSettings) -> "Resources":
        """What the settings allow."""
        return cls(settings.nats_cpu_quota, settings.nats_memory_high, settings.nats_memory_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What is known of a node before its machine exists.

    ``host_key`` is the private half of its birth host key (ed25519, OpenSSH's text), ``host_key_public`` the
    line ``ssh-ed25519 AAAA...``; ``authorized_keys`` are the lines of those who may log in as root.
    """

    forest: str
    node: str
    created_at: datetime
    host_key: str = field(repr=False)
    host_key_public: str
    authorized_keys: tuple[str, ...]
    role: str = "node"
    provider: str = ""
    location: str = ""
    installs_nats: bool = True
    installs_workload: bool = False
    resources: Resources = Resources()
    ssh_port: int = 22

    def __post_init__(self) -> None:
        check_name(self.forest)
        if not Node(self.node).number or self.node.rpartition("-node-")[0] != self.forest:
            raise InvalidInputError(f"{self.node!r} is no node of {self.forest}.")
        if not self.authorized_keys:
            raise InvalidInputError(f"Nobody could log in to {self.node}: give it at least one SSH key.")

    @property
    def embedded(self) -> bool:
        """Whether the workload brings its own NATS server."""
        return self.installs_workload and not self.installs_nats

    @property
    def owner(self) -> str:
        """The user whose server keeps the JetStream store."""
        return places.WORKLOAD_USER if self.embedded else places.NATS_USER


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    owner: str = "root"
    group: str = "root"
    mode: str = "0755"


def render(birth: Birth) -> str:
    """The user data of a machine.

    Raises:
        InvalidInputError: it would be larger than a cloud takes.
    """
    facts = _facts(birth) | {"files": list(_files(birth)), "folders": list(_folders(birth))}
    text = templates().get_template("user-data.j2").render(facts)
    if len(text.encode()) >= MAX_BYTES:
        raise InvalidInputError(
            f"The user data of {birth.node} would have {len(text.encode())} bytes, and a cloud takes less "
            f"than {MAX_BYTES}: let fewer SSH keys in."
        )
    return text


def units(birth: Birth) -> Mapping[str, str]:
    """The systemd units of a machine: path and text."""
    paths = [places.unit_path(NATS), places.LOG_UNIT_PATH] if birth.installs_nats else []
    if birth.installs_workload:
        paths.append(places.unit_path(WORKLOAD))
    return {path: _text(f"{path.rpartition('/')[2]}.j2", birth) for path in paths}


def node_info(birth: Birth) -> str:
    """What programs on the machine may know of it, as JSON."""
    told = {
        "forest_id": birth.forest,
        "node_id": birth.node,
        "role": birth.role,
        "provider": birth.provider,
        "location": birth.location,
        "created_at": birth.created_at.isoformat(),
    }
    return json.dumps({key: value for key, value in told.items() if value}, indent=2) + "\n"


def _files(birth: Birth) -> Iterator[_File]:
    yield _File(places.NODE_INFO, node_info(birth))
    marker = store_marker(birth.forest, birth.node, birth.created_at.isoformat())
    yield _File(places.LAYOUT.marker, marker.decode(), "0600")
    for path, text in units(birth).items():
        yield _File(path, text)
    yield _File("/etc/ssh/sshd_config.d/10-morpheus.conf", _text("sshd.conf.j2", birth))
    yield _File("/etc/sysctl.d/60-nimsforest.conf", _text("sysctl.conf.j2", birth))
    yield _File("/etc/systemd/journald.conf.d/60-nimsforest.conf", _text("journald.conf.j2", birth))
    yield _File("/etc/apt/apt.conf.d/60nimsforest", _text("upgrades.conf.j2", birth))


def _folders(birth: Birth) -> Iterator[_Folder]:
    owner, workload = birth.owner, places.WORKLOAD_USER
    yield _Folder(places.BINARIES)
    for path in (places.SETTINGS, places.TLS):
        yield _Folder(path, group=owner, mode="2755")
    yield _Folder(places.LIBRARY, group=workload, mode="1775")  # sticky: the store cannot be moved away
    yield _Folder(places.DATA, workload, workload, "0750")
    store, data = places.LAYOUT.store, places.LAYOUT.data
    for path in (store, data, places.LAYOUT.marker.rpartition("/")[0]):
        yield _Folder(path, owner, owner, "0700")
    yield _Folder(places.LOGS, owner, owner)
    if birth.embedded:
        yield _Folder(places.SHARE)


def _facts(birth: Birth) -> dict[str, object]:
    users = (places.NATS_USER, places.WORKLOAD_USER) if birth.installs_nats else (places.WORKLOAD_USER,)
    return {
        "places": places,
        "forest": birth.forest,
        "node": birth.node,
        "host_key": birth.host_key,
        "host_key_public": birth.host_key_public,
        "authorized_keys": birth.authorized_keys,
        "embedded": birth.embedded,
        "owner": birth.owner,
        "users": users,
        "resources": birth.resources,
        "heap": birth.resources.heap,
        "ssh_port": birth.ssh_port,
    }


def _text(template: str, birth: Birth) -> str:
    return templates().get_template(template).render(_facts(birth))


class _Readable(yaml.SafeDumper):
    """Writes texts of several lines as such, wherever YAML can."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else '"'
    ),
)


def _yaml(text: str, indent: int = 0) -> str:
    """*text* as a value in a YAML document; its further lines, if any, are indented by *indent* more."""
    first, *rest = yaml.dump(text, Dumper=_Readable, width=2**31, indent=2).rstrip("\n").split("\n")
    return "\n".join([first, *(" " * indent + line if line else line for line in rest)])


def _quoted(text: str) -> str:
    """*text* between the quotes of curl's settings."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


@functools.cache
def templates() -> "jinja2.Environment":
    import jinja2  # noqa: PLC0415  # reading commands never need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("morpheus.machine", "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # this is no HTML; the filter guards every value
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = _yaml
    environment.filters["quoted"] = _quoted
    return environment
