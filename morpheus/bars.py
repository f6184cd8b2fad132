"""Percentages as bars, for places that have nothing but letters."""

WIDTH = 10  # characters


def bar(percent: float, width: int = WIDTH) -> str:
    """A bar of *width* characters and the number."""
    full = min(width, max(0, round(percent / 100 * width)))
    return "█" * full + "░" * (width - full) + f" {percent:.0f}%"
