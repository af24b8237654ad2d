"""Freed memory is kept where glibc can do it; elsewhere nothing happens."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from bn_field_plugin import allocator

FAULTS = """
import resource, sys, torch
from bn_field_plugin.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
default = faults()
effects = [keep_freed_memory() for _ in range(2)]
faults()
print(default, faults(), *effects)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_large_tensors_are_not_mapped_afresh():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    default, kept, *effects = done.stdout.split()
    assert effects == ["True", "True"]
    assert int(default) >= 10  # pages may be normal or huge ones
    assert int(kept) <= int(default) / 10


RELEASE = """
import torch
from bn_field_plugin.allocator import keep_freed_memory, release_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

keep_freed_memory()
before = resident()
tensors = [torch.ones(2**22) for _ in range(16)]  # 256 MiB
del tensors
kept = resident() - before
print(kept, resident() - before if release_freed_memory() else None)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_released_when_asked_for():
    done = subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, text=True, check=True)
    kept, released = map(int, done.stdout.split())
    assert kept >= 2**28
    assert released <= 2**25


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_are_left_alone(monkeypatch, system):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # a call would raise
    assert allocator.keep_freed_memory() is False
    assert allocator.release_freed_memory() is False
