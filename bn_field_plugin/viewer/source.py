"""The interface that a pipeline has for the panel."""

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
        """`num` rays of training pixels; every process that reads the same data draws the same."""
        ...

    def pass_as_in_training(self, model: Any, rays: RayBundle) -> None:
        """Render rays with a model in training mode, with the same random numbers at each call."""
        ...

    def exact_rays(self) -> list[RayBundle]:
        """The training rays over which statistics are made exact before evaluation."""
        ...
