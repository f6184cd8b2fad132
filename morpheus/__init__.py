"""Morpheus plants NATS forests, knows when they fill up, grows them and takes them down."""

__version__ = "0.1.0"
