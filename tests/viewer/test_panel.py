"""The panel: its elements, its numbers during training, and that training is not changed by it."""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerControl

from bn_field_plugin.engine.pipeline import BNPipeline
from bn_field_plugin.viewer import panel as panels
from bn_field_plugin.viewer.panel import NormPanel, name_real_port, short_name, worst_of_networks
from bn_field_plugin.viewer.rendering import render
from bn_field_plugin.viewer.source import Source
from tests.scenes import tiny_pipeline, train_steps
from tests.viewer.cases import camera, generators, same_state, state_of


class Gui:
    """A page that keeps what is put on it."""

    def __init__(self) -> None:
        self.added: dict[str, SimpleNamespace] = {}

    def _add(self, label: str, **values: Any) -> SimpleNamespace:
        handle = SimpleNamespace(callbacks=[], **values)
        handle.on_update = handle.callbacks.append
        self.added[label] = handle
        return handle

    def add_dropdown(self, label: str, options: tuple[str, ...], value: str, hint: str) -> SimpleNamespace:
        return self._add(label, options=options, value=value)

    def add_plotly(self, figure: Any, aspect: float, visible: bool = True) -> SimpleNamespace:
        return self._add(figure.layout.title.text.split(",")[0], figure=figure, visible=visible)

    def add_folder(self, label: str, order: float) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def add_markdown(self, content: str) -> SimpleNamespace:
        return self._add("status", content=content)


def shown(pipeline: BNPipeline, training: bool = True, port: int | None = None) -> tuple[NormPanel, Gui, Any]:
    """Put a pipeline's panel on a page, in nerfstudio's way."""
    gui = Gui()
    server = SimpleNamespace(gui=gui, get_port=lambda: 7007)
    control = SimpleNamespace(output_render="rgb", split=False, split_output_render="depth")
    pictures: list[None] = []
    viewer = SimpleNamespace(
        train_lock=None,
        stats_markdown=SimpleNamespace(order=7.0),
        pictures=pictures,
        _trigger_rerender=lambda: pictures.append(None),
        viser_server=server,
        trainer=SimpleNamespace(training_state="training") if training else None,
        config=SimpleNamespace(websocket_port=port),
        control_panel=control,
        viewer_info=[f"Viewer running locally at: http://localhost:{port} (listening on 0.0.0.0)"],
    )
    panel = pipeline.norm_panel
    panel._setup(viewer)
    return panel, gui, viewer


def train_with_callbacks(pipeline: BNPipeline, num: int, seed: int, start: int = 0) -> None:
    torch.manual_seed(seed)
    for step in range(start, start + num):
        train_steps(pipeline, 1)
        pipeline.norm_panel.after_step(step)


def test_the_pipeline_is_a_source_and_nerfstudio_finds_its_panel(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    source: Source = pipeline  # mypy checks the protocol that the panel needs
    assert len(source.fixed_rays(50)) == 50
    assert [len(rays) for rays in pipeline.training_rays(50)] == [50]
    found = parse_object(pipeline, ViewerControl, "Custom Elements")
    assert found == [("Custom Elements/norm_panel", pipeline.norm_panel)]


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("batch", {"Statistics", "Spectrum of", "NTK of the density", "PSNR of training rays", "status"}),
        ("none", {"Spectrum of", "NTK of the density", "PSNR of training rays", "status"}),
    ],
)
def test_the_page_has_what_makes_sense(norm: str, expected: set[str], capture: Path) -> None:
    _, gui, _ = shown(tiny_pipeline(capture, norm=norm))
    if norm == "batch":
        expected = expected | {"Drift of running statistics"}
        assert gui.added["Statistics"].options == ("running", "exact", "batch")
    assert gui.added.keys() == expected
    assert gui.added["Spectrum of"].value == "field_fine"


def test_training_with_the_panel_is_training_without_it(capture: Path) -> None:
    """With a look after each step, weights, statistics and random numbers are equal, bit for bit."""
    plain = tiny_pipeline(capture)
    train_with_callbacks(plain, 6, seed=3)
    expected, numbers = state_of(plain), generators()
    watched = tiny_pipeline(capture)
    panel, _, _ = shown(watched)
    panel.budget.is_due = lambda: True  # type: ignore[method-assign]
    train_with_callbacks(watched, 6, seed=3)
    assert panel.budget.times == 6
    assert same_state(state_of(watched), expected)
    assert generators() == numbers


