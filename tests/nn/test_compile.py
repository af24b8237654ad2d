"""A compiled network is the network: outputs, gradients, statistics, modes."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from bn_field_plugin.nn import CoordinateMLP, frozen_statistics
from tests.nn.cases import coordinates, draw, network, statistics

COMPILER = next((c for c in (os.environ.get("CXX"), "g++", "clang++", "c++") if c and shutil.which(c)), None)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled_pair(backend: str, **options) -> tuple[CoordinateMLP, CoordinateMLP, torch.nn.Module]:
    """A network, its twin, and the compiled twin."""
    eager, twin = (
        network(**options, depth=2, skips=(1,), encoding="positional", dtype=torch.float32) for _ in range(2)
    )
    return eager, twin, torch.compile(twin, backend=backend, dynamic=False)


def check(backend: str, **options) -> None:
    """Two training passes, one with frozen statistics, evaluation with and without gradients."""
    eager, twin, compiled = compiled_pair(backend, **options)
    grad = draw(40, 2, dtype=torch.float32)
    for step in range(2):
        x = coordinates(40, 3, seed=step, dtype=torch.float32)
        a, b = compiled(x), eager(x)
        torch.testing.assert_close(a, b, **CLOSE)
        for module, y in ((twin, a), (eager, b)):
            module.zero_grad()
            y.backward(grad)
        for p, q in zip(twin.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, **CLOSE)
        torch.testing.assert_close(statistics(twin), statistics(eager), **CLOSE)
    with frozen_statistics(twin), frozen_statistics(eager):
        torch.testing.assert_close(compiled(x), eager(x), **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), eager(x), **CLOSE)
    eager.eval(), twin.eval()
    torch.testing.assert_close(compiled(x), eager(x), **CLOSE)
    assert all(torch.equal(*pair) for pair in zip(statistics(twin), statistics(compiled), strict=True))
    torch.testing.assert_close(statistics(twin), statistics(eager), **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "placement"),
    [("batch", "before"), ("batch", "after"), ("global", "before"), ("cross", "before")],
)
def test_the_captured_graph_computes_what_eager_computes(norm, placement):
    check("aot_eager", norm=norm, placement=placement)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: torch.compile cannot build CPU kernels")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_generated_kernels_compute_what_eager_computes():
    check("inductor", norm="batch")
