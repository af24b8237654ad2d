"""What the panel needs of a pipeline."""

from __future__ import annotations

from typing import Any, Protocol

from nerfstudio.cameras.rays import RayBundle


class Source(Protocol):
    """A model that is or was trained, and the rays of its training."""

    @property
    def model(self) -> Any:
        """The model."""
        ...

    def fixed_rays(self, num: int) -> RayBundle:
        """That many rays of training pixels; the same in each process that reads the same data."""
        ...

    def pass_as_in_training(self, model: Any, rays: RayBundle) -> None:
        """Render rays with a model in training mode, with the same random numbers at each call."""
        ...

    def exact_rays(self) -> list[RayBundle]:
        """The training rays over which statistics are made exact before evaluation."""
        ...
