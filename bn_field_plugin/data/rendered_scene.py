"""Embedded scenes: a configuration with limits, a place in the cache, and a rendering that fills it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from bn_field_plugin.data.scene_cache import cache_key, ensure_cached
from bn_field_plugin.errors import UserError


@dataclass(frozen=True)
class RenderedScene(ABC):
    """An embedded scene. Subclasses add the options of its pictures.

    Raises:
        UserError: when an option is out of its limits.
    """

    scene: ClassVar[str]
    """Words for the scene in messages, and its name in the cache."""
    version: ClassVar[int]
    """Part of the cache key: raise it whenever a rendered pixel or a pose changes."""
    limits: ClassVar[Mapping[str, tuple[float, float]]]
    """Least and largest value of each option."""

    def __post_init__(self) -> None:
        """Check the options."""
        for name, (low, high) in self.limits.items():
            value = getattr(self, name)
            if not low <= value <= high:  # false for NaN too
                option = name.replace("_", "-")
                raise UserError(f"{self.scene}: {option} must be from {low} to {high}, not {value}")

    @classmethod
    def like(cls, options: Any) -> Self:
        """The scene with options from the attributes of the same names."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})

    @abstractmethod
    def render(self, folder: Path, *, show_progress: bool = False) -> None:
        """Render every view into a folder, the same bytes at every run.

        Args:
            folder: made if it does not exist; files of the same names are replaced.
            show_progress: show how far it is on standard error.

        Raises:
            UserError: when Open3D does not load.
            OSError: when a file cannot be written.
        """

    @property
    def cache_name(self) -> str:
        """Name of the folder in the cache, another one for each configuration and version."""
        key = cache_key({"version": self.version, **asdict(self)})
        return f"{self.scene.replace(' ', '-')}-{key}"

    def ensure(self, cache_dir: Path | None = None, *, show_progress: bool = True) -> Path:
        """The folder with the rendered scene; it is rendered now if the cache does not hold it whole.

        Args:
            cache_dir: where to keep it; `scene_cache.default_cache_dir()` if None.
            show_progress: show how far a rendering is on standard error.

        Raises:
            UserError: when Open3D does not load or the cache cannot be written.
        """

        def make(folder: Path) -> None:
            self.render(folder, show_progress=show_progress)

        return ensure_cached(self.cache_name, make, cache_dir, what=self.scene)
