"""A program that opens the vault of a registry in a file, as a plant does first, and plants nothing.

It waits until GO is there, and prints a digest of the key. Usage: python -m tests.vault.opener REGISTRY GO
"""

import hashlib
import sys
from pathlib import Path

from morpheus import keyring
from morpheus.errors import MorpheusError
from morpheus.settings import RegistrySettings
from morpheus.wait import wait_until


def main(registry: str, go: str) -> None:
    print("ready", flush=True)
    wait_until("the start", Path(go).exists, bool, str, timeout=60, interval=0.001)
    keeper = keyring.keeper_of(RegistrySettings(type="local", url=registry))
    try:
        vault = keyring.open_vault(keeper)
    except MorpheusError as error:
        print(error)
        sys.exit(error.exit_code)
    assert vault._key
    print(hashlib.sha256(vault._key.get_secret_value().encode()).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
