"""Registering flows, blocks, the work pool and automations with a Prefect server."""
