"""Encoding and decoding: bytes repeat, pictures are near the fit, and rates choose the networks."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.image.codec.bitstream import CHECKSUM, HEADER, unpack
from standalone.image.codec.coding import (
    PrecisionOptions,
    bits_per_pixel,
    check_work,
    decode,
    encode_network,
    render,
)
from standalone.image.codec.encoder import encode_picture, with_width_for
from standalone.image.coordinates import SampleGrid
from standalone.image.fit import ImageFit, ImageRunOptions, fit_image
from standalone.image.images import Picture
from standalone.image.metrics import psnr
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from tests.standalone.image.pictures import picture

NETWORK = NetworkOptions("pemlp-2", "batch", width=16, depth=3)
RUN = ImageRunOptions(steps=80, eval_every=80)


@pytest.fixture(scope="module")
def fitted() -> tuple[Picture, ImageFit]:
    image = picture(32, 40)
    return image, fit_image(image, NETWORK, RUN, OptimizationConfig(), show_progress=False)


def encoded(fitted: tuple[Picture, ImageFit], precision: str = "auto", finetune: int = 20, **more) -> bytes:
    image, result = fitted
    options = PrecisionOptions(precision, finetune_steps=finetune)
    return encode_network(image, result.network, options, RUN, show_progress=False, **more).data


def test_half_precision_is_near_the_fit(fitted) -> None:
    image, result = fitted
    data = encoded(fitted, "fp16")
    assert psnr(image.pixels, decode(data).pixels) == pytest.approx(result.psnr, abs=0.2)
    assert bits_per_pixel(data, image) == 8 * len(data) / (32 * 40)


def test_decoding_twice_gives_the_same_bytes(fitted) -> None:
    data = encoded(fitted)
    np.testing.assert_array_equal(decode(data).pixels, decode(data).pixels)


def test_rate_and_distortion_choose_fewer_bits_at_little_cost(fitted) -> None:
    image, result = fitted
    data = encoded(fitted)
    assert len(data) < 0.75 * len(encoded(fitted, "fp16"))
    assert psnr(image.pixels, decode(data).pixels) > result.psnr - 1.0


def test_training_with_rounding_helps_coarse_networks(fitted) -> None:
    image, _ = fitted
    plain, tuned = (decode(encoded(fitted, "4", finetune)).pixels for finetune in (0, 60))
    assert psnr(image.pixels, tuned) > psnr(image.pixels, plain) + 1


def test_more_bits_are_nearer_and_larger(fitted) -> None:
    image, _ = fitted
    files = [encoded(fitted, bits, 0) for bits in ("3", "6", "10")]
    scores = [psnr(image.pixels, decode(data).pixels) for data in files]
    assert scores == sorted(scores)
    assert [len(data) for data in files] == sorted(len(data) for data in files)


def test_a_limit_of_bytes_is_kept(fitted) -> None:
    limit = len(encoded(fitted, finetune=0)) - 40
    assert len(encoded(fitted, finetune=0, max_bytes=limit)) <= limit


def test_rendering_the_pixels_is_decoding_and_a_crop_is_a_part(fitted) -> None:
    data = encoded(fitted)
    image, whole = unpack(data), decode(data).pixels
    part = render(image, SampleGrid(32, 40, window=(8.0, 5.0, 10.0, 12.0))).pixels
    assert np.abs(part.astype(int) - whole[8:18, 5:17]).max() <= 1
    large = render(image, SampleGrid(32, 40, rows=64, columns=80)).pixels
    assert large.shape == (64, 80, 3)
    means = large.reshape(32, 2, 40, 2, 3).mean(axis=(1, 3))
    assert np.abs(means - whole).mean() < 2


def test_hours_of_work_are_refused_before_they_begin(fitted) -> None:
    """A forged header of few bytes may ask for a wide network and a picture of any size."""
    image = unpack(encoded(fitted, "fp16"))
    layer = image.network.layers[1]
    wide = dataclasses.replace(image.network, layers=image.network.layers[:1] + (layer,) * 60)
    forged = dataclasses.replace(image, height=2**13, width=2**13, network=wide)
    with pytest.raises(UserError, match=r"claims 8192 x 8192 pixels of 1.1e.12 products.*--crop.*--patient"):
        check_work(forged, SampleGrid(2**13, 2**13))
    check_work(forged, SampleGrid(2**13, 2**13, rows=64, columns=64))


@pytest.mark.parametrize(
    ("channels", "depth", "format"), [(1, "uint8", "jpeg"), (4, "uint16", "png"), (3, "float16", "exr")]
)
def test_every_kind_of_image_is_decoded_at_its_depth(channels: int, depth, format) -> None:
    image = picture(12, 9, channels, depth, format)
    file = encode_picture(
        image,
        NETWORK,
        ImageRunOptions(steps=5),
        OptimizationConfig(),
        PrecisionOptions("8", finetune_steps=0),
        None,
        False,
    )
    found = decode(file.data)
    assert (found.depth, found.format, found.pixels.shape) == (depth, format, image.pixels.shape)


def test_the_width_follows_from_the_bits() -> None:
    wide = with_width_for(NETWORK, 3, 5000, 1.0)
    assert wide.width > with_width_for(NETWORK, 3, 1000, 1.0).width
    assert wide.norm == "batch"
    with pytest.raises(UserError, match="too little"):
        with_width_for(NETWORK, 3, 10, 0.01)
    with pytest.raises(UserError, match="--bpp"):
        with_width_for(NETWORK, 3, 10, -1)


@pytest.mark.parametrize(
    "options",
    [{"precision": "lots"}, {"precision": "17"}, {"gain_per_doubling": 0.0}, {"finetune_steps": -1}],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match="--"):
        PrecisionOptions(**options).check()


def test_norms_that_do_not_fold_are_refused_before_the_work() -> None:
    _refuses(NetworkOptions("mlp", "layer"), "--norm layer")


@pytest.mark.parametrize(("name", "message"), [("hash", "no hash grids"), ("fourier-3", "no random Fourier")])
def test_networks_that_the_format_does_not_hold_are_refused_before_the_work(name: str, message: str) -> None:
    _refuses(NetworkOptions(name), message)


def _refuses(network: NetworkOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encode_picture(picture(), network, RUN, OptimizationConfig(), PrecisionOptions())


GOLDEN = bytes.fromhex(
    "424e494601010000033000000028000000020c00020000000000007f4300000000b4000000141213a50f00012e9f0700053a"
    "a41600022fa01800024094110000398e0e00002c49d9af0c67dd767b0132e53e0f57693e2312100e51d18fbfe6e0e1014984"
    "565d462a6dec71c4c64a8dbccabf65338a32e98888d544ee7e5f01bc4c62b8e5305cab471e8845cf2c7296ad6720e3c8cb84"
    "5c53ed7ec7b3a6a1d97ca3f897f73fe7052a31f0b17a4352f04839634eeb98873154d6d5fdc8c28ec263fa8b85db772df574"
    "04790460486d59b30ad484e4056dd814753248a311c5d5f0e33a8e0c55774de226ee995427b5a05fa94e2ce4f4d8fe9ba773"
    "c623e066"
)
"""A file of the first version. It must always decode to the same bytes, whatever changes in the code."""

GOLDEN_SHA256 = "161d16044bbfc22a9dbdaf2c2ab69228017cfcf5f3c201bf866dbae051db735b"


def test_an_old_file_decodes_to_the_same_bytes() -> None:
    assert hashlib.sha256(decode(GOLDEN).pixels.tobytes()).hexdigest() == GOLDEN_SHA256


@given(at=st.integers(0, 10**6), noise=st.binary(min_size=1, max_size=8))
def test_forged_numbers_decode_to_an_image_or_a_clear_error(at: int, noise: bytes) -> None:
    """Header and checksum are right; steps, exponents, models and integers are anything."""
    body = bytearray(GOLDEN[: -CHECKSUM.size])
    at = HEADER.size + at % (len(body) - HEADER.size - len(noise))
    body[at : at + len(noise)] = noise
    try:
        found = decode(bytes(body) + CHECKSUM.pack(zlib.crc32(body)))
    except UserError:
        return
    assert found.pixels.shape == (48, 40, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernels",
    [
        {"OPENBLAS_CORETYPE": "NEHALEM", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX"},
        {"OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "3", "OPENBLAS_CORETYPE": "HASWELL"},
    ],
    ids=["old processor", "other threads"],
)
def test_other_kernels_of_the_libraries_give_the_same_pixels(tmp_path: Path, kernels: dict[str, str]) -> None:
    path = tmp_path / "golden.bni"
    path.write_bytes(GOLDEN)
    code = (
        "import hashlib, pathlib, sys; from standalone.image.codec.coding import decode; "
        "data = pathlib.Path(sys.argv[1]).read_bytes(); "
        "print(hashlib.sha256(decode(data).pixels.tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, path],
        env={**os.environ, **kernels},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == GOLDEN_SHA256
