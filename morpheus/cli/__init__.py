"""The command line, on top of everything; reading commands never import Prefect."""
