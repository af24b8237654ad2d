"""The dataparsers that nerfstudio finds through the entry points `nerfstudio.dataparser_configs`.

Every ns-* command imports this module at its start, so it imports nothing that nerfstudio has not loaded
already.
"""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from bn_field_plugin.data.capture_dataparser import BNCaptureDataParserConfig
from bn_field_plugin.data.demo_dataparser import BNDemoDataParserConfig

bn_demo_dataparser = DataParserSpecification(
    config=BNDemoDataParserConfig(),
    description="The embedded demo scene: fine textures, rendered on first use, no path needed.",
)
"""`bn-demo-data`"""

bn_capture_dataparser = DataParserSpecification(
    config=BNCaptureDataParserConfig(),
    description="The embedded capture: a walk through an unbounded town square, rendered on first use.",
)
"""`bn-capture-data`"""
