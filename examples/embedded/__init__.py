"""A workload that brings its own NATS server, in one file."""
