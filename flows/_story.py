"""What a plant tells of itself when it is done: when each phase ended, and the forest as an artifact."""

import logging
import time
from collections.abc import Mapping

from prefect.artifacts import create_markdown_artifact

from morpheus.forest import Forest, Node, Price

log = logging.getLogger("morpheus.plant")

NOTHING = "-"


class Phases:
    """When each phase of a run ended, in seconds since it began; of one that came again the last end."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._ends: dict[str, float] = {}

    @property
    def ends(self) -> Mapping[str, float]:
        """In the order in which they ended."""
        return dict(self._ends)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def ended(self, phase: str) -> None:
        self._ends.pop(phase, None)
        self._ends[phase] = self.seconds


def publish(forest: Forest, phases: Phases) -> None:
    """Show the forest in Prefect's UI; that it cannot be shown is no fault of the forest."""
    try:
        create_markdown_artifact(key=f"forest-{forest.name}", markdown=told(forest, phases.ends))
    except Exception as error:  # noqa: BLE001  # whatever Prefect raises, the forest stands
        log.warning("%s: its artifact could not be written: %s", forest.name, error)


def told(forest: Forest, ends: Mapping[str, float]) -> str:
    """The forest, its addresses and prices, and the phases of the run, as Markdown."""
    took = max(ends.values(), default=0.0)
    cost = f"Costs {forest.price}, VAT included." if forest.price.monthly else "Costs nothing."
    begins = dict(zip(ends, [0.0, *ends.values()], strict=False))
    return "\n".join(
        [
            f"# {forest.name}: {len(forest.staying)} node(s), ready after {took:.1f} s",
            f"{cost} Recorded in {_word(forest.registry_url)}.",
            "",
            _row("node", "address", "name", "location", "type", "price"),
            _row(*["---"] * 6),
            *(_node(node) for node in forest.staying),
            "",
            _row("phase", "ended after", "took"),
            _row("---", "---:", "---:"),
            *(_row(phase, f"{end:.2f} s", f"{end - begins[phase]:.2f} s") for phase, end in ends.items()),
        ]
    )


def _node(node: Node) -> str:
    price, metadata = Price.of(node.metadata), node.metadata
    others = [node.ip, metadata.get("ipv4")]
    return _row(
        node.label,
        ", ".join(_word(each) for each in others if each) or NOTHING,
        _word(node.dns),
        _word(metadata.get("location")),
        _word(metadata.get("server_type")),
        str(price) if price.monthly else NOTHING,
    )


def _word(text: str | None) -> str:
    """*text* as code: what others wrote is neither a link nor a table."""
    plain = "".join(each for each in text or "" if each.isprintable() and each not in "`|")
    return f"`{plain}`" if plain else NOTHING


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
