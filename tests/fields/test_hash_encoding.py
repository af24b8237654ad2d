"""Which hash grid a field gets: `test_hash_radiance_field.py` has its sizes."""

import pytest

from bn_field_plugin.fields.hash_encoding import TinyCudaHashGrid, hash_encoding
from bn_field_plugin.nn import HashGridEncodingConfig


@pytest.mark.gpu
def test_tiny_cuda_nns_grid_has_the_same_sizes() -> None:
    pytest.importorskip("tinycudann")
    config = HashGridEncodingConfig(num_levels=4, features_per_level=2)
    grid = hash_encoding(config, "tcnn")
    assert isinstance(grid, TinyCudaHashGrid)
    assert grid.out_dim == config.build(3).out_dim
