"""The size that a picture may have, from the measured speed of earlier ones."""

from __future__ import annotations

import math

from bn_field_plugin.viewer.tiles import Size

READABLE, LEAST = 96, 24
"""Widths in pixels: at which a picture is recognisable, and least for a moving camera in slow methods."""
NOTHING = Size(0, 0)
"""The size of no picture, or of one that is to be drawn anew."""
TILE_SECONDS = 0.2
"""Seconds that one tile should take, for which training waits."""
LONGEST_TILE = 0.6
"""Most seconds for a tile whose rays must be rendered together."""
MOVING_SECONDS = 0.28
"""Seconds that a picture should take while the camera moves."""
READABLE_SECONDS = 1.0
"""Most seconds that it may take if it would not be recognisable otherwise."""
RESTING_SECONDS = 2.5
"""Seconds that the first picture of a resting camera should take: of wall clock, or of all processors
together if these are more."""
TRIALS = 2
"""Tiles before speed counts as known: the first one includes work that libraries do only once."""
WEIGHT = 0.3
"""Weight of the last tile in the running means of speed."""


class Speed:
    """Seconds that a ray takes, as running means over tiles."""

    def __init__(self) -> None:
        self.clock = self.work = math.inf
        """Seconds for each ray: `clock` of wall clock; `work` of all processors together, or of wall clock if
        that is more."""
        self._noted = 0

    @property
    def is_unknown(self) -> bool:
        """Whether too few tiles were measured."""
        return self._noted < TRIALS

    def note(self, rays: int, clock: float, processors: float) -> None:
        """Take the time of a tile into the means.

        Args:
            rays: number of rays of the tile.
            clock: seconds of wall clock.
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
        """Number of rays for the next tile.

        Args:
            together: rays that must be in one tile; ignored if training would wait for them too long.
        """
        if together is not None and together * self.clock <= LONGEST_TILE:
            return together
        return max(1, int(TILE_SECONDS / self.clock))


def largest(aspect: float, max_res: int) -> Size:
    """The size whose longer side is `max_res`, at least one pixel each; nerfstudio's "Max res".

    Args:
        aspect: width over height.
        max_res: pixels of the longer side.
    """
    height, width = max_res, int(max_res * aspect)
    if width > max_res:
        height, width = int(max_res / aspect), max_res
    return Size(max(1, height), max(1, width))


def holding(rays: float, most: Size, least: int = READABLE) -> Size:
    """A size with the proportions of another one, and about as many rays as asked for.

    Args:
        rays: number of rays.
        most: the largest size, with the proportions to keep.
        least: least width in pixels, unless `most` has fewer.
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
    """The size of a resting camera's first picture, which takes at most `clock` seconds of wall clock."""
    return holding(min(RESTING_SECONDS / speed.work, clock / speed.clock), most)


def is_at_once(size: Size, speed: Speed) -> bool:
    """Whether a picture of this size is fast enough for a moving camera."""
    return size.rays * speed.clock <= MOVING_SECONDS


def after(shown: Size, speed: Speed, most: Size, clock: float = math.inf) -> Size | None:
    """The size of the next picture of a view whose camera rests.

    Args:
        shown: size of the picture that is shown, if it has all samples.
        speed: speed of pictures with all samples.
        most: size of the sharpest picture.
        clock: seconds of wall clock that pictures may take while training runs; then the sharpest is not
            drawn.

    Returns:
        The size, or None where the view is finished.
    """
    full = resting(speed, most, clock)
    if 2 * shown.rays < full.rays:  # a picture that is hardly larger would show nothing new
        return full
    return most if math.isinf(clock) and shown.rays < most.rays else None
