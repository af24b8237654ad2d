"""Pictures have normals on request, and later passes choose anew."""

from __future__ import annotations

from typing import Any

import pytest
from nerfstudio.models.base_model import Model

from bn_field_plugin.models.normals import NormalsOnRequest
from tests.scenes import tiny_model


@pytest.mark.parametrize("wanted", [False, True])
def test_pictures_have_normals_where_the_config_asks_for_them(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def render(self: Any, rays: Any) -> dict[str, Any]:
        seen.append(self._normals_wanted)
        raise InterruptedError  # nerfstudio's viewer raises such an error at any line

    monkeypatch.setattr(Model, "get_outputs_for_camera_ray_bundle", render)
    model: Any = tiny_model(render_normals=wanted)
    assert isinstance(model, NormalsOnRequest)
    with pytest.raises(InterruptedError):
        model.get_outputs_for_camera_ray_bundle(None)
    assert seen == [wanted] and model._normals_wanted
