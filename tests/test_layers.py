"""Who may import whom, and what importing costs: the rules that keep the packages apart."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import bn_field_plugin

ROOT = Path(__file__).parents[1]
PACKAGE = "bn_field_plugin"

# What a package may import of ours, beside itself.
MAY_IMPORT = {
    "": {"errors", "nn"},  # the package's own __init__
    "allocator": set(),
    "errors": set(),
    "exif": set(),
    "files": set(),
    "lpips": set(),
    "nn": {"errors"},
    "ntk": {"errors", "nn"},
    "sampling": {"errors", "nn"},
    "fields": {"errors", "nn"},
    "models": {"errors", "fields", "lpips", "nn", "sampling"},
    "data": {"errors", "exif", "files", "nn"},
    "viewer": {"errors", "nn", "ntk"},
    "engine": {"allocator", "data", "errors", "files", "nn", "viewer"},
    "geometry": {"errors", "files", "nn"},
    "export": {"data", "engine", "errors", "fields", "geometry", "models", "nn"},
    "methods": {"data", "engine", "errors", "fields", "models", "nn"},
    "method_configs": {"methods"},
    "dataparser_configs": {"data"},
    "standalone": {"allocator", "errors", "exif", "files", "geometry", "lpips", "nn", "ntk"},
}
# Third parties that the networks may use: `from bn_field_plugin import ...` works where nerfstudio is absent.
NN_MAY_USE = {"torch", "numpy", "jaxtyping", "numba"}
# What the kernels may use beside.
NTK_MAY_USE = NN_MAY_USE - {"numba"} | {"scipy", "psutil", "rich"}


def modules() -> list[Path]:
    """Every module of the packages that are installed."""
    return sorted([*ROOT.glob(f"{PACKAGE}/**/*.py"), *ROOT.glob("standalone/**/*.py")])


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, at its top or inside functions."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            # `from a import b` may import the module a.b
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names if module == PACKAGE}
    return names


def layer(name: str) -> str | None:
    """The layer that a module belongs to: `nn`, `fields`, ..., `standalone`; None if it is not ours."""
    parts = name.split(".")
    if parts[0] == "standalone":
        return "standalone"
    if parts[0] != PACKAGE:
        return None
    if len(parts) == 1:
        return ""
    return parts[1] if parts[1] in MAY_IMPORT else ""


def layer_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "standalone":
        return "standalone"
    return "" if parts[1] == "__init__" else parts[1]


def run_python(code: str) -> dict:
    """Run code in a process of its own and return what it prints as JSON on its last line."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_ours_follow_the_layers(path: Path) -> None:
    mine = layer_of(path)
    assert mine in MAY_IMPORT, f"{path} is in no known layer"
    layers = {layer(name) for name in imports(path)} - {None, mine}
    # The plain package name stands for its public names, which are of nn and errors.
    public = {"errors", "nn"} if "" in layers else set()
    assert layers - {""} | public <= MAY_IMPORT[mine] | {mine}


@pytest.mark.parametrize("path", sorted((ROOT / PACKAGE / "nn").glob("*.py")), ids=lambda path: path.name)
def test_networks_need_torch_alone(path: Path) -> None:
    third = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {PACKAGE}
    assert third <= NN_MAY_USE


@pytest.mark.parametrize("path", sorted((ROOT / PACKAGE / "ntk").glob("*.py")), ids=lambda path: path.name)
def test_kernels_need_torch_and_scipy_alone(path: Path) -> None:
    third = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {PACKAGE}
    assert third <= NTK_MAY_USE


def test_public_names_are_there() -> None:
    assert {name for name in bn_field_plugin.__all__ if not hasattr(bn_field_plugin, name)} == set()
    assert {
        "CoordinateMLP",
        "CoordinateMLPConfig",
        "UserError",
        "batch_statistics",
        "calibrate",
        "fold_norm",
        "frozen_statistics",
    } <= set(bn_field_plugin.__all__)


def test_the_package_imports_where_nerfstudio_is_absent_and_loads_torch_only() -> None:
    loaded = run_python(
        """
import importlib.abc, json, sys
import jaxtyping, numpy, torch

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"nerfstudio", "open3d", "tinycudann", "viser", "tyro", "PIL", "matplotlib"}:
            raise ImportError(f"{name} is absent here")

before = set(sys.modules)
sys.meta_path.insert(0, Absent())
from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig
CoordinateMLP(CoordinateMLPConfig(in_dim=2, out_dim=1, width=8, depth=2))(torch.rand(5, 2)).sum().backward()
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""
    )
    assert set(loaded) - sys.stdlib_module_names - {"torch", "numpy"} == {PACKAGE}


def test_config_modules_load_nothing_that_nerfstudio_has_not() -> None:
    """nerfstudio imports them at each ns-* command, unguarded: a slow one is slow for every method."""
    loaded = run_python(
        """
import importlib.metadata, json, sys
find = importlib.metadata.entry_points
# nerfstudio as it is without plugins
importlib.metadata.entry_points = lambda **wanted: find(group="nothing")
import nerfstudio.scripts.train
before = {name.split(".")[0] for name in sys.modules}
import bn_field_plugin.method_configs, bn_field_plugin.dataparser_configs
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules} - before)))
"""
    )
    assert set(loaded) - sys.stdlib_module_names == {PACKAGE}


def named_by(test: Path) -> set[str]:
    """What a test file imports from modules, by full names: a module among them may stand for itself."""
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(test.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def mirrored_tests(path: Path) -> list[Path]:
    """Test files in the folder that mirrors a module's."""
    folder = ROOT / "tests" / path.relative_to(ROOT / PACKAGE).parent
    return sorted(folder.glob("test_*.py"))


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(ROOT.glob(f"{PACKAGE}/**/*.py")) if path.name != "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_module_has_tests_in_the_folder_that_mirrors_it(path: Path) -> None:
    """A file of its own name, or one that imports it."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tests = mirrored_tests(path)
    assert any(
        test.name == f"test_{path.name}" or name in test.read_text() or name in named_by(test)
        for test in tests
    )
