"""`bn-capture-data` as nerfstudio uses it: no path, a path, config.yml there and back."""

from dataclasses import fields

import pytest
import torch
import yaml
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from bn_field_plugin.data.capture_dataparser import BNCapture, BNCaptureDataParserConfig
from bn_field_plugin.data.capture_scene import CaptureScene
from bn_field_plugin.data.validation import check_dataset
from bn_field_plugin.errors import UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(cache, monkeypatch):
    monkeypatch.setenv("BN_FIELD_CACHE", str(cache))
    return BNCaptureDataParserConfig(width=32, height=18, num_views=10, samples=1)


def test_defaults_are_those_of_the_capture_and_of_nerfstudio():
    parser, capture = BNCaptureDataParserConfig(), CaptureScene()
    for field in fields(capture):
        assert getattr(parser, field.name) == getattr(capture, field.name)
    for field in fields(NerfstudioDataParserConfig):
        if field.name not in ("_target", "data", "downscale_factor"):
            assert getattr(parser, field.name) == getattr(NerfstudioDataParserConfig(), field.name)


@pytest.mark.slow
def test_renders_into_the_cache_and_parses_as_nerfstudios_own_parser_does(config, cache):
    check_dataset(config, required_splits=("train", "test"))
    parser = config.setup()
    assert isinstance(parser, BNCapture)
    assert config.data is not None
    assert config.data.is_relative_to(cache)
    check_dataset(config, required_splits=("train", "test"))
    theirs = NerfstudioDataParserConfig(data=config.data).setup()
    for split, count in (("train", 9), ("val", 1), ("test", 1)):
        outputs, expected = parser.get_dataparser_outputs(split), theirs.get_dataparser_outputs(split)
        assert outputs.image_filenames == expected.image_filenames
        assert len(outputs.cameras) == count
        torch.testing.assert_close(outputs.cameras.camera_to_worlds, expected.cameras.camera_to_worlds)
        torch.testing.assert_close(outputs.scene_box.aabb, expected.scene_box.aabb)


@pytest.mark.slow
def test_config_survives_yaml(config):
    back = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    assert back == config
    assert back.data is None  # the path is not saved: on another machine ns-eval renders the capture there
    assert back.setup().get_dataparser_outputs("test").image_filenames


@pytest.mark.slow
def test_path_of_the_command_line_reaches_the_parser(tmp_path, config):
    """`ns-train X --data PATH bn-capture-data`: nerfstudio's data manager sets the parser's path."""
    CaptureScene(width=24, height=16, num_views=8, samples=1).render(tmp_path / "own")
    manager = VanillaDataManagerConfig(dataparser=config, data=tmp_path / "own")
    manager._target = VanillaDataManager[InputDataset]
    data = manager.setup(device="cpu", test_mode="inference")
    assert [path.parent.parent for path in data.train_dataset.image_filenames] == [tmp_path / "own"] * 7
    assert data.train_dataset[0]["image"].shape == (16, 24, 3)


def test_wrong_size_is_a_users_error(config):
    config.width = 1
    with pytest.raises(UserError, match="width"):
        config.setup()


def test_specification():
    from bn_field_plugin.dataparser_configs import bn_capture_dataparser

    assert isinstance(bn_capture_dataparser, DataParserSpecification)
    assert bn_capture_dataparser.config == BNCaptureDataParserConfig()
    assert bn_capture_dataparser.description
