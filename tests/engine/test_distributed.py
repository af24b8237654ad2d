"""Two processes under nerfstudio's DDP train what one trains on the joined batch, and never wait in vain.

nerfstudio launches several processes on CUDA only. Here its pipelines and trainers run on the CPU, by gloo.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.pipelines import base_pipeline
from nerfstudio.scripts.train import train_loop
from nerfstudio.utils import writer
from nerfstudio.utils.eval_utils import eval_setup
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.pipeline import BNPipeline
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.models.bn_nerfacto import BNNerfactoModelConfig
from bn_field_plugin.nn import batch_statistics, running_norms
from tests.captures import write_blender_capture
from tests.processes import needs_gloo, results_of_two
from tests.scenes import rays, same_tensors, statistics, tiny_pipeline_config

pytestmark = [pytest.mark.slow, needs_gloo]

RAYS = 48
STEPS = 3
TRAINER_STEPS = 6
CASES = ["batch", "cross", "nerfacto"]
State = dict[str, Tensor]


# ---------------------------------------------------------------------------------------- the processes


class OnACPU(DistributedDataParallel):
    def __init__(self, model: torch.nn.Module, device_ids: list[int], **options: Any) -> None:
        super().__init__(model, **options)


@contextlib.contextmanager
def ddp_on_a_cpu() -> Iterator[None]:
    """Make nerfstudio wrap models and wait without naming a GPU, as it otherwise does."""
    barrier = SimpleNamespace(barrier=lambda device_ids: dist.barrier())
    with (
        mock.patch.object(base_pipeline, "DDP", OnACPU),
        mock.patch.object(base_pipeline, "dist", barrier),
    ):
        yield


def nerfacto() -> BNNerfactoModelConfig:
    """A tiny nerfacto, whose proposal networks train at some steps only."""
    net = {"hidden_dim": 8, "log2_hashmap_size": 8, "num_levels": 2, "max_res": 16, "use_linear": False}
    return BNNerfactoModelConfig(
        norm="batch",
        proposal_norm="batch",
        hidden_dim=16,
        hidden_dim_color=16,
        num_levels=3,
        max_res=16,
        base_res=4,
        log2_hashmap_size=8,
        num_proposal_samples_per_ray=(12, 8),
        num_nerf_samples_per_ray=6,
        proposal_net_args_list=[net, net],
        implementation="torch",
        calibration_rays=96,
    )


def make(capture: Path, case: str, rank: int = 0, world_size: int = 1) -> BNPipeline:
    """A pipeline in double precision whose samples are not jittered; each process has a seed of its own."""
    config = tiny_pipeline_config(capture, RAYS, "batch" if case == "nerfacto" else case)
    if case == "nerfacto":
        config.model = nerfacto()
    torch.manual_seed(rank)
    random.seed(rank)
    pipeline: BNPipeline = config.setup(device="cpu", world_size=world_size, local_rank=rank)
    for module in pipeline.modules():
        if hasattr(module, "train_stratified"):
            module.train_stratified = False
    return pipeline


def joined_batch(step: int) -> tuple[RayBundle, dict[str, Tensor]]:
    """The whole batch of a step, with random colours."""
    image = torch.rand(RAYS, 3, generator=torch.Generator().manual_seed(step))
    return rays(RAYS, seed=step), {"image": image}


def train(pipeline: BNPipeline, rank: int = 0, world_size: int = 1) -> list[dict[str, State]]:
    """Gradients, statistics and parameters of some steps on this process's share of the joined batches."""
    share = slice(rank * RAYS // world_size, (rank + 1) * RAYS // world_size)

    def next_train(step: int) -> tuple[RayBundle, dict[str, Tensor]]:
        bundle, batch = joined_batch(step)
        return bundle[share], {name: value[share] for name, value in batch.items()}

    results = []
    with mock.patch.object(pipeline.datamanager, "next_train", next_train):
        for step in range(STEPS):
            pipeline.train()
            pipeline.zero_grad()
            _, losses, _ = pipeline.get_train_loss_dict(step)
            torch.stack(list(losses.values())).sum().backward()
            named = dict(pipeline.model.named_parameters())
            gradients = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
            with torch.no_grad():
                for name, gradient in gradients.items():
                    named[name] -= 0.05 * gradient
            results.append({"gradients": gradients, "statistics": statistics(pipeline.model)})
    return results


def evaluate(pipeline: BNPipeline) -> None:
    """Results of every evaluation of nerfstudio, and of an image with batch statistics, as in the viewer."""
    pipeline.get_eval_loss_dict(0)
    pipeline.get_eval_image_metrics_and_images(0)
    pipeline.get_average_eval_image_metrics(0)
    pipeline.eval()
    with torch.no_grad(), batch_statistics(pipeline.model):
        pipeline.model(joined_batch(0)[0])
    pipeline.train()


def worker(rank: int, folder: str, capture: str) -> dict[str, Any]:
    """Results of everything in one of two processes."""
    results: dict[str, Any] = {}
    with ddp_on_a_cpu():
        torch.set_default_dtype(torch.float64)
        for case in CASES:
            pipeline = make(Path(capture), case, rank, 2)
            pipeline.load_state_dict(torch.load(f"{folder}/{case}.pt"))
            results[case] = train(pipeline, rank, 2)
        torch.set_default_dtype(torch.float32)
        results |= statistics_of_processes(make(Path(capture), "batch", rank, 2), rank)
        run_trainer(Path(folder), Path(capture), rank, "two", max_num_iterations=TRAINER_STEPS)
        models = run_of(folder, "two") / "nerfstudio_models"
        run_trainer(Path(folder), Path(capture), rank, "resumed", max_num_iterations=2, load_dir=models)
    return results


def run_of(folder: str | Path, name: str) -> Path:
    return Path(folder) / "outputs" / name / "bn-nerf-small" / "now"


def statistics_of_processes(pipeline: BNPipeline, rank: int) -> dict[str, Any]:
    """Statistics after calibration, after a change by one process, and after an evaluation by one."""
    results: dict[str, Any] = {"rays per batch": len(pipeline.datamanager.next_train(0)[0])}
    step(pipeline)
    pipeline.calibrate()
    results["calibrated"] = statistics(pipeline.model)

    for norm in running_norms(pipeline.model):
        norm.running_mean += rank
    step(pipeline)
    results["drifted"] = statistics(pipeline.model)

    if rank == 0:
        evaluate(pipeline)
    step(pipeline)
    results["one evaluated"] = statistics(pipeline.model)
    return results


def step(pipeline: BNPipeline) -> None:
    """One training step on rays that this process draws."""
    pipeline.train()
    _, losses, _ = pipeline.get_train_loss_dict(0)
    torch.stack(list(losses.values())).sum().backward()


def run_trainer(folder: Path, capture: Path, rank: int, name: str, **options: Any) -> None:
    """nerfstudio's training loop of one process, with evaluations and checkpoints on the way."""
    for globals_of_writers in (writer.EVENT_WRITERS, writer.EVENT_STORAGE, writer.GLOBAL_BUFFER):
        globals_of_writers.clear()
    optimizer = {"optimizer": AdamConfig(lr=1e-2), "scheduler": CosineDecayConfig(warmup_steps=1)}
    config = BNTrainerConfig(
        output_dir=folder / "outputs",
        method_name="bn-nerf-small",
        experiment_name=name,
        timestamp="now",
        steps_per_save=4,
        steps_per_eval_batch=2,
        steps_per_eval_image=3,
        steps_per_eval_all_images=5,
        vis="tensorboard",  # type: ignore[arg-type]
        pipeline=tiny_pipeline_config(capture, RAYS),
        optimizers={"hidden_matrices": optimizer, "fields": optimizer},
        **options,
    )
    config.machine.device_type = "cpu"
    config.viewer.quit_on_train_completion = True
    if rank == 0:
        config.save_config()
    dist.barrier()
    train_loop(rank, 2, config, rank)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene") / "blender"
    return write_blender_capture(folder, image_size=16, num_train=5, num_val=2, num_test=1)


@pytest.fixture(scope="module")
def alone(capture: Path, folder: Path) -> dict[str, list[dict[str, State]]]:
    """Results of one process on the joined batches. Its first state is saved for the two processes."""
    results = {}
    torch.set_default_dtype(torch.float64)
    try:
        for case in CASES:
            pipeline = make(capture, case)
            torch.save(pipeline.state_dict(), folder / f"{case}.pt")
            results[case] = train(pipeline)
    finally:
        torch.set_default_dtype(torch.float32)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gloo")


@pytest.fixture(scope="module")
def processes(alone: object, folder: Path, capture: Path) -> list[dict[str, Any]]:
    """Results of each of two processes."""
    return results_of_two(worker, folder, str(folder), str(capture))


# ------------------------------------------------------------------------------------------------- laws


def close(actual: State, expected: State) -> None:
    """Make sure that states are equal, but for the order of sums over some thousand samples.

    Everything is in double precision but densities and colours, which fields return in single precision, so
    that some are rounded differently. A missing term would change results by one per cent.
    """
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        limit = 32 * torch.finfo(torch.float32).eps * float(value.abs().max())
        torch.testing.assert_close(actual[name], value, rtol=0, atol=limit, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_on_the_joined_batch(
    case: str, processes: list[dict[str, Any]], alone: dict[str, list[dict[str, State]]]
) -> None:
    """DDP takes the mean of the processes' gradients, which is that of the joined batch's mean loss."""
    for index, expected in enumerate(alone[case]):
        one, other = (process[case][index] for process in processes)
        close(one["gradients"], expected["gradients"])
        close(one["statistics"], expected["statistics"])
        assert same_tensors(one["gradients"], other["gradients"])
        assert same_tensors(one["statistics"], other["statistics"])


def test_the_rays_of_a_batch_are_shared(processes: list[dict[str, Any]]) -> None:
    assert [process["rays per batch"] for process in processes] == [RAYS // 2] * 2


@pytest.mark.parametrize("moment", ["calibrated", "drifted", "one evaluated"])
def test_all_processes_have_the_same_statistics(moment: str, processes: list[dict[str, Any]]) -> None:
    """This holds after calibration, after a step before which they differed, and after one evaluated."""
    one, other = (process[moment] for process in processes)
    assert same_tensors(one, other)
    assert all(value.isfinite().all() for value in one.values())


def test_the_first_process_writes_the_checkpoint_and_one_process_loads_it(
    processes: list[dict[str, Any]], folder: Path
) -> None:
    run = run_of(folder, "two")
    assert [path.name for path in (run / "nerfstudio_models").glob("*")] == ["step-000000005.ckpt"]
    _, pipeline, _, step = eval_setup(run / "config.yml", test_mode="val")
    assert step == TRAINER_STEPS - 1
    assert pipeline.datamanager.get_train_rays_per_batch() == RAYS
    saved = checkpoint_of(folder, "two", 5)["pipeline"]
    loaded = statistics(pipeline.model)
    assert same_tensors({name: saved[f"_model.module.{name}"] for name in loaded}, loaded)
    assert torch.isfinite(torch.tensor(pipeline.get_average_eval_image_metrics()["psnr"]))


def checkpoint_of(folder: Path, name: str, step: int) -> dict[str, Any]:
    path = run_of(folder, name) / "nerfstudio_models" / f"step-{step:09d}.ckpt"
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def test_two_processes_go_on_from_a_checkpoint(processes: list[dict[str, Any]], folder: Path) -> None:
    before, after = checkpoint_of(folder, "two", 5), checkpoint_of(folder, "resumed", 7)
    assert (before["step"], after["step"]) == (TRAINER_STEPS - 1, TRAINER_STEPS + 1)
    assert before["pipeline"].keys() == after["pipeline"].keys()
    counts = [name for name in before["pipeline"] if name.endswith("num_batches_tracked")]
    assert {int(before["pipeline"][name]) for name in counts} == {TRAINER_STEPS}
    assert {int(after["pipeline"][name]) for name in counts} == {TRAINER_STEPS + 2}
