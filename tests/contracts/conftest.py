"""The store of the registry itself, in whatever place a test meets."""

import pytest

from morpheus.registry import Store
from morpheus.registry.care import Place


@pytest.fixture
def store(place: Place) -> Store:
    return place(None)
