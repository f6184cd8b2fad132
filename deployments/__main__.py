"""``python -m deployments``: register everything, print the deployments' names."""

from deployments.register import register

register()
