"""A document in S3 for each test."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A document of this test alone."""
    return f"tests/wäld/{tmp_path.name}.json"
