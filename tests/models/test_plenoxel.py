"""The voxel grid as a model: outputs, losses, and grids that become finer during training."""

from types import SimpleNamespace

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox

from bn_field_plugin.errors import UserError
from bn_field_plugin.models.plenoxel import PlenoxelModel, PlenoxelModelConfig
from tests.scenes import BOX, rays


def model(**options: object) -> PlenoxelModel:
    settings = {"resolutions": (4, 8), "refine_at": (0.5,), "num_samples": 16, "scene": "bounded"}
    config = PlenoxelModelConfig(**{**settings, **options})
    return config.setup(scene_box=SceneBox(BOX), num_train_data=1)


@pytest.mark.parametrize("scene", ["bounded", "unbounded"])
def test_outputs_have_the_names_that_nerfstudio_reads(scene: str) -> None:
    made = model(scene=scene)
    trained = made.train()(rays(20))
    assert {name: value.shape[-1] for name, value in trained.items()} == {
        "rgb": 3,
        "depth": 1,
        "accumulation": 1,
    }
    evaluated = made.eval()(rays(20))
    assert evaluated.keys() - trained.keys() == {"normals"}
    assert (evaluated["normals"] >= 0).all()
    assert (evaluated["normals"] <= 1).all()
    assert made.get_rgba_image(evaluated).shape == (20, 4)


def test_rays_that_miss_are_white() -> None:
    torch.testing.assert_close(model().eval()(rays(10, toward=-1))["rgb"], torch.ones(10, 3))


def test_every_grid_that_takes_part_is_trained() -> None:
    made = model().train()
    made.field.active.fill_(2)
    batch = {"image": torch.rand(20, 4)}
    losses = made.get_loss_dict(made(rays(20)), batch)
    assert losses.keys() == {"rgb_loss", "tv_density", "tv_color"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for group in made.get_param_groups().values() for p in group)
    assert made.eval().get_loss_dict(made(rays(20)), batch).keys() == {"rgb_loss"}


def test_finer_grids_join_in_at_their_share_of_the_run() -> None:
    made = model()
    trainer = SimpleNamespace(config=SimpleNamespace(max_num_iterations=100))
    (callback,) = made.get_training_callbacks(SimpleNamespace(trainer=trainer))
    seen = []
    for step in (0, 49, 50, 99):
        callback.run_callback(step)
        seen.append(int(made.field.active))
    assert seen == [1, 1, 2, 2]


@pytest.mark.parametrize("wrong", [{"refine_at": ()}, {"resolutions": (1, 4)}, {"resolutions": ()}])
def test_resolutions_and_steps_must_go_together(wrong: dict) -> None:
    with pytest.raises(UserError, match=r"--pipeline\.model\.resolutions"):
        model(**wrong)
