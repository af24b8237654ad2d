"""Pictures with any statistics, and of density and drift, do not change the model."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.field_components.field_heads import FieldHeadNames

from bn_field_plugin.engine.pipeline import BNPipeline
from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import batch_statistics
from bn_field_plugin.viewer import rendering
from bn_field_plugin.viewer.rendering import ViewedModel, norm_buffers, render
from tests.models.test_bn_nerfacto import model as nerfacto
from tests.viewer.cases import camera, generators, same_state, state_of, trained_pipeline


@pytest.fixture(scope="module")
def pipeline(capture: Path) -> BNPipeline:
    return trained_pipeline(capture)


def test_running_is_what_evaluation_renders(pipeline: BNPipeline) -> None:
    expected = copy.deepcopy(pipeline.model).eval().get_outputs_for_camera(camera())
    found = render(pipeline.model, camera())
    assert set(found) == {*expected, "density", "drift"}
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert next(iter(found)) == "rgb"
    assert list(found)[-1] not in ("density", "drift")  # nerfstudio's split screen begins with the last


def test_batch_is_each_chunks_own(pipeline: BNPipeline) -> None:
    model = copy.deepcopy(pipeline.model).eval()
    with batch_statistics(model):
        expected = model.get_outputs_for_camera(camera())["rgb"]
    found = render(pipeline.model, camera(), statistics="batch")["rgb"]
    assert torch.equal(found, expected)
    assert (found - render(pipeline.model, camera())["rgb"]).abs().max() > 1e-3


def test_exact_is_what_evaluation_with_exact_statistics_renders(capture: Path) -> None:
    pipeline = trained_pipeline(capture)
    found = render(pipeline.model, camera(), statistics="exact", exact=pipeline.norm_panel.exact)["rgb"]
    running = render(pipeline.model, camera())["rgb"]
    assert (found - running).abs().max() > 1e-4
    pipeline.calibrate()
    assert torch.equal(render(pipeline.model, camera())["rgb"], found)


def test_density_is_the_largest_on_the_ray(pipeline: BNPipeline) -> None:
    """Oracle: the field's density at the samples of the same picture."""
    model = copy.deepcopy(pipeline.model).eval()
    seen: list[torch.Tensor] = []
    model.field_fine.register_forward_hook(lambda *found: seen.append(found[2][FieldHeadNames.DENSITY]))
    model.get_outputs_for_camera(camera())
    expected = torch.log10(1 + torch.cat([density.amax(dim=1) for density in seen]).reshape(12, 12, 1))
    found = render(pipeline.model, camera(), wanted={"density"})
    assert torch.equal(found["density"], expected)
    assert found["density"].max() > 0
    assert found["drift"].abs().max() == 0


@pytest.mark.parametrize("statistics", ["running", "exact", "batch"])
def test_drift_is_how_far_batch_statistics_move_the_colours(
    pipeline: BNPipeline, statistics: rendering.Statistics
) -> None:
    """The picture's own statistics do not matter."""
    batch, running = (render(pipeline.model, camera(), statistics=s)["rgb"] for s in ("batch", "running"))
    exact = pipeline.norm_panel.exact
    found = render(pipeline.model, camera(), statistics=statistics, wanted={"drift"}, exact=exact)
    assert torch.equal(found["drift"], (batch - running).abs().mean(dim=-1, keepdim=True))
    assert found["density"].abs().max() == 0


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_models_that_keep_no_statistics_have_no_drift(norm: str, capture: Path) -> None:
    found = render(trained_pipeline(capture, norm).model, camera(), wanted={"density"})
    assert "drift" not in found
    assert found["density"].max() > 0


def test_nerfacto_has_both() -> None:
    found = render(nerfacto().train(), camera(), wanted={"density", "drift"})
    assert found["density"].shape == found["drift"].shape == (12, 12, 1)
    assert min(found["density"].max(), found["drift"].max()) > 0


