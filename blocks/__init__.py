"""What an operator stores in Prefect: access to clouds and registries, each opened by its slug.

A slug is ``settings`` (what morpheus.yaml says), ``local`` (this machine), or the name of a stored block
as ``<type>/<name>``. Objects with secrets never travel as flow parameters; slugs do.
"""

from blocks.clouds import CloudBlock, HetznerBlock, open_cloud
from blocks.registries import (
    LocalRegistry,
    RegistryBlock,
    S3Registry,
    StorageBoxRegistry,
    open_place,
    open_registry,
    open_shelf,
)
from blocks.vaults import SecretKeyBlock, open_vault, removable_vault

__all__ = [
    "CloudBlock",
    "HetznerBlock",
    "LocalRegistry",
    "RegistryBlock",
    "S3Registry",
    "SecretKeyBlock",
    "StorageBoxRegistry",
    "open_cloud",
    "open_place",
    "open_registry",
    "open_shelf",
    "open_vault",
    "removable_vault",
]
