"""Registries by slug."""

import functools
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from blocks._load import load_block
from morpheus import folders, keyring, settings, site
from morpheus.cloud import Cloud
from morpheus.errors import InvalidInputError
from morpheus.keyring import Keeper
from morpheus.registry import Registry, Store
from morpheus.registry.care import Place
from morpheus.settings import RegistrySettings
from morpheus.shelf import Shelf


class RegistryBlock(Block):
    """Access to a registry; each kind of store has a block that derives from this one."""

    _block_type_slug = "registry"

    _type: ClassVar[str]

    @property
    def _user(self) -> str | None:
        return None

    @abstractmethod
    def place(self, name: str | None = None) -> Store:
        """Return the store of the registry, or of the document *name* beside it."""

    def connect(self) -> Registry:
        """Return the registry; it is not read yet."""
        return Registry(self.place())

    def shelf(self, cloud: Cloud) -> Shelf | None:
        """Return the homes of forests beside the registry; None where *cloud* gives none there."""
        del cloud  # it has no part in most registries
        return None

    def keeper(self, given: SecretStr | None) -> Keeper:
        """Who keeps the registry's key on this device, unless it is *given* or told by the environment."""
        told = given or keyring.told_key()
        return Keeper(self.place, self._type, self._user, folders.data_dir(), told)


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

    _type = "local"

    path: Path = Field(description="Path of the document, which is made at the first plant.")

    def place(self, name: str | None = None) -> Store:
        return site.file_store(self.path.expanduser().absolute(), name)


class _RemoteRegistry(RegistryBlock):
    """A registry that every device reaches."""

    _block_type_slug = "remote-registry"

    url: str = Field(description="The document (ends in .json), or its folder (ends in /).")
    username: str | None = Field(default=None, description="User of the store; for S3 the access key's id.")
    password: SecretStr | None = Field(default=None, description="Password; for S3 the secret key.")

    @property
    def _user(self) -> str | None:
        return self.username

    @property
    def _settings(self) -> RegistrySettings:
        return RegistrySettings.model_validate(
            {"type": self._type, "url": self.url, "username": self.username, "password": self.password}
        )

    def place(self, name: str | None = None) -> Store:
        return site.open_store(self._settings, name)

    def shelf(self, cloud: Cloud) -> Shelf | None:
        return site.open_shelf(self._settings, cloud)


class StorageBoxRegistry(_RemoteRegistry):
    """A registry on a WebDAV server such as a Hetzner Storage Box.

    Example:
        ```python
        from blocks import StorageBoxRegistry
        registry = StorageBoxRegistry.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Storage Box Registry"
    _block_type_slug = "storagebox-registry"
    _description = "A Morpheus registry on a WebDAV server such as a Hetzner Storage Box."
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")
    _type = "storagebox"


class S3Registry(_RemoteRegistry):
    """A registry in an S3 bucket.

    Example:
        ```python
        from blocks import S3Registry
        registry = S3Registry.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "S3 Registry"
    _block_type_slug = "s3-registry"
    _description = "A Morpheus registry in an S3 bucket."
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")
    _type = "s3"


def open_registry(slug: str, provider: str) -> Registry:
    """Return the registry that *slug* names; forests of this machine always use its own.

    Raises:
        InvalidInputError: there is no such registry, or none is configured.
    """
    if provider == "local":
        return site.local_registry()
    if slug == "settings":
        return site.require_shared(settings.load())
    return _block(slug).connect()


def open_place(slug: str) -> Place:
    """Return where the registry that *slug* names stands, with the documents beside it.

    Raises:
        InvalidInputError: there is no such registry, or none is configured.
    """
    if slug == "settings":
        return functools.partial(site.open_store, settings.load().registry)
    return _block(slug).place


def open_shelf(slug: str, cloud: Cloud) -> Shelf | None:
    """Return the homes of forests beside the registry that *slug* names; None where *cloud* gives none there.

    Raises:
        InvalidInputError: there is no such registry.
    """
    if slug == "settings":
        return site.open_shelf(settings.load().registry, cloud)
    return _block(slug).shelf(cloud)


def keeper_of(slug: str, given: SecretStr | None) -> Keeper:
    """Return who keeps the key of the registry that *slug* names; *given* is the key where it was told.

    Raises:
        InvalidInputError: there is no such registry, or none is configured.
    """
    if slug == "settings":
        return keyring.keeper_of(settings.load().registry, given)
    return _block(slug).keeper(given)


def _block(slug: str) -> RegistryBlock:
    block = load_block(slug)
    if not isinstance(block, RegistryBlock):
        raise InvalidInputError(f"The block {slug!r} is no registry.")
    return block
