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

# Modules by room: the longest of these names that a module's name begins with says where it is.
ROOMS = {
    PACKAGE: "the package",
    f"{PACKAGE}.allocator": "allocator",
    f"{PACKAGE}.data": "data",
    f"{PACKAGE}.dataparser_configs": "dataparser_configs",
    f"{PACKAGE}.engine": "engine",
    f"{PACKAGE}.errors": "errors",
    f"{PACKAGE}.exif": "exif",
    f"{PACKAGE}.export": "export",
    f"{PACKAGE}.fields": "fields",
    f"{PACKAGE}.files": "files",
    f"{PACKAGE}.geometry": "geometry",
    f"{PACKAGE}.lpips": "lpips",
    f"{PACKAGE}.method_configs": "method_configs",
    f"{PACKAGE}.methods": "methods",
    f"{PACKAGE}.models": "models",
    f"{PACKAGE}.nn": "nn",
    f"{PACKAGE}.ntk": "ntk",
    f"{PACKAGE}.progress": "progress",
    f"{PACKAGE}.sampling": "sampling",
    f"{PACKAGE}.viewer": "viewer",
    "standalone": "fitting",
    "standalone.doors": "doors",
    "standalone.image": "image",
    "standalone.image.__main__": "bn-image",
    "standalone.image.cli": "bn-image",
    "standalone.image.codec": "image codec",
    "standalone.image.commands": "bn-image",
    "standalone.image.compare": "bn-image",
    "standalone.image.outputs": "bn-image",
    "standalone.image.readers": "image readers",
    "standalone.ntk": "bn-ntk",
    "standalone.ntk.histograms": "histograms",
    "standalone.ntk.spectrum_plots": "histograms",
    "standalone.ntk.studies": "studies",
    "standalone.shape": "shape",
    "standalone.shape.__main__": "bn-shape",
    "standalone.shape.cli": "bn-shape",
    "standalone.shape.commands": "bn-shape",
    "standalone.shape.compare": "bn-shape",
    "standalone.shape.formats": "shape formats",
    "standalone.shape.outputs": "bn-shape",
    "standalone.sweep": "bn-sweep",
}

# What a room may import of ours beside itself, from the ground up: each names rooms of earlier lines alone,
# so that no arrow goes up.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "allocator": set(),
    "exif": set(),
    "files": set(),
    "lpips": set(),
    "progress": set(),
    "nn": {"errors"},
    "the package": {"errors", "nn"},
    "ntk": {"errors", "nn", "progress"},
    "sampling": {"errors", "nn"},
    "geometry": {"errors", "files", "nn", "progress"},
    "data": {"errors", "exif", "files", "nn", "progress"},
    "viewer": {"errors", "nn", "ntk"},
    "fields": {"errors", "nn"},
    "models": {"errors", "fields", "lpips", "nn", "sampling"},
    "engine": {"allocator", "data", "errors", "files", "nn", "viewer"},
    "export": {"data", "engine", "errors", "fields", "geometry", "models", "nn"},
    "methods": {"data", "engine", "errors", "fields", "models", "nn"},
    "method_configs": {"methods"},
    "dataparser_configs": {"data"},
    "doors": {"errors"},
    "fitting": {"allocator", "errors", "files", "nn"},
    "image readers": {"errors", "exif"},
    "image": {"allocator", "errors", "files", "fitting", "image readers", "lpips", "nn"},
    "image codec": {"errors", "fitting", "image", "image readers", "nn"},
    "bn-image": {"doors", "errors", "files", "fitting", "image", "image codec", "image readers", "nn"},
    "shape formats": {"errors"},
    "shape": {"errors", "files", "fitting", "geometry", "nn", "shape formats"},
    "bn-shape": {"doors", "errors", "files", "fitting", "geometry", "nn", "shape"},
    "histograms": {"fitting", "ntk"},
    "studies": {"errors", "files", "fitting", "histograms", "nn", "ntk", "progress"},
    "bn-ntk": {
        "doors",
        "errors",
        "files",
        "fitting",
        "histograms",
        "lpips",
        "nn",
        "ntk",
        "progress",
        "studies",
    },
    "bn-sweep": {"doors", "errors", "files", "fitting", "lpips"},
}
# Third parties that the networks may use: `from bn_field_plugin import ...` works where nerfstudio is absent.
NN_MAY_USE = {"torch", "numpy", "jaxtyping", "numba", "llvmlite"}
# Third parties that the kernels may use: with scipy and psutil, and without compiled loops.
NTK_MAY_USE = NN_MAY_USE - {"llvmlite", "numba"} | {"scipy", "psutil"}


