"""Machines that are entered by SSH. The only room that knows asyncssh.

``way.py`` says how a machine is entered and what it is known by; ``opening.py`` enters it, and tells apart
why it does not let us in; ``connection.py`` keeps one connection per node, for all threads
(``background.py``: the thread that does the work); ``talk.py``, ``follow.py``, ``attend.py`` and
``tunnel.py`` are what goes on in a connection, ``scripts.py`` what the machine is asked to do;
``machine.py`` is the Machine port upon it; ``entering.py`` waits for a machine that is being born, and
``rotation.py`` gives it a host key of its own.
"""

from morpheus.machine.ssh.attend import Tell
from morpheus.machine.ssh.connection import Connections
from morpheus.machine.ssh.entering import wait_entered
from morpheus.machine.ssh.machine import SshMachine
from morpheus.machine.ssh.node import SshNode
from morpheus.machine.ssh.rotation import HostKeys, rotate
from morpheus.machine.ssh.way import Way, fingerprint

__all__ = [
    "Connections",
    "HostKeys",
    "SshMachine",
    "SshNode",
    "Tell",
    "Way",
    "fingerprint",
    "rotate",
    "wait_entered",
]
