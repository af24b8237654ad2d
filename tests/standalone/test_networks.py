"""The networks by name: parsing, labels, and the configuration that each name stands for."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import CoordinateMLP, UserError, batch_statistics
from bn_field_plugin.nn import GaussianEncodingConfig, NoEncoding, NormName, PositionalEncodingConfig
from bn_field_plugin.nn.norms import NORMS, build_norm
from standalone.networks import HASH_GRIDS, Size, Variant, parse_variants
from standalone.options import NetworkOptions
from standalone.shape.task import ShapeNetworkOptions

NETWORKS = st.one_of(
    st.sampled_from(["mlp", "siren", "fourier", "hash", "finer", "wire", "wire-real", "gauss"]),
    st.integers(1, 99).map(lambda k: f"pemlp-{k}"),
    st.integers(1, 99).map(lambda scale: f"fourier-{scale}"),
    st.integers(4, 24).map(lambda rows: f"hash-{rows}"),
)


@given(network=NETWORKS, norm=st.sampled_from(list(NORMS)))
def test_parsing_inverts_the_slug(network: str, norm: NormName) -> None:
    variant = Variant(network, norm)
    assert Variant.parse(variant.slug) == variant
    assert Variant.parse(f" {variant.slug.upper()} ") == variant


@given(text=st.text(max_size=12))
def test_any_text_is_a_variant_or_a_clear_error(text: str) -> None:
    variant = None
    with suppress(UserError):
        variant = Variant.parse(text)
    assert variant is None or Variant.parse(variant.slug) == variant


@pytest.mark.parametrize(
    "text", ["", "pemlp", "pemlp-0", "pemlp-5+", "mlp+batchnorm", "fourier-0", "sirens", "hash-3", "hash-25"]
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="unknown: choose"):
        Variant.parse(text)


def test_bn_is_short_for_batch() -> None:
    assert Variant.parse("pemlp-5+bn") == Variant("pemlp-5", "batch")


def test_labels_are_the_names_in_the_field() -> None:
    labels = [Variant.parse(text).label for text in ("mlp", "pemlp-5+batch", "siren+layer", "fourier-10")]
    assert labels == ["MLP", "PEMLP-5 + BN", "SIREN + LN", "Fourier-10"]


def test_a_name_gives_its_network() -> None:
    sizes = {"in_dim": 2, "out_dim": 3, "width": 16, "depth": 2}
    assert Variant("mlp").config(**sizes).encoding == NoEncoding()
    assert Variant("pemlp-5").config(**sizes).encoding == PositionalEncodingConfig(5)
    assert Variant("fourier-4").config(**sizes).encoding == GaussianEncodingConfig(scale=4.0)
    siren = Variant("siren", "batch").config(**sizes)
    assert (siren.activation, siren.init, siren.norm) == ("sine", "paper", "batch")
    assert Variant("mlp").config(**sizes, placement="after", init="he").placement == "after"


def test_norms_stand_behind_sines_and_before_all_else_unless_asked() -> None:
    def placement(name: str, **options) -> str:
        return Variant(name, "batch").config(2, 1, 8, 2, **options).placement

    after = [
        name for name in ("mlp", "pemlp-5", "hash", "siren", "finer", "gauss") if placement(name) == "after"
    ]
    assert after == ["siren", "finer"]
    assert placement("siren", placement="before") == "before"
    assert placement("mlp", placement="after") == "after"


def test_networks_of_sines_have_norms_at_their_ends_and_all_others_in_all_layers_unless_asked() -> None:
    def normed(name: str, **options) -> list[bool]:
        network = NetworkOptions(name, "batch", 8, 4, **options).build(2, 3, 0)
        return [layer.norm is not None for layer in network.hidden_layers]

    ends, every = [True, False, False, True], [True] * 4
    assert [normed(name) for name in ("siren", "finer", "mlp", "gauss")] == [ends, ends, every, every]
    assert normed("siren", norm_layers="all") == every
    assert normed("mlp", norm_layers="ends") == ends


@pytest.mark.parametrize("in_dim", [2, 3])
def test_the_rows_of_a_hash_grid_are_in_its_name(in_dim: int) -> None:
    grid = HASH_GRIDS[in_dim]
    assert Variant("hash").config(in_dim, 1, 16, 2).encoding == grid
    smaller = Variant("hash-6").config(in_dim, 1, 16, 2).encoding
    assert smaller == dataclasses.replace(grid, log2_table_size=6)
    assert smaller.build(in_dim).tables.shape[0] <= grid.num_levels * 2**6


def test_a_hash_grid_of_other_dimensions_is_one_line() -> None:
    with pytest.raises(UserError, match=r"hash.*2 or 3 coordinates"):
        Variant("hash").config(4, 1, 16, 2)


@pytest.mark.parametrize("norm", get_args(NormName))
@pytest.mark.parametrize("network", ["pemlp-1", "hash-6"])
def test_a_variants_norm_stands_in_every_hidden_layer(norm: NormName, network: str) -> None:
    built = CoordinateMLP(Variant(network, norm).config(2, 1, 8, 2))
    assert [type(layer.norm) for layer in built.hidden_layers] == [type(build_norm(norm, 8))] * 2


def test_features_of_a_fresh_grid_stay_small_behind_its_norm() -> None:
    """The norm's eps is above their variance, so that noise is not scaled up to full size."""
    network = NetworkOptions("hash-6", "batch").build(2, 1, seed=0)
    points = torch.rand(500, 2) * 2 - 1
    with batch_statistics(network):
        hidden = network.layers[0](network.encode(points))
    assert hidden.std() < 1e-2


def test_sizes_are_the_networks_own_where_none_are_given() -> None:
    assert NetworkOptions("siren").size == Size(64, 5)
    assert NetworkOptions("siren", width=9).size == Size(9, 5)
    assert NetworkOptions("hash").size == Size(32, 2)
    assert ShapeNetworkOptions("pemlp-5").size == Size(128, 3)
    assert ShapeNetworkOptions("hash", depth=4).size == Size(32, 4)


@pytest.mark.parametrize(
    ("network", "option", "takers"),
    [
        ("siren", "wire_scale", "wire, wire-real"),
        ("mlp", "omega", "siren, finer, wire, wire-real"),
        ("hash", "gauss_sigma", "gauss"),
        ("wire-real", "finer_bias", "finer"),
    ],
)
def test_options_of_other_networks_are_one_line(network: str, option: str, takers: str) -> None:
    options = NetworkOptions(network, "none", **{option: 2.0})
    flag = "--" + option.replace("_", "-")
    with pytest.raises(UserError, match=f"^{flag} is an option of {takers}: {network} has none"):
        options.build(2, 3, 0)


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan")])
def test_norms_add_something_to_the_variance(eps: float) -> None:
    assert NetworkOptions("mlp", norm_eps=1e-3).build(2, 3, 0).hidden_layers[0].norm.eps == 1e-3
    with pytest.raises(UserError, match=r"--norm-eps is .*: it must be above 0"):
        NetworkOptions("mlp", norm_eps=eps).build(2, 3, 0)


def test_options_reach_the_activation() -> None:
    network = NetworkOptions("wire-real", omega=7.0, wire_scale=3.0).build(2, 3, 0)
    assert [(one.activation.omega, one.activation.scale) for one in network.hidden_layers] == [(7.0, 3.0)] * 5


def test_variants_are_taken_once() -> None:
    assert parse_variants(["mlp", "mlp+bn", "mlp+batch"]) == [Variant("mlp"), Variant("mlp", "batch")]
    with pytest.raises(UserError, match="--variants"):
        parse_variants([])