def modules() -> list[Path]:
    """Every module of the packages that are installed."""
    return sorted([*ROOT.glob(f"{PACKAGE}/**/*.py"), *ROOT.glob("standalone/**/*.py")])


def name_of(path: Path) -> str:
    """The full name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in modules()}


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
            for alias in node.names:  # `from a import b` may import the module a.b
                name = f"{module}.{alias.name}"
                names.add(name if name in NAMES else module)
    return names


def room(name: str) -> str | None:
    """The room that a module belongs to; None if it is not ours."""
    parts = name.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((ROOMS[prefix] for prefix in prefixes if prefix in ROOMS), None)


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that lead back to each other (strongly connected components of more than one)."""
    reach = {name: {name} for name in arrows}
    grows = True
    while grows:
        grows = False
        for name, known in reach.items():
            further = known.union(*(reach[other] for other in arrows[name]))
            if further != known:
                reach[name], grows = further, True
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in arrows}
    return [set(group) for group in groups if len(group) > 1]


def run_python(code: str) -> dict:
    """Run code in a process of its own and return what it prints as JSON on its last line."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_ours_follow_the_rooms(path: Path) -> None:
    name = name_of(path)
    mine = room(name)
    assert mine is not None
    is_known = name == PACKAGE if mine == "the package" else mine != "fitting" or name.count(".") < 2
    assert is_known, f"{name} is in no known room"
    found = {room(other) for other in imports(path)} - {None, mine}
    assert found <= MAY_IMPORT[mine]


def test_no_room_imports_what_stands_on_it() -> None:
    order = list(MAY_IMPORT)
    assert set(order) == set(ROOMS.values())
    for index, (name, below) in enumerate(MAY_IMPORT.items()):
        assert below <= set(order[:index]), name


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count: they hide a circle and do not break it."""
    arrows = {name_of(path): (imports(path) & NAMES) - {name_of(path)} for path in modules()}
    assert circles(arrows) == []


def names_within(path: Path) -> set[str]:
    """Every name that a module defines, sets or imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_benchmarks_and_examples_import_only_names_that_are_there() -> None:
    """mypy and other tests leave some of them out, so a name that has moved could break one unnoticed."""
    known = {name_of(path): names_within(path) for path in modules()}
    files = [
        file for folder in ("benchmarks", "examples", "tools") for file in ROOT.glob(f"{folder}/**/*.py")
    ]
    lost = {
        f"{file.relative_to(ROOT)}: {node.module}.{alias.name}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (PACKAGE, "standalone")
        for alias in node.names
        if alias.name not in known.get(str(node.module), set()) and f"{node.module}.{alias.name}" not in NAMES
    }
    assert lost == set()


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("path", sorted((ROOT / PACKAGE / "nn").rglob("*.py")), ids=lambda path: path.name)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_config_modules_load_nothing_that_nerfstudio_has_not() -> None:
    """nerfstudio imports them at each ns-* command, so a slow one slows every method down."""
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
    """Full names of everything that a test file imports, modules included."""
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
    """The tests are in a file of the module's name, or in one that imports the module."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tests = mirrored_tests(path)
    assert any(
        test.name == f"test_{path.name}" or name in test.read_text() or name in named_by(test)
        for test in tests
    )
