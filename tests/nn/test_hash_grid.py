"""The hash grid equals its definition and nerfstudio's, on both of its routes: torch and compiled loops."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    HashGridEncoding,
    HashGridEncodingConfig,
    fold_norm,
    hash_kernels,
)
from bn_field_plugin.nn.hash_grid import (
    BLOCK,
    Level,
    corner_rows,
    corner_weights,
    interpolate,
    levels_of,
)
from tests.laws import cases
from tests.nn.cases import coordinates, draw, statistics, unchanged, vary

FEATURES = {2: 3, 3: 2}
"""Features of a level, by the number of coordinates. Kernels are compiled for each pair, which takes long."""
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
MIXED = {"num_levels": 3, "base_resolution": 4, "finest_resolution": 24, "log2_table_size": 8}
"""Sizes of grids whose coarse levels have a row for each corner, and whose fine levels share rows."""


def grid(dim: int, *, seed: int = 0, dtype: torch.dtype = torch.float32, **options) -> HashGridEncoding:
    """An encoding with features of unit size."""
    options = MIXED | {"features_per_level": FEATURES[dim], "init_scale": 0.0} | options
    encoding = HashGridEncoding(dim, HashGridEncodingConfig(**options))
    with torch.no_grad():
        encoding.tables.copy_(draw(*encoding.tables.shape, seed=seed))
    return encoding.to(dtype)


def by_torch(encoding: HashGridEncoding, x: Tensor) -> Tensor:
    return interpolate(x, encoding.tables, encoding.levels)


def gradients(y: Tensor, *inputs: Tensor, seed: int = 5) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, inputs, draw(*y.shape, seed=seed, dtype=y.dtype))


def both_routes(encoding: HashGridEncoding, x: Tensor):
    """Features and gradients, of the encoding's own route and of torch's."""
    for forward in (encoding, lambda x: by_torch(encoding, x)):
        leaf = x.clone().requires_grad_()
        y = forward(leaf)
        yield y.detach(), *gradients(y, leaf, encoding.tables)


@pytest.fixture
def threads():
    """Set the number of torch's threads, and restore it afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def no_kernels(monkeypatch):
    """Pretend that numba does not work, so that torch is used."""
    monkeypatch.setattr("bn_field_plugin.nn.hash_grid.load_compiled", lambda *_: None)


# The grids.


@cases(60)
@given(
    dim=st.sampled_from([2, 3]),
    levels=st.integers(1, 12),
    base=st.integers(2, 40),
    more=st.integers(0, 600),
    log2=st.integers(4, 19),
)
def test_levels_grow_evenly_and_share_rows_only_where_the_table_is_too_small(dim, levels, base, more, log2):
    config = HashGridEncodingConfig(levels, 2, base, base + more, log2)
    found = levels_of(config, dim)
    assert len(found) == levels
    assert found[0].resolution == base
    assert found[-1].resolution == (base + more if levels > 1 else base)
    assert [level.resolution for level in found] == sorted(level.resolution for level in found)
    row = 0
    for level in found:
        corners = (level.resolution + 1) ** dim
        assert level.row == row
        assert level.is_dense == (corners <= 2**log2)
        assert level.rows == min(corners, 2**log2)
        row += level.rows


def test_dense_corners_have_rows_of_their_own_and_hashed_ones_the_hash_of_teschner():
    cells = torch.cartesian_prod(*[torch.arange(5)] * 3)
    dense = corner_rows(cells, Level(5, 0, 6**3, True))
    assert sorted(set(dense.flatten().tolist())) == list(range(6**3))
    cell = [3, 70, 1000]
    hashed = corner_rows(torch.tensor([cell]), Level(2000, 0, 2**10, False))[0]
    for k, row in enumerate(hashed.tolist()):
        x, y, z = (c + (k >> axis & 1) for axis, c in enumerate(cell))
        assert row == (x ^ y * 2654435761 ^ z * 805459861) % 2**10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_levels", 0),
        ("num_levels", 65),
        ("features_per_level", 0),
        ("features_per_level", 65),
        ("base_resolution", 1),
        ("finest_resolution", 15),
        ("finest_resolution", 2**20 + 1),
        ("log2_table_size", 3),
        ("log2_table_size", 31),
        ("init_scale", -1.0),
        ("init_scale", math.nan),
        ("init_scale", math.inf),
    ],
)
def test_a_number_out_of_its_range_is_an_error_that_names_the_option(name, value):
    with pytest.raises(UserError, match=rf"^{name} of the hash grid is {value}: .+$"):
        HashGridEncodingConfig(**{name: value}).build(3)


