"""A real training run of nerfstudio's machinery in a second: one matrix and one bias, fitted to a constant.

`python -m tests.engine.tiny OUTPUT_DIR STEPS SECONDS_PER_STEP` trains it as a process of its own.
"""

# No `from __future__ import annotations`: tyro reads the evaluated types of the configs.
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from nerfstudio.pipelines.base_pipeline import Pipeline, VanillaPipelineConfig
from torch import nn

from bn_field_plugin.engine.optimizers import AdamConfig, MuonOptimizerConfig
from bn_field_plugin.engine.schedulers import CosineDecayConfig, ExponentialDecayConfig
from bn_field_plugin.engine.trainer import BNTrainer, BNTrainerConfig
from bn_field_plugin.errors import UserError


class TinyModel(nn.Module):
    """y = W x + b, and a flag for whether its statistics are exact."""

    def __init__(self, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(width, width, generator=generator))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("exact", torch.zeros(()))


@dataclass
class TinyPipelineConfig(VanillaPipelineConfig):
    _target: type = field(default_factory=lambda: TinyPipeline)
    width: int = 8
    seconds_per_step: float = 0.0


class TinyPipeline(Pipeline):
    """What the trainer needs of a pipeline, without images."""

    def __init__(self, config: TinyPipelineConfig, device: str, **_: Any) -> None:
        super().__init__()
        self.config = config
        self._model = TinyModel(config.width).to(device)
        self.datamanager = SimpleNamespace(  # type: ignore[assignment]
            train_dataset=(), eval_dataset=(), get_train_rays_per_batch=lambda: 1
        )

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"matrices": [self.model.weight], "others": [self.model.bias]}

    def get_training_callbacks(self, _: Any) -> list[Any]:
        return []

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        if self.config.seconds_per_step:
            print(f"in step {step}", flush=True)
            time.sleep(self.config.seconds_per_step)
        self.model.exact.zero_()
        x = torch.cos(torch.arange(self.config.width) * (step + 1.0))
        loss = (self.model.weight @ x + self.model.bias - 1).square().mean()
        return None, {"loss": loss}, {}

    def calibrate(self) -> None:
        self.model.exact.fill_(1)

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        if loaded_state["_model.weight"].shape != self.model.weight.shape:
            raise UserError("the checkpoint has another width")
        self.load_state_dict(loaded_state)


def config(output_dir: Path, steps: int = 10, **options: Any) -> BNTrainerConfig:
    """A run of the tiny pipeline."""
    return BNTrainerConfig(
        output_dir=output_dir,
        method_name="tiny",
        experiment_name="test",
        timestamp="now",
        max_num_iterations=steps,
        steps_per_save=4,
        vis="none",  # type: ignore[arg-type]
        **{
            "pipeline": TinyPipelineConfig(),
            "optimizers": {
                "matrices": {
                    "optimizer": MuonOptimizerConfig(lr=0.02),
                    "scheduler": CosineDecayConfig(warmup_steps=3),
                },
                "others": {"optimizer": AdamConfig(lr=0.1), "scheduler": ExponentialDecayConfig()},
            },
            **options,
        },
    )


def run(run_config: BNTrainerConfig) -> BNTrainer:
    """Train as ns-train does."""
    run_config.machine.device_type = "cpu"
    run_config.viewer.quit_on_train_completion = True
    run_config.get_base_dir().mkdir(parents=True, exist_ok=True)
    trainer = run_config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


if __name__ == "__main__":
    torch.set_num_threads(1)
    pipeline = TinyPipelineConfig(seconds_per_step=float(sys.argv[3]))
    run(config(Path(sys.argv[1]), int(sys.argv[2]), pipeline=pipeline))
