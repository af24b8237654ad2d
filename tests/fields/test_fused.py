"""The fused kernel evaluates networks that fit it, agrees with torch, and leaves the rest to torch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException
from torch import Tensor, nn

from bn_field_plugin.fields import fused, tcnn
from bn_field_plugin.fields.fused import (
    TOLERANCE,
    FusedInference,
    flat_parameters,
    fused_width,
    use_fused_inference,
    why_not_fused,
)
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, PositionalEncodingConfig
from bn_field_plugin.nn.bias_free import without_biases
from bn_field_plugin.nn.mlp import folded_weights
from tests.fields import fake_tinycudann
from tests.laws import cases
from tests.nn.cases import coordinates, vary
from tests.scenes import rays, tiny_field, tiny_model


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in for the library, on the CPU."""
    monkeypatch.setattr(tcnn, "DEVICE_TYPE", "cpu")
    monkeypatch.setattr(fused, "load_tinycudann", lambda: fake_tinycudann)
    return fake_tinycudann


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def network(**options: Any) -> CoordinateMLP:
    settings = {
        "in_dim": 3,
        "out_dim": 5,
        "width": 32,
        "depth": 3,
        "encoding": PositionalEncodingConfig(3),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mlp = CoordinateMLP(CoordinateMLPConfig(**{**settings, **options}))
    vary(mlp).eval()
    with torch.no_grad():
        mlp.output.weight.mul_(10)  # outputs of about 1, beside which no mistake looks small
    return mlp


def points(num: int = 500, seed: int = 0) -> Tensor:
    return coordinates(num, 3, seed=seed, dtype=torch.float32)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


# -------------------------------------------------------------------------------------------- what fits


@pytest.mark.parametrize(
    ("width", "depth", "needed"),
    [
        (16, 1, 16),
        (16, 2, 32),
        (15, 2, 16),
        (64, 1, 64),
        (64, 4, 128),
        (63, 4, 64),
        (127, 4, 128),
        (1, 1, 16),
    ],
)
def test_the_smallest_width_with_room_for_the_biases(width: int, depth: int, needed: int) -> None:
    config = CoordinateMLPConfig(width=width, depth=depth)
    assert why_not_fused(config) is None
    assert fused_width(config) == needed


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"width": 128, "depth": 2}, "width 128 and one for biases, more than 128"),
        ({"width": 256, "depth": 1}, "width 256, more than 128"),
        ({"skips": (1,)}, "skip connections"),
        ({"activation": "sine"}, "activation sine"),
        ({"norm": "layer"}, "layer norm, which does not fold"),
        ({"norm": "cross"}, "cross norm, which does not fold"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], reason: str) -> None:
    assert why_not_fused(CoordinateMLPConfig(**options)) == reason


def test_networks_that_do_not_fit_are_named_in_one_line(library: Any, capsys: Any) -> None:
    model = nn.ModuleDict({"fits": network(), "wide": network(width=200), "sine": network(activation="sine")})
    use_fused_inference(model)
    (line,) = capsys.readouterr().err.splitlines()
    assert "wide (width 200 and one for biases, more than 128), sine (activation sine)" in line
    assert [mlp.inference is not None for mlp in model.values()] == [True, False, False]


