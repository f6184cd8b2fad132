"""Loading a stored block by its slug."""

from prefect.blocks.core import Block

from morpheus.errors import InvalidInputError


def load_block(slug: str) -> Block:
    """Return the block stored as ``<type>/<name>``.

    Raises:
        InvalidInputError: there is none.
    """
    try:
        block = Block.load(slug)
    except ValueError as error:
        raise InvalidInputError(
            f"{slug!r} is neither settings, nor local, nor a block stored in Prefect as <type>/<name>."
        ) from error
    assert isinstance(block, Block)  # a flow is synchronous, so is the loading
    return block