def test_what_is_not_looked_at_is_not_computed(pipeline: BNPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    renders: list[object] = []
    original = type(pipeline.model).get_outputs_for_camera

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        renders.append(self)
        return original(self, *arguments, **options)

    monkeypatch.setattr(type(pipeline.model), "get_outputs_for_camera", counted)
    numbers = []
    for wanted in (set(), {"density"}, {"drift"}):
        renders.clear()
        render(pipeline.model, camera(), wanted=wanted)
        numbers.append(len(renders))
    assert numbers == [1, 1, 2]


@pytest.mark.parametrize("statistics", ["running", "exact", "batch"])
@pytest.mark.parametrize("mode", [True, False])
def test_the_model_and_random_numbers_stay(
    pipeline: BNPipeline, statistics: rendering.Statistics, mode: bool
) -> None:
    pipeline.train(mode)
    before, numbers = state_of(pipeline.model), generators()
    pipeline.norm_panel._exact = None
    render(
        *(pipeline.model, camera()),
        statistics=statistics,
        wanted={"density", "drift"},
        exact=pipeline.norm_panel.exact,
    )
    assert same_state(state_of(pipeline.model), before)
    assert generators() == numbers


class InterruptionError(Exception):
    """An exception as the viewer raises it."""


@pytest.mark.parametrize("statistics", ["exact", "batch"])
def test_a_render_that_is_cut_short_anywhere_leaves_the_model(
    pipeline: BNPipeline, statistics: rendering.Statistics
) -> None:
    """When the camera moves, the viewer raises an exception at any line of the rendering."""
    before, numbers = state_of(pipeline.model), generators()

    def cut_after(lines: int) -> bool:
        left = lines

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal left
            left -= event == "line"
            if left < 0:
                left = sys.maxsize
                raise InterruptionError
            return trace

        pipeline.norm_panel._exact = None
        outer = sys.gettrace()
        sys.settrace(trace)
        try:
            render(pipeline.model, camera(4), statistics=statistics, exact=pipeline.norm_panel.exact)
        except InterruptionError:
            return True
        finally:
            sys.settrace(outer)
        return False

    lines, cuts = 1, 0
    while cut_after(lines):
        assert same_state(state_of(pipeline.model), before)
        assert generators() == numbers
        lines, cuts = int(lines * 1.2) + 1, cuts + 1
    assert cuts > 20


def test_norm_buffers_are_copies_of_the_statistics(pipeline: BNPipeline) -> None:
    found = norm_buffers(pipeline.model)
    state = pipeline.model.state_dict()
    assert found.keys() == {name for name in state if ".norm." in name and "_" in name.split(".")[-1]}
    assert all(torch.equal(value, state[name]) for name, value in found.items())
    assert all(value.data_ptr() != state[name].data_ptr() for name, value in found.items())


def viewed(pipeline: BNPipeline, statistics: Callable[[], Any], told: list[str]) -> ViewedModel:
    exact = pipeline.norm_panel.exact
    return ViewedModel(lambda: pipeline.model, statistics, lambda: {"drift"}, exact, told.append)


def test_the_viewed_model_renders_what_is_chosen_and_stays_itself(pipeline: BNPipeline) -> None:
    pipeline.train()
    told: list[str] = []
    model = viewed(pipeline, lambda: "batch", told)
    assert model.device == pipeline.model.device
    model.eval()
    assert pipeline.model.training
    found = model.get_outputs_for_camera(camera(), obb_box=None)
    assert torch.equal(found["rgb"], render(pipeline.model, camera(), statistics="batch")["rgb"])
    model.train()
    assert told == [""]


def test_a_chunk_without_batch_statistics_is_shown_with_running_ones(
    pipeline: BNPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single sample has no variance, which must not end the thread; a line on the page says so."""
    told: list[str] = []
    monkeypatch.setattr(pipeline.model.config, "eval_num_rays_per_chunk", 1)
    monkeypatch.setattr(pipeline.model.sampler_coarse, "num_samples", 1)
    with pytest.raises(UserError):
        render(pipeline.model, camera(), statistics="batch")
    found = viewed(pipeline, lambda: "batch", told).get_outputs_for_camera(camera())
    assert torch.equal(found["rgb"], render(pipeline.model, camera())["rgb"])
    assert "running statistics" in told[-1]
