"""The JSON of ``grow`` as docs/grow.md describes it: fields are only ever added."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["cpu", "memory", "jetstream-memory", "storage", "disk"]
Why = Literal["max-nodes", "embedded", "one-machine", "cooldown", "not-sustained", "budget", "disabled"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class Price(Part):
    hourly: float
    monthly: float


class Obstacle(Part):
    why: Why
    words: str


class Breach(Part):
    node: str
    kind: Kind
    percent: float
    threshold: float


class Forecast(Part):
    kind: Kind
    percent: float
    at: datetime


class Loads(Part):
    cpu_percent: float | None
    memory_percent: float | None
    jetstream_memory_percent: float | None
    storage_percent: float | None
    disk_percent: float | None


class Node(Loads):
    name: str
    ip: str | None
    state: str
    reachable: bool | None
    lagging: bool | None
    server_memory_bytes: int | None
    connections: int | None
    messages_in: int | None
    messages_out: int | None
    messages_in_per_second: float | None
    messages_out_per_second: float | None
    slow_consumers: int | None
    slow_consumers_growing: bool | None


class OldStore(Part):
    node: str
    kept_until: datetime | None


class Check(Part):
    forest: str
    registry: str
    checked_at: datetime
    outcome: Literal["grow", "nothing", "may-not", "unhealthy", "unknown"]
    why: Why | None
    sentence: str
    reasons: list[str]
    obstacles: list[Obstacle]
    wanted: int
    suggested: int
    price: Price | None
    breaches: list[Breach]
    forecasts: list[Forecast]
    thresholds: Loads
    last_expansion: datetime | None
    old_store: OldStore | None
    added: list[str]
    seconds: float | None
    nodes: list[Node]
