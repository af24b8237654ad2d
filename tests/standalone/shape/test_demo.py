"""The shape that is fitted where no file is given."""

from standalone.shape.demo import knurled_torus


def test_the_default_shape_is_a_closed_ring() -> None:
    mesh = knurled_torus(180, 90)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 0
    assert mesh.volume > 0