def test_it_draws_what_training_does(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    panel, gui, _ = shown(pipeline)
    panel.budget.is_due = lambda: True  # type: ignore[method-assign]
    train_with_callbacks(pipeline, 3, seed=0)
    assert panel.history.steps == [0, 1, 2]
    steps, psnr = panel.history.curve("psnr")
    assert steps == [0, 1, 2]
    assert all(0 < value < 40 for value in psnr)
    assert set(panel.history.names) == {"psnr", "coarse.trunk", "coarse.head", "fine.trunk", "fine.head"}
    assert "step 2" in gui.added["NTK of the density"].figure.layout.title.text
    assert len(gui.added["Drift of running statistics"].figure.data) == 4
    status = gui.added["status"].content
    assert all(words in status for words in ("effective rank", "sd (", "of training time"))


def test_without_a_viewer_it_does_nothing(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels.probe, "look", lambda *_: pytest.fail("looked without a viewer"))
    pipeline = tiny_pipeline(capture)
    train_with_callbacks(pipeline, 2, seed=0)
    assert pipeline.norm_panel.history.steps == []
    assert pipeline.norm_panel.step == 1


def test_no_share_means_no_look(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_pipeline(capture)
    pipeline.norm_panel = NormPanel(pipeline, 0.0)
    monkeypatch.setattr(panels.probe, "look", lambda *_: pytest.fail("looked without a share"))
    shown(pipeline)
    train_with_callbacks(pipeline, 2, seed=0)


def test_where_nothing_trains_it_looks_once(capture: Path) -> None:
    pipeline = tiny_pipeline(capture).eval()
    before = state_of(pipeline)
    panel, gui, _ = shown(pipeline, training=False)
    assert "PSNR of training rays" not in gui.added
    assert len(gui.added["NTK of the density"].figure.data) >= 1
    assert len(gui.added["Drift of running statistics"].figure.data[0].y) == 6  # a bar for each norm
    assert "of training time" not in panel.status
    assert same_state(state_of(pipeline), before)


def test_another_field_is_looked_at_when_it_is_chosen(capture: Path) -> None:
    panel, gui, _ = shown(tiny_pipeline(capture).eval(), training=False)
    before = gui.added["NTK of the density"].figure
    gui.added["Spectrum of"].value = "field_coarse"
    (callback,) = gui.added["Spectrum of"].callbacks
    callback(None)
    found = gui.added["NTK of the density"].figure
    assert "field_coarse" in found.layout.title.text
    assert found.data[0].y != before.data[0].y
    gui.added["Statistics"].value = "batch"
    gui.added["Statistics"].callbacks[0](None)
    assert gui.added["NTK of the density"].figure is found  # the choice is for pictures, not for spectra
    assert panel.statistics == "batch"


def test_a_choice_is_followed_under_the_lock_and_by_a_new_picture(capture: Path) -> None:
    panel, gui, viewer = shown(tiny_pipeline(capture))
    viewer.train_lock = threading.Lock()
    held: list[bool] = []
    panel._choice_changed = lambda: held.append(viewer.train_lock.locked())  # type: ignore[method-assign]
    gui.added["Statistics"].callbacks[0](None)
    assert held == [True]
    assert not viewer.train_lock.locked()
    assert len(viewer.pictures) == 1


@pytest.mark.parametrize("training", [False, True])
def test_plots_stay_whatever_is_chosen_in_whatever_order(capture: Path, training: bool) -> None:
    """A second look at one step removes no bar and no line from the page."""
    pipeline = tiny_pipeline(capture).eval()
    panel, gui, _ = shown(pipeline, training=training)
    panel.budget.is_due = lambda: training  # type: ignore[method-assign]
    train_with_callbacks(pipeline, 2, seed=0)
    figures = ("NTK of the density", "Drift of running statistics")
    before = [[len(trace.y) for trace in gui.added[name].figure.data] for name in figures]
    assert before[1] == ([2] * 4 if training else [6])
    for field in ("field_coarse", "field_fine", "field_coarse", "field_fine"):
        gui.added["Spectrum of"].value = field
        gui.added["Spectrum of"].callbacks[0](None)
        gui.added["Statistics"].callbacks[0](None)
        assert [len(trace.y) for trace in gui.added[figures[1]].figure.data] == before[1]
        assert sum(sum(trace.y) for trace in gui.added[figures[0]].figure.data) > 40


def test_two_starts_show_the_same_numbers(capture: Path) -> None:
    """Processes shuffle their images into different orders, which must not matter."""
    found = []
    for seed in (0, 1):
        pipeline = tiny_pipeline(capture, seed=seed)
        torch.manual_seed(5)
        for parameter in pipeline.model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        panel, _, _ = shown(pipeline.eval(), training=False)
        found.append(panel.status)
    assert found[0] == found[1]
    assert "effective rank" in found[0]


def test_the_viewer_renders_what_the_page_asks_for(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    _, gui, viewer = shown(pipeline)
    pose = torch.tensor([[[1.0, 0, 0, 0], [0, 0, -1, -4.0], [0, 1, 0, 0]]])
    from nerfstudio.cameras.cameras import Cameras

    camera = Cameras(pose, 8.0, 8.0, 4.0, 4.0, 8, 8)
    model = viewer.get_model()
    first = model.get_outputs_for_camera(camera, obb_box=None)
    assert model.rays_together is None
    assert first["density"].abs().max() == first["drift"].abs().max() == 0
    viewer.control_panel.output_render = "density"
    viewer.control_panel.split, viewer.control_panel.split_output_render = True, "drift"
    both = model.get_outputs_for_camera(camera, obb_box=None)
    assert min(both["density"].max(), both["drift"].max()) > 0
    gui.added["Statistics"].value = "batch"
    assert not torch.equal(model.get_outputs_for_camera(camera)["rgb"], first["rgb"])
    assert model.rays_together == pipeline.model.config.eval_num_rays_per_chunk
    panel = pipeline.norm_panel
    panel._tell("words")
    assert gui.added["status"].content.startswith("**Shown:** words")


def test_exact_statistics_are_made_once_for_each_step(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    panel, _, viewer = shown(pipeline)
    viewer.trainer.training_state = "paused"
    first = panel.exact()
    assert panel.exact() is first
    train_with_callbacks(pipeline, 1, seed=0, start=5)
    second = panel.exact()
    assert second is not first
    pipeline.calibrate()
    state = pipeline.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in second.items())


def test_exact_statistics_hold_training_back_no_more_than_their_share(capture: Path) -> None:
    """They use fewer rays, and wait for the share's time; when training pauses, they use all rays."""
    pipeline = tiny_pipeline(capture)
    panel, _, viewer = shown(pipeline)
    first = panel.exact()
    panel._exact_budget.is_due = lambda: False  # type: ignore[method-assign]
    train_with_callbacks(pipeline, 1, seed=0, start=5)
    assert panel.exact() is first
    panel._exact_budget.is_due = lambda: True  # type: ignore[method-assign]
    second = panel.exact()
    assert second is not first
    viewer.trainer.training_state = "paused"
    panel._exact_budget.is_due = lambda: False  # type: ignore[method-assign]
    third = panel.exact()
    assert any(not torch.equal(third[name], second[name]) for name in third)


def test_two_pipelines_share_a_page(capture: Path) -> None:
    """One plot has both spectra, another both drifts, and outputs of the second have its name."""
    one, other = (tiny_pipeline(capture, norm=norm).eval() for norm in ("batch", "layer"))
    before = [state_of(pipeline) for pipeline in (one, other)]
    one.norm_panel.compare(other.norm_panel, ("batch", "layer"))
    panel, gui, viewer = shown(one, training=False)
    assert [
        trace.name for trace in gui.added["NTK of the density"].figure.data if trace.showlegend is None
    ] == [
        "batch",
        "layer",
    ]
    assert all(f"{name} **Spectrum:**" in panel.status for name in ("batch", "layer"))
    assert all(
        name.startswith("batch ") for name in gui.added["Drift of running statistics"].figure.data[0].y
    )
    model = viewer.get_model()
    assert (model.split_with, model.begins_split) == ("rgb of layer", True)
    viewer.control_panel.split, viewer.control_panel.split_output_render = True, "rgb of layer"
    both = model.get_outputs_for_camera(camera(8))
    for pipeline, suffix in ((one, ""), (other, " of layer")):
        alone = render(pipeline.model, camera(8))
        for name, value in alone.items():
            assert torch.equal(both[name + suffix], value), name
    viewer.control_panel.split = False  # the other one is not in sight
    left = model.get_outputs_for_camera(camera(8))
    assert left.keys() == both.keys()
    assert left["rgb of layer"].shape == (8, 8, 3) and left["rgb of layer"].abs().max() == 0
    assert [same_state(state_of(p), b) for p, b in zip((one, other), before, strict=True)] == [True, True]


def test_a_checkpoint_tells_its_step(capture: Path) -> None:
    pipeline = tiny_pipeline(capture)
    pipeline.load_pipeline({f"_model.{k}": v for k, v in pipeline.model.state_dict().items()}, 120)
    assert pipeline.norm_panel.step == 120


def test_another_port_is_named_in_one_line(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """viser takes the next free port, while nerfstudio would print the one that was asked for."""
    _, _, viewer = shown(tiny_pipeline(capture), port=7001)
    out = capsys.readouterr().out
    assert "port 7001" in out
    assert "the viewer is at port 7007" in " ".join(out.split())
    assert viewer.viewer_info == ["Viewer running locally at: http://localhost:7007 (listening on 0.0.0.0)"]
    for asked in (None, 7007):
        viewer.config.websocket_port = asked
        name_real_port(viewer)
    assert capsys.readouterr().out == ""


def test_names_are_short() -> None:
    drift = {"field_fine.trunk.layers.1.norm": 1.0, "field_fine.trunk.layers.0.norm": 2.0}
    drift["field.mlp_base.mlp.layers.0.norm"] = 3.0
    assert [short_name(name) for name in drift] == ["fine.trunk.1", "fine.trunk.0", "field.mlp_base.0"]
    assert worst_of_networks(drift) == {"fine.trunk": 2.0, "field.mlp_base": 3.0}
