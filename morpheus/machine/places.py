"""Where things stand on a real machine, and what its units, users and ports are called.

cloud-init makes these places, SSH delivers into them, systemd starts what stands in them: the three agree
because they take the names from here.
"""

from types import MappingProxyType

from morpheus.machine import NATS, WORKLOAD, Layout

BINARIES = "/opt/nimsforest/bin"
NATS_SERVER = f"{BINARIES}/nats-server"
WORKLOAD_BINARY = f"{BINARIES}/nimsforest"
EMBEDDED_BINARY = f"{BINARIES}/forest"  # the workload that brings its own NATS server

SETTINGS = "/etc/nimsforest"  # root:nats with setgid, so that what is put there as 0640 is NATS's to read
LIBRARY = "/var/lib/nimsforest"
DATA = f"{LIBRARY}/data"  # the workload's own
STORE = f"{LIBRARY}/jetstream"
LOGS = "/var/log/nimsforest"
SHARE = "/mnt/forest"  # of embedded mode: what the forest's nodes may know of the registry
KNOWN = f"{SHARE}/registry.json"
SHARE_SETTINGS = f"{SETTINGS}/share.curl"
SHARE_CREDENTIALS = f"{SETTINGS}/share.credentials"
SHARE_SYNC = f"{BINARIES}/forest-registry"

LAYOUT = Layout(
    config=f"{SETTINGS}/nats.conf",
    cluster=f"{SETTINGS}/cluster.conf",
    store=STORE,
    log=f"{LOGS}/nats.log",
)

TLS = f"{SETTINGS}/tls"
AUTHORITY = f"{TLS}/ca.crt"  # 0644: the workload trusts it, too
CERTIFICATE = f"{TLS}/node.crt"
KEY = f"{TLS}/node.key"

NODE_INFO = "/etc/morpheus/node-info.json"
BOOTSTRAP = "/etc/morpheus/bootstrap"  # the operator's script
BOOTSTRAPPED = "/etc/morpheus/bootstrapped"  # it ran to a good end
FENCE = "/var/lib/morpheus/fence"  # what keeps programs from writing while streams are moved
BOOTSTRAP_LOG = "/var/log/morpheus-bootstrap.log"

UNIT_FOLDER = "/etc/systemd/system"
UNITS = MappingProxyType({NATS: "nats.service", WORKLOAD: "nimsforest.service"})
LOG_UNIT = "nats-log.service"  # brings NATS's log to the journal; read it together with NATS's own unit
LOG_UNIT_PATH = f"{UNIT_FOLDER}/{LOG_UNIT}"
NATS_USER, WORKLOAD_USER = "nats", "nimsforest"
NATS_READS = 0o640  # the mode of a file in SETTINGS that holds secrets and is NATS's to read
LEAFNODE_PORT = 7777


def unit_path(program: str) -> str:
    """The file of the unit that runs *program*."""
    return f"{UNIT_FOLDER}/{UNITS[program]}"


def environment_file(program: str) -> str:
    """The file from which systemd, as root, reads the environment of *program*; 0600."""
    return f"{SETTINGS}/{UNITS[program].removesuffix('.service')}.env"
