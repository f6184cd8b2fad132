"""A program that opens the vault of a registry in a file and makes secrets, as a plant does first.

It waits until GO is there, and prints a digest of the key and of the secrets that the recorded oak has then.
Usage: python -m tests.vault.opener REGISTRY GO
"""

import hashlib
import sys
from pathlib import Path

from morpheus import keyring
from morpheus.errors import MorpheusError
from morpheus.registry import Registry
from morpheus.settings import RegistrySettings
from morpheus.wait import wait_until
from tests.vault.sample import authority, told_by


def main(registry: str, go: str) -> None:
    print("ready", flush=True)
    wait_until("the start", Path(go).exists, bool, str, timeout=60, interval=0.001)
    keeper = keyring.keeper_of(RegistrySettings(type="local", url=registry))
    try:
        vault = keyring.open_vault(keeper, authority)
        oak = Registry(keeper.place(None)).find("oak")
        known = [*told_by(vault.ensure(oak, newborn=True))] if oak else []
    except MorpheusError as error:
        print(error)
        sys.exit(error.exit_code)
    assert vault._key
    print(hashlib.sha256(repr([vault._key.get_secret_value(), *known]).encode()).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
