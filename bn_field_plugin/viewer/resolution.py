"""How large a picture may be, from how fast pictures have been."""

from __future__ import annotations

import math

from bn_field_plugin.viewer.tiles import Size

READABLE, LEAST = 96, 24
"""Pixels of a width at which a picture can be made out, and of the slowest methods' pictures of a move."""
NOTHING = Size(0, 0)
"""The size of no picture, or of one that is to be drawn anew."""
TILE_SECONDS = 0.2
"""Of one tile, for which training waits."""
LONGEST_TILE = 0.6
"""Seconds of a tile whose rays belong together."""
MOVING_SECONDS = 0.28
"""Of a picture while the camera moves."""
READABLE_SECONDS = 1.0
"""Of the same at most, to make it readable."""
RESTING_SECONDS = 2.5
"""Of the first picture after that: of the clock or of processors, whichever are more."""
TRIALS = 2
"""Tiles before speed is known: the first makes ready what the library makes only once."""
WEIGHT = 0.3
"""Of the last tile in the running means of speed."""


class Speed:
    """Seconds that a ray takes, as running means over the tiles rendered."""

    def __init__(self) -> None:
        self.clock = self.work = math.inf
        """Seconds of the clock a ray, and of processors where these are more."""
        self._noted = 0

    @property
    def is_unknown(self) -> bool:
        """Whether too little was measured."""
        return self._noted < TRIALS

    def note(self, rays: int, clock: float, processors: float) -> None:
        """Take what a tile took.

        Args:
            rays: of the tile.
            clock: seconds of the clock.
            processors: seconds of all processors together.
        """
        clock, work = clock / rays, max(clock, processors) / rays
        if self.is_unknown:
            self.clock, self.work = clock, work
        else:
            self.clock += WEIGHT * (clock - self.clock)
            self.work += WEIGHT * (work - self.work)
        self._noted += 1

    def tile_rays(self, together: int | None = None) -> int:
        """Rays of a tile.

        Args:
            together: so many, whatever the speed, unless training would wait too long for them.
        """
        if together is not None and together * self.clock <= LONGEST_TILE:
            return together
        return max(1, int(TILE_SECONDS / self.clock))


def largest(aspect: float, max_res: int) -> Size:
    """The size whose longer side is `max_res`, at least one pixel each; nerfstudio's "Max res".

    Args:
        aspect: width over height.
        max_res: pixels.
    """
    height, width = max_res, int(max_res * aspect)
    if width > max_res:
        height, width = int(max_res / aspect), max_res
    return Size(max(1, height), max(1, width))


def holding(rays: float, most: Size, least: int = READABLE) -> Size:
    """A size with the proportions of another, and about as many rays as asked for.

    Args:
        rays: asked for.
        most: the size that it may have at most.
        least: pixels of its width at least, unless `most` has fewer.
    """
    scale = math.sqrt(max(rays, 0.0) / most.rays)
    scale = min(1.0, max(scale, least / most.width))
    return Size(max(1, int(scale * most.height)), max(1, round(scale * most.width)))


def moving(speed: Speed, most: Size) -> Size:
    """The size of a picture while the camera moves."""
    size = holding(MOVING_SECONDS / speed.clock, most)
    if size.rays * speed.clock <= READABLE_SECONDS:
        return size
    return holding(READABLE_SECONDS / speed.clock, most, LEAST)


def resting(speed: Speed, most: Size, clock: float = math.inf) -> Size:
    """The size of the first picture when the camera rests, in at most `clock` seconds of the clock."""
    return holding(min(RESTING_SECONDS / speed.work, clock / speed.clock), most)


def is_at_once(size: Size, speed: Speed) -> bool:
    """Whether a picture is fast enough for a moving camera."""
    return size.rays * speed.clock <= MOVING_SECONDS


def after(shown: Size, speed: Speed, most: Size, clock: float = math.inf) -> Size | None:
    """The size of the next picture of a view whose camera rests.

    Args:
        shown: the size that is shown, with all samples.
        speed: measured.
        most: the size of the last picture.
        clock: seconds that pictures may take where training pays for them, which then go no further.

    Returns:
        None where the view is finished.
    """
    full = resting(speed, most, clock)
    if 2 * shown.rays < full.rays:  # less is no news
        return full
    return most if math.isinf(clock) and shown.rays < most.rays else None