@pytest.mark.parametrize("dim", [0, 1, 4])
def test_other_than_two_or_three_coordinates_are_an_error(dim):
    with pytest.raises(UserError, match=f"in_dim is {dim}: a hash grid takes 2 or 3 coordinates"):
        HashGridEncodingConfig().build(dim)


def test_features_start_small_and_differ():
    tables = HashGridEncodingConfig(init_scale=0.25, log2_table_size=10).build(2).tables.detach()
    assert tables.abs().max() <= 0.25
    assert tables.std() == pytest.approx(0.25 / math.sqrt(3), rel=0.05)


def test_it_shows_its_resolutions():
    assert "resolutions 4, 9, 24#" in repr(grid(2))


# Interpolation.


@cases(30)
@given(place=st.lists(st.floats(0, 1), min_size=2, max_size=3))
def test_weights_of_corners_are_positive_and_sum_to_one(place):
    weights = corner_weights(torch.tensor([place], dtype=torch.float64))
    assert weights.shape == (1, 2 ** len(place))
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("route", ["own", "torch"])
def test_at_a_vertex_the_features_are_its_row(dim, route):
    """With a power of two of cells, coordinates of vertices have no rounding error."""
    encoding = grid(dim, num_levels=2, base_resolution=4, finest_resolution=16)
    assert [level.is_dense for level in encoding.levels] == [True, False]
    for index, level in enumerate(encoding.levels):
        vertices = torch.cartesian_prod(*[torch.arange(level.resolution + 1)] * dim)
        x = vertices / level.resolution * 2 - 1
        y = encoding(x) if route == "own" else by_torch(encoding, x)
        # Each vertex is the first corner of a cell, if the grid goes on beyond its box.
        rows = corner_rows(vertices, level)[:, 0] + level.row
        columns = slice(index * FEATURES[dim], (index + 1) * FEATURES[dim])
        assert torch.equal(y[:, columns], encoding.tables[rows])


@pytest.mark.parametrize("dim", [2, 3])
def test_features_are_continuous_across_the_borders_of_cells(dim):
    encoding = grid(dim)
    for level in encoding.levels:
        border = torch.arange(level.resolution + 1) / level.resolution * 2 - 1
        x = coordinates(len(border), dim, dtype=torch.float32)
        for axis in range(dim):
            below, above = x.clone(), x.clone()
            below[:, axis], above[:, axis] = border - 1e-6, border + 1e-6
            # No slope exceeds the span of the features times the number of cells in a unit.
            torch.testing.assert_close(encoding(below), encoding(above), rtol=0, atol=2e-6 * 8 * 24)


@pytest.mark.parametrize("dim", [2, 3])
def test_outside_the_box_the_border_holds_and_no_gradient_flows(dim):
    encoding = grid(dim)
    x = 1.5 * draw(200, dim, dtype=torch.float32)
    x[0], x[1] = math.inf, -math.inf
    held = x.clamp(-1, 1)
    for (y, grad, _), (y_held, *_) in zip(both_routes(encoding, x), both_routes(encoding, held), strict=True):
        assert torch.equal(y, y_held)
        assert (grad[x.abs() > 1] == 0).all()
        assert (grad[x.abs() < 1] != 0).any()


