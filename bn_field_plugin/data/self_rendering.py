"""Dataparsers of embedded scenes: without a path, they render their data on first use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from bn_field_plugin.errors import UserError


class RendersItself:
    """Mixin of dataparsers that render their data. It stands before nerfstudio's class among the bases.

    It sets `config.data` to the folder used, because nerfstudio's viewer reads the path from there.

    Args:
        config: config of nerfstudio's dataparser, with a method `rendered()`, which finds or renders the
            scene.

    Raises:
        UserError: the given folder holds no such scene, or the scene cannot be rendered or kept.
    """

    scene: ClassVar[str]
    """Words for the scene in messages."""
    index_file: ClassVar[str]
    """A file that every folder of such a scene has."""
    remedy: ClassVar[str]
    """Words in messages for the dataparser to name for other data."""

    def __init__(self, config: Any) -> None:
        if config.data is None:
            config.data = config.rendered()
        elif not (Path(config.data) / self.index_file).is_file():
            raise UserError(
                f"no {self.scene} in {config.data}: leave --data out to use the one in the cache,"
                f" or name another dataparser {self.remedy}"
            )
        super().__init__(config=config)  # type: ignore[call-arg]  # of nerfstudio's class
