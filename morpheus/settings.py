"""The settings: morpheus.yaml, ${VAR} in its values, and a few variables of the environment."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from morpheus import kept, sizes
from morpheus.errors import InvalidInputError
from morpheus.folders import config_path, data_dir

DAY = 24 * 60  # minutes
SECRETS = {"password", "token"}  # keys whose values stand in no message
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Part(BaseModel):
    """A part of the settings: frozen, and a mistyped key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class RegistrySettings(_Part):
    """Where the shared registry stands."""

    type: Literal["storagebox", "s3", "local", "none"] | None = Field(
        None, description="Kind of store; left out, only the forests of this machine are known."
    )
    url: str | None = Field(
        None,
        description="The document, its directory (ends in /) or a bare host; for type local a path that ends "
        "in .json.",
    )
    username: str | None = Field(None, description="User of the store; for S3 the id of the access key.")
    password: SecretStr | None = Field(None, description="Password of the store; for S3 the secret key.")

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        if self.type in {"storagebox", "s3"} and not self.url:
            raise ValueError(f"type {self.type} needs a url")
        if self.type == "none" and self.url:
            raise ValueError("type none has no url: it is a file in the data folder")
        if self.type == "local" and self.url and not self.url.endswith(".json"):
            raise ValueError("the url of type local is the path of a file that ends in .json")
        return self


class HetznerSettings(_Part):
    """Machines on Hetzner Cloud."""

    token: SecretStr | None = Field(
        None, description="API token that may read and write; else HETZNER_API_TOKEN or HCLOUD_TOKEN."
    )
    server_type: str = Field("cx23", description="Server type of new nodes.")
    server_type_fallback: tuple[str, ...] = Field((), description="Types to try when that one is sold out.")
    image: str = Field("debian-13", description="Image of new nodes.")
    location: str | tuple[str, ...] = Field("fsn1", description="Location, or locations in order.")
    api_url: str = Field("https://api.hetzner.cloud/v1", description="The Cloud API.")
    boxes_url: str = Field("https://api.hetzner.com/v1", description="The API of Storage Boxes.")
    ipv6_target: str = Field(
        "2a01:4ff:ff00::add:1",
        description="Address to which a route must lead from here before IPv6-only nodes are made.",
    )
    ipv4_target: str = Field(
        "185.12.64.1",
        description="The same where nodes have IPv4 as well and no route leads to IPv6 addresses.",
    )
    create_timeout: float = Field(600.0, gt=0, description="Seconds until a new server must run.")

    @property
    def locations(self) -> tuple[str, ...]:
        """In order."""
        return (self.location,) if isinstance(self.location, str) else self.location

    @model_validator(mode="after")
    def _has_a_location(self) -> Self:
        if not self.locations:
            raise ValueError("location names none")
        return self


class SshSettings(_Part):
    """The operator's SSH key."""

    key_name: str | None = Field(None, description="Name of the key in the cloud project.")
    key_path: Path | None = Field(None, description="Path of the private key.")


class Ipv4Settings(_Part):
    """Public IPv4 addresses of nodes."""

    enabled: bool = Field(default=False, description="Give nodes an IPv4 address as well.")


Network = IPv4Network | IPv6Network


