"""Waiting until a server knows what somebody listens to."""

from nats.aio.client import Client


async def listening(client: Client) -> None:
    """Return once the server has heard of all subscriptions of *client*.

    A flush of nats-py sends its ping ahead of what is pending, so that the answer may come before the server
    has read that; the second ping goes out behind it.
    """
    await client.flush()
    await client.flush()
