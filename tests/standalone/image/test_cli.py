"""`bn-image` as a user types it: each command and its outputs, and each mistake as one line, exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bn_field_plugin.errors import UserError
from standalone.image.cli import COMMAND_LINE, main
from standalone.image.codec import coding
from standalone.image.commands import Compare, Fit
from standalone.image.images import read_picture, write_picture
from standalone.matching import STANDARD
from tests.standalone.image.pictures import picture

TINY = ["--width", "8", "--depth", "2", "--steps", "6", "--eval-every", "3"]
METRICS = ["psnr", "ssim", "ms_ssim", "steps", "seconds", "parameters", "bpp", "seed", "versions", "device"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    write_picture(path, picture())
    return path


def run(*args: object) -> None:
    main([str(arg) for arg in args])


def fails(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The single line of a command that stops with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_fit_writes_its_folder(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    run("fit", image, "--output-dir", folder, *TINY)
    assert {path.name for path in folder.iterdir()} == {
        *("reconstruction.png", "error.png", "curve.csv", "curve.png", "bands.csv", "bands.png"),
        *("checkpoint.pt", "config.yaml", "input.json", "metrics.json", "image.bni", "page.html"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(METRICS) <= metrics.keys()
    assert metrics["steps"] == 6
    assert metrics["bpp"] == 8 * (folder / "image.bni").stat().st_size / (24 * 32)
    assert (folder / "curve.csv").read_text().splitlines()[0] == "step,seconds,loss,psnr"
    assert len((folder / "bands.csv").read_text().splitlines()) == 3
    assert read_picture(folder / "reconstruction.png").pixels.shape == (24, 32, 3)
    assert "dB after 6 steps" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.slow
def test_a_finished_fit_resumes_to_itself_and_flags_override(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run("fit", image, "--output-dir", folder, *TINY)
    before = (folder / "reconstruction.png").read_bytes()
    run("fit", "--resume", folder)
    assert (folder / "reconstruction.png").read_bytes() == before
    run("fit", "--resume", folder, "--steps", "8")
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 8


@pytest.mark.parametrize(("depth", "format"), [("uint16", "tiff"), ("float32", "exr")])
def test_fit_keeps_format_and_depth(tmp_path: Path, depth, format) -> None:
    source = picture(10, 12, 4, depth, format)
    path = tmp_path / f"photo{source.suffix}"
    write_picture(path, source)
    run("fit", path, "--output-dir", tmp_path / "out", *TINY)
    found = read_picture(tmp_path / "out" / f"reconstruction{source.suffix}")
    assert (found.depth, found.format, found.channels) == (depth, format, 4)


def test_encode_decode_render(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coded, plain, large = tmp_path / "a.bni", tmp_path / "a.png", tmp_path / "b.tif"
    run("encode", image, coded, "--bpp", "8", "--depth", "2", "--steps", "6", "--finetune-steps", "2")
    assert coded.stat().st_size * 8 <= 8 * 24 * 32
    run("decode", coded, plain)
    first = plain.read_bytes()
    assert "is there already" in fails(capsys, "decode", coded, plain)
    assert "is there already" in fails(capsys, "encode", image, coded)
    run("decode", coded)  # into a file of its own: a.png may be the photo itself
    assert plain.read_bytes() == (tmp_path / "a-2.png").read_bytes() == first
    run("render", coded, large, "--crop", "2", "3", "10", "8", "--scale", "2.5")
    assert read_picture(large).pixels.shape == (25, 20, 3)
    run("render", coded, plain, "--overwrite", "--height", "5", "--width", "7")
    assert read_picture(plain).pixels.shape == (5, 7, 3)


def test_compare_writes_its_folder(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cmp"
    run("compare", image, "--output-dir", folder, "--variants", "mlp", "mlp+bn", "--siren", *TINY)
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        *("compare.png", "compare.html", "curves.png", "compare.md", "compare.csv", "compare.json"),
        "input.json",
    }


@pytest.mark.slow
def test_the_standard_set_is_one_figure_and_one_table(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cmp"
    run("compare", image, "--output-dir", folder, "--all", "--width", "28", "--depth", "4", "--steps", "2")
    rows = json.loads((folder / "compare.json").read_text())["rows"]
    assert len(rows) == len(STANDARD)
    numbers = [row["parameters"] for row in rows]
    assert max(numbers) - numbers[0] <= 0.05 * numbers[0] and numbers[0] - min(numbers) <= 0.05 * numbers[0]
    assert (folder / "compare.png").is_file()


@pytest.mark.slow
def test_the_standard_set_has_the_layers_that_its_rates_were_searched_at(image: Path, tmp_path: Path) -> None:
    """With the ten layers of Fig 2, WIRE and Gauss hardly train, so a comparison would be unfair to them."""
    folder = tmp_path / "cmp"
    run("compare", image, "--output-dir", folder, "--all", "--steps", "1")
    sizes = {
        row["network"]: row["layers x width"]
        for row in json.loads((folder / "compare.json").read_text())["rows"]
    }
    assert sizes["MLP"] == "3x64"
    assert sizes["Gauss"].startswith("3x")
    with pytest.raises(UserError, match="width is 0"):
        COMMAND_LINE.parse(["compare", str(image), "--width", "0"]).main()


def test_presets_stand_behind_flags() -> None:
    command = COMMAND_LINE.parse(["fit", "--config", "coin", "--depth", "3"])
    assert isinstance(command, Fit)
    assert (command.network.width, command.network.depth, command.network.network) == (28, 3, "mlp")


@pytest.mark.parametrize("name", ["coin", "bn-3x256", "siren-3x256"])
def test_the_presets_of_fits_load(name: str) -> None:
    assert isinstance(COMMAND_LINE.parse(["fit", f"--config={name}"]), Fit)


def test_the_preset_of_fig2_is_the_default_comparison() -> None:
    command = COMMAND_LINE.parse(["compare", "--config", "fig2"])
    assert isinstance(command, Compare)
    assert set(command.variants) == set(Compare().variants)


def test_mistakes_are_one_line(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = tmp_path / "p.yaml"
    preset.write_text("width: wide")
    text = tmp_path / "text.png"
    text.write_text("no image")
    out = tmp_path / "out"
    assert "photo2.png" in fails(capsys, "fit", tmp_path / "photo2.png", "--output-dir", out)
    assert "no PNG" in fails(capsys, "fit", text, "--output-dir", out)
    assert "--steps is 0" in fails(capsys, "fit", image, "--steps", "0", "--output-dir", out)
    assert "unknown: choose mlp" in fails(capsys, "fit", image, "--network", "cnn", "--output-dir", out)
    assert "width cannot be 'wide'" in fails(capsys, "fit", image, "--config", preset)
    assert "--resume" in fails(capsys, "fit", "--resume", out)
    assert "no --config beside it" in fails(capsys, "fit", "--resume", out, "--config", preset)
    assert "unknown: choose mlp" in fails(capsys, "compare", image, "--variants", "cnn")
    wire = ("--network", "wire", "--output-dir", out)
    assert "real numbers" in fails(capsys, "fit", image, *wire)
    assert "no complex numbers" in fails(capsys, "encode", image, tmp_path / "a.bni", "--network", "wire")
    assert "no hash grids" in fails(capsys, "encode", image, tmp_path / "a.bni", "--network", "hash")
    wrong = ("--network", "siren", "--wire-scale", "5", "--output-dir", out)
    assert "--wire-scale is an option of wire, wire-real" in fails(capsys, "fit", image, *wrong)
    assert "real numbers" in fails(capsys, "compare", image, "--variants", "mlp", "wire+bn")
    assert "--zoom leaves" in fails(capsys, "compare", image, "--zoom", "0", "0", "99")
    assert "--norm layer" in fails(capsys, "encode", image, tmp_path / "a.bni", "--norm", "layer")
    assert "no encoded image" in fails(capsys, "decode", image)
    assert "cannot be read" in fails(capsys, "render", tmp_path / "absent.bni")
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.yaml", "photo.png", "text.png"]


def test_what_takes_hours_is_decoded_where_it_is_asked_for(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("fit", image, "--output-dir", tmp_path / "out", *TINY)
    coded, decoded = tmp_path / "out" / "image.bni", tmp_path / "a.png"
    monkeypatch.setattr(coding, "USUAL_PRODUCTS", 10_000)
    for command in ("decode", "render"):
        assert f"error: {coded} claims 32 x 24 pixels" in fails(capsys, command, coded, decoded)
        assert not decoded.exists()
        run(command, coded, decoded, "--patient")
        decoded.unlink()
    run("render", coded, decoded, "--crop", "0", "0", "2", "2")


def test_a_file_that_cannot_hold_the_image_is_refused_before_the_work(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", image, "--output-dir", tmp_path / "out", *TINY)
    coded = tmp_path / "out" / "image.bni"
    assert "EXR cannot hold" in fails(capsys, "decode", coded, tmp_path / "a.exr")
    assert "no known format" in fails(capsys, "decode", coded, tmp_path / "a.gif")
    assert "--scale" in fails(capsys, "render", coded, tmp_path / "a.png", "--scale", "0")
    assert "samples are more" in fails(capsys, "render", coded, tmp_path / "a.png", "--scale", "1e4")
    assert not list(tmp_path.glob("a.*"))


def test_a_folder_that_cannot_be_made_is_one_line(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "photo.png" in fails(capsys, "fit", image, "--output-dir", image / "out", *TINY)


def test_help_names_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in COMMAND_LINE.commands.items():
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        for option in COMMAND_LINE.option_names(kind):
            assert option in text or option.upper() in text


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_that_resumes_to_the_same_image(image: Path, tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    options = ["--width", "16", "--depth", "3", "--steps", "400", "--eval-every", "100"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    base = [sys.executable, "-m", "standalone.image", "fit"]
    subprocess.run([*base, image, "--output-dir", straight, *options], check=True, env=environment)
    process = subprocess.Popen(
        [*base, image, "--output-dir", stopped, *options], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:  # wait for the first evaluation
        if "step 100" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Traceback" not in rest
    assert "--resume" in rest
    assert (stopped / "checkpoint.pt").is_file()
    assert not (stopped / "metrics.json").exists()
    time.sleep(0.1)
    subprocess.run([*base, "--resume", stopped], check=True, env=environment)
    a, b = (read_picture(folder / "reconstruction.png").pixels for folder in (straight, stopped))
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_pictures_of_one_stem_do_not_share_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, source in {"a/1.jpg": picture(16, 20, format="jpeg"), "b/1.png": picture(18, 12)}.items():
        write_picture(tmp_path / name, source)
    run("fit", "a/1.jpg", *TINY)
    run("fit", "b/1.png", *TINY, "--norm", "layer")
    first, second = Path("outputs/image/1"), Path("outputs/image/1-2")
    assert not (second / "image.bni").exists()
    assert json.loads((second / "metrics.json").read_text())["bpp"] is None
    metrics = json.loads((first / "metrics.json").read_text())
    assert metrics["bpp"] is not None
    assert metrics["psnr_of_file"] != metrics["psnr"]
    # The second run takes the place of the first one, of which no file may stay.
    run("fit", "a/1.jpg", *TINY, "--norm", "layer")
    assert not (first / "image.bni").exists()
    assert "holds results of" in fails(capsys, "fit", "a/1.jpg", "--output-dir", second, *TINY)
    write_picture(tmp_path / "b/1.png", picture(18, 13))
    assert "has changed" in fails(capsys, "fit", "--resume", second)


def test_what_a_file_is_converted_from_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    path = tmp_path / "drawing.png"
    Image.fromarray(picture().pixels).quantize(8).save(path)
    run("fit", path, "--output-dir", tmp_path / "out", *TINY)
    assert "drawing.png has a palette: read as RGB" in capsys.readouterr().out
