"""The report of `make gpu`: parts that fail or hang do not stop the rest, and a CPU can try all of it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_parts
from bn_field_plugin.errors import UserError


def part(code: str, folder: Path, limit: float = 60) -> gpu.Part:
    """The outcome of a part whose process runs `code`."""
    return gpu.run_part("steps", [sys.executable, "-I", "-S", "-c", code], folder, limit)


def test_a_part_gives_what_it_wrote(tmp_path: Path) -> None:
    result = tmp_path / "steps.json"
    done = part(f"open({str(result)!r}, 'w').write('{{\"rows\": [{{\"ms\": 1}}]}}')", tmp_path)
    assert (done.status, done.found, done.log) == ("ok", {"rows": [{"ms": 1}]}, "")


def test_a_part_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    done = part("print('begun'); raise ZeroDivisionError('illegal memory access')", tmp_path)
    assert done.status == "failed with status 1"
    assert "illegal memory access" in done.log
    (tmp_path / "steps.json").write_text("{}")  # an earlier run's file must not pass for a result
    assert part("pass", tmp_path).status == "failed: it left no result"
    result = str(tmp_path / "steps.json")
    assert part(f"open({result!r}, 'w').write('{{')", tmp_path).status == "failed: its result cannot be read"


def test_a_part_that_hangs_is_ended_and_what_it_had_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0.0)
    result = tmp_path / "steps.json"
    code = f"import time; open({str(result)!r}, 'w').write('{{\"rows\": []}}'); time.sleep(600)"
    started = time.monotonic()
    done = part(code, tmp_path, limit=3.0)
    assert time.monotonic() - started < 300
    assert done.status == "stopped after 3 s"
    assert done.found == {"rows": []}


def test_without_time_a_part_is_not_begun(tmp_path: Path) -> None:
    done = part("raise SystemExit(1)", tmp_path, limit=0.5)
    assert done.status == "not begun: no time was left"


def test_the_time_is_shared_and_what_is_left_over_goes_to_those_after() -> None:
    parts = list(gpu.GPUReport().parts)
    left = 480.0
    for index in range(len(parts)):
        share = gpu.share_of(parts[index:], left)
        assert 0 < share <= left
        left -= share  # each part takes all of its share
    assert left == pytest.approx(0, abs=1e-6)
    assert gpu.share_of(parts[1:], 480.0) > gpu.share_of(parts[1:], 480.0 - gpu.share_of(parts, 480.0))
    assert gpu.share_of(parts, -3.0) == 0


def test_tests_are_counted_and_failures_named(tmp_path: Path) -> None:
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="a" name="ok"/>'
        '<testcase classname="a" name="left out"><skipped message="no"/></testcase>'
        '<testcase classname="tests.b" name="bad"><failure message="assert 1 == 2&#10;more">t</failure>'
        '</testcase><testcase classname="c" name="broken"><error message="boom"/></testcase>'
        "</testsuite></testsuites>"
    )
    found = gpu.tests_found(tmp_path / "tests.xml")
    assert found["rows"] == [{"passed": 1, "failed": 2, "skipped": 1}]
    assert found["notes"] == ["tests.b::bad: assert 1 == 2", "c::broken: boom"]


def test_a_row_that_fails_says_why_and_the_others_stand() -> None:
    def fail() -> None:
        raise RuntimeError("no kernel image\nfor this device")

    device = torch.device("cpu")
    row = gpu_parts.timed_row({"network": "x"}, fail, device, 0.01)
    assert (row["network"], row["ms"], row["error"]) == ("x", None, "RuntimeError: no kernel image")
    assert "error" not in gpu_parts.timed_row({"network": "x"}, lambda: None, device, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hash-grid", "sampling", "fused", "steps"])
def test_each_table_can_be_made_on_a_cpu(name: str, tmp_path: Path) -> None:
    gpu_parts.main(name, gpu_parts.Options("cpu", tiny=True, seconds=0.1, seed=0, output_dir=str(tmp_path)))
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert "failed" not in found
    assert all(row["from"] <= row["ms"] <= row["to"] for row in found["rows"])


def test_without_cuda_it_is_said_in_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(UserError, match="no CUDA device here"):
        gpu.main(gpu.GPUReport(output_dir=tmp_path / "out"))
    with pytest.raises(UserError, match="--parts has speed: choose from tests, steps"):
        gpu.main(gpu.GPUReport(device="cpu", parts=("speed",), output_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_gpu_without_a_device_ends_before_it_installs_anything(repository: Path) -> None:
    if Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists():
        pytest.skip("needs a machine without CUDA")
    # The suite itself may run under make, whose variables make a `make` below it print folders.
    own = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"
    }
    command = ["make", "--no-print-directory", "gpu"]
    done = subprocess.run(command, cwd=repository, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: make gpu needs a CUDA device, and this machine has none"
    assert done.stdout == ""


@pytest.mark.slow
def test_a_whole_report_on_a_cpu(tmp_path: Path) -> None:
    """The tests fail, as their file is absent; the scene is made, and a method trains and renders."""
    config = gpu.GPUReport(
        device="cpu",
        tiny=True,
        parts=("tests", "scene", "bn-ngp"),
        tests=("tests/no_such_file.py",),
        minutes=20,
        output_dir=tmp_path,
    )
    assert gpu.main(config) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    parts = {part["name"]: part for part in report["parts"]}
    assert [name for name, part in parts.items() if part["status"] != "ok"] == ["tests"]
    (row,) = parts["bn-ngp"]["found"]["rows"]
    assert row["steps"] == 3
    assert 0 < row["PSNR dB"] < 100
    assert row["16x16 s"] > 0
    text = (tmp_path / "report.md").read_text()
    assert "| bn-ngp | ok |" in text
    assert "## The end of the log of tests" in text
    assert "no_such_file.py" in text