@pytest.mark.parametrize("dim", [2, 3])
def test_on_the_border_of_the_box_the_slope_is_that_inside(dim):
    encoding = grid(dim)
    border = coordinates(40, dim, seed=4, dtype=torch.float32)
    border[torch.arange(40), torch.arange(40) % dim] = torch.tensor([-1.0, 1.0]).repeat(20)
    own, torchs = (results[1] for results in both_routes(encoding, border))
    inside, _ = (results[1] for results in both_routes(encoding, border.clamp(-1 + 1e-6, 1 - 1e-6)))
    for found in (own, torchs):
        torch.testing.assert_close(found, inside, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("dim", [2, 3])
def test_coordinates_that_are_no_numbers_give_features_that_are_none(dim):
    """NaN must not become the number of a row: reading rows that are not there would crash the process."""
    encoding = grid(dim)
    x = coordinates(6, dim, dtype=torch.float32)
    x[1, 0], x[4, dim - 1] = math.nan, math.nan
    is_bad = x.isnan().any(dim=-1)
    for y, grad, _ in both_routes(encoding, x):
        assert y[is_bad].isnan().all()
        assert grad[~is_bad].isfinite().all()
        torch.testing.assert_close(y[~is_bad], encoding(x[~is_bad]), **CLOSE)


@pytest.mark.parametrize("dim", [2, 3])
def test_gradients_of_the_torch_route_are_those_of_differences(dim):
    options = {"num_levels": 2, "base_resolution": 2, "features_per_level": 1, "log2_table_size": 5}
    encoding = grid(dim, dtype=torch.float64, **options)
    x = (0.9 * coordinates(3, dim, seed=3)).requires_grad_()
    tables = encoding.tables.detach().requires_grad_()

    def features(x, tables):
        return interpolate(x, tables, encoding.levels)

    assert torch.autograd.gradcheck(features, (x, tables), eps=1e-7)
    assert torch.autograd.gradgradcheck(features, (x, tables), eps=1e-7, fast_mode=True)


# The compiled route.


@cases(40)
@given(
    dim=st.sampled_from([2, 3]),
    levels=st.integers(1, 5),
    base=st.integers(2, 9),
    more=st.integers(0, 200),
    log2=st.integers(4, 12),
    samples=st.integers(0, 70),
    seed=st.integers(0, 99),
)
def test_the_compiled_route_is_torchs(dim, levels, base, more, log2, samples, seed):
    encoding = grid(
        dim,
        seed=seed,
        num_levels=levels,
        base_resolution=base,
        finest_resolution=base + more,
        log2_table_size=log2,
    )
    x = coordinates(samples, dim, seed=seed, dtype=torch.float32)
    (y, grad_x, grad_tables), expected = both_routes(encoding, x)
    torch.testing.assert_close(y, expected[0], **CLOSE)
    # Slopes grow with the resolution, and so do their rounding errors.
    torch.testing.assert_close(grad_x, expected[1], rtol=1e-4, atol=1e-5 * (base + more))
    torch.testing.assert_close(grad_tables, expected[2], rtol=1e-4, atol=1e-5)


def test_it_is_the_compiled_route_that_serves_fp32_on_a_cpu(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "bn_field_plugin.nn.hash_grid.interpolate", lambda x, t, levels: calls.append(1) or x.new_zeros(4, 6)
    )
    x = coordinates(4, 3, dtype=torch.float32)
    grid(3)(x)
    assert calls == []
    grid(3, dtype=torch.float64)(x)
    assert calls == [1]


@pytest.mark.parametrize("dim", [2, 3])
def test_second_derivatives_through_the_compiled_route_are_torchs(dim):
    encoding = grid(dim)
    x = coordinates(30, dim, dtype=torch.float32)
    found = []
    for forward in (encoding, lambda x: by_torch(encoding, x)):
        leaf = x.clone().requires_grad_()
        y = forward(leaf).tanh()  # so that the gradient depends on the features too
        (slope,) = torch.autograd.grad(y.sum(), leaf, create_graph=True)
        found.append((slope.detach(), *gradients(slope, leaf, encoding.tables)))
    for own, torchs in zip(*found, strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-3, atol=1e-3)


def test_only_the_gradients_that_are_asked_for_are_made():
    encoding = grid(3)
    x = coordinates(30, 3, dtype=torch.float32)
    leaf = x.clone().requires_grad_()
    (expected_x, expected_tables) = gradients(encoding(leaf), leaf, encoding.tables)
    assert torch.equal(*gradients(encoding(x), encoding.tables), expected_tables)
    for create_graph in (False, True):
        encoding.requires_grad_(False)
        y = encoding(leaf)
        (found,) = torch.autograd.grad(
            y, leaf, draw(*y.shape, seed=5, dtype=y.dtype), create_graph=create_graph
        )
        torch.testing.assert_close(found, expected_x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_same_bits_for_any_number_of_threads(dim, threads):
    encoding = grid(dim)
    x = coordinates(3 * BLOCK + 17, dim, dtype=torch.float32)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(next(both_routes(encoding, x)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_several_threads_may_call_at_once(threads):
    threads(2)
    encoding = grid(3)
    x = coordinates(2 * BLOCK + 5, 3, dtype=torch.float32)
    expected = next(both_routes(encoding, x))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: next(both_routes(encoding, x)), range(12)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_gradients_and_coordinates_may_have_any_layout():
    encoding = grid(3)
    wide = coordinates(40, 6, dtype=torch.float32)
    for x in (wide[:, ::2], wide[:, :3].T.contiguous().T, wide[:1, :3].expand(7, 3)):
        (y, *grads), (expected, *expected_grads) = (
            next(both_routes(encoding, a)) for a in (x, x.contiguous())
        )
        assert torch.equal(y, expected)
        for a, b in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(a, b, **CLOSE)
    leaf = wide[:, :3].clone().requires_grad_()
    (grad,) = torch.autograd.grad(encoding(leaf).sum(), leaf)  # the gradient of a sum is an expanded tensor
    (expected,) = torch.autograd.grad(by_torch(encoding, leaf).sum(), leaf)
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (5, 3), (2, 5, 3), (2, 0, 4, 3)])
def test_leading_dimensions_are_kept(shape):
    encoding = grid(3)
    x = coordinates(*shape, dtype=torch.float32).requires_grad_()
    y = encoding(x)
    assert y.shape == (*shape[:-1], encoding.out_dim)
    assert torch.equal(y.reshape(-1, encoding.out_dim), encoding(x.reshape(-1, 3)))
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert encoding.tables.grad.isfinite().all()


# Dtypes, devices and tracing.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    encoding = grid(3)
    x = coordinates(50, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        y, by_torchs_route = encoding(x), by_torch(encoding, x)
    assert y.dtype == by_torchs_route.dtype == torch.float32
    assert torch.equal(y, encoding(x))
    assert torch.equal(by_torchs_route, by_torch(encoding, x))
    # Coordinates in half precision are read exactly.
    assert torch.equal(encoding(x.to(dtype)), encoding(x.to(dtype).float()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tables_in_half_precision_are_read_at_coordinates_in_fp32(dtype):
    """The eleven bits of half precision could not tell the cells of a fine grid apart."""
    options = {"base_resolution": 500, "finest_resolution": 4000}
    x = coordinates(50, 3, dtype=torch.float32)
    halved = grid(3, dtype=dtype, **options)
    y = halved(x)
    assert y.dtype == dtype
    expected = copy.deepcopy(halved).float()(x)
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.04 if dtype == torch.bfloat16 else 0.005)


def test_on_a_device_without_data_shapes_come_out():
    encoding = grid(3).to("meta")
    assert encoding(torch.empty(2, 7, 3, device="meta")).shape == (2, 7, encoding.out_dim)


def test_traced_and_transformed_calls_take_torchs_route():
    encoding = grid(3)
    x = coordinates(5, 3, dtype=torch.float32)
    leaf = x.clone().requires_grad_()
    y = encoding(leaf)
    rows = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in y.flatten()]
    expected = torch.stack(rows).reshape(*y.shape, *x.shape)
    torch.testing.assert_close(torch.func.jacrev(encoding)(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.func.vmap(encoding)(x), y, **CLOSE)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(encoding(dual)).tangent
    torch.testing.assert_close(tangent, expected.sum((-1, -2)), rtol=1e-4, atol=1e-4)


def test_torch_compile_traces_it_whole():
    encoding = grid(3)
    x = coordinates(5, 3, dtype=torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(encoding, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), encoding(x), **CLOSE)
    torch._dynamo.reset()


def test_copies_and_state_give_the_same_features():
    encoding = grid(2)
    x = coordinates(20, 2, dtype=torch.float32)
    other = grid(2, seed=1)
    assert not torch.equal(other(x), encoding(x))
    other.load_state_dict(encoding.state_dict())
    twins = copy.deepcopy(encoding), pickle.loads(pickle.dumps(encoding)), other
    assert all(torch.equal(twin(x), encoding(x)) for twin in twins)
    assert list(encoding.state_dict()) == ["tables"]
    assert pickle.loads(pickle.dumps(encoding.config)) == encoding.config


# Beside others.


def test_hashed_grids_are_nerfstudios():
    from nerfstudio.field_components.encodings import HashEncoding

    levels, size = 4, 8
    theirs = HashEncoding(levels, 16, 121, size, FEATURES[3], hash_init_scale=1.0, implementation="torch")
    ours = grid(3, num_levels=levels, base_resolution=16, finest_resolution=121, log2_table_size=size)
    assert not any(level.is_dense for level in ours.levels)
    with torch.no_grad():
        ours.tables.copy_(theirs.hash_table)
    x = coordinates(300, 3, dtype=torch.float32)
    found, expected = ours(x), theirs(x * 0.5 + 0.5)
    agree = torch.tensor([level.resolution for level in ours.levels]) == theirs.scalings
    assert agree.sum() >= 3  # nerfstudio rounds some exact powers down
    columns = agree.repeat_interleave(FEATURES[3])
    torch.testing.assert_close(found[:, columns], expected[:, columns], rtol=0, atol=1e-4)


def test_a_network_learns_folds_and_evaluates_in_blocks_behind_it():
    config = HashGridEncodingConfig(features_per_level=FEATURES[3], init_scale=0.5, **MIXED)
    mlp = CoordinateMLP(
        CoordinateMLPConfig(in_dim=3, out_dim=2, width=8, depth=2, skips=(1,), encoding=config)
    )
    vary(mlp)
    x = coordinates(300, 3, dtype=torch.float32)
    mlp(x).square().sum().backward()
    assert mlp.encoding.tables.grad.abs().sum() > 0
    mlp.eval()
    before = statistics(mlp)
    many = coordinates(70_000, 3, dtype=torch.float32)  # more than a block of the evaluation
    with torch.no_grad():
        whole = mlp(many)
    torch.testing.assert_close(mlp(many[-500:]).detach(), whole[-500:], **CLOSE)
    torch.testing.assert_close(fold_norm(mlp)(x), mlp(x), **CLOSE)
    assert unchanged(mlp, before)


# Numba.


def test_where_the_kernels_are_absent_torch_serves(no_kernels):
    encoding = grid(3)
    x = coordinates(30, 3, dtype=torch.float32)
    own, torchs = both_routes(encoding, x)
    assert all(torch.equal(a, b) for a, b in zip(own, torchs, strict=True))


def test_warming_up_leaves_nothing_to_compile():
    """Otherwise the first training step would wait for the compiler, and nothing would say so."""
    hash_kernels.warm_up(3, FEATURES[3])
    kernels = hash_kernels.forward, hash_kernels.backward_tables, hash_kernels.backward_positions
    before = [len(kernel.signatures) for kernel in kernels]
    next(both_routes(grid(3), coordinates(30, 3, dtype=torch.float32)))
    assert [len(kernel.signatures) for kernel in kernels] == before


@pytest.mark.slow
def test_importing_the_package_does_not_load_numba():
    code = """
import json, sys
from bn_field_plugin import nn
nn.HashGridEncodingConfig().build(3)
print(json.dumps("numba" in sys.modules))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) is False
