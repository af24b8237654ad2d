"""A nerfstudio method of your own with batch norm, which ns-train finds by a variable.

PYTHONPATH=examples NERFSTUDIO_METHOD_CONFIGS=my-nerf=nerfstudio_method:my_nerf ns-train my-nerf bn-demo-data
"""

from dataclasses import dataclass, field

import torch.nn.functional as F
from nerfstudio.field_components.activations import trunc_exp
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.model_components.ray_samplers import UniformSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.plugins.types import MethodSpecification

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.methods.common import trained_on_a_cpu
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, PositionalEncodingConfig


class MyField(Field):  # density and colour of a point, from one network with batch norm
    def __init__(self):
        super().__init__()
        encoding = PositionalEncodingConfig(5)
        self.mlp = CoordinateMLP(CoordinateMLPConfig(in_dim=3, out_dim=4, encoding=encoding, norm="batch"))

    def get_density(self, ray_samples):
        raw = self.mlp(ray_samples.frustums.get_positions() / 1.5)  # the scene's box becomes [-1, 1]
        return trunc_exp(raw[..., :1]), raw[..., 1:]

    def get_outputs(self, ray_samples, density_embedding=None):
        return {FieldHeadNames.RGB: density_embedding.sigmoid()}


@dataclass
class MyModelConfig(ModelConfig):
    _target: type = field(default_factory=lambda: MyModel)
    scene: str = "auto"  # the pipeline says bounded or unbounded
    calibration_rays: int = 4096  # over which it makes the statistics exact before evaluation


class MyModel(Model):
    def populate_modules(self):
        super().populate_modules()
        self.field, self.sampler = MyField(), UniformSampler(num_samples=64)
        self.rgb, self.depth, self.opacity = RGBRenderer("white"), DepthRenderer(), AccumulationRenderer()

    def get_param_groups(self):
        return {"fields": list(self.field.parameters())}

    def get_outputs(self, ray_bundle):
        samples = self.sampler(ray_bundle)
        found = self.field(samples)
        weights = samples.get_weights(found[FieldHeadNames.DENSITY])
        rgb, depth = self.rgb(found[FieldHeadNames.RGB], weights), self.depth(weights, samples)
        return {"rgb": rgb, "depth": depth, "accumulation": self.opacity(weights)}

    def get_loss_dict(self, outputs, batch, metrics_dict=None):
        return {"rgb": F.mse_loss(outputs["rgb"], batch["image"].to(self.device))}

    def get_image_metrics_and_images(self, outputs, batch):
        error = self.get_loss_dict(outputs, batch)["rgb"]
        return {"psnr": float(-10 * error.log10())}, {"img": outputs["rgb"]}


adam = {"fields": {"optimizer": AdamConfig(lr=5e-3), "scheduler": None}}
my_nerf = MethodSpecification(trained_on_a_cpu("my-nerf", MyModelConfig(), adam), "A NeRF with batch norm")
