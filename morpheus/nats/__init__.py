"""NATS: its configuration, what its servers say of themselves, and whether they form a cluster."""
