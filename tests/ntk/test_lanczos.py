from __future__ import annotations

import numpy as np
import pytest

from bn_field_plugin.ntk import eigenvalues, jacobian
from bn_field_plugin.ntk.lanczos import density, kernel_operator, largest
from tests.nn.cases import coordinates, network


@pytest.mark.parametrize("backend", ["structured", "autodiff"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_products_alone_give_the_top(norm: str, backend: str) -> None:
    mlp, points = network(norm=norm), coordinates(40, 3)
    operator = kernel_operator(jacobian(mlp, points, backend=backend))  # type: ignore[arg-type]
    np.testing.assert_allclose(largest(operator, 5), eigenvalues(mlp, points)[:5], rtol=1e-8)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_products_alone_give_the_moments(norm: str) -> None:
    """One backend is enough: the test above shows that the products of both are right."""
    mlp, points = network(norm=norm), coordinates(40, 3)
    exact = eigenvalues(mlp, points)
    found = density(kernel_operator(jacobian(mlp, points)), steps=40, probes=30)
    assert found.weights.sum() == pytest.approx(1)
    assert found.mean() == pytest.approx(exact.mean(), rel=0.2)
    assert found.variance() == pytest.approx(exact.var(), rel=0.4)


def test_quantiles_of_a_density_are_those_of_the_spectrum() -> None:
    """The operator is diagonal, so its eigenvalues are known and every probe finds all of them."""
    from scipy.sparse.linalg import aslinearoperator

    values = np.concatenate([np.full(60, 1.0), np.full(30, 10.0), np.full(10, 1000.0)])
    found = density(aslinearoperator(np.diag(values)), steps=20, probes=3)
    assert found.quantile(0.3) == pytest.approx(1)
    assert found.quantile(0.75) == pytest.approx(10)
    assert found.quantile(1.0) == pytest.approx(1000)
    assert found.mean() == pytest.approx(values.mean())
