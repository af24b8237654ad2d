"""The studies at tiny sizes: results that hold at any size, and whole files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bn_field_plugin.errors import UserError
from bn_field_plugin.ntk import grid
from standalone.networks import Variant
from standalone.ntk.studies import claims, dynamics, figure, frequency, scaling
from standalone.ntk.studies.common import Interval, NetworkSize, build
from standalone.ntk.studies.warning import warning_facts, warning_table, warning_verdict
from standalone.optimization import OptimizationConfig

FIGURE = figure.FigureConfig(side=10, seeds=2)
SCALING = scaling.ScalingConfig(norms=("none", "batch"), inits=("he",), sizes=(8, 16, 32), held=16, seeds=2)
DYNAMICS = dynamics.DynamicsConfig(networks=("mlp+batch",), side=5, steps=40, refresh=10, frames=3, seeds=2)
FREQUENCY = frequency.FrequencyConfig(
    networks=("mlp", "mlp+batch"),
    size=NetworkSize(16, 2),
    steps=30,
    every=10,
    cycles=(2, 5),
    samples=32,
    side=12,
    seeds=2,
)


@pytest.mark.slow
def test_batch_norm_raises_the_bulk_and_lowers_the_top_share(tmp_path: Path) -> None:
    """Figure 1 of Cai et al., at a small grid."""
    spectra = figure.run(FIGURE)
    found = figure.compare(spectra)
    assert len(found) == 6
    assert all(one.median_to_mean.mean > 1 and one.top_share.mean < 1 for one in found)
    figure.write(FIGURE, spectra, tmp_path, "a command")
    saved = np.load(tmp_path / "eigenvalues.npz")
    assert saved["pemlp-5_batch_frozen"].shape == (2, 100)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("figure.png", "figure.html", "figure.md", "figure.json", "eigenvalues.npz"),
        *("comparison.md", "comparison.json"),
    }


def test_scaling_finds_known_exponents() -> None:
    """The measurements are made up, as exact powers of the size."""
    made = [
        scaling.Measurement("none", "batch", "he", "both", size, seed, 3 * size, size**3 / 7, 2.0 * size**2)
        for size in (8, 16, 32)
        for seed in (0, 1)
    ]
    fits = scaling.fit(made, made)
    assert [round(one.exponent.mean, 6) for one in fits] == [1, 3, 2]
    assert {one.verdict for one in fits} == {"holds"}
    assert [round(one.closed_form or 0, 6) for one in fits] == [1, 3, 2]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.0, 1.5, "holds"),
        (1.55, 1.7, "undecided"),
        (1.4, 1.7, "agrees within its spread"),
        (1.7, 1.9, "does not hold"),
        (0.1, 0.8, "does not hold"),
    ],
)
def test_verdicts_of_exponents(low: float, high: float, verdict: str) -> None:
    exponent = Interval((low + high) / 2, low, high)
    fit = scaling.Fit("batch", "batch", "he", "both", "maximum", exponent, (1, 1.5), None)
    assert fit.verdict == verdict
    assert fit._replace(predicted=None).verdict == "no prediction"


@pytest.mark.slow
def test_scaling_writes_a_row_for_each_case(tmp_path: Path) -> None:
    result = scaling.run(SCALING)
    scaling.write(SCALING, result, tmp_path, "a command")
    rows = json.loads((tmp_path / "scaling.json").read_text())["rows"]
    assert len(rows) == 3 * 3 * 3  # none, coupled, frozen; three sweeps; three quantities
    assert (tmp_path / "scaling.png").exists() and (tmp_path / "scaling.html").exists()
    # Each panel has a line for each case, and one for the closed form.
    assert [len(plot.figure.data) for plot in scaling.plots(SCALING, result)] == [3 * (3 + 1)] * 3
    assert len((tmp_path / "measurements.csv").read_text().splitlines()) == 1 + 3 * 3 * 3 * 2 + 3 * 3 * 2
    without = [one for one in result.fits if one.norm == "none" and one.sweep == "width"]
    assert all(one.closed_form is not None for one in without)
    with pytest.raises(UserError, match="two different sizes"):
        scaling.run(scaling.ScalingConfig(sizes=(8, 8)))


def test_training_follows_the_exponential_where_the_kernel_hardly_moves() -> None:
    """In a short time at a small rate, coefficients follow exp(-eta lambda t) to second order."""
    config = dynamics.DynamicsConfig(side=6, steps=10, refresh=5, rate=1e-3, frames=2)
    network = build(Variant("mlp", "batch"), NetworkSize(32, 2), 2, 1, 0)
    points = grid(6)
    found = dynamics.follow(network, points, dynamics.target(points, 0), config)
    assert found.prediction_error(10) < 0.02
    assert found.window_error() < 0.02
    assert found.remaining(0) == pytest.approx(1)
    assert sorted(found.frames) == [0, 10]


def test_the_target_has_unit_power_and_its_seed() -> None:
    points = grid(16)
    values = dynamics.target(points, 0)
    assert float(values.square().mean()) == pytest.approx(1)
    assert not torch.equal(values, dynamics.target(points, 1))


def test_dynamics_writes_its_files(tmp_path: Path) -> None:
    found = dynamics.run(DYNAMICS)
    dynamics.write(DYNAMICS, found, tmp_path, "a command")
    saved = np.load(tmp_path / "trajectories.npz")
    assert saved["mlp+batch_seed0_coefficients"].shape == (41, 25)
    assert {"mlp+batch_seed1_step0", "mlp+batch_seed1_step20", "mlp+batch_seed1_step40"} <= set(saved.files)
    assert all((tmp_path / name).exists() for name in ("film.png", "dynamics.png", "dynamics.html"))
    # Each network has two lines for each group, trained and predicted, and one for each frame.
    assert len(dynamics.decay_plot(DYNAMICS, found).figure.data) == len(found) * dynamics.GROUPS * 2
    assert [len(shown) for shown in dynamics.film(found).values()] == [DYNAMICS.frames] * len(found)
    with pytest.raises(UserError, match="--rate"):
        dynamics.DynamicsConfig(rate=2.5).check()
    with pytest.raises(UserError, match="--refresh"):
        dynamics.DynamicsConfig(refresh=0).check()


def test_divergence_is_a_mistake_of_the_options() -> None:
    config = dynamics.DynamicsConfig(side=4, steps=300, rate=1.99, refresh=100, size=NetworkSize(8, 2, "he"))
    network = build(Variant("mlp"), config.size, 2, 1, 0)
    with torch.no_grad():
        network.output.weight.mul_(1e8)
    with pytest.raises(UserError, match="diverges"):
        dynamics.follow(network, grid(4), dynamics.target(grid(4), 0) * 1e30, config)


def test_errors_of_sines_are_read_off_one_by_one() -> None:
    task = frequency.sines(FREQUENCY, 0)
    assert task.measure(np.zeros((32, 1))) == pytest.approx({"2": 1, "5": 1})
    assert task.measure(task.values.numpy()) == pytest.approx({"2": 0, "5": 0}, abs=1e-9)
    low = torch.sin(2 * math.pi * grid(32, 1)).numpy()
    found = task.measure(task.values.numpy() + low)
    assert found["2"] > 0.5 and found["5"] == pytest.approx(0, abs=1e-9)


def test_errors_of_an_image_are_those_of_octaves() -> None:
    task = frequency.texture(FREQUENCY, 0)
    errors = task.measure(np.zeros((144, 1)))
    assert list(errors.values()) == pytest.approx([1.0] * len(errors))
    assert max(task.measure(task.values.numpy()).values()) < 1e-12


def test_an_image_of_ones_own(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(tmp_path / "a.png")
    config = frequency.FrequencyConfig(side=12, image=tmp_path / "a.png")
    assert frequency.texture(config, 0).values.shape == (144, 1)
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(UserError, match=r"b\.png"):
        frequency.texture(frequency.FrequencyConfig(image=tmp_path / "b.png"), 0)


def test_when_a_frequency_is_learned() -> None:
    steps = np.array([10, 20, 30])
    errors = np.array([[0.9, 0.9, 0.1], [0.2, 0.9, 0.1], [0.1, 0.9, 0.1]])
    assert frequency.Course(steps, ("1", "2", "3"), errors).learned_at().tolist() == [20, math.inf, 10]


def test_speedups_compare_each_norm_with_none() -> None:
    def course(first: float, last: float) -> frequency.Course:
        return frequency.Course(np.array([10, 20]), ("1", "2"), np.array([[0.0, first], [0.0, last]]))

    config = frequency.FrequencyConfig(steps=20, every=10, cycles=(1, 2))
    slow, fast = [course(1, 0.2), course(1, 0.3)], [course(0.1, 0.01), course(0.1, 0.02)]
    (found,) = frequency.speedups(config, {("t", "mlp"): slow, ("t", "mlp+batch"): fast})
    assert found.factor.mean == pytest.approx(2)
    assert not found.is_bound
    (bound,) = frequency.speedups(config, {("t", "mlp"): [course(1, 1)] * 2, ("t", "mlp+batch"): fast})
    assert bound.is_bound and bound.verdict == "holds"


def test_frequency_writes_its_files(tmp_path: Path) -> None:
    found = frequency.run(FREQUENCY)
    assert set(found) == {(t, n) for t in frequency.TASKS for n in FREQUENCY.networks}
    frequency.write(FREQUENCY, found, tmp_path, "a command")
    assert len(json.loads((tmp_path / "frequency.json").read_text())["rows"]) == 2
    assert (tmp_path / "frequency.html").exists()
    assert [len(plot.figure.data) for plot in frequency.plots(found)] == [len(FREQUENCY.networks)] * 2
    lines = (tmp_path / "errors.csv").read_text().splitlines()
    assert lines[0] == "target,network,seed,step,frequency,error"
    assert len(lines) > 2 * 2 * 2 * 3
    with pytest.raises(UserError, match="--cycles"):
        frequency.FrequencyConfig(cycles=(200,)).check()
    with pytest.raises(UserError, match="--every"):
        frequency.FrequencyConfig(every=0).check()


def test_the_warning_compares_with_no_norm() -> None:
    rows = warning_facts(6, 2, networks=("mlp",))
    assert [one.norm for one in rows] == ["none", "batch", "batch, frozen", "layer"] * 2
    assert all((one.maximum_ratio is None) == (one.norm == "none") for one in rows)
    assert "of 4 cases" in warning_verdict(rows)
    assert len(warning_table(rows)) == len(rows)


@pytest.mark.slow
def test_the_document_holds_every_claim(tmp_path: Path) -> None:
    config = claims.ClaimsConfig(
        document=tmp_path / "docs" / "claims.md",
        output_dir=tmp_path / "outputs",
        figure=figure.FigureConfig(side=6, seeds=2, size=NetworkSize(16, 2)),
        scaling=scaling.ScalingConfig(inits=("he",), sizes=(6, 12), held=8, seeds=2, depth=2),
        dynamics=DYNAMICS,
        frequency=FREQUENCY,
        warning_side=5,
    )
    claims.make_claims(config, "bn-ntk claims")
    text = config.document.read_text()
    for name in ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "Warning"):
        assert f"| {name} |" in text
    for name in ("C1", "C3", "C4", "C5", "C6", "Warning"):
        assert f"\n## {name}: " in text
    pictures = {path.name for path in (tmp_path / "docs" / "images").iterdir()}
    assert all(f"images/{name}" in text for name in pictures)
    assert OptimizationConfig(optimizer="adam") == config.frequency.optimization
