"""One door to spectra: exact by either matrix, and estimated without one."""

from __future__ import annotations

import numpy as np
import pytest

from bn_field_plugin.ntk import eigenvalues, random_points, spectrum
from bn_field_plugin.ntk.spectra import Estimate
from bn_field_plugin.ntk.spectrum_statistics import statistics_of
from tests.nn.cases import network


def test_routes_agree_and_say_what_they_took() -> None:
    mlp, points = network(norm="batch", width=8), random_points(40, 3)
    kernel, gram, free = (
        spectrum(mlp, points, route=route, estimate=Estimate(top=3, probes=4))
        for route in ("kernel", "gram", "matrix-free")
    )
    assert [one.route for one in (kernel, gram, free)] == ["kernel", "gram", "matrix-free"]
    assert {(one.num_outputs, one.num_parameters) for one in (kernel, gram, free)} == {
        (len(kernel.values), sum(p.numel() for p in mlp.parameters()))
    }
    np.testing.assert_allclose(gram.values, kernel.values, atol=1e-10 * kernel.values[0])
    np.testing.assert_allclose(free.values, kernel.values[:3], rtol=1e-6)
    np.testing.assert_array_equal(eigenvalues(mlp, points, route="kernel"), kernel.values)


def test_numbers_are_those_of_all_eigenvalues_or_what_an_estimate_can_tell() -> None:
    mlp, points = network(norm="batch", width=8), random_points(40, 3)
    exact = spectrum(mlp, points)
    assert exact.density is None and exact.numbers() == statistics_of(exact.values).as_dict()
    estimated = spectrum(mlp, points, route="matrix-free", estimate=Estimate(probes=32)).numbers()
    assert estimated.keys() < exact.numbers().keys()
    assert estimated["maximum"] == pytest.approx(exact.numbers()["maximum"], rel=1e-6)
    assert estimated["mean"] == pytest.approx(exact.numbers()["mean"], rel=0.3)
