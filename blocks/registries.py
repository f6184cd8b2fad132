"""Registries by slug."""

from abc import abstractmethod
from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl

from blocks._load import load_block
from morpheus import settings, site
from morpheus.errors import InvalidInputError
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore


class RegistryBlock(Block):
    """Access to a registry; each kind of store has a block that derives from this one."""

    _block_type_slug = "registry"

    @abstractmethod
    def connect(self) -> Registry:
        """Return the registry; it is not read yet."""


class LocalRegistry(RegistryBlock):
    """A registry in a file of the worker's machine.

    Example:
        ```python
        from blocks import LocalRegistry
        registry = LocalRegistry.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Local Registry"
    _block_type_slug = "local-registry"
    _description = "A Morpheus registry in a file of the worker's machine."
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")

    path: Path = Field(description="Path of the document, which is made at the first plant.")

    def connect(self) -> Registry:
        return Registry(LocalStore(self.path.expanduser().absolute()))


def open_registry(slug: str, provider: str) -> Registry:
    """Return the registry that *slug* names; forests of this machine always use its own.

    Raises:
        InvalidInputError: there is no such registry, or none is configured.
    """
    if provider == "local":
        return site.local_registry()
    if slug == "settings":
        return site.require_shared(settings.load())
    block = load_block(slug)
    if not isinstance(block, RegistryBlock):
        raise InvalidInputError(f"The block {slug!r} is no registry.")
    return block.connect()
