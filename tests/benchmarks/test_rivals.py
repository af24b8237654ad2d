"""Races of networks, with fits that are made up: what is kept, what is chosen, and the verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import image_rivals, shape_equal_time
from benchmarks.rivals import Fitted, Heat, KeptFits, Racer, chosen, race, rows_of, verdicts
from bn_field_plugin import UserError
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from standalone.shape.task import ShapeNetworkOptions

OURS, WORSE, SIREN, GAUSS = (Racer(name, 2) for name in ("siren+batch", "mlp+batch", "siren", "gauss"))
SCORES = {OURS: 31.0, WORSE: 25.0, SIREN: 30.5, GAUSS: 28.0}
EASY, HARD, TRIAL = (Heat("equal steps", name) for name in ("easy", "hard", "trial"))


class MadeUp:
    """Fits that cost nothing; Gauss is the better rival on the hard picture, and half the rates are best."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, int, float]] = []

    def __call__(self, racer: Racer, heat: Heat, seed: int, factor: float) -> Fitted:
        self.made.append((racer.variant, heat.thing, seed, factor))
        score = SCORES[racer] + (3.0 if heat is HARD and racer is GAUSS else 0.0)
        return Fitted(score + (0.5 * seed if racer is OURS else 0.0) - abs(factor - 0.5), 10)


def raced(path: Path, fit: MadeUp, factors: tuple[float, ...] = (0.5,), seeds: tuple[int, ...] = (0, 1)):
    """Scores after each seed."""
    tables = []
    race(
        KeptFits(path / "fits.json", fit, {"equal steps": {"side": 8}}),
        (OURS, WORSE, SIREN, GAUSS),
        (EASY, HARD),
        seeds,
        {"equal steps": TRIAL},
        factors,
        lambda racer, heat: 1.0,
        lambda scores, so_far, best: tables.append(
            (rows_of(scores, 2), verdicts(scores, {"equal steps": 0.5}, 2, " dB"))
        ),
    )
    return tables


def test_a_race_goes_on_where_it_was_left_and_repeats_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = MadeUp()
    assert len(raced(tmp_path, fit, seeds=(0,))) == 1
    assert len(raced(tmp_path, fit)) == 2
    assert len(fit.made) == len(set(fit.made)) == 2 * 2 * 4
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines() if " fits," in line] == [
        "8 fits",
        "8 fits",
    ]


def test_all_fits_of_a_seed_come_before_those_of_the_next(tmp_path: Path) -> None:
    fit = MadeUp()
    raced(tmp_path, fit)
    seeds = [seed for _, _, seed, _ in fit.made]
    assert seeds == sorted(seeds)


def test_rates_are_chosen_on_what_the_table_leaves_out(tmp_path: Path) -> None:
    fit = MadeUp()
    raced(tmp_path, fit, factors=(1.0, 0.5), seeds=(0,))
    assert {factor for _, thing, _, factor in fit.made if thing == "trial"} == {1.0, 0.5}
    assert {factor for _, thing, _, factor in fit.made if thing != "trial"} == {0.5}


def test_the_gain_is_over_the_best_rival_of_each_picture_seed_by_seed(tmp_path: Path) -> None:
    rows, (line,) = raced(tmp_path, MadeUp())[-1]
    assert [row["best rival"] for row in rows] == ["SIREN", "Gauss"]
    assert [row["gain of SIREN + BN"] for row in rows] == [0.75, 0.25]
    assert rows[0]["SIREN + BN"] == "31.25 +- 0.35 (10)"
    assert "mean of 2: +0.50 dB, standard deviation 0.35 over seeds, least +0.25 dB" in line
    assert line.endswith("target at least +0.5 dB (met).")


def test_a_network_that_diverges_wins_nothing() -> None:
    scores = {
        EASY: {
            OURS: [Fitted(20.0, 5)],
            WORSE: [Fitted(None, 0)],
            SIREN: [Fitted(19.0, 5)],
            GAUSS: [Fitted(None, 0)],
        }
    }
    (row,) = rows_of(scores, 2)
    assert (row["Gauss"], row["best rival"], row["gain of SIREN + BN"]) == ("diverged", "SIREN", 1.0)


def test_a_gain_without_a_number_as_target_must_exceed_the_deviation() -> None:
    near = {EASY: {OURS: [Fitted(0.5, 1), Fitted(0.9, 1)], SIREN: [Fitted(0.6, 1), Fitted(0.6, 1)]}}
    assert "(missed)" in verdicts(near, {"equal steps": 0.0}, 4, "")[0]
    far = {EASY: {OURS: [Fitted(0.8, 1), Fitted(0.9, 1)], SIREN: [Fitted(0.6, 1), Fitted(0.6, 1)]}}
    assert "(met)" in verdicts(far, {"equal steps": 0.0}, 4, "")[0]


@pytest.mark.parametrize(("names", "message"), [(("hash",), "takes no part"), (("siren",), "one without")])
def test_networks_that_make_no_race_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        chosen((OURS, SIREN), names)


def test_a_picture_has_a_name_and_perhaps_a_size() -> None:
    config = image_rivals.ImageRivals()
    assert image_rivals.picture_of(config, "camera@12").pixels.shape == (12, 12, 1)
    with pytest.raises(UserError, match="NAME@SIDE"):
        image_rivals.picture_of(config, "camera@big")


@pytest.mark.parametrize(
    "racer", [*image_rivals.RACERS, *shape_equal_time.RACERS], ids=lambda one: one.variant
)
def test_every_network_has_a_size_of_its_own_and_rates(racer: Racer) -> None:
    for like, in_dim in ((NetworkOptions(), 2), (ShapeNetworkOptions(), 3)):
        network = racer.network(like, in_dim, 3)
        twice, usual = racer.optimization(2.0), OptimizationConfig(racer.optimizer)
        twice.check()
        assert network.depth == racer.depth
        for steps in (100, 1000):
            rates, own = (one.learning_rates(network.config(in_dim, 3), steps) for one in (twice, usual))
            assert rates == (2 * own.hidden, 2 * own.rest)
        assert f"{network.width}" in racer.summary(network, {"equal steps": 1.0})
