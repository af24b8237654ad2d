"""Imports for the server of `tests.warm`, before it runs any command; no other module imports this one."""

import importlib
import os
import warnings
from importlib.metadata import entry_points

from tests import nerfstudio_start

# Consoles read their width when they are made, which some are at import.
os.environ["COLUMNS"] = "300"
os.environ["MPLBACKEND"] = "Agg"

MODULES = (
    "tests.warm",
    "nerfstudio.scripts.eval",
    "nerfstudio.scripts.exporter",
    "nerfstudio.scripts.render",
    "nerfstudio.scripts.train",
    "torch.utils.tensorboard",
    "bn_field_plugin.export.cli",
    "bn_field_plugin.export.marching_cubes",
    "bn_field_plugin.nn.hash_kernels",
    "bn_field_plugin.viewer.panel",
    *(entry.value.split(":")[0] for entry in entry_points(group="nerfstudio.method_configs")),
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    nerfstudio_start.shorten()
    for module in MODULES:
        importlib.import_module(module)
