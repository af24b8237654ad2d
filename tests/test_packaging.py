"""The package as it is installed: entry points, dependencies, pins, licence."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from nerfstudio.plugins.registry import discover_methods
from nerfstudio.plugins.registry_dataparser import DataParserSpecification, discover_dataparsers
from nerfstudio.plugins.types import MethodSpecification
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bn_field_plugin
from standalone.doors import BROUGHT_BY_ANOTHER, DOORS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"bn_field_plugin", "standalone", "benchmarks", "tests", "tools"}
PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+( ; python_version [<>=]+ \"3\.\d+\")?")


def requirements(*extras: str) -> dict[str, Requirement]:
    """The declared dependencies, by name: the core's and those of extras, which may name other extras."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    wanted = [Requirement(line) for line in lines]
    found = {
        canonicalize_name(one.name): one for one in wanted if one.marker is None or one.marker.evaluate()
    }
    ours = found.pop(canonicalize_name(PROJECT["name"]), None)
    return {**(requirements(*ours.extras) if ours else {}), **found}


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def third_party_imports(folder: str) -> set[str]:
    """Top-level modules of others that a folder's files import anywhere."""
    return set().union(*(third_parties(path) for path in (ROOT / folder).rglob("*.py")))


def third_parties(path: Path) -> set[str]:
    """Top-level modules of others that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - OURS - {"tomli"}  # the standard library's, before Python 3.11


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("bn_field_plugin", ("nerf",)),
        ("standalone", ("all",)),
        ("benchmarks", ("dev",)),
        ("tests", ("dev",)),
    ],
)
def test_every_package_that_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    distributions = metadata.packages_distributions()
    declared = requirements(*extras).keys()
    undeclared = {
        module
        for module in third_party_imports(folder)
        if not {canonicalize_name(name) for name in distributions.get(module, [module])} & declared
    }
    assert undeclared == set()


def files_reached_from(module: str) -> set[Path]:
    """Files of ours that importing a module may load, those imported inside functions too."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        parts = waiting.pop().split(".")
        for depth in range(1, len(parts) + 1):
            stem = ROOT.joinpath(*parts[:depth])
            for path in (stem / "__init__.py", stem.with_suffix(".py")):
                if not path.is_file() or path in found:
                    continue
                found.add(path)
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.ImportFrom) and node.module:
                        waiting += [f"{node.module}.{alias.name}" for alias in node.names]
                    elif isinstance(node, ast.Import):
                        waiting += [alias.name for alias in node.names]
    return found


@pytest.mark.parametrize("command", DOORS)
def test_the_extra_of_a_command_brings_all_that_it_may_import(command: str) -> None:
    """Left out is what another extra brings, which the door names itself (`BROUGHT_BY_ANOTHER`)."""
    door = DOORS[command]
    distributions = metadata.packages_distributions()
    declared = requirements(door.extra).keys()
    # A command line names the module of its commands as a string, which is no import.
    modules = (door.module, door.module.replace(".cli", ".commands"))
    files = set().union(*map(files_reached_from, modules))
    wanted = set().union(*map(third_parties, files))
    undeclared = {
        module
        for module in wanted - BROUGHT_BY_ANOTHER.get(command, {}).keys()
        if not {canonicalize_name(name) for name in distributions.get(module, [module])} & declared
    }
    assert undeclared == set()


def test_tiny_cuda_nn_is_never_required() -> None:
    assert not {"tinycudann", "tiny-cuda-nn"} & requirements(*PROJECT["optional-dependencies"]).keys()


def test_nerfstudio_finds_the_methods() -> None:
    methods, descriptions = discover_methods()
    entries = PROJECT["entry-points"]["nerfstudio.method_configs"]
    assert entries.keys() == {
        *("bn-nerf", "bn-nerf-small", "nerf-small", "bn-nerfacto"),
        *("siren-nerf", "plenoxel"),
        *("bn-mipnerf", "bn-ngp", "ngp", "bn-neus"),
    }
    for name, target in entries.items():
        module, attribute = target.split(":")
        specification = getattr(importlib.import_module(module), attribute)
        assert isinstance(specification, MethodSpecification)
        assert methods[name] is specification.config
        assert specification.config.method_name == name
        assert descriptions[name]


def test_nerfstudio_finds_the_dataparser() -> None:
    dataparsers, descriptions = discover_dataparsers()
    entries = PROJECT["entry-points"]["nerfstudio.dataparser_configs"]
    assert entries.keys() == {"bn-demo-data", "bn-capture-data"}
    for name, target in entries.items():
        module, attribute = target.split(":")
        specification = getattr(importlib.import_module(module), attribute)
        assert isinstance(specification, DataParserSpecification)
        assert dataparsers[name] is specification.config
        assert descriptions[name]


def test_every_command_has_its_door() -> None:
    assert PROJECT["scripts"] == {name: f"standalone.doors:{name.removeprefix('bn-')}" for name in DOORS}
    for door in DOORS.values():
        assert callable(importlib.import_module(door.module).main)


def test_version_is_that_of_the_code() -> None:
    assert metadata.version("bn-field-plugin") == bn_field_plugin.__version__


def test_pins_are_plain_versions() -> None:
    """Pins have no addresses and no local builds such as +cpu; torch's build brings CUDA's libraries."""
    assert pins()
    assert [pin for pin in pins() if not PIN.fullmatch(pin)] == []
    assert [pin for pin in pins() if re.match(r"nvidia-|cuda-|triton", pin)] == []


def test_pins_agree_with_the_declared_ranges_and_cover_them() -> None:
    versions = {}
    for pin in pins():
        name, version = pin.split(" ;")[0].split("==")
        versions[canonicalize_name(name)] = version
    for name, requirement in requirements("dev").items():
        assert versions[name] in requirement.specifier, requirement


def test_all_files_that_name_the_licence_name_one() -> None:
    name, version = PROJECT["license"].split("-")
    text = (ROOT / "LICENSE").read_text()
    assert f"{name} License" in text and f"Version {version}" in text
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == PROJECT["license"]
    for file in ("README.md", "CONTRIBUTING.md"):
        assert PROJECT["license"] in (ROOT / file).read_text()


COMPLETE = """
source {script}
function=$(complete -p ns-train | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=(ns-train bn-) COMP_CWORD=1
$function ns-train bn- ns-train
echo "${{COMPREPLY[@]}}"
"""
"""What bash does when the user types `ns-train bn-` and the tab key."""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_the_methods(tmp_path: Path) -> None:
    script = tmp_path / "_ns-train"
    command = Path(sys.executable).parent / "ns-train"  # ns-install-cli calls it in this way
    done = subprocess.run(
        [command, "--tyro-print-completion", "bash"], capture_output=True, text=True, check=True
    )
    script.write_text(done.stdout)
    asked = subprocess.run(
        ["bash", "-c", COMPLETE.format(script=script)], capture_output=True, text=True, check=True
    )
    methods = {one.name for one in metadata.entry_points(group="nerfstudio.method_configs")}
    assert set(asked.stdout.split()) == {name for name in methods if name.startswith("bn-")}
