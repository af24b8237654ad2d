"""Each fault of a data set gives one clear line; a sound data set, however odd, gives none."""

import copy
import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from bn_field_plugin.data.demo_dataparser import BNDemoDataParserConfig
from bn_field_plugin.data.validation import DISTORTION, check_dataset
from bn_field_plugin.errors import UserError
from tests.captures import write_blender_capture, write_nerfstudio_capture
from tests.laws import cases

POSE = np.eye(4).tolist()


def _pose(number):
    return [[1, 0, 0, number], *POSE[1:]]


def _picture(path, size=(8, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def _write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.fixture
def blender(tmp_path):
    """A small sound data set in Blender format, and its three transforms files as Python objects."""
    metas = {}
    for split in ("train", "val", "test"):
        frames = [{"file_path": f"./{split}/r_{i}", "transform_matrix": POSE} for i in range(2)]
        metas[split] = {"camera_angle_x": 0.7, "frames": frames}
        for i in range(2):
            _picture(tmp_path / split / f"r_{i}.png", mode="RGBA")
        _write(tmp_path / f"transforms_{split}.json", metas[split])
    return tmp_path, metas


@pytest.fixture
def capture(tmp_path):
    """A small sound capture in nerfstudio format, and its transforms file as a Python object."""
    frames = [{"file_path": f"images/f_{i}.png", "transform_matrix": _pose(i)} for i in range(10)]
    meta = {"fl_x": 9.0, "fl_y": 9.0, "cx": 4.0, "cy": 3.0, "w": 8, "h": 6, "frames": frames}
    for i in range(10):
        _picture(tmp_path / f"images/f_{i}.png")
    _write(tmp_path / "transforms.json", meta)
    return tmp_path, meta


def _fails(config, *words, **options):
    """Check, and hold the message to what a user needs: one line with these words in it."""
    with pytest.raises(UserError) as caught:
        check_dataset(config, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    for word in words:
        assert str(word) in message
    return message


# --------------------------------------------------------------------------- no false alarm


@pytest.mark.parametrize("name", ["lego200", "lego400"])
def test_real_blender_data_pass(shared_data, name):
    check_dataset(BlenderDataParserConfig(data=shared_data / name), required_splits=("train", "val", "test"))


def test_rendered_captures_pass_and_parse(tmp_path):
    blender = BlenderDataParserConfig(data=write_blender_capture(tmp_path / "blender", 16))
    own = NerfstudioDataParserConfig(data=write_nerfstudio_capture(tmp_path / "nerfstudio", 16))
    demo = BNDemoDataParserConfig(data=tmp_path / "blender")
    for config in (blender, own, demo):
        check_dataset(config)
        assert config.setup().get_dataparser_outputs("train").image_filenames
        assert config.setup().get_dataparser_outputs("val").image_filenames


def test_demo_without_a_path_passes():
    check_dataset(BNDemoDataParserConfig())


def test_small_data_sets_pass(blender, capture):
    check_dataset(BlenderDataParserConfig(data=blender[0]))
    check_dataset(NerfstudioDataParserConfig(data=capture[0]))
    check_dataset(NerfstudioDataParserConfig(data=capture[0] / "transforms.json"))


def test_other_formats_must_be_parsed(tmp_path):
    _fails(
        DNeRFDataParserConfig(data=tmp_path), tmp_path, "nerfstudio's DNeRFDataParser (FileNotFoundError: "
    )
    _fails(DNeRFDataParserConfig(data=tmp_path / "no"), tmp_path / "no", "--data")


def test_blender_without_test_views_trains(blender):
    folder, _ = blender
    (folder / "transforms_test.json").unlink()
    check_dataset(BlenderDataParserConfig(data=folder))
    _fails(BlenderDataParserConfig(data=folder), "transforms_test.json", required_splits=("train", "test"))


def test_blender_splits_may_differ_in_size(blender):
    folder, _ = blender
    for i in range(2):
        _picture(folder / f"test/r_{i}.png", size=(16, 12))
    config = BlenderDataParserConfig(data=folder)
    check_dataset(config)
    assert config.setup().get_dataparser_outputs("test").cameras.width[0].item() == 16


def test_intrinsics_per_frame_pass_also_with_different_sizes(capture):
    folder, meta = capture
    camera = {key: meta.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    for frame in meta["frames"]:
        frame.update(camera)
    meta["frames"][3].update(w=12, h=10)
    _picture(folder / "images/f_3.png", size=(12, 10))
    _write(folder / "transforms.json", meta)
    config = NerfstudioDataParserConfig(data=folder)
    check_dataset(config)
    assert 12 in config.setup().get_dataparser_outputs("train").cameras.width


@pytest.mark.parametrize("size", [(4, 3), (5, 3), (4, 2)])
def test_downscaled_copies_pass_however_they_were_rounded(capture, size):
    folder, _ = capture
    for i in range(10):
        _picture(folder / f"images_2/f_{i}.png", size=size)
        (folder / f"images/f_{i}.png").unlink()  # the full size is not needed then
    config = NerfstudioDataParserConfig(data=folder, downscale_factor=2)
    check_dataset(config)
    names = config.setup().get_dataparser_outputs("train").image_filenames
    assert {path.parent.name for path in names} == {"images_2"}


def test_automatic_downscaling_is_followed(capture):
    folder, meta = capture
    meta.update(w=2000, h=8)
    for i in range(10):
        _picture(folder / f"images/f_{i}.png", size=(2000, 8))
        _picture(folder / f"images_2/f_{i}.png", size=(1000, 4))
    _write(folder / "transforms.json", meta)
    config = NerfstudioDataParserConfig(data=folder)
    check_dataset(config)
    (folder / "images_2/f_3.png").unlink()
    _fails(config, "images_2/f_3.png", "frame 3", "--downscale-factor 2")


def test_unknown_and_odd_fields_pass(capture):
    folder, meta = capture
    meta.update(camera_model="OPENCV", k1=0.1, applied_scale=1.0, aabb_scale=[16], unknown={"a": [None]})
    meta["frames"][0].update(colmap_im_id=3, sharpness="high", depth=None)
    meta.update(w=8.0, h="6")  # nerfstudio takes both
    _write(folder / "transforms.json", meta)
    config = NerfstudioDataParserConfig(data=folder)
    check_dataset(config)
    assert config.setup().get_dataparser_outputs("train").image_filenames


def test_listed_splits_pass(capture):
    folder, meta = capture
    names = [frame["file_path"] for frame in meta["frames"]]
    meta.update(train_filenames=names[:2], val_filenames=names[2:3], test_filenames=[])
    _write(folder / "transforms.json", meta)
    check_dataset(NerfstudioDataParserConfig(data=folder))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pixel_formats_that_nerfstudio_reads(capture, mode):
    folder, _ = capture
    for i in range(10):
        _picture(folder / f"images/f_{i}.png", mode=mode)
    check_dataset(NerfstudioDataParserConfig(data=folder))


# --------------------------------------------------------------------------- the folder


@pytest.mark.parametrize(
    "kind", [BlenderDataParserConfig, NerfstudioDataParserConfig, BNDemoDataParserConfig]
)
def test_missing_and_empty_folders(tmp_path, kind):
    _fails(kind(data=tmp_path / "no\nsuch"), "does not exist", "--data")
    (tmp_path / "empty").mkdir()
    _fails(kind(data=tmp_path / "empty"), tmp_path / "empty", "is empty")
    (tmp_path / "file").write_text("")
    _fails(kind(data=tmp_path / "file"), tmp_path / "file")


def test_folder_of_the_other_format_names_the_dataparser(blender, tmp_path_factory):
    folder, _ = blender
    _fails(NerfstudioDataParserConfig(data=folder), "transforms.json", "blender-data")
    other = write_nerfstudio_capture(tmp_path_factory.mktemp("other"), 8, 2)
    _fails(BlenderDataParserConfig(data=other), "transforms_train.json", "nerfstudio-data")


def test_missing_validation_split(blender):
    folder, _ = blender
    (folder / "transforms_val.json").unlink()
    _fails(BlenderDataParserConfig(data=folder), "transforms_val.json", "missing")


# --------------------------------------------------------------------------- the transforms file

BROKEN = {
    "cut off": '{"camera_angle_x": 0.7, "frames": [{"file_pa',
    "empty": "",
    "a list": "[1, 2]",
    "no frames": '{"camera_angle_x": 0.7, "fl_x": 1}',
    "empty frames": '{"camera_angle_x": 0.7, "frames": []}',
    "frames no list": '{"camera_angle_x": 0.7, "frames": {"a": 1}}',
    "frame no object": '{"camera_angle_x": 0.7, "frames": [3]}',
    "nested too deep": "[" * 100_000,
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_transforms_file(blender, capture, fault):
    folder, _ = blender
    _write(folder / "transforms_val.json", BROKEN[fault])
    _fails(BlenderDataParserConfig(data=folder), folder / "transforms_val.json")
    _write(capture[0] / "transforms.json", BROKEN[fault])
    _fails(NerfstudioDataParserConfig(data=capture[0]), capture[0] / "transforms.json")


def test_transforms_file_that_is_no_text(blender):
    folder, _ = blender
    (folder / "transforms_train.json").write_bytes(b"\xff\xff\x00")
    _fails(BlenderDataParserConfig(data=folder), "transforms_train.json", "JSON")


BAD_MATRICES = {
    "missing": None,
    "text": "identity",
    "vector": [1, 2, 3],
    "three columns": np.eye(3).tolist(),
    "ragged": [[1, 0, 0, 0], [0, 1], [0, 0, 1, 0], [0, 0, 0, 1]],
    "object": {"rotation": 1},
    "nan": [[math.nan, 0, 0, 0], *POSE[1:]],
    "infinite": [*POSE[:2], [0, 0, 1, math.inf], POSE[3]],
    "no rotation": np.diag([0.0, 0, 0, 1]).tolist(),
    "flat": [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "beyond float32": [[1e39, 0, 0, 0], *POSE[1:]],
    "beyond float64": [[10**400, 0, 0, 0], *POSE[1:]],
}


@pytest.mark.parametrize("fault", BAD_MATRICES)
def test_bad_matrices(blender, capture, fault):
    for file, meta, config in _both(blender, capture):
        meta["frames"][1]["transform_matrix"] = BAD_MATRICES[fault]
        if fault == "missing":
            del meta["frames"][1]["transform_matrix"]
        _write(file, meta)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _fails(config, file, "frame 1", "transform_matrix")


def _both(blender, capture):
    """A file of each format: where, its content, and the options to read it."""
    for (folder, content), name, kind in (
        (blender, "transforms_train.json", BlenderDataParserConfig),
        (capture, "transforms.json", NerfstudioDataParserConfig),
    ):
        yield folder / name, copy.deepcopy(content.get("train", content)), kind(data=folder)


def _mirrored(pose):
    return (np.asarray(pose) @ np.diag([-1.0, 1, 1, 1])).tolist()


def test_one_pose_must_not_mirror_but_all_may(blender, capture):
    for file, meta, config in _both(blender, capture):
        frames = meta["frames"]
        frames.append(copy.deepcopy(frames[0]))
        kept = [frame["transform_matrix"] for frame in frames]
        frames[1]["transform_matrix"] = _mirrored(kept[1])
        _write(file, meta)
        _fails(config, file, "frame 1", "left-handed")
        for frame, pose in zip(frames, kept, strict=True):
            frame["transform_matrix"] = _mirrored(pose)
        _write(file, meta)
        check_dataset(config)
        frames[2]["transform_matrix"] = kept[2]
        _write(file, meta)
        _fails(config, file, "frame 2", "right-handed")


def test_an_image_has_one_pose(blender, capture):
    for file, meta, config in _both(blender, capture):
        frames = meta["frames"]
        frames.append(copy.deepcopy(frames[0]))
        _write(file, meta)
        check_dataset(config)  # the frame twice is no contradiction
        frames[-1]["transform_matrix"][0][3] += 0.5
        _write(file, meta)
        _fails(config, file, f"frame {len(frames) - 1}", "frame 0", "another pose")


@pytest.mark.parametrize("path", [None, 3, "", "  "])
def test_missing_file_path(blender, capture, path):
    for (folder, content), name, kind in (
        (blender, "transforms_train.json", BlenderDataParserConfig),
        (capture, "transforms.json", NerfstudioDataParserConfig),
    ):
        meta = copy.deepcopy(content.get("train", content))
        meta["frames"][0]["file_path"] = path
        _write(folder / name, meta)
        _fails(kind(data=folder), folder / name, "frame 0", "file_path")


def test_names_that_no_terminal_prints_are_still_one_printable_line(blender):
    folder, metas = blender
    metas["train"]["frames"][0]["file_path"] = "images/\ud800\n\0"
    _write(folder / "transforms_train.json", metas["train"])
    _fails(BlenderDataParserConfig(data=folder), "does not exist").encode()


@pytest.mark.parametrize("angle", [None, 0, -0.7, 4, "wide", math.nan, [0.7]])
def test_camera_angle(blender, angle):
    folder, metas = blender
    _write(folder / "transforms_train.json", {**metas["train"], "camera_angle_x": angle})
    _fails(BlenderDataParserConfig(data=folder), "transforms_train.json", "camera_angle_x")


@pytest.mark.parametrize("key", ["fl_x", "fl_y", "cx", "cy", "w", "h"])
@pytest.mark.parametrize("value", ["missing", "wide", math.nan, [1], None])
def test_bad_intrinsics(capture, key, value):
    folder, meta = capture
    meta[key] = value
    if value == "missing":
        del meta[key]
    _write(folder / "transforms.json", meta)
    _fails(NerfstudioDataParserConfig(data=folder), "transforms.json", key)


@pytest.mark.parametrize("key", ["fl_x", "w"])
def test_intrinsics_that_must_be_positive(capture, key):
    folder, meta = capture
    _write(folder / "transforms.json", {**meta, key: 0})
    _fails(NerfstudioDataParserConfig(data=folder), key, "positive")


@pytest.mark.parametrize("model", ["PANORAMA", 3, None, ["OPENCV"]])
def test_unknown_camera_model(capture, model):
    folder, meta = capture
    _write(folder / "transforms.json", {**meta, "camera_model": model})
    _fails(NerfstudioDataParserConfig(data=folder), "camera_model", "OPENCV_FISHEYE")


def test_cameras_at_one_point(capture):
    folder, meta = capture
    for frame in meta["frames"]:
        frame["transform_matrix"] = POSE
    _write(folder / "transforms.json", meta)
    _fails(NerfstudioDataParserConfig(data=folder), "transforms.json", "one point")
    check_dataset(NerfstudioDataParserConfig(data=folder, auto_scale_poses=False))


# --------------------------------------------------------------------------- the images


def _damage(path, fault):
    if fault == "missing":
        path.unlink()
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "text":
        path.write_text("no picture")
    elif fault == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
    elif fault == "bit flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x40
        path.write_bytes(content)
    elif fault == "a folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("fault", ["missing", "empty", "text", "truncated", "bit flipped", "a folder"])
@pytest.mark.parametrize("many", [False, True], ids=["decoded", "headers only"])
def test_damaged_images(blender, capture, fault, many, monkeypatch):
    if many:
        monkeypatch.setattr("bn_field_plugin.data.image_checks.DECODE_AT_MOST", 1)
    _damage(blender[0] / "val/r_1.png", fault)
    _fails(BlenderDataParserConfig(data=blender[0]), blender[0] / "val/r_1.png")
    _damage(capture[0] / "images/f_7.png", fault)
    _fails(NerfstudioDataParserConfig(data=capture[0]), capture[0] / "images/f_7.png")


def test_truncated_jpeg_is_found_by_decoding(capture):
    folder, meta = capture
    for frame in meta["frames"]:
        frame["file_path"] = frame["file_path"].replace(".png", ".jpg")
        _picture(folder / frame["file_path"], size=(64, 48))  # so large that the cut is behind the header
    _write(folder / "transforms.json", {**meta, "w": 64, "h": 48})
    config = NerfstudioDataParserConfig(data=folder)
    check_dataset(config)
    _damage(folder / "images/f_2.jpg", "truncated")
    _fails(config, "images/f_2.jpg", "cannot read")


@pytest.mark.parametrize("mode", ["LA", "P", "1", "I;16"])
def test_pixel_formats_that_nerfstudio_would_misread(capture, mode):
    folder, _ = capture
    _picture(folder / "images/f_0.png", mode=mode)
    _fails(NerfstudioDataParserConfig(data=folder), "images/f_0.png", mode, "RGB")


def test_unequal_sizes_in_blender_format(blender):
    folder, _ = blender
    _picture(folder / "train/r_1.png", size=(9, 6))
    _fails(BlenderDataParserConfig(data=folder), folder / "train/r_1.png", "9x6", "8x6")


def test_blender_file_path_with_a_suffix(blender):
    folder, metas = blender
    metas["train"]["frames"][0]["file_path"] += ".png"
    _write(folder / "transforms_train.json", metas["train"])
    _fails(BlenderDataParserConfig(data=folder), "frame 0", "without its suffix")


def test_size_that_disagrees_with_the_intrinsics(capture):
    folder, _ = capture
    _picture(folder / "images/f_4.png", size=(8, 7))
    _fails(NerfstudioDataParserConfig(data=folder), "images/f_4.png", "8x7", "8x6")


def test_masks_and_depths_for_some_frames_only(capture):
    folder, meta = capture
    for key in ("mask_path", "depth_file_path"):
        some = copy.deepcopy(meta)
        some["frames"][2][key] = "images/f_0.png"
        _write(folder / "transforms.json", some)
        _fails(NerfstudioDataParserConfig(data=folder), key, "1 of 10")


def test_missing_mask(capture):
    folder, meta = capture
    for frame in meta["frames"]:
        frame["mask_path"] = "masks/m.png"
    _write(folder / "transforms.json", meta)
    _fails(NerfstudioDataParserConfig(data=folder), "masks/m.png")
    _picture(folder / "masks/m.png", mode="L")
    check_dataset(NerfstudioDataParserConfig(data=folder))


# --------------------------------------------------------------------------- the split


@pytest.mark.parametrize("count", range(1, 13))
@pytest.mark.parametrize(
    "options", [{}, {"train_split_fraction": 0.5}, {"eval_mode": "interval", "eval_interval": 3}]
)
def test_too_few_images_exactly_where_nerfstudio_has_none_for_a_split(capture, count, options):
    folder, meta = capture
    frames = (meta["frames"] * 2)[:count]  # some images twice
    _write(folder / "transforms.json", {**meta, "frames": frames})
    config = NerfstudioDataParserConfig(data=folder, auto_scale_poses=False, **options)
    sizes = [len(config.setup().get_dataparser_outputs(split).image_filenames) for split in ("train", "val")]
    if min(sizes) == 0:
        _fails(config, f"{count} images", "--eval-mode all")
    else:
        check_dataset(config)


def test_eval_mode_all_needs_one_image(capture):
    folder, meta = capture
    _write(folder / "transforms.json", {**meta, "frames": meta["frames"][:1]})
    check_dataset(NerfstudioDataParserConfig(data=folder, eval_mode="all", auto_scale_poses=False))


def test_a_scene_with_one_image_is_said_to_be_that(capture):
    folder, meta = capture
    _write(folder / "transforms.json", {**meta, "frames": meta["frames"][:1]})
    _fails(NerfstudioDataParserConfig(data=folder), "single image", "--eval-mode all")


def test_split_by_filename(capture):
    folder, meta = capture
    config = NerfstudioDataParserConfig(data=folder, eval_mode="filename")
    _fails(config, "f_0.png", "--eval-mode filename")
    for number, frame in enumerate(meta["frames"]):
        frame["file_path"] = f"images/{'eval' if number == 0 else 'train'}_{number}.png"
        _picture(folder / frame["file_path"])
    _write(folder / "transforms.json", meta)
    check_dataset(config)
    _write(folder / "transforms.json", {**meta, "frames": meta["frames"][1:]})
    _fails(config, "too few")


@pytest.mark.parametrize(
    "lists",
    [
        {"train_filenames": ["images/f_0.png"]},
        {"val_filenames": ["images/f_0.png"]},
        {"train_filenames": [], "val_filenames": ["images/f_0.png"]},
        {"train_filenames": ["images/f_0.png"], "val_filenames": ["images/nowhere.png"]},
        {"train_filenames": "images/f_0.png", "val_filenames": ["images/f_0.png"]},
        {"train_filenames": [3], "val_filenames": ["images/f_0.png"]},
    ],
)
def test_listed_splits_that_fail(capture, lists):
    folder, meta = capture
    _write(folder / "transforms.json", {**meta, **lists})
    _fails(NerfstudioDataParserConfig(data=folder), "_filenames")


def test_downscale_factor_of_nothing(capture):
    _fails(NerfstudioDataParserConfig(data=capture[0], downscale_factor=0), "--downscale-factor")


# --------------------------------------------------------------------------- any JSON

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["images/f_0.png", "train/r_0", "../x", "/", "\0", "\ud800", 10**400, 1e300, -0.0])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
matrices = st.just(POSE) | st.lists(
    st.lists(st.integers(-2, 2) | scalars, min_size=4, max_size=4), min_size=4, max_size=4
)
NAMES = [
    "fl_x",
    "fl_y",
    "cx",
    "cy",
    "w",
    "h",
    "camera_model",
    "mask_path",
    "depth_file_path",
    "camera_angle_x",
]
NAMES += ["train_filenames", "val_filenames", "test_filenames", *DISTORTION]
frame = st.fixed_dictionaries(
    {
        "file_path": st.sampled_from([f"images/f_{i}{end}" for i in range(4) for end in (".png", "")])
        | scalars,
        "transform_matrix": matrices | anything,
    },
    optional=dict.fromkeys(NAMES, anything),
)
almost = st.fixed_dictionaries(
    {"frames": st.lists(frame | anything, max_size=3)},
    optional={**dict.fromkeys(NAMES, anything | st.just(8))},
)


def _message(config):
    """The user's error of a check, or nothing."""
    try:
        check_dataset(config)
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def playground(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    for number in range(4):
        _picture(folder / f"images/f_{number}.png", size=(8, 8))
    return folder


@given(
    content=almost | anything, options=st.sampled_from([{}, {"eval_mode": "all"}, {"downscale_factor": 2}])
)
@cases(300, suppress_health_check=[HealthCheck.too_slow])
def test_no_json_raises_anything_but_a_users_error(playground, content, options):
    text = json.dumps(content)
    for name in ("transforms.json", "transforms_train.json", "transforms_val.json"):
        _write(playground / name, text)
    for config in (
        NerfstudioDataParserConfig(data=playground, **options),
        BlenderDataParserConfig(data=playground),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            message = _message(config)
        assert "\n" not in message
        message.encode()  # no lone surrogates, which a terminal could not print


@given(text=st.text(max_size=40) | st.binary(max_size=40))
@cases(100)
def test_no_file_content_raises_anything_but_a_users_error(playground, text):
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    (playground / "transforms.json").write_bytes(content)
    with pytest.raises(UserError):
        check_dataset(NerfstudioDataParserConfig(data=playground))


@given(
    extra=st.dictionaries(
        st.text(min_size=1, max_size=6).filter(lambda name: name not in NAMES), anything, max_size=4
    )
)
@cases(100)
def test_extra_fields_never_raise(playground, extra):
    frames = [{**extra, "file_path": "images/f_0.png", "transform_matrix": POSE}]
    _write(
        playground / "transforms.json",
        {**extra, "fl_x": 9, "fl_y": 9, "cx": 4, "cy": 4, "w": 8, "h": 8, "frames": frames},
    )
    check_dataset(NerfstudioDataParserConfig(data=playground, eval_mode="all", auto_scale_poses=False))
    for split in ("train", "val"):
        frames = [{**extra, "file_path": "images/f_0", "transform_matrix": POSE}]
        _write(playground / f"transforms_{split}.json", {**extra, "camera_angle_x": 0.7, "frames": frames})
    check_dataset(BlenderDataParserConfig(data=playground))


# ----------------------------------------------------------------------- what nerfstudio reads of any format


def _masks(folder, meta, sizes=(8, 6), mode="L", value=255, frames=None):
    """Give every frame a mask; of `frames`, or all, with one value."""
    for i, frame in enumerate(meta["frames"]):
        frame["mask_path"] = f"masks/m_{i}.png"
        path = folder / frame["mask_path"]
        path.parent.mkdir(exist_ok=True)
        odd = frames is None or i in frames
        width, height = sizes if odd else (8, 6)
        Image.new("L", (width, height), value if odd else 255).convert(mode if odd else "L").save(path)
    _write(folder / "transforms.json", meta)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "RGB", "frames": [4]}, ("m_4.png", "kind RGB", "8-bit grey")),
        ({"mode": "P"}, ("kind P", "8-bit grey")),
        ({"sizes": (4, 3), "frames": [5]}, ("m_5.png", "is 4x3", "f_5.png is 8x6")),
        ({"value": 0}, ("masks of all train images are black",)),
        ({"value": 0, "frames": [9]}, ("masks of all val images are black", "m_9.png")),
    ],
)
def test_masks_that_nerfstudio_cannot_use(capture, options, words):
    folder, meta = capture
    _masks(folder, meta, **options)
    config = NerfstudioDataParserConfig(data=folder, eval_mode="fraction", train_split_fraction=0.9)
    if 9 in options.get("frames", ()):
        config.eval_mode = "filename"
        for i, frame in enumerate(meta["frames"]):
            name = f"images/{'eval' if i == 9 else 'train'}_{i}.png"
            (folder / frame["file_path"]).rename(folder / name)
            frame["file_path"] = name
        _write(folder / "transforms.json", meta)
    _fails(config, *words)


def test_sound_masks_pass_and_one_black_one_does(capture):
    folder, meta = capture
    _masks(folder, meta, mode="1")
    check_dataset(NerfstudioDataParserConfig(data=folder))
    _masks(folder, meta, value=0, frames=[3])
    check_dataset(NerfstudioDataParserConfig(data=folder))


def test_of_several_sizes_every_mask_must_leave_something(capture):
    folder, meta = capture
    camera = {key: meta.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    for frame in meta["frames"]:
        frame.update(camera)
    meta["frames"][4].update(w=12, h=10)
    _picture(folder / "images/f_4.png", size=(12, 10))
    _masks(folder, meta, value=0, frames=[3])
    Image.new("L", (12, 10), 255).save(folder / "masks/m_4.png")
    _fails(NerfstudioDataParserConfig(data=folder), "m_3.png is black", "several sizes")


def test_alpha_is_of_all_images_of_a_split_or_of_none(capture, blender):
    folder, _ = capture
    _picture(folder / "images/f_1.png", mode="RGBA")
    _fails(NerfstudioDataParserConfig(data=folder), "1 of 9 train images", "f_1.png", "alpha")
    _picture(blender[0] / "train/r_0.png", mode="RGB")
    check_dataset(BlenderDataParserConfig(data=blender[0]))  # laid on white, each as it is


@pytest.mark.parametrize(("ending", "orientation"), [("jpg", 6), ("jpg", 3), ("png", 8)])
def test_pictures_that_a_tag_turns_are_named(capture, ending, orientation):
    folder, meta = capture
    for i, frame in enumerate(meta["frames"]):
        frame["file_path"] = f"images/f_{i}.{ending}"
        exif = Image.Exif()
        exif[0x0112] = orientation if i == 7 else 1
        Image.new("RGB", (6, 8) if orientation == 6 else (8, 6)).save(folder / frame["file_path"], exif=exif)
    _write(folder / "transforms.json", meta | ({"w": 6, "h": 8} if orientation == 6 else {}))
    _fails(
        NerfstudioDataParserConfig(data=folder), f"f_7.{ending}", f"orientation {orientation}", "-auto-orient"
    )


def test_other_parsers_get_the_checks_of_pictures(blender):
    """D-NeRF's has Blender's files."""
    folder, metas = blender
    for split, meta in metas.items():
        for frame in meta["frames"]:
            frame["time"] = 0.5
        _write(folder / f"transforms_{split}.json", meta)
    config = DNeRFDataParserConfig(data=folder)
    check_dataset(config)
    _picture(folder / "val/r_1.png", mode="LA")
    _fails(config, "val/r_1.png", "kind LA")
    exif = Image.Exif()
    exif[0x0112] = 5
    Image.new("RGBA", (8, 6)).save(folder / "train/r_1.png", exif=exif)
    _fails(config, "train/r_1.png", "orientation 5")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("images/f_3", ("write its ending too, as f_3.png",)),
        ("images\\f_3.png", ("write / for each \\",)),
        ("images/F_3.PNG", ("write its name as it is, f_3.png",)),
        ("images/f_33.png", ("f_33.png does not exist",)),
    ],
)
@pytest.mark.parametrize("frame", [0, 3])
def test_names_that_nearly_fit(capture, name, words, frame):
    folder, meta = capture
    meta["frames"][frame]["file_path"] = name
    _write(folder / "transforms.json", meta)
    _fails(NerfstudioDataParserConfig(data=folder), *words)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_named(capture, encoding):
    folder, meta = capture
    (folder / "transforms.json").write_text(json.dumps(meta), encoding=encoding)
    message = _fails(NerfstudioDataParserConfig(data=folder), "transforms.json", "byte-order mark")
    assert "JSON" not in message


def test_files_of_instant_ngp_are_named(capture):
    folder, meta = capture
    for key in ("fl_x", "fl_y", "cx", "cy"):
        del meta[key]
    meta["camera_angle_x"] = math.pi / 2
    _write(folder / "transforms.json", meta)
    _fails(NerfstudioDataParserConfig(data=folder), "camera_angle_x", "instant-ngp-data", "= 4)")


def test_camera_models_of_frames(capture):
    folder, meta = capture
    meta["camera_model"] = "OPENCV"
    for frame in meta["frames"]:
        frame["camera_model"] = "OPENCV"
    _write(folder / "transforms.json", meta)
    check_dataset(NerfstudioDataParserConfig(data=folder))
    meta["frames"][2]["camera_model"] = "OPENCV_FISHEYE"
    _write(folder / "transforms.json", meta)
    _fails(NerfstudioDataParserConfig(data=folder), "frame 2", "OPENCV_FISHEYE", "ignored")


@pytest.mark.parametrize("key", ["k1", "p2"])
@pytest.mark.parametrize("value", ["a lot", None, math.inf, [0.1]])
@pytest.mark.parametrize("of_frame", [False, True])
def test_distortion_of_no_numbers(capture, key, value, of_frame):
    folder, meta = capture
    (meta["frames"][2] if of_frame else meta)[key] = value
    _write(folder / "transforms.json", meta)
    _fails(
        NerfstudioDataParserConfig(data=folder), "frame 2: " if of_frame else "", f"{key} must be a number"
    )


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        ("FISHEYE624", None, "needs distortion_params, a list of 12 numbers"),
        ("FISHEYE624", [0.0] * 6, "must be a list of 12 numbers"),
        ("OPENCV_FISHEYE", [0.0] * 3, "must be a list of 4 numbers"),
        ("OPENCV", [0.1], "must be a list of 6 numbers"),
        ("OPENCV", 3, "must be a list of 6 numbers"),
        ("OPENCV", [math.nan] * 6, "must be a list of 6 numbers"),
        ("OPENCV", [0.0] * 6, None),
        ("OPENCV_FISHEYE", [0.0] * 4, None),
        ("FISHEYE624", [0.0] * 12, None),
    ],
)
def test_lists_of_distortion_have_what_the_camera_model_reads(capture, model, values, words):
    folder, meta = capture
    meta |= {"camera_model": model} | ({} if values is None else {"distortion_params": values})
    _write(folder / "transforms.json", meta)
    config = NerfstudioDataParserConfig(data=folder)
    if words is not None:
        _fails(config, "transforms.json", words)
        return
    check_dataset(config)
    cameras = config.setup().get_dataparser_outputs("val").cameras
    assert cameras.generate_rays(0).directions.isfinite().all()


@pytest.mark.parametrize("wrong", [{"applied_transform": np.eye(4).tolist()}, {"applied_scale": "large"}])
def test_what_a_parser_raises_is_one_line_with_its_name(capture, wrong):
    folder, meta = capture
    _write(folder / "transforms.json", meta | wrong)
    _fails(NerfstudioDataParserConfig(data=folder), folder, "nerfstudio's NerfstudioDataParser (")


def test_a_single_evaluation_image_of_instant_ngp_is_one_line(capture):
    """nerfstudio's parser makes a camera of no known place of it, and ends where the first ray is made."""
    folder, _ = capture
    config = InstantNGPDataParserConfig(data=folder)
    _fails(config, folder, "the val images", "two or more", "--train-split-fraction")
    config.train_split_fraction = 0.8
    check_dataset(config)
    config.train_split_fraction = 0.1  # now of training
    _fails(config, "the train images", "two or more")
