"""`bn-demo-data` as nerfstudio uses it: no path, a path, config.yml there and back, and a quick import."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from PIL import Image

from bn_field_plugin.data.demo_dataparser import BNDemo, BNDemoDataParserConfig
from bn_field_plugin.data.demo_scene import DemoScene
from bn_field_plugin.errors import UserError
from tests.captures import write_blender_capture
from tests.data.surfaces import vertices_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(cache, monkeypatch):
    monkeypatch.setenv("BN_FIELD_CACHE", str(cache))
    return BNDemoDataParserConfig(image_size=16, num_train=3, num_val=1, num_test=2, samples=2)


def test_defaults_are_those_of_the_scene():
    parser, scene = BNDemoDataParserConfig(), DemoScene()
    for name in ("image_size", "num_train", "num_val", "num_test", "samples"):
        assert getattr(parser, name) == getattr(scene, name)


def test_renders_into_the_cache_and_parses(config, cache):
    parser = config.setup()
    assert isinstance(parser, BNDemo)
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        outputs = parser.get_dataparser_outputs(split)
        assert len(outputs.image_filenames) == len(outputs.cameras) == count
        assert all(path.is_relative_to(cache) for path in outputs.image_filenames)
    assert config.data == parser.data  # ns-viewer asks the configuration for the path


def test_pictures_are_laid_on_white(config):
    outputs = config.setup().get_dataparser_outputs("train")
    image = InputDataset(outputs)[0]["image"].numpy()
    raw = np.asarray(Image.open(outputs.image_filenames[0])) / 255
    assert image.shape == (16, 16, 3)
    assert (image[raw[..., 3] == 0] == 1).all()
    solid = raw[..., 3] == 1
    np.testing.assert_allclose(image[solid], raw[solid][:, :3], atol=1e-6)


def test_scene_box_holds_the_scene(config):
    from bn_field_plugin.data.demo_renderer import OBJECTS

    low, high = config.setup().get_dataparser_outputs("train").scene_box.aabb.numpy()
    vertices = vertices_of(OBJECTS)
    assert (vertices > low).all()
    assert (vertices < high).all()


def test_config_survives_yaml(config):
    text = yaml.dump(config)
    back = yaml.load(text, Loader=yaml.Loader)
    assert back == config
    assert back.data is None  # the path is not saved: on another machine ns-eval renders the scene there
    assert back.setup().get_dataparser_outputs("test").image_filenames


def test_path_of_the_command_line_reaches_the_parser(tmp_path, config):
    """`ns-train X --data PATH bn-demo-data`: nerfstudio's data manager sets the parser's path."""
    folder = write_blender_capture(tmp_path / "own", 20, num_train=2, num_val=1, num_test=1)
    manager = VanillaDataManagerConfig(dataparser=config, data=folder)
    manager._target = VanillaDataManager[InputDataset]
    data = manager.setup(device="cpu", test_mode="inference")
    assert [path.parent.parent for path in data.train_dataset.image_filenames] == [folder] * 2
    assert data.get_datapath() == folder


def test_data_manager_without_a_path(config, cache):
    manager = VanillaDataManagerConfig(dataparser=config)
    manager._target = VanillaDataManager[InputDataset]
    data = manager.setup(device="cpu", test_mode="inference")
    assert len(data.train_dataset) == 3
    assert data.get_datapath().is_relative_to(cache)


def test_wrong_size_is_a_users_error(config):
    config.image_size = 1
    with pytest.raises(UserError, match="image-size"):
        config.setup()


@pytest.mark.slow
def test_registered_and_quick_to_import():
    """Every ns-* command imports the module at its start, so it must not import Open3D or the like."""
    code = (
        "import sys, nerfstudio.plugins.registry_dataparser\n"
        "from nerfstudio.data.dataparsers import blender_dataparser, nerfstudio_dataparser\n"
        "before = set(sys.modules)\n"
        "import bn_field_plugin.dataparser_configs\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "bn_field_plugin" in done.stdout.split()
    assert not {"open3d", "rich", "PIL", "sklearn", "scipy"} & set(done.stdout.split())


def test_specification():
    from bn_field_plugin.dataparser_configs import bn_demo_dataparser

    assert isinstance(bn_demo_dataparser, DataParserSpecification)
    assert bn_demo_dataparser.config == BNDemoDataParserConfig()
    assert bn_demo_dataparser.description
