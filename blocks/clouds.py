"""Clouds by slug."""

from abc import abstractmethod

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

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


class HetznerBlock(CloudBlock):
    """Access to a project of Hetzner Cloud.

    Example:
        ```python
        from blocks import HetznerBlock
        cloud = HetznerBlock.load("BLOCK_NAME").connect()
        ```
    """

    _block_type_name = "Hetzner Cloud"
    _block_type_slug = "hetzner-cloud"
    _description = "A project of Hetzner Cloud in which Morpheus plants forests."
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")

    token: SecretStr = Field(description="API token of the project; it may read and write.")
    server_type: str | None = Field(default=None, description="Server type of new nodes.")
    locations: list[str] = Field(default_factory=list, description="Locations, in order.")

    def connect(self) -> Cloud:
        """The cloud; what the block leaves open is as in the worker's morpheus.yaml."""
        current = settings.load()
        given = {
            "token": self.token,
            **({"server_type": self.server_type} if self.server_type else {}),
            **({"location": tuple(self.locations)} if self.locations else {}),
        }
        hetzner = current.machine.hetzner.model_copy(update=given)
        machine = current.machine.model_copy(update={"provider": "hetzner", "hetzner": hetzner})
        return site.configured_cloud(current.model_copy(update={"machine": machine}))


def open_cloud(slug: str) -> Cloud:
    """Return the cloud that *slug* names.

    Raises:
        InvalidInputError: there is no such cloud, or no token for it.
    """
    if slug == "local":
        return site.local_cloud(settings.load())
    if slug == "settings":
        return site.configured_cloud(settings.load())
    block = load_block(slug)
    if not isinstance(block, CloudBlock):
        raise InvalidInputError(f"The block {slug!r} is no cloud.")
    return block.connect()
