"""The vault of a registry by the registry's slug, and the key of it by another."""

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from blocks._load import load_block
from blocks.registries import keeper_of, open_place
from morpheus import keyring
from morpheus.errors import InvalidInputError
from morpheus.vault import Authority, Vault


class SecretKeyBlock(Block):
    """The key that seals the secrets of a registry's forests, for workers.

    Example:
        ```python
        from blocks import SecretKeyBlock
        key = SecretKeyBlock.load("BLOCK_NAME").key
        ```
    """

    _block_type_name = "Morpheus Secret Key"
    _block_type_slug = "secret-key"
    _description = "The key that seals the secrets of a Morpheus registry's forests."
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")

    key: SecretStr = Field(description="The key as MORPHEUS_SECRET_KEY takes it: 32 bytes in base64.")


def open_vault(registry: str, key: str = "settings", authority: Authority = keyring.new_authority) -> Vault:
    """Return the vault of the registry that the slug *registry* names; its key is proven, or made now.

    Args:
        registry: settings (morpheus.yaml) or a stored block as type/name.
        key: where the key comes from: settings (MORPHEUS_SECRET_KEY, else as it is kept on this device), or a
            stored block as type/name.
        authority: what makes the certificate authority of a new forest.

    Raises:
        InvalidInputError: there is no such registry, or no such key.
        RefusedError: the key is not here, or it is another registry's; nothing was made.
    """
    return keyring.open_vault(keeper_of(registry, _told(key)), authority)


def removable_vault(registry: str) -> Vault:
    """Return the same vault for who only removes secrets, which needs no key.

    Raises:
        InvalidInputError: there is no such registry, or none is configured.
    """
    return Vault(open_place(registry))


def _told(slug: str) -> SecretStr | None:
    if slug == "settings":
        return None
    block = load_block(slug)
    if not isinstance(block, SecretKeyBlock):
        raise InvalidInputError(f"The block {slug!r} is no key.")
    return keyring.checked(block.key, f"The block {slug!r}")
