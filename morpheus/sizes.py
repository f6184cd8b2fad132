"""Amounts as those who obey them write them: ``10GB`` for JetStream, ``1.5G`` and ``200%`` for systemd.

All units are powers of 1024. (NATS reads ``1G`` as a thousand million bytes, so that is no size here.)
"""

import re

_STORE = re.compile(r"(?P<number>[1-9][0-9]*)(?P<unit>[KMGT]?)B?")
_UNIT = re.compile(r"(?P<number>[1-9][0-9]*(\.[0-9]+)?)(?P<unit>[KMGT]?)")
_SHARE = re.compile(r"[1-9][0-9]*%")


def store_size(text: str) -> str:
    """Return *text* when it is a size as NATS writes it: ``10GB``, ``512MB``, or bytes."""
    match = _STORE.fullmatch(text)
    if not match or bool(match["unit"]) != text.endswith("B"):
        raise ValueError("write it as 10GB, as 512MB, or in bytes")
    return text


def unit_size(text: str) -> str:
    """Return *text* when it is a size as systemd writes it: ``1.5G``, ``512M``, or bytes."""
    if not _UNIT.fullmatch(text):
        raise ValueError("write it as 1.5G, as 512M, or in bytes")
    return text


def core_share(text: str) -> str:
    """Return *text* when it is a share of processors as systemd writes it."""
    if not _SHARE.fullmatch(text):
        raise ValueError("write it as 200%, where 100% is one core")
    return text


def size_bytes(text: str) -> int:
    """The bytes in *text*, which is either kind of size."""
    match = _UNIT.fullmatch(text.removesuffix("B"))
    assert match, text
    return int(float(match["number"]) * 1024 ** " KMGT".index(match["unit"] or " "))


def told(size: int) -> str:
    """*size* in bytes, as people read it."""
    for unit, power in (("TB", 4), ("GB", 3), ("MB", 2), ("KB", 1)):
        if size >= 1024**power:
            return f"{size / 1024**power:.1f} {unit}"
    return f"{size} B"
