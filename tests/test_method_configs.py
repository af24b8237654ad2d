"""The methods as nerfstudio finds them: names, help texts, defaults that run anywhere."""

import ast
import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from nerfstudio.configs.method_configs import all_descriptions, all_methods
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

from bn_field_plugin import method_configs
from bn_field_plugin.data.capture_dataparser import BNCaptureDataParserConfig
from bn_field_plugin.data.demo_dataparser import BNDemoDataParserConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.models.bn_nerf import BNNeRFModelConfig, CoarseToFineConfig

METHODS = {
    name.replace("_", "-"): getattr(method_configs, name)
    for name in (
        *("bn_nerf", "bn_nerf_small", "nerf_small", "bn_nerfacto", "siren_nerf", "plenoxel"),
        *("bn_mipnerf", "bn_ngp", "bn_neus"),
    )
}
INTERNAL = "_target"


def our_configs() -> Iterator[type]:
    """All dataclasses of ours whose fields are options of ns-train."""
    waiting: list[object] = [method.config for method in METHODS.values()]
    found = set()
    while waiting:
        config = waiting.pop()
        if isinstance(config, dict):
            waiting += config.values()
        elif dataclasses.is_dataclass(config) and not isinstance(config, type):
            waiting += [getattr(config, field.name) for field in dataclasses.fields(config)]
            found |= {c for c in type(config).__mro__ if c.__module__.startswith("bn_field_plugin")}
    yield from sorted((c for c in found if dataclasses.is_dataclass(c)), key=lambda c: c.__qualname__)


def documented_fields(config: type) -> dict[str, str | None]:
    """The text under each field that a class itself declares, as tyro shows it."""
    body = ast.parse(inspect.getsource(config)).body[0].body  # type: ignore[attr-defined]
    texts: dict[str, str | None] = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            texts[ast.unparse(node.target)] = after.value.value if is_text else None  # type: ignore[union-attr]
    return texts


@pytest.mark.parametrize("config", our_configs(), ids=lambda config: config.__name__)
def test_every_option_of_ours_has_a_text_for_help(config: type) -> None:
    assert config.__doc__
    for name, text in documented_fields(config).items():
        if name != INTERNAL:
            assert text, f"{config.__name__}.{name}"
            assert text[0].isupper()
            assert text.rstrip().endswith(".")


@pytest.mark.slow
def test_help_shows_those_texts() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from nerfstudio.scripts.train import entrypoint; entrypoint()",
            "bn-nerf",
            "--help",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    text = " ".join(done.stdout.replace("│", " ").split())
    shown = documented_fields(CoarseToFineConfig) | documented_fields(BNNeRFModelConfig)
    assert len(shown) > 8
    for name, told in shown.items():
        if name != INTERNAL:
            assert told is not None
            assert " ".join(told.split()) in text
            if name not in ("coarse", "fine"):
                assert f"--pipeline.model.{name.replace('_', '-')} " in text


@pytest.mark.parametrize("name", METHODS)
def test_nerfstudio_finds_the_methods(name: str) -> None:
    method = METHODS[name]
    assert method.config.method_name == name
    assert all_methods[name] is method.config
    assert all_descriptions[name] == method.description
    assert isinstance(method.config, BNTrainerConfig)


@pytest.mark.parametrize("name", METHODS)
def test_configs_survive_the_ways_in_which_nerfstudio_keeps_them(name: str) -> None:
    config = METHODS[name].config
    for back in (
        yaml.load(yaml.dump(config), Loader=yaml.Loader),
        pickle.loads(pickle.dumps(config)),
    ):
        assert back == config


def test_small_methods_differ_in_norm_and_learning_rates_alone() -> None:
    """Otherwise their comparison would not be one of norms."""
    with_norm, without = (METHODS[name].config for name in ("bn-nerf-small", "nerf-small"))
    assert with_norm.pipeline.model.norm == "batch"
    assert without.pipeline.model.norm == "none"
    model = dataclasses.replace(without.pipeline.model, norm="batch")
    same = dataclasses.replace(
        without,
        method_name="bn-nerf-small",
        optimizers=with_norm.optimizers,
        pipeline=dataclasses.replace(without.pipeline, model=model),
    )
    assert repr(same) == repr(with_norm)


@pytest.mark.parametrize("name", METHODS)
def test_the_device_is_one_that_this_machine_has(name: str) -> None:
    """nerfstudio's default is CUDA, which ends with a traceback on machines without it."""
    assert METHODS[name].config.machine.device_type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_paper_size_is_the_papers() -> None:
    model = METHODS["bn-nerf"].config.pipeline.model
    for field in (model.coarse, model.fine):
        assert (field.depth, field.width, field.skips) == (8, 256, (4,))
        assert (field.head_depth, field.head_width) == (1, 128)
        assert (field.position_frequencies, field.direction_frequencies) == (10, 4)
    assert (model.num_coarse_samples, model.num_fine_samples, model.reuse_coarse_samples) == (64, 128, True)


@pytest.mark.slow
def test_config_modules_never_raise_where_something_else_is_absent() -> None:
    """If a plugin's module raises, every command of nerfstudio fails, for other methods too."""
    code = """
import nerfstudio.scripts.train, sys
for absent in ("open3d", "trimesh", "skimage", "pymeshlab", "xatlas", "tinycudann", "matplotlib"):
    sys.modules[absent] = None
for name in [name for name in sys.modules if name.startswith("bn_field_plugin")]:
    del sys.modules[name]
import bn_field_plugin.method_configs, bn_field_plugin.dataparser_configs
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("dataparser", "name"),
    [
        (BlenderDataParserConfig(data=Path("data/blender/chair")), "chair"),
        (BNDemoDataParserConfig(), "bn-demo"),
        (BNCaptureDataParserConfig(), "bn-capture"),
    ],
)
def test_an_unnamed_experiment_is_named_after_its_data(dataparser: DataParserConfig, name: str) -> None:
    config = copy.deepcopy(method_configs.bn_nerf_small.config)
    config.pipeline.datamanager.dataparser = dataparser
    assert config.get_base_dir().parts[1:3] == (name, "bn-nerf-small")
    config.experiment_name = "mine"
    assert config.get_base_dir().parts[1] == "mine"


def test_what_no_gpu_has_run_is_no_default() -> None:
    """Half precision and tiny-cuda-nn have not run yet, so users have to ask for them."""
    for name, method in METHODS.items():
        assert not method.config.mixed_precision, name
        for group in method.config.optimizers.values():
            assert getattr(group["optimizer"], "precision", "auto") == "auto", name
        model = method.config.pipeline.model
        assert getattr(model, "implementation", "torch") == "torch", name
        assert getattr(model, "fused_inference", "never") == "never", name
