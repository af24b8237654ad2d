"""Shares of a batch, and mistakes that are told before any process is launched."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.configs.base_config import MachineConfig

from bn_field_plugin.engine.processes import check_machines, rays_per_process, same_order_of_images
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.errors import UserError
from tests.scenes import tiny_pipeline_config


@given(share=st.integers(1, 10_000), world_size=st.integers(1, 64))
def test_the_shares_make_up_the_batch(share: int, world_size: int) -> None:
    assert rays_per_process(share * world_size, world_size) == share


@given(rays=st.integers(1, 10_000), world_size=st.integers(2, 64))
def test_what_cannot_be_shared_evenly_is_refused_with_numbers_that_can(rays: int, world_size: int) -> None:
    if rays % world_size == 0:
        return
    with pytest.raises(UserError, match=f"train-num-rays-per-batch {rays} cannot be shared evenly") as error:
        rays_per_process(rays, world_size)
    numbers = str(error.value).split("choose ")[1].split(",")[0].split(" or ")
    assert all(rays_per_process(int(number), world_size) > 0 for number in numbers)
    assert min(abs(int(number) - rays) for number in numbers) < world_size


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make torch see a number of GPUs."""

    def see(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return see


@pytest.mark.parametrize(
    ("present", "options", "message"),
    [
        (0, {"num_devices": 2}, "several processes on CUDA only"),
        (2, {"num_devices": 2, "device_type": "cpu"}, "several processes on CUDA only"),
        (2, {"num_devices": 3}, "num-devices 3: this machine has 2"),
        (1, {"num_machines": 2}, "--machine.dist-url tcp://HOST:PORT"),
        (8, {"num_devices": 5}, "--pipeline.datamanager.train-num-rays-per-batch 48 cannot be shared evenly"),
        (4, {"num_devices": 4, "num_machines": 10, "dist_url": "tcp://a:1"}, "by 40 processes"),
    ],
)
def test_mistakes_of_a_launch(
    present: int, options: dict[str, Any], message: str, gpus: Callable[[int], None]
) -> None:
    gpus(present)
    with pytest.raises(UserError, match=message):
        check_machines(MachineConfig(**options), 48)


@pytest.mark.parametrize(
    ("present", "options"),
    [
        (0, {"device_type": "cpu"}),
        (2, {"num_devices": 2}),
        (1, {"num_machines": 2, "machine_rank": 1, "dist_url": "tcp://10.0.0.1:4000"}),
    ],
)
@pytest.mark.parametrize("rays", [48, None])
def test_launches_that_work(
    rays: int | None, present: int, options: dict[str, Any], gpus: Callable[[int], None]
) -> None:
    gpus(present)
    check_machines(MachineConfig(**options), rays)


def test_ns_trains_first_step_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line comes before nerfstudio saves a config or starts a process."""
    config = BNTrainerConfig(
        output_dir=tmp_path,
        method_name="tiny",
        machine=MachineConfig(num_devices=5),
        pipeline=tiny_pipeline_config(tmp_path),
    )
    with pytest.raises(SystemExit) as stop:
        config.set_timestamp()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --pipeline.datamanager.train-num-rays-per-batch 48 cannot be shared")
    assert list(tmp_path.iterdir()) == []


def test_one_process_shuffles_as_ever() -> None:
    random.seed(3)
    expected = random.sample(range(9), 9)
    random.seed(3)
    with same_order_of_images(1):
        assert random.sample(range(9), 9) == expected


def test_several_processes_shuffle_alike_and_go_on_as_they_were() -> None:
    orders, later = [], []
    for seed in range(2):
        random.seed(seed)
        expected = random.Random(seed).random()
        with same_order_of_images(2):
            orders.append(random.sample(range(9), 9))
        later.append(random.random() == expected)
    assert orders[0] == orders[1]
    assert all(later)
