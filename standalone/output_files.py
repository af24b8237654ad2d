"""Names of files that commands write. No existing file is overwritten unless the user asks for it."""

from __future__ import annotations

import itertools
from pathlib import Path

from bn_field_plugin.errors import UserError


def output_file(asked: Path | None, usual: Path, overwrite: bool) -> Path:
    """The path to which a command writes its file.

    Args:
        asked: the file that the user named, or None.
        usual: the file if the user named none; if it exists, a number is added: `photo-2.png`.
        overwrite: whether to replace an existing file.

    Raises:
        UserError: the file that the user named exists.
    """
    path = asked or usual
    if overwrite or not path.exists():
        return path
    if asked is not None:
        raise UserError(f"{path} is there already: give another name, or --overwrite")
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(other for other in numbered if not other.exists())
