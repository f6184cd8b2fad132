"""The form of every benchmark's result."""

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured, what was to be reached (each figure at most so much), and whether it was."""

    name: str
    figures: Mapping[str, float]
    goals: Mapping[str, float]

    @property
    def holds(self) -> bool:
        return all(self.figures[figure] <= most for figure, most in self.goals.items())

    def json(self) -> str:
        return json.dumps(
            {
                "name": self.name,
                "figures": dict(self.figures),
                "goals": dict(self.goals),
                "holds": self.holds,
            }
        )

    def text(self) -> str:
        lines = [f"{self.name}: {'holds' if self.holds else 'MISSED'}"]
        for figure, value in self.figures.items():
            goal = f"  (goal: at most {self.goals[figure]:g})" if figure in self.goals else ""
            lines.append(f"  {figure:32} {value:10.3f}{goal}")
        return "\n".join(lines)
