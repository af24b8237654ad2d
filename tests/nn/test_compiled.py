"""Compiled kernels are loaded once, say when they compile, and never make a command fail."""

from __future__ import annotations

import importlib
import time
from types import SimpleNamespace

import pytest
import torch

from bn_field_plugin.nn import HashGridEncodingConfig, compiled
from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.hash_grid import interpolate

NAME = "bn_field_plugin.nn.some_kernels"


@pytest.fixture(autouse=True)
def _nothing_is_loaded():
    load_compiled.cache_clear()
    yield
    load_compiled.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    """Replace the import of kernel modules by a function, which returns a module or raises."""

    def put(find):
        def import_module(name):
            return find() if name.endswith("_kernels") else importlib.import_module(name)

        monkeypatch.setattr(compiled, "importlib", SimpleNamespace(import_module=import_module))

    return put


def absent():
    raise ModuleNotFoundError("No module named 'numba'")


def test_kernels_are_warmed_up_once_for_each_kind(stand_in, capfd):
    calls = []
    module = SimpleNamespace(warm_up=lambda *kind: calls.append(kind))
    stand_in(lambda: module)
    for _ in range(2):
        assert load_compiled(NAME, 3, 2) is module
        assert load_compiled(NAME, 2, 2) is module
    assert calls == [(3, 2), (2, 2)]
    assert capfd.readouterr() == ("", "")


def test_a_long_compilation_says_so(stand_in, capfd, monkeypatch):
    monkeypatch.setattr(compiled, "WORTH_A_LINE", 0.0)
    said = []
    tell = compiled.tell
    monkeypatch.setattr(compiled, "tell", lambda line: (tell(line), said.append(line)))

    def warm_up():
        while not said:
            time.sleep(0.001)

    stand_in(lambda: SimpleNamespace(warm_up=warm_up))
    load_compiled(NAME)
    assert capfd.readouterr() == ("", "compiling some_kernels for this processor (once) ...\n")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'numba'"), "No module named 'numba'"),
        (ImportError("Numba needs NumPy 2.2 or less.\nGot NumPy 2.5."), "Numba needs NumPy 2.2 or less."),
        (AssertionError(), "AssertionError"),
        (RuntimeError("\n cannot cache function\n"), "cannot cache function"),
    ],
)
@pytest.mark.parametrize("where", ["import", "warm_up"])
def test_a_numba_that_does_not_work_is_one_line(stand_in, capfd, error, reason, where):
    def fail(*_):
        raise error

    stand_in(fail if where == "import" else lambda: SimpleNamespace(warm_up=fail))
    assert load_compiled(NAME) is None
    assert load_compiled(NAME) is None
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("numba cannot be used here, slower code takes the place of some_kernels")
    assert line.endswith(f": {reason} (pip install numba)\n")


def test_torch_takes_the_place_of_the_hash_grids_kernels(stand_in, capfd):
    stand_in(absent)
    encoding = HashGridEncodingConfig(num_levels=2, log2_table_size=8).build(3)
    x = torch.rand(20, 3) * 2 - 1
    for _ in range(2):
        assert torch.equal(encoding(x), interpolate(x, encoding.tables, encoding.levels))
    assert capfd.readouterr().err.count("\n") == 1


def test_interrupting_a_compilation_interrupts(stand_in):
    def interrupt():
        raise KeyboardInterrupt

    stand_in(interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_compiled(NAME)
