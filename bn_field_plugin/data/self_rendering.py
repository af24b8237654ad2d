"""Dataparsers of embedded scenes: without a path, they render their data on first use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from bn_field_plugin.errors import UserError


class RendersItself:
    """Mixin of dataparsers, before nerfstudio's own class.

    Sets `config.data` to the folder used, for nerfstudio's viewer reads it from there.

    Args:
        config: of nerfstudio's class, with `rendered()`, which finds or renders the scene.

    Raises:
        UserError: the given folder holds no such scene, or the scene cannot be rendered or kept.
    """

    scene: ClassVar[str]
    """What is rendered, in messages."""
    index_file: ClassVar[str]
    """A file that every folder of such a scene has."""
    remedy: ClassVar[str]
    """What to name for other data, in messages."""

    def __init__(self, config: Any) -> None:
        if config.data is None:
            config.data = config.rendered()
        elif not (Path(config.data) / self.index_file).is_file():
            raise UserError(
                f"no {self.scene} in {config.data}: leave --data out to use the one in the cache,"
                f" or name another dataparser {self.remedy}"
            )
        super().__init__(config=config)  # type: ignore[call-arg]  # of nerfstudio's class
