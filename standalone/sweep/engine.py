"""Tasks that Ray runs, on this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bn_field_plugin.errors import UserError
from standalone.sweep.nerfstudio_commands import CommandFailed

OBJECT_STORE_BYTES = 100 * 2**20
"""Size of Ray's shared memory, which can be small because results are."""

START_ATTEMPTS = 3
"""How often Ray is started: it gives up after 30 seconds, which a busy machine may take."""

CANCEL_SECONDS = 10.0
"""Seconds that running tasks get to stop their commands after Ctrl-C."""

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Resources:
    """What the tasks of a sweep may use."""

    jobs: int
    """Tasks at a time."""
    threads: int
    """Cores of each."""
    gpus: float
    """GPUs of each; a part of one lets several tasks share it."""
    address: str | None = None
    """A running Ray cluster; None starts Ray on this machine."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """What became of one task."""

    item: Item
    """What the task was given."""
    value: Value | None
    """What it returned; None if it failed."""
    error: str = ""
    """Why it failed."""


def import_ray() -> Any:
    """Ray, which sends no usage statistics.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without this setting Ray prints a warning that tasks which ask for no GPU will see all GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("sweeps run on Ray, which is absent: pip install 'bn-field-plugin[sweep]'") from error
    return ray


@contextmanager
def started(resources: Resources) -> Iterator[Any]:
    """Start Ray, or connect to it, and stop it at the end of the `with` block.

    Raises:
        UserError: Ray is absent, does not start, or does not answer at the address.
    """
    ray = import_ray()
    options: dict[str, Any] = {"address": resources.address}
    if resources.address is None:
        options = {
            "address": "local",
            "num_cpus": resources.jobs * resources.threads,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    for attempt in range(START_ATTEMPTS):
        try:
            ray.init(**options, logging_level="ERROR", log_to_driver=False)
            break
        except Exception as error:  # Ray raises exceptions of many classes here
            ray.shutdown()
            reason = str(error).partition("\n")[0]
            if resources.address is not None:
                raise UserError(
                    f"no Ray answers at --address {resources.address} ({reason}): start one by "
                    "ray start --head, or leave the option out"
                ) from error
            if attempt == START_ATTEMPTS - 1:
                raise UserError(
                    f"Ray does not start here ({reason}): try again with less beside it"
                ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def run_tasks(
    ray: Any, function: Callable[[Item], Value], items: Sequence[Item], resources: Resources
) -> Iterator[Outcome[Item, Value]]:
    """Apply a function to items, several at a time, and yield each outcome once it is there.

    A task that fails does not stop the others. Closing the iterator, or an interrupt, stops those that run.

    Args:
        ray: from `started`.
        function: a function of a module, which may raise `CommandFailed` or `UserError`.
        items: arguments of the function; tasks start in this order.
        resources: what tasks may use.
    """
    task = ray.remote(num_cpus=resources.threads, num_gpus=resources.gpus, max_retries=0)(_guarded)
    waiting = list(items)
    running: dict[Any, Item] = {}
    try:
        while waiting or running:
            while waiting and len(running) < resources.jobs:
                item = waiting.pop(0)
                running[task.remote(function, item, str(Path.cwd()))] = item
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                item = running.pop(reference)
                try:
                    value, error = ray.get(reference)
                except ray.exceptions.RayError as lost:  # the worker's process died, out of memory or killed
                    value, error = None, f"its worker was lost: {str(lost).strip()}"
                yield Outcome(item, value, error)
    finally:
        for reference in running:
            ray.cancel(reference, force=False)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=CANCEL_SECONDS)


def _guarded(function: Callable[[Item], Value], item: Item, folder: str) -> tuple[Value | None, str]:
    """The value of a function and the reason of its failure, one of them empty; runs in Ray's worker."""
    os.chdir(folder)
    try:
        return function(item), ""
    except (CommandFailed, UserError, OSError) as error:
        return None, str(error)
