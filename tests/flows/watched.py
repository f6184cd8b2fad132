"""Every effect of flows on the simulated project passes by one place, which can make any of them fail.

The provider and the stores are real ones that tell what they are about to do; what happens on machines their
valley tells.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from morpheus import site
from morpheus.cloud import Order, Server
from morpheus.cloud.hetzner import HetznerCloud
from morpheus.registry import Store
from morpheus.registry.local import LocalStore
from morpheus.settings import RegistrySettings, Settings
from tests.flows.hills import Effects
from tests.flows.valleys import Valley


def watch(valley: Valley, patch: pytest.MonkeyPatch) -> Effects:
    """Let the effects of all flows pass by those of the *valley*."""
    effects, opened = valley.effects, site.open_store

    def cloud(settings: Settings) -> HetznerCloud:
        parts = (settings.machine, settings.firewall, settings.dns)
        watched = WatchedCloud(*parts, enter=valley.enter)
        watched.effects = effects
        return watched

    def store(registry: RegistrySettings, name: str | None = None) -> Store:
        there = opened(registry, name)
        assert isinstance(there, LocalStore)
        return WatchedStore(there, name or "registry", effects)

    patch.setattr(site, "configured_cloud", cloud)
    patch.setattr(site, "open_store", store)
    return effects


class WatchedCloud(HetznerCloud):
    """The provider."""

    effects: Effects

    def groundwork(self, orders: Sequence[Order]) -> Mapping[str, Callable[[], object]]:
        parts = super().groundwork(orders)
        return {part: functools.partial(self._prepared, part, make) for part, make in parts.items()}

    def _prepared(self, part: str, make: Callable[[], object]) -> object:
        self.effects.happens(f"prepare {part}")
        return make()

    def ensure_server(self, order: Order) -> Server:
        self.effects.happens(f"create {order.name}")
        return super().ensure_server(order)

    def delete_server(self, registry_id: str, name: str) -> None:
        self.effects.happens(f"delete {name}")
        super().delete_server(registry_id, name)
        self.effects.noted(f"deleted {name}")

    def admit(
        self, registry_id: str, forest: str, nodes: Sequence[Server], leaving: Sequence[Server] = ()
    ) -> Sequence[Server]:
        self.effects.happens(f"admit {forest}")
        return super().admit(registry_id, forest, nodes, leaving)

    def clear(self, registry_id: str, forest: str) -> None:
        self.effects.happens(f"clear {forest}")
        super().clear(registry_id, forest)


class WatchedStore(LocalStore):
    """The store of the registry, or of a document beside it."""

    def __init__(self, store: LocalStore, name: str, effects: Effects) -> None:
        super().__init__(store._path)
        self._name, self._effects = name, effects

    def write(self, text: str, expected: str | None, **more: Any) -> str:
        self._effects.happens(f"write {self._name}")
        version = super().write(text, expected, **more)
        self._effects.noted(f"written {self._name}: {text}")
        return version

    def remove(self, expected: str) -> None:
        self._effects.happens(f"remove {self._name}")
        super().remove(expected)
