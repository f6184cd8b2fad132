"""What the servers of one forest share: a key, a firewall, groups. Whoever asks first makes it, once."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from hcloud.firewalls import BoundFirewall
from hcloud.images import BoundImage
from hcloud.placement_groups import BoundPlacementGroup
from hcloud.server_types import BoundServerType
from hcloud.ssh_keys import BoundSSHKey

from morpheus.cloud.hetzner.api import Api
from morpheus.cloud.hetzner.catalogue import Candidate, Catalogue
from morpheus.cloud.hetzner.keys import ensure_key
from morpheus.cloud.hetzner.network import Doors, Surroundings
from morpheus.settings import MachineSettings

Made = TypeVar("Made")


class Once(Generic[Made]):
    """A value that is made when it is asked for first, and again after its making failed."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[Made] = []

    def __call__(self) -> Made:
        with self._lock:  # the others wait for who came first
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


class Ground:
    """The key, the firewall and the placement groups of one forest's new servers, and where they may be.

    Its parts may be asked for by many threads at once, and each is made without waiting for the others.
    """

    def __init__(
        self,
        around: Surroundings,
        api: Api,
        catalogue: Catalogue,
        settings: MachineSettings,
        doors: Doors,
    ) -> None:
        self.around = around
        self.key: Once[BoundSSHKey] = Once(partial(ensure_key, api, settings.ssh))
        self.firewall: Once[BoundFirewall] = Once(partial(around.ready_firewall, doors))
        self.candidates: Once[tuple[Candidate, ...]] = Once(catalogue.candidates)
        self._groups: Once[dict[str, BoundPlacementGroup]] = Once(self._known_groups)
        self._catalogue = catalogue
        self._lock = threading.Lock()

    def parts(self, nodes: Sequence[str]) -> Mapping[str, Callable[[], object]]:
        """What the servers *nodes* need, by the names of the parts."""
        return {
            "firewall": self.firewall,
            "ssh-key": self.key,
            "placement-groups": lambda: [self.group(node) for node in nodes],
            "offers": lambda: [self.image(each.type) for each in self.candidates()[:1]],
        }

    def group(self, node: str) -> BoundPlacementGroup:
        """The placement group of *node*."""
        known = self._groups()
        with self._lock:  # one makes it, the others find it known
            group = self.around.ensure_group(node, known)
            known[str(group.name)] = group
            return group

    def image(self, type_: BoundServerType) -> BoundImage:
        """The configured image for servers of *type_*."""
        with self._lock:
            return self._catalogue.image(type_)

    def _known_groups(self) -> dict[str, BoundPlacementGroup]:
        return {str(each.name): each for each in self.around.groups()}
