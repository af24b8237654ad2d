"""TorchScript, torch.export and ONNX of a network compute what it computes, for any number of points."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bn_field_plugin import UserError
from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    GaussianEncodingConfig,
    HashGridEncodingConfig,
    IntegratedEncodingConfig,
    PositionalEncodingConfig,
    fold_norm,
    running_norms,
)
from bn_field_plugin.nn.activations import ACTIVATIONS
from tests.nn.cases import network

GRID = HashGridEncodingConfig(num_levels=2, base_resolution=4, finest_resolution=40, log2_table_size=8)
OPTIONS: dict[str, dict] = {
    "bare": {},
    "positional": {"encoding": PositionalEncodingConfig()},
    "integrated": {"encoding": IntegratedEncodingConfig(), "in_dim": 4},
    "gaussian": {"encoding": GaussianEncodingConfig(num_features=4, scale=1.0)},
    "hash in 2D": {"encoding": GRID},
    "hash in 3D": {"encoding": GRID, "in_dim": 3},
    "skip": {"skips": (1,), "activation": "sine", "omega": 3.0, "encoding": PositionalEncodingConfig(2)},
    "layer": {"norm": "layer"},
    "cross": {"norm": "cross"},
} | {
    name: {"activation": name, "omega": 3.0, "norm": "none" if kind.is_complex else "batch"}
    for name, kind in ACTIVATIONS.items()
}


def folded(options: dict) -> CoordinateMLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mlp = CoordinateMLP(
            CoordinateMLPConfig(**{"in_dim": 2, "out_dim": 2, "width": 8, "depth": 3} | options)
        )
        if hasattr(mlp.encoding, "tables"):
            nn.init.uniform_(mlp.encoding.tables)
        for norm in running_norms(mlp):
            norm.running_mean.uniform_()
    return fold_norm(mlp)


def points(network: CoordinateMLP, *shape: int) -> Tensor:
    """Coordinates in [0, 1], which may be variances too."""
    return torch.rand(*shape, network.config.in_dim, generator=torch.Generator().manual_seed(1))


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        return torch.jit.script(module)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_script_is_the_network_for_inputs_of_any_shape(name: str) -> None:
    network = folded(OPTIONS[name])
    file = io.BytesIO()
    torch.jit.save(scripted(network), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for shape in ((5,), (2, 3), (), (0,), (70,)):
        x = points(network, *shape)
        torch.testing.assert_close(loaded(x), network(x), rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), network(x), rtol=1e-4, atol=1e-5)
    if network.is_complex:  # TorchScript cannot differentiate the modulus of complex numbers
        return
    x = points(network, 4).requires_grad_()
    gradients = [torch.autograd.grad(f(x).sum(), x)[0] for f in (loaded, network)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_a_script_has_the_network_s_parameters_and_precision() -> None:
    mlp = network(norm="batch", encoding="gaussian").eval()
    script, x = scripted(mlp), points(mlp, 6).double()
    torch.testing.assert_close(script(x), mlp(x))
    with torch.no_grad():
        mlp.output.bias.add_(1)
    torch.testing.assert_close(script(x), mlp(x))


def test_networks_norms_and_encodings_within_a_users_module_are_scripted() -> None:
    mlp = network(norm="batch", encoding="gaussian", dtype=torch.float32).eval()
    norm = network(norm="cross", dtype=torch.float32).layers[0].norm.eval()
    encoding = OPTIONS["gaussian"]["encoding"].build(8)
    parts = nn.Sequential(nn.Linear(3, 3), mlp, nn.ReLU(), nn.Linear(2, 8), norm, encoding)
    x = points(mlp, 2)
    want = parts(x)
    torch.testing.assert_close(scripted(parts)(x), want)


def test_a_network_in_training_is_not_scripted() -> None:
    with pytest.raises(UserError, match=r"script fold_norm\(network\), or network.eval\(\)"):
        scripted(network(norm="batch"))
    plain = network(norm="none")
    x = points(plain, 3).double()
    torch.testing.assert_close(scripted(plain)(x), plain(x))


@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("name", ["skip", "hash in 2D"])
def test_an_export_takes_any_number_of_points(name: str, with_gradients: bool) -> None:
    """This holds for exports without gradients too, where evaluation usually goes block by block."""
    network = folded(OPTIONS[name])
    with torch.set_grad_enabled(with_gradients):
        sizes = {"x": {0: torch.export.Dim("points")}}
        exported = torch.export.export(network, (points(network, 7),), dynamic_shapes=sizes).module()
        for count in (1, 5, 40_000):
            x = points(network, count)
            torch.testing.assert_close(exported(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skip", "hash in 2D"])
def test_onnxruntime_computes_what_the_network_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="torch.onnx needs onnx and onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="checks the exported file")
    network = folded(OPTIONS[name])
    file = tmp_path / "network.onnx"
    sizes = {"x": {0: torch.export.Dim("points")}}
    x = points(network, 7)
    torch.onnx.export(network, (x,), file, dynamo=True, dynamic_shapes=sizes, verbose=False)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for count in (1, 300):
        x = points(network, count)
        (found,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(x).detach(), rtol=1e-3, atol=1e-4)
