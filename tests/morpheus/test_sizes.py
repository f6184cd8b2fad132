"""Sizes: what NATS and systemd mean by them."""

import pytest

from morpheus.sizes import size_bytes


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1GB", 2**30),
        ("10GB", 10 * 2**30),
        ("512MB", 512 * 2**20),
        ("1TB", 2**40),
        ("1.5G", 3 * 2**29),
        ("512M", 512 * 2**20),
        ("4K", 4096),
        ("1048576", 2**20),
    ],
)
def test_units_are_powers_of_1024(text: str, number: int) -> None:
    assert size_bytes(text) == number
