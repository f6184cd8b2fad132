"""Forests and vaults as the tests use them."""

import base64

from pydantic import SecretStr

from morpheus import keyring
from morpheus.forest import Forest, Node, Status
from morpheus.registry import Registry
from morpheus.registry.care import Place
from morpheus.sealed import Bond, seal
from morpheus.secrets import ForestSecrets, KeyPair, generate, render
from morpheus.vault import Vault

KEY = keyring.new_key()
PEM = "-----BEGIN PRIVATE KEY-----\nthe key of {}\n-----END PRIVATE KEY-----\n"


def authority(name: str) -> KeyPair:
    """Texts alone: what is in them is no matter of the vault."""
    return KeyPair(f"the certificate of {name}\n", PEM.format(name))


def some_secrets() -> ForestSecrets:
    return generate(authority("oak"))


def forest(run: str | None = "run-1", *, name: str = "oak") -> Forest:
    """A forest whose name was just reserved by *run*."""
    return Forest(name, "hetzner", status=Status.PROVISIONING, run=run).with_nodes(Node(f"{name}-node-1"))


def recorded(place: Place, forest: Forest) -> Forest:
    """*forest*, in the registry at *place*."""
    Registry(place(None)).update(lambda document, _: document.with_forest(forest))
    return forest


def sealed_for(forest: Forest) -> str:
    """The document of its secrets, as it may have been made long ago."""
    bond = Bond("r1", forest.name, forest.run or "")
    return seal(base64.b64decode(KEY.get_secret_value()), render(some_secrets()), bond)


def vault(place: Place, key: SecretStr | None = KEY, registry_id: str = "r1") -> Vault:
    return Vault(place, registry_id, key, authority)


def told_by(known: ForestSecrets) -> list[str]:
    """All texts in *known* that nobody may read anywhere."""
    access = known.access
    return [
        *(access.app_seed, access.system_seed, access.route_password, known.client_password),
        *(known.authority.key, known.ssh_key, known.birth_seed.hex(), repr(known.birth_seed)),
    ]
