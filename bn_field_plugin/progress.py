"""Progress of long work, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

Tracker = Callable[[Sequence[Any], str], Iterable[Any]]
"""Function that iterates over a sequence and shows how far it is; takes the sequence and a description."""


def silent(items: Sequence[Any], description: str) -> Iterable[Any]:
    """Iterate without showing any progress."""
    return items


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Show a bar on a terminal; elsewhere a line at the start and at the end.

    Args:
        items: what is iterated over.
        description: words for the work.
        total: number of items; needed where they have no length.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = len(items) if isinstance(items, Sequence) else total
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"{description}: {count} to do", highlight=False, markup=False, soft_wrap=True)
        yield from items
        console.print(f"{description}: done", highlight=False, markup=False, soft_wrap=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(items, total=count, description=description)
