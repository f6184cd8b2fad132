"""What an operator stores in Prefect: access to clouds and registries, by slug."""
