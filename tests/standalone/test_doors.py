"""The doors of the commands, and the core in an environment that has its own dependencies alone."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from standalone import doors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORE = """
import contextlib, io, sys
sys.path[:0] = {paths}
import torch
from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig, calibrate, fold_norm
from bn_field_plugin.nn import HashGridEncodingConfig

torch.manual_seed(0)
points = torch.rand(64, 3) * 2 - 1
sizes = dict(num_levels=2, base_resolution=2, finest_resolution=4)
mlp = CoordinateMLP(CoordinateMLPConfig(in_dim=3, width=8, depth=2, encoding=HashGridEncodingConfig(**sizes)))
mlp(points).square().mean().backward()
assert calibrate(mlp, [points]) == 2
with torch.no_grad():
    torch.testing.assert_close(fold_norm(mlp)(points), mlp(points))

from standalone import doors
for name in doors.DOORS:
    told = io.StringIO()
    sys.argv = [name, "--help"]
    try:
        with contextlib.redirect_stderr(told):
            doors.enter(name)
    except SystemExit as end:
        print(end.code, told.getvalue(), end="")
try:
    import bn_field_plugin.ntk
except ModuleNotFoundError as error:
    print(error)
"""


def core_distributions(repository: Path) -> set[str]:
    """Names of the packages that an installation of the core brings, without extras."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    waiting = [Requirement(line).name for line in project["dependencies"]]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # torch's builds differ in what they bundle
        found.add(name)
        wanted = [Requirement(line) for line in lines]
        waiting += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.slow
def test_the_core_works_alone_and_commands_name_their_extras(tmp_path: Path, repository: Path) -> None:
    """Python sees a folder of links to the core's dependencies, and no site-packages."""
    for name in core_distributions(repository):
        for file in metadata.files(name) or []:
            top = file.parts[0]
            link = tmp_path / top
            if top != ".." and not link.exists():
                link.symlink_to(Path(str(metadata.distribution(name).locate_file(top))).resolve())
    code = CORE.format(paths=[str(tmp_path), str(repository)])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *lines, kernels = done.stdout.splitlines()
    assert kernels.startswith("bn_field_plugin.ntk needs psutil") and "[ntk]" in kernels
    assert len(lines) == len(doors.DOORS)
    for line, (name, door) in zip(lines, doors.DOORS.items(), strict=True):
        remedy = re.escape(f"pip install 'bn-field-plugin[{door.extra}]'")
        assert re.fullmatch(rf"2 error: {name} needs \w+, which is not installed: {remedy}", line)


def test_a_package_for_some_of_a_commands_work_is_named_with_its_own_extra() -> None:
    assert doors.missing("bn-ntk", "nerfstudio").endswith("pip install 'bn-field-plugin[nerf]'")
    assert doors.missing("bn-sweep", "nerfstudio").endswith("pip install 'bn-field-plugin[sweep]'")


def test_a_module_missing_inside_a_package_that_is_there_stays_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch.absent'", name="torch.absent")

    monkeypatch.setattr(doors.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match=r"torch\.absent"):
        doors.enter("bn-image")
