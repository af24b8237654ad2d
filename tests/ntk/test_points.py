from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.errors import UserError
from bn_field_plugin.ntk.memory import Need, available_bytes, choose_route
from bn_field_plugin.ntk.points import check_points, grid, random_points, read_points


@given(st.integers(2, 9), st.integers(1, 3))
def test_a_grid_is_centred_and_distinct(side: int, dim: int) -> None:
    points = grid(side, dim)
    check_points(points)
    assert points.shape == (side**dim, dim)
    assert float(points.mean(0).abs().max()) < 1e-12
    assert float(points.abs().max()) == pytest.approx(1 - 1 / side)


def test_random_points_follow_their_seed() -> None:
    assert torch.equal(random_points(5, seed=1), random_points(5, seed=1))
    assert not torch.equal(random_points(5, seed=1), random_points(5, seed=2))


@pytest.mark.parametrize("name", ["points.npy", "points.csv", "points.txt"])
def test_points_of_a_file(tmp_path: Path, name: str) -> None:
    table = random_points(6, 3).numpy()
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, table)
    else:
        np.savetxt(path, table, delimiter="," if path.suffix == ".csv" else " ")
    assert torch.allclose(read_points(path), torch.from_numpy(table))


def test_unfit_points_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_points(tmp_path / "absent.npy")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no table of numbers"):
        read_points(tmp_path / "bad.csv")
    with pytest.raises(UserError, match="too few"):
        grid(1)
    with pytest.raises(UserError, match="too few"):
        random_points(1)
    with pytest.raises(UserError, match="shape"):
        check_points(torch.zeros(3))
    with pytest.raises(UserError, match="not finite"):
        check_points(torch.tensor([[0.0], [float("nan")]]))
    with pytest.raises(UserError, match="duplicates"):
        check_points(torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0]]))


def test_the_route_is_the_smaller_matrix_and_what_fits() -> None:
    small, tall = Need(100, 1000), Need(100_000, 1000)
    assert choose_route(small, "auto", 2**40) == "kernel"
    assert choose_route(tall, "auto", 2**40) == "gram"
    assert choose_route(Need(10**5, 10**5), "auto", 2**30) == "matrix-free"
    with pytest.raises(UserError, match=r"needs 223\.\d GiB.*--route gram, or at most \d"):
        choose_route(tall, "kernel", 2**30)
    with pytest.raises(UserError, match="fewer points"):
        choose_route(Need(10**5, 10**5), "gram", 2**20)
    assert available_bytes() > 2**20
