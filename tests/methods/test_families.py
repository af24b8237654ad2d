"""Methods of a family share all settings but those that set them apart."""

import dataclasses

import torch

from bn_field_plugin.methods.common import machine, muon_and_adam
from bn_field_plugin.methods.mipnerf import small as small_mipnerf
from bn_field_plugin.methods.nerf import paper_size, small
from bn_field_plugin.methods.nerfacto import nerfacto
from bn_field_plugin.methods.neus import neus
from bn_field_plugin.methods.ngp import ngp
from bn_field_plugin.methods.plenoxel import plenoxel


def test_small_methods_differ_in_what_is_asked_for_alone() -> None:
    with_norm, without = (dataclasses.asdict(small("m", norm, 1e-2, 5e-3)) for norm in ("batch", "none"))
    assert with_norm["pipeline"]["model"].pop("norm") == "batch"
    assert without["pipeline"]["model"].pop("norm") == "none"
    assert with_norm == without


def test_every_family_has_an_optimizer_for_each_of_its_parameter_groups() -> None:
    nerf_groups = {"hidden_matrices", "fields"}
    assert set(paper_size().optimizers) == set(small("m", "batch", 1e-2, 5e-3).optimizers) == nerf_groups
    assert set(nerfacto().optimizers) == {"proposal_networks", "fields", "camera_opt"}
    assert set(neus().optimizers) == {*nerf_groups, "variance"}
    assert set(plenoxel().optimizers) == {"density", "color"}


def test_the_learning_rates_of_muon_and_adam_are_those_asked_for() -> None:
    optimizers = muon_and_adam(2e-2, 5e-3, warmup_steps=7)
    assert {name: group["optimizer"].lr for name, group in optimizers.items()} == {
        "hidden_matrices": 2e-2,
        "fields": 5e-3,
    }
    assert {group["scheduler"].warmup_steps for group in optimizers.values()} == {7}


def test_the_machine_is_cuda_where_it_is_present() -> None:
    assert machine().device_type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_mipnerf_and_ngp_have_an_optimizer_for_each_of_their_parameter_groups() -> None:
    assert set(small_mipnerf().optimizers) == {"hidden_matrices", "fields"}
    assert set(ngp("m", "batch", 1e-2, (0.9, 0.99)).optimizers) == {
        "fields",
        "proposal_networks",
        "camera_opt",
    }
