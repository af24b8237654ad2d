"""Networks of different kinds with equal numbers of parameters."""

from __future__ import annotations

import pytest

from bn_field_plugin.errors import UserError
from standalone.matching import STANDARD, TOLERANCE, contenders, matched
from standalone.networks import parse_variants
from standalone.optimization import count_parameters
from standalone.options import NetworkOptions


def numbers(options: NetworkOptions, in_dim: int, out_dim: int) -> int:
    return count_parameters(options.build(in_dim, out_dim, 0))


@pytest.mark.parametrize(("in_dim", "out_dim", "width", "depth"), [(2, 3, 28, 10), (3, 1, 64, 3)])
def test_the_standard_set_has_equal_parameters(in_dim: int, out_dim: int, width: int, depth: int) -> None:
    size = NetworkOptions(width=width, depth=depth)
    found = contenders(parse_variants(STANDARD), size, in_dim, out_dim, equal=True)
    target = numbers(NetworkOptions("mlp", "none", width, depth), in_dim, out_dim)
    assert len(found) == len(STANDARD)
    for options in found:
        assert abs(numbers(options, in_dim, out_dim) - target) <= TOLERANCE * target
        assert options.size.depth == (2 if options.network.startswith("hash") else depth)


def test_the_width_is_the_nearest() -> None:
    wanted = numbers(NetworkOptions("siren", "none", 37, 3), 2, 3)
    assert matched(NetworkOptions("siren", "none", None, 3), wanted, 2, 3).width == 37
    assert matched(NetworkOptions("siren", "none", None, 3), wanted - 5, 2, 3).width == 37


def test_tables_of_a_size_that_is_asked_for_stay() -> None:
    assert matched(NetworkOptions("hash-6", "none"), 8000, 2, 3).network == "hash-6"


def test_what_cannot_be_matched_is_one_line() -> None:
    with pytest.raises(UserError, match="nearest width"):
        matched(NetworkOptions("fourier", "none", None, 1), 300, 2, 3)
    with pytest.raises(UserError, match="no hash grid is as small"):
        matched(NetworkOptions("hash", "none"), 100, 2, 3)


def test_mistakes_are_found_before_any_fit() -> None:
    with pytest.raises(UserError, match="real numbers"):
        contenders(parse_variants(["mlp", "wire+batch"]), NetworkOptions(), 2, 3, equal=False)
    with pytest.raises(UserError, match="--omega is an option of"):
        contenders(parse_variants(["siren", "mlp"]), NetworkOptions(omega=20.0), 2, 3, equal=False)
