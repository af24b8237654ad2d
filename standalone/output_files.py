"""Names of files that commands write: never those of files that are there, unless that is asked for."""

from __future__ import annotations

import itertools
from pathlib import Path

from bn_field_plugin.errors import UserError


def output_file(asked: Path | None, usual: Path, overwrite: bool) -> Path:
    """Where a command writes its file.

    Args:
        asked: the file that the user named; None without a name.
        usual: the file without a name; where it is there, the next one with a number: `photo-2.png`.
        overwrite: take the place of a file that is there.

    Raises:
        UserError: a file that the user named is there.
    """
    path = asked or usual
    if overwrite or not path.exists():
        return path
    if asked is not None:
        raise UserError(f"{path} is there already: give another name, or --overwrite")
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(other for other in numbered if not other.exists())
