"""Whether tiny-cuda-nn works: if it is absent or broken, a command prints one line at most and goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bn_field_plugin.fields import tcnn
from tests.fields import fake_tinycudann


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Forget what was found, since the library is looked for once in a process."""
    tcnn.load_tinycudann.cache_clear()
    yield
    tcnn.load_tinycudann.cache_clear()


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in for the library count where there is no GPU."""
    monkeypatch.setattr(tcnn, "DEVICE_TYPE", "cpu")


class Broken:
    """Finds `tinycudann` and fails to load it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "tinycudann":
            raise self.error


def install(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", library)


def test_it_is_loaded_where_it_works(on_cpu: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    install(monkeypatch, fake_tinycudann)
    assert tcnn.load_tinycudann() is fake_tinycudann
    assert tcnn.usable_implementation("tcnn") == "tcnn"
    assert tcnn.usable_implementation("torch") == "torch"
    assert capsys.readouterr().err == ""


def test_absence_is_no_news(on_cpu: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delitem(sys.modules, "tinycudann", raising=False)
    error = ModuleNotFoundError("No module named 'tinycudann'", name="tinycudann")
    monkeypatch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
    assert tcnn.load_tinycudann() is None
    assert tcnn.usable_implementation("tcnn") == "torch"
    assert capsys.readouterr().err == ""


def test_without_cuda_it_is_not_even_imported(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delitem(sys.modules, "tinycudann", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(AssertionError("imported")), *sys.meta_path])
    assert tcnn.load_tinycudann() is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [
        ImportError("tinycudann_bindings/_90_C.so: undefined symbol: _ZN3c106detail14torchCheckFail\n more"),
        ModuleNotFoundError("No module named 'tinycudann_bindings'", name="tinycudann_bindings"),
        OSError("Could not find compatible tinycudann extension for compute capability 70."),
        OSError("libcudart.so.11.0: cannot open shared object file"),
    ],
    ids=["another torch", "half installed", "another GPU", "another CUDA"],
)
def test_a_library_that_does_not_load_is_told_once(
    error: Exception, on_cpu: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delitem(sys.modules, "tinycudann", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
    assert [tcnn.load_tinycudann() for _ in range(3)] == [None] * 3
    assert tcnn.usable_implementation("tcnn") == "torch"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tinycudann cannot be used here, torch takes its place: {str(error)[:40]}")


class WithoutKernel(nn.Module):
    """A library that loads, and fails at the first call."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")


class Wild(nn.Module):
    """A library whose results are not finite."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.nan


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (SimpleNamespace(Network=WithoutKernel), "no kernel image"),
        (SimpleNamespace(Network=Wild), "gives no numbers"),
        (ModuleType("tinycudann"), "has no attribute 'Network'"),
        (SimpleNamespace(Network=lambda: None), "argument"),
    ],
    ids=["no kernel", "no numbers", "no network", "another interface"],
)
def test_a_library_that_fails_at_the_first_call_is_told(
    library: Any, reason: str, on_cpu: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    install(monkeypatch, library)
    assert tcnn.load_tinycudann() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
