"""Clouds by slug."""

from abc import abstractmethod

from prefect.blocks.core import Block

from blocks._load import load_block
from morpheus import settings, site
from morpheus.cloud import Cloud
from morpheus.errors import InvalidInputError


class CloudBlock(Block):
    """Access to a cloud; each provider's block derives from this one."""

    _block_type_slug = "cloud"

    @abstractmethod
    def connect(self) -> Cloud:
        """Return the cloud; no request is sent yet."""


def open_cloud(slug: str) -> Cloud:
    """Return the cloud that *slug* names.

    Raises:
        InvalidInputError: there is no such cloud.
        MissingPartError: its provider is not built in yet.
    """
    if slug == "local":
        return site.local_cloud()
    if slug == "settings":
        return site.configured_cloud(settings.load())
    block = load_block(slug)
    if not isinstance(block, CloudBlock):
        raise InvalidInputError(f"The block {slug!r} is no cloud.")
    return block.connect()