def test_without_the_library_nothing_changes(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(fused, "load_tinycudann", lambda: None)
    model = nn.ModuleDict({"fits": network(), "wide": network(width=200)})
    use_fused_inference(model)
    assert all(mlp.inference is None for mlp in model.values())
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------------------- agreement


@cases(40)
@given(
    out_dim=st.integers(1, 40),
    width=st.integers(1, 127),
    depth=st.integers(1, 4),
    frequencies=st.integers(1, 6),
    norm=st.sampled_from(["none", "batch", "global"]),
    placement=st.sampled_from(["before", "after"]),
)
def test_flat_parameters_give_the_network(
    out_dim: int, width: int, depth: int, frequencies: int, norm: str, placement: str
) -> None:
    """Parameters are in the library's layout; with a wrong order or padding, outputs would be far off."""
    mlp = network(
        out_dim=out_dim,
        width=width,
        depth=depth,
        norm=norm,
        placement=placement,
        encoding=PositionalEncodingConfig(frequencies),
    )
    with torch.no_grad():
        fused_config = tcnn.fused_network_config(fused_width(mlp.config), depth)
        folded = without_biases(folded_weights(mlp), fused_width(mlp.config))
        kernel = fake_tinycudann.Network(mlp.encoding.out_dim + 1, out_dim, fused_config)
        flat = flat_parameters(folded.matrices)
        assert flat.shape == kernel.params.shape
        kernel.params.copy_(flat)
        x = points(100)
        found = kernel(folded.inputs(mlp.encode(x))).float() + folded.shift
        assert relative_error(found, mlp(x)) < TOLERANCE


@pytest.mark.parametrize("norm", ["none", "batch", "global"])
@pytest.mark.parametrize("options", [{}, {"depth": 1, "width": 64}, {"placement": "after"}], ids=str)
def test_the_kernel_is_used_and_agrees(options: dict[str, Any], norm: str, library: Any) -> None:
    mlp = network(norm=norm, **options)
    x = points()
    expected = mlp(x)
    use_fused_inference(mlp)
    found = mlp(x)
    assert not mlp.inference.is_refused
    assert not torch.equal(found, expected), "half precision leaves traces"
    assert found.dtype == torch.float32
    assert relative_error(found, expected) < TOLERANCE


def test_chunks_do_not_change_a_value(library: Any) -> None:
    mlp = network()
    use_fused_inference(mlp)
    x = points(600)
    assert torch.equal(mlp(x), torch.cat([mlp(part) for part in x.split(77)]))


@pytest.mark.parametrize("change", ["weights", "statistics", "other statistics", "loaded"])
def test_new_weights_and_statistics_are_taken_over(change: str, library: Any) -> None:
    """Training goes on between two pictures of the viewer, so weights must be read again."""
    mlp = network()
    use_fused_inference(mlp)
    x = points()
    first = mlp(x)
    if change == "weights":
        mlp.output.weight.mul_(-1)
    elif change == "statistics":
        mlp.layers[0].norm.running_mean.add_(1)
    elif change == "other statistics":
        norm = mlp.layers[0].norm
        norm.running_mean = norm.running_mean + 1
    else:
        other = network(width=32)
        other.output.bias.add_(5)
        mlp.load_state_dict(other.state_dict())
    second = mlp(x)
    assert not mlp.inference.is_refused
    assert relative_error(second, mlp.evaluate_folded(x)) < TOLERANCE
    assert relative_error(second, first) > 10 * TOLERANCE


def test_weights_are_copied_only_when_they_change(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp = network()
    use_fused_inference(mlp)
    loads: list[int] = []
    load = FusedInference._load
    monkeypatch.setattr(FusedInference, "_load", lambda *args: (loads.append(1), load(*args))[1])
    for _ in range(3):
        mlp(points())
    assert len(loads) == 1
    mlp.output.bias.add_(1)
    mlp(points())
    assert len(loads) == 2


# -------------------------------------------------------------------------------- where torch evaluates


def test_training_gradients_and_no_samples_are_torchs(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp = network()
    x = points(40)
    expected = mlp(x)
    use_fused_inference(mlp)
    monkeypatch.setattr(fused, "new_network", lambda *_: pytest.fail("the kernel was made"))
    assert mlp(x[:0]).shape == (0, 5)
    assert mlp.double()(x.double()).dtype == torch.float64
    mlp.float()
    with torch.enable_grad():
        outputs = mlp(x.clone().requires_grad_())
        assert outputs.requires_grad
    torch.testing.assert_close(outputs.detach(), expected)
    mlp.train()(x)  # proposal networks without gradients: the weights are new at each step


def test_it_leaves_no_trace_in_state_parameters_and_copies(library: Any) -> None:
    mlp = network()
    names, number = list(mlp.state_dict()), len(list(mlp.parameters()))
    use_fused_inference(mlp)
    x = points()
    expected = mlp(x)
    assert list(mlp.state_dict()) == names
    assert len(list(mlp.parameters())) == number
    for other in (copy.deepcopy(mlp), pickle.loads(pickle.dumps(mlp))):
        assert other.inference._network is None
        assert torch.equal(other(x), expected)
        other.output.bias.add_(1)
        other(x)
        assert torch.equal(mlp(x), expected)


# ------------------------------------------------------------------------------------------- fallbacks


class Wrong(fake_tinycudann.Network):
    """A kernel whose outputs are wrong by a fiftieth."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.02


class Failing(fake_tinycudann.Network):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nsecond")


class NotFinite(fake_tinycudann.Network):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.nan


class Larger(fake_tinycudann.Network):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.params = nn.Parameter(torch.cat([self.params, self.params]))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Wrong, "its outputs are off by"),
        (Failing, "CUDA error: no kernel image is available for execution on the device"),
        (NotFinite, "its outputs are off by nan"),
        (Larger, "parameters in place of"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_kernel_that_fails_gives_way_with_one_line(
    kind: type, reason: str, library: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(fake_tinycudann, "Network", kind)
    mlp = network()
    x = points()
    expected = mlp(x)
    use_fused_inference(mlp)
    for _ in range(3):
        assert torch.equal(mlp(x), expected)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("torch evaluates ")
    assert reason in line


def test_a_failure_after_the_check_gives_way_too(
    library: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    mlp = network()
    x = points()
    expected = mlp(x)
    use_fused_inference(mlp)
    mlp(x)
    monkeypatch.setattr(fake_tinycudann.Network, "forward", Failing.forward)
    assert torch.equal(mlp(x), expected)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("scale", [1e4, 1e8])
def test_numbers_beyond_half_precision_give_way(scale: float, library: Any, capsys: Any) -> None:
    """Weights of 1e4 make outputs infinite in half precision, and those of 1e8 are infinite themselves."""
    mlp = network(norm="none")
    for layer in mlp.hidden_layers:
        layer.linear.weight.mul_(scale ** (1 / 3))
        layer.linear.bias.mul_(scale)
    x = points()
    expected = mlp(x)
    use_fused_inference(mlp)
    assert torch.equal(mlp(x), expected)
    (line,) = capsys.readouterr().err.splitlines()
    assert "its outputs are off by" in line or "too near the end of half precision" in line


def test_activations_near_the_limit_give_way_though_they_are_right(library: Any, capsys: Any) -> None:
    """Later samples may exceed the limit, though those that are checked do not."""
    mlp = network(norm="none", depth=1, width=16)
    mlp.layers[0].linear.bias.fill_(9000)
    mlp.output.weight.mul_(1e-4)
    use_fused_inference(mlp)
    mlp(points())
    assert "activations reach 9e+03, too near the end of half precision" in capsys.readouterr().err


def test_an_interrupt_of_the_viewer_passes_through(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewer interrupts pictures by an exception, which must not count as a failure of the kernel."""
    mlp = network()
    use_fused_inference(mlp)

    def interrupted(*_: Any) -> Tensor:
        raise IOChangeException

    with monkeypatch.context() as patch:
        patch.setattr(fake_tinycudann.Network, "forward", interrupted)
        with pytest.raises(IOChangeException):
            mlp(points())
    x = points()
    assert relative_error(mlp(x), mlp.evaluate_folded(x)) < TOLERANCE
    assert not mlp.inference.is_refused


# ------------------------------------------------------------------------------------ fields and models


def test_a_field_renders_the_same_through_the_kernel(library: Any) -> None:
    field = tiny_field().eval()
    positions = points(300)
    directions = nn.functional.normalize(points(300, seed=1), dim=-1)

    def render() -> tuple[Tensor, Tensor]:
        density, features = field._density_of(positions)
        return density, field._color_of(features, directions)

    density, rgb = render()
    use_fused_inference(field)
    fused_density, fused_rgb = render()
    assert not torch.equal(rgb, fused_rgb)
    torch.testing.assert_close(fused_density, density, rtol=0.02, atol=0)
    torch.testing.assert_close(fused_rgb, rgb, rtol=0, atol=2 / 255)


def test_normals_are_torchs(library: Any) -> None:
    """Normals are derivatives, which the kernel does not give."""
    field = tiny_field().eval()
    positions = points(50)
    expected = field.normals(positions)
    use_fused_inference(field)
    assert torch.equal(field.normals(positions), expected)


@pytest.mark.parametrize("wanted", ["auto", "never"])
def test_the_models_option_decides(wanted: str, library: Any) -> None:
    model = tiny_model(fused_inference=wanted).eval()
    mlps = [module for module in model.modules() if isinstance(module, CoordinateMLP)]
    assert [mlp.inference is not None for mlp in mlps] == [wanted == "auto"] * 4
    expected = tiny_model(fused_inference="never").eval()(rays(30))["rgb"]
    rgb = model(rays(30))["rgb"]
    assert torch.equal(rgb, expected) == (wanted == "never")
    torch.testing.assert_close(rgb, expected, rtol=0, atol=3 / 255)


# -------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"depth": 1, "width": 64}, {"width": 64, "depth": 4}], ids=str)
def test_the_library_itself_agrees_with_torch(options: dict[str, Any]) -> None:
    if tcnn.load_tinycudann() is None:
        pytest.skip("needs a tiny-cuda-nn that works here")
    mlp = network(**options).cuda()
    x = points(5000).cuda()
    expected = mlp(x)
    use_fused_inference(mlp)
    found = mlp(x)
    assert mlp.inference is not None
    assert not mlp.inference.is_refused
    assert not torch.equal(found, expected)
    assert relative_error(found, expected) < TOLERANCE
