"""Dataparsers that render their scene, or take a folder that holds one."""

from pathlib import Path

import pytest

from bn_field_plugin.data.capture_dataparser import BNCaptureDataParserConfig
from bn_field_plugin.data.demo_dataparser import BNDemoDataParserConfig
from bn_field_plugin.data.self_rendering import RendersItself
from bn_field_plugin.errors import UserError


@pytest.mark.parametrize("config", [BNCaptureDataParserConfig, BNDemoDataParserConfig])
@pytest.mark.parametrize("there", [False, True])
def test_a_path_without_the_scene_is_one_line(config: type, there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if there:
        folder.mkdir()
    with pytest.raises(UserError, match=r"^no .* in .*folder: leave --data out .* instead of bn-"):
        config(data=folder).setup()


def test_what_is_rendered_is_the_data_from_then_on(tmp_path: Path) -> None:
    class Config:
        data = None

        def rendered(self) -> Path:
            return tmp_path

    class Base:
        def __init__(self, config: Config) -> None:
            self.data = config.data

    class Parser(RendersItself, Base):
        pass

    config = Config()
    assert Parser(config).data == config.data == tmp_path