class FirewallSettings(_Part):
    """Who may reach nodes from outside, as networks such as 192.0.2.0/24; NATS nodes reach each other."""

    ssh: tuple[Network, ...] = Field(
        (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")), description="SSH; where nobody may, nodes are lost."
    )
    nats: tuple[Network, ...] = Field((), description="NATS clients, port 4222.")
    leafnode: tuple[Network, ...] = Field((), description="NATS leaf nodes, port 7777.")
    monitoring: tuple[Network, ...] = Field((), description="NATS monitoring, port 8222.")


class BudgetSettings(_Part):
    """What all forests together may cost."""

    max_monthly_eur: float | None = Field(None, gt=0, description="EUR a month, VAT included.")


class MachineSettings(_Part):
    """Where nodes run."""

    provider: Literal["hetzner", "local"] = Field("hetzner", description="Provider of machines.")
    hetzner: HetznerSettings = HetznerSettings()
    ssh: SshSettings = SshSettings()
    ipv4: Ipv4Settings = Ipv4Settings()


UnitSize = Annotated[str, AfterValidator(sizes.unit_size)]
StoreSize = Annotated[str, AfterValidator(sizes.store_size)]


class IntegrationSettings(_Part):
    """What runs on nodes."""

    nats_install: bool = Field(default=True, description="Install a NATS server on each node.")
    nats_version: str | None = Field(None, description="Version of nats-server, with or without v.")
    nats_releases_url: str = Field(
        "https://github.com/nats-io/nats-server/releases/download",
        description="Where releases stand, as <url>/v<version>/<file> and SHA256SUMS beside them.",
    )
    nimsforest_install: bool = Field(default=False, description="Run the workload on each node.")
    nimsforest_download_url: str | None = Field(None, description="Address or path of the workload's binary.")
    nimsforest_checksum: str | None = Field(None, description="SHA-256 sum of the workload's binary.")
    nats_cpu_quota: Annotated[str, AfterValidator(sizes.core_share)] | None = Field(
        None, description="The most that NATS may use of its machine's processors: 200% are two cores."
    )
    nats_memory_high: UnitSize | None = Field(
        None, description="Memory from which on NATS is slowed down, such as 1.5G."
    )
    nats_memory_max: UnitSize | None = Field(None, description="Memory that NATS never exceeds, such as 2G.")
    jetstream_memory: StoreSize = Field("1GB", description="The most JetStream may hold in memory.")
    jetstream_file: StoreSize = Field("10GB", description="The most JetStream may hold on disk.")
    bootstrap_script: Path | None = Field(
        None, description="Path of a script that is run once, as root, on each new node."
    )


NATS_PORTS = {4222, 6222, 7777, 8222}  # of clients, routes, leaf nodes, monitoring


class ProvisioningSettings(_Part):
    """How long to wait for a new node."""

    machine_timeout: float = Field(
        300.0, gt=0, description="Seconds until a new machine must have ended its birth and let us in."
    )
    readiness_timeout: float = Field(60.0, gt=0, description="Seconds until a cluster must be ready.")
    readiness_interval: float = Field(0.02, gt=0, description="Seconds between two looks at it.")
    ssh_port: int = Field(22, ge=1, le=65535, description="Port of SSH on new nodes; others keep theirs.")

    @field_validator("ssh_port")
    @classmethod
    def _is_no_port_of_nats(cls, value: int) -> int:
        if value in NATS_PORTS:
            raise ValueError(f"{value} is a port of NATS on every node: choose another")
        return value


class GrowthSettings(_Part):
    """When a forest grows."""

    enabled: bool = Field(default=True, description="Let scheduled checks and grow --auto expand forests.")
    threshold_cpu: float = Field(80, gt=0, le=100, description="Percent of all cores of a machine.")
    threshold_memory: float = Field(
        80, gt=0, le=100, description="Percent of a machine's memory, and of JetStream's limit in memory."
    )
    threshold_storage: float = Field(
        80, gt=0, le=100, description="Percent of JetStream's limit on disk, and of the disk itself."
    )
    max_nodes: int = Field(
        10, ge=1, le=100, description="Never more nodes than this."
    )  # MAX_NODES of a forest
    step: Literal["any", "odd"] = Field(
        "any", description="any adds one node, odd as many as keep the number odd; one node becomes three."
    )
    cooldown_minutes: float = Field(15, ge=0, le=7 * DAY, description="Minutes between two expansions.")
    sustained_minutes: float = Field(
        0, ge=0, le=DAY, description="Minutes above a threshold before it counts; 0: one reading is enough."
    )
    rebalance: Literal["leaders", "none"] = Field(
        "none", description="What moves to new nodes: leaders of streams, or none."
    )


class DnsSettings(_Part):
    """Names for nodes."""

    provider: Literal["hetzner"] | None = Field(None, description="Who serves the zone.")
    domain: str | None = Field(
        None, description="Nodes are found at <node>.<domain>; its zone, or one above, is in the project."
    )
    ttl: int = Field(300, ge=60, le=2**31 - 1, description="Seconds that others may remember an address.")

    @field_validator("domain")
    @classmethod
    def _as_zones_are_named(cls, value: str | None) -> str | None:
        return value if value is None or _VARIABLE.search(value) else value.lower().removesuffix(".")

    @model_validator(mode="after")
    def _has_a_domain(self) -> Self:
        if self.provider and not self.domain:
            raise ValueError(f"provider {self.provider} needs a domain")
        return self


class Settings(_Part):
    """Everything that can be configured, with its default."""

    registry: RegistrySettings = RegistrySettings()
    machine: MachineSettings = MachineSettings()
    firewall: FirewallSettings = FirewallSettings()
    budget: BudgetSettings = BudgetSettings()
    integration: IntegrationSettings = IntegrationSettings()
    provisioning: ProvisioningSettings = ProvisioningSettings()
    growth: GrowthSettings = GrowthSettings()
    dns: DnsSettings = DnsSettings()


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        InvalidInputError: the file cannot be read, or a key or value in it cannot be; names it.
    """
    return with_secrets(load_file(environment), environment)


def load_file(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read what the file says, alone; what it says nothing about is not among ``model_fields_set``.

    Raises:
        InvalidInputError: as :func:`load`.
    """
    path = config_path(environment)
    return understood(read_text(path), environment, str(path)) if path else Settings()


def understood(text: str, environment: Mapping[str, str], where: str) -> Settings:
    """The settings in *text*, which stands in *where*.

    Raises:
        InvalidInputError: it is no YAML, or a key or value in it cannot be; names it.
    """
    raw = _expanded(mapping(text, where), environment, where)
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise InvalidInputError(f"{where}: {_explained(error, raw)}") from error


def variables(text: str) -> list[str]:
    """The names of the variables in *text*."""
    return _VARIABLE.findall(text)


def with_secrets(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """*settings* with the token of the environment, which wins, and a password where they have none.

    That is the environment's, for a box, else the one that ``morpheus init`` kept for this user and host.
    """
    registry, machine = settings.registry, settings.machine
    if registry.type in {"storagebox", "s3"} and not registry.password:
        told = environment.get("STORAGEBOX_PASSWORD") if registry.type == "storagebox" else None
        known = kept.password(data_dir(environment), registry.url, registry.username)
        registry = registry.model_copy(update={"password": SecretStr(told) if told else known})
    if token := environment.get("HETZNER_API_TOKEN") or environment.get("HCLOUD_TOKEN"):
        hetzner = machine.hetzner.model_copy(update={"token": SecretStr(token)})
        machine = machine.model_copy(update={"hetzner": hetzner})
    return settings.model_copy(update={"registry": registry, "machine": machine})


def _explained(error: ValidationError, raw: Mapping[str, Any]) -> str:
    """What is wrong first in *raw*, and what it should be."""
    faults = [(_place(each["loc"], raw), each) for each in error.errors()]
    start = faults[0][0]
    place, first = max((each for each in faults if each[0][: len(start)] == start), key=_depth)
    *above, last = place or ("the file",)
    key = ".".join(map(str, place)) or "the file"
    if first["type"] == "extra_forbidden":
        known = list(_part(above).model_fields)
        near = difflib.get_close_matches(str(last), known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
        return f"{key} is no setting: {meant}"
    if first["type"] == "string_type" and isinstance(first["input"], int | float):
        what = "a secret" if str(last) in SECRETS else first["input"]
        return f"{key}: {what} is read as a number; put it in quotes."
    told = dict.fromkeys(each["msg"].removeprefix("Value error, ") for at, each in faults if at == place)
    return f"{key}: {'; '.join(told).replace('a valid tuple', 'a list, as in [a, b]')}."


def _place(told: Sequence[str | int], raw: Any) -> tuple[str | int, ...]:
    """The names and indexes in *raw* among what pydantic *told*, which also names kinds that it tried."""
    place: list[str | int] = []
    for part in told:
        there = raw if isinstance(raw, dict) else range(len(raw)) if isinstance(raw, list) else ()
        if part in there:
            raw = raw[part]
            place.append(part)
    return tuple(place)


def _depth(fault: tuple[tuple[str | int, ...], Any]) -> int:
    return len(fault[0])


def _part(keys: Sequence[str | int]) -> type[BaseModel]:
    """The part of the settings that stands below *keys*."""
    part: Any = Settings
    for key in keys:
        part = part.model_fields[str(key)].annotation
    return part if isinstance(part, type) and issubclass(part, BaseModel) else Settings


def read_text(path: Path) -> str:
    """The text of the file *path*.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"{path} cannot be read: {reason}") from error


def mapping(text: str, where: str) -> dict[str, Any]:
    """The keys and values in *text*, which stands in *where*; variables in them as written.

    Raises:
        InvalidInputError: it is no YAML, or something else than keys and values.
    """
    import yaml  # noqa: PLC0415  # without a file nobody needs it

    try:
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:  # its text quotes the line, which may hold a password
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInputError(
            f"{where} is no YAML: look at line {line}; a value with special characters needs quotes."
        ) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"{where} cannot be read: {reason}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InvalidInputError(f"{where} is no mapping of keys to values.")
    return raw


def _expanded(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """*value* with every ``${VAR}`` in its strings replaced."""
    if isinstance(value, dict):
        return {key: _expanded(each, environment, f"{where}: {key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each, environment, where) for each in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise InvalidInputError(f"{where} needs the variable {match[1]}, which is not set.")
        return environment[match[1]]

    return _VARIABLE.sub(replaced, value)
