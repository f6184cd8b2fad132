"""Homes of forests in the Storage Box of the registry: a subaccount each, which reads its folder alone.

One node that is broken into must not read every forest, and write nothing. Nodes are in Hetzner's network, so
the accounts let nobody in from outside of it.
"""

import logging
from urllib.parse import urlsplit

from hcloud.storage_boxes import (
    BoundStorageBox,
    BoundStorageBoxSubaccount,
    StorageBoxAccessSettings,
    StorageBoxSubaccountAccessSettings,
)

from morpheus.cloud import MANAGED_BY, NODES, Home
from morpheus.cloud.hetzner.actions import Actions
from morpheus.cloud.hetzner.api import api_of
from morpheus.cloud.hetzner.boxes import CHANGE_TIMEOUT, FOLDER, Box, Boxes
from morpheus.errors import CloudBusyError, TransientError
from morpheus.settings import HetznerSettings

log = logging.getLogger("morpheus.cloud")

ACCESS = {"webdav_enabled": True, "samba_enabled": True, "readonly": True}
CLOSED = {"reachable_externally": False, "ssh_enabled": False}


def homes_beside(settings: HetznerSettings, url: str, username: str) -> "HomesInBox | None":
    """Homes in the box of the registry at *url*, as *username* gets to it; None where it is not ours."""
    for box in Boxes(settings).find():
        homes = HomesInBox(settings, box)
        if homes.holds(url, username):
            return homes
    return None


class HomesInBox:
    """Homes in one box."""

    def __init__(self, settings: HetznerSettings, box: Box) -> None:
        self._box, self._api = box, api_of(settings)
        self._actions = Actions(self._api)

    def holds(self, url: str, username: str) -> bool:
        """Whether the registry at *url* stands in the folder of this box in which homes are."""
        if username == self._box.username:
            return url == self._box.url
        if not self._box.username or not username.startswith(f"{self._box.username}-sub"):
            return False
        with self._api.call("look for a subaccount of the Storage Box"):
            found = self._bound.get_subaccount_all(username=username)
        homes = [str(each.home_directory).strip("/") for each in found]
        return homes == [FOLDER] and urlsplit(url).path == "/registry.json"

    def ensure(self, forest: str, password: str) -> Home:
        """The home of *forest*, made where there is none; it opens with *password*.

        Raises:
            CloudBusyError: it is not to be seen yet.
        """
        self._open_box()
        account = self._account(forest)
        if account is None:
            try:
                self._make(forest, password)
            except TransientError:  # the answer may be lost; what it made is found by its labels
                if self._account(forest) is None:
                    raise
        else:
            self._settle(account, password)
        account = self._account(forest)
        if account is None or not account.server or not account.username:
            raise CloudBusyError(f"The subaccount of {forest} is not to be seen yet.")
        return Home(account.server, account.username)

    def remove(self, forest: str) -> None:
        """Return when *forest* has no account any more; what is in its folder stays."""
        while account := self._account(forest):
            with self._api.call(f"remove the subaccount of {forest}"):
                action = account.delete().action
                self._actions.wait([action], f"the subaccount of {forest} to go", timeout=CHANGE_TIMEOUT)
            log.info("%s: its subaccount of %s is gone", forest, self._box.name)

    @property
    def _bound(self) -> BoundStorageBox:
        return self._box.bound

    def _open_box(self) -> None:
        """Let SMB into the box, where that is not so: without it no account of it has any."""
        known = self._bound.access_settings
        if known and known.samba_enabled:
            return
        with self._api.call(f"let SMB into {self._box.name}"):
            action = self._bound.update_access_settings(StorageBoxAccessSettings(samba_enabled=True))
            self._actions.wait([action], f"SMB on {self._box.name}", timeout=CHANGE_TIMEOUT)
        log.info("%s: lets SMB in now", self._box.name)

    def _account(self, forest: str) -> BoundStorageBoxSubaccount | None:
        labels = ",".join(f"{key}=={value}" for key, value in self._labels(forest).items())
        with self._api.call("list the subaccounts of the Storage Box"):
            found = self._bound.get_subaccount_all(label_selector=labels)
        return found[0] if found else None

    def _labels(self, forest: str) -> dict[str, str]:
        return {"managed-by": MANAGED_BY, "registry-id": self._box.registry_id, "forest-id": forest}

    def _make(self, forest: str, password: str) -> None:
        with self._api.call(f"make a subaccount for {forest}"):
            made = self._bound.create_subaccount(
                name=f"morpheus-{forest}",
                home_directory=f"{FOLDER}/{NODES}/{forest}",
                password=password,
                access_settings=StorageBoxSubaccountAccessSettings(**ACCESS, **CLOSED),
                description="The nodes of a forest of Morpheus",
                labels=self._labels(forest),
            )
            self._actions.wait([made.action], f"the subaccount of {forest}", timeout=CHANGE_TIMEOUT)
        log.info("%s: its nodes have a subaccount of %s", forest, self._box.name)

    def _settle(self, account: BoundStorageBoxSubaccount, password: str) -> None:
        """Let *account*, which may be an earlier planting's, open with *password* and read."""
        what = "the subaccount to let nodes in"
        with self._api.call("let nodes into a subaccount"):
            action = account.reset_password(password)
            self._actions.wait([action], what, timeout=CHANGE_TIMEOUT)
            known = account.access_settings
            if known and all(getattr(known, key) is value for key, value in ACCESS.items()):
                return
            action = account.update_access_settings(StorageBoxSubaccountAccessSettings(**ACCESS))
            self._actions.wait([action], what, timeout=CHANGE_TIMEOUT)
