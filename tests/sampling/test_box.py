"""Where rays cross a box."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.sampling.box import crossing
from tests.laws import cases

BOX = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 0.5, 3.0]])
COMPONENT = st.floats(-4, 4, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


@cases(200, derandomize=True)
@given(
    origin=st.lists(COMPONENT, min_size=3, max_size=3),
    direction=st.lists(COMPONENT, min_size=3, max_size=3).filter(lambda d: any(d)),
)
def test_points_between_entry_and_exit_are_those_inside(origin: list[float], direction: list[float]) -> None:
    start = torch.tensor(origin)
    along = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
    entry, leave = crossing(start, along, BOX)
    for distance in torch.linspace(-10, 10, 101):
        if min(abs(distance - entry), abs(distance - leave)) < 1e-3:
            continue
        point = start + distance * along
        gap = torch.minimum(point - BOX[0], BOX[1] - point).amin()
        if abs(gap) > 1e-3:
            assert bool(gap > 0) == bool(entry < distance < leave)


def test_a_ray_that_misses_enters_behind_where_it_leaves() -> None:
    entry, leave = crossing(torch.tensor([5.0, 5.0, 5.0]), torch.tensor([1.0, 0.0, 0.0]), BOX)
    assert entry > leave
