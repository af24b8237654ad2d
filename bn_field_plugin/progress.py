"""Progress of long work, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Tracker = Callable[[Sequence[Any], str], Iterable[Any]]
"""Function that iterates over a sequence and shows how far it is; takes the sequence and a description."""


def silent(items: Sequence[Any], description: str) -> Iterable[Any]:
    """Iterate without showing any progress."""
    return items


def track(items: Sequence[Any], description: str) -> Iterator[Any]:
    """Show a bar on a terminal; elsewhere a line at the start and at the end."""
    from rich.console import Console
    from rich.progress import track as bar

    console = Console(stderr=True)
    if console.is_terminal:
        yield from bar(items, description=description, console=console, transient=True)
        return
    console.print(f"{description}: {len(items)} to do", highlight=False, soft_wrap=True)
    yield from items
    console.print(f"{description}: done", highlight=False, soft_wrap=True)
