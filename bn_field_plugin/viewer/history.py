"""Curves of training, of bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_POINTS = 400
"""Most points of a curve. When there are more, every second one is dropped."""


@dataclass
class History:
    """Numbers by step."""

    steps: list[int] = field(default_factory=list)
    """Training steps, in rising order."""
    values: list[Mapping[str, float]] = field(default_factory=list)
    """Numbers at each step, by name; names may come and go."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step; if the step has numbers already, they are replaced."""
        if self.steps and self.steps[-1] == step:
            self.values[-1] = dict(values)
            return
        self.steps.append(step)
        self.values.append(dict(values))
        if len(self.steps) > MAX_POINTS:  # drop every second point, but keep the newest
            del self.steps[1:-1:2], self.values[1:-1:2]

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """The curve of one name: its steps, and its numbers at them."""
        found = [(s, v[name]) for s, v in zip(self.steps, self.values, strict=True) if name in v]
        return [step for step, _ in found], [value for _, value in found]

    @property
    def names(self) -> list[str]:
        """All names, in order of appearance."""
        return list(dict.fromkeys(name for values in self.values for name in values))
