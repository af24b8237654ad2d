"""The networks by name: parsing, labels, and the configuration that each name stands for."""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import CoordinateMLP, UserError
from bn_field_plugin.nn import GaussianEncodingConfig, NoEncoding, NormName, PositionalEncodingConfig
from standalone.networks import NORM_LABELS, Variant, parse_variants

NETWORKS = st.one_of(
    st.sampled_from(["mlp", "siren", "fourier"]),
    st.integers(1, 99).map(lambda k: f"pemlp-{k}"),
    st.integers(1, 99).map(lambda scale: f"fourier-{scale}"),
)


@given(network=NETWORKS, norm=st.sampled_from(list(NORM_LABELS)))
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


@pytest.mark.parametrize("text", ["", "pemlp", "pemlp-0", "pemlp-5+", "mlp+batchnorm", "fourier-0", "sirens"])
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
    assert (siren.activation, siren.init, siren.norm) == ("sine", "siren", "batch")
    assert Variant("mlp").config(**sizes, placement="after", init="he").placement == "after"


@pytest.mark.parametrize("norm", get_args(NormName))
def test_every_norm_builds(norm: NormName) -> None:
    CoordinateMLP(Variant("pemlp-1", norm).config(2, 1, 8, 2))


def test_variants_are_taken_once() -> None:
    assert parse_variants(["mlp", "mlp+bn", "mlp+batch"]) == [Variant("mlp"), Variant("mlp", "batch")]
    with pytest.raises(UserError, match="--variants"):
        parse_variants([])
