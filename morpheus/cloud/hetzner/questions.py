"""Whether nodes could be made from here: asked before anything is, and without any change.

Each question says what is well in words, or raises the error that says what to do.
"""

import contextlib
import socket
from collections.abc import Callable, Sequence
from functools import partial

from hcloud.ssh_keys import SSHKey

from morpheus.cloud.hetzner.api import Api, MissingError, UnfitError
from morpheus.cloud.hetzner.catalogue import Catalogue
from morpheus.cloud.hetzner.servers import check_ipv6
from morpheus.errors import MissingPartError
from morpheus.settings import HetznerSettings, MachineSettings

LAST_ID = 2**53 - 1  # the highest that the API may give


def of_project(api: Api, catalogue: Catalogue, settings: HetznerSettings) -> Sequence[Callable[[], str]]:
    """The questions to a project; when the first has no answer, the others have none."""
    return (
        partial(token_is_valid, api),
        partial(token_may_write, api),
        partial(offer, catalogue, settings),
        partial(room, api),
    )


def token_is_valid(api: Api) -> str:
    with api.call("read the project"):
        api.client.ssh_keys.get_list(per_page=1)
    return "the token is valid"


def token_may_write(api: Api) -> str:
    """Say that the token may write.

    Harmless three times over: no key has the id, the request names nothing to change, and an SSH key costs
    nothing and is on no server because of its entry. A token that may only read is refused before that.
    """
    with contextlib.suppress(MissingError, UnfitError), api.call("change anything"):
        api.client.ssh_keys.update(SSHKey(id=LAST_ID))
    return "the token may write"


def offer(catalogue: Catalogue, settings: HetznerSettings) -> str:
    """Say which of the configured places can be had now, and at what price."""
    found = catalogue.candidates()
    for each in {str(each.type.name): each.type for each in found}.values():
        catalogue.image(each)
    types = dict.fromkeys((settings.server_type, *settings.server_type_fallback))
    wanted = [f"{type_} in {location}" for type_ in types for location in settings.locations]
    missing = [each for each in wanted if each not in map(str, found)]
    now = ", ".join(f"{each} ({each.price})" for each in found)
    return f"{settings.image} can be had on {now}" + (f"; not now: {', '.join(missing)}" if missing else "")


def room(api: Api) -> str:
    """Say how many servers there are; the API does not tell how many there may be."""
    with api.call("count the servers of the project"):
        count = len(api.client.servers.get_all())
    return (
        f"{count} server(s) in the project; how many there may be stands in the Cloud Console (Limits), "
        "often 5 to 10 in a new one"
    )


def network(settings: MachineSettings) -> str:
    """Say how nodes are reached from here; nothing is sent.

    Raises:
        MissingPartError: they are not.
    """
    try:
        check_ipv6(settings.hetzner.ipv6_target)
    except MissingPartError:
        if not settings.ipv4.enabled:
            raise
    else:
        return "a route leads to IPv6 addresses"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((settings.hetzner.ipv4_target, 53))
    except OSError as error:
        raise MissingPartError(
            f"This machine has no way to addresses outside ({error.strerror}): connect it to a network."
        ) from error
    return "no route leads to IPv6 addresses, but nodes have IPv4 as well (machine.ipv4.enabled)"
