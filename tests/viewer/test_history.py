"""Curves keep their ends and their order however long training runs."""

from __future__ import annotations

from bn_field_plugin.viewer.history import MAX_POINTS, History


def test_curves_are_thinned_out_and_keep_their_ends() -> None:
    history = History()
    for step in range(5000):
        history.add(step, {"psnr": float(step), **({"late": 1.0} if step > 4000 else {})})
        assert len(history.steps) == len(history.values) <= MAX_POINTS
    steps, values = history.curve("psnr")
    assert (steps[0], steps[-1]) == (0, 4999)
    assert steps == sorted(set(steps))
    assert values == [float(step) for step in steps]
    assert len(steps) > MAX_POINTS // 2
    assert min(history.curve("late")[0]) > 4000
    assert history.names == ["psnr", "late"]
    assert history.curve("absent") == ([], [])


def test_a_step_has_its_last_numbers_once() -> None:
    """Two points at one step would be a line without length, and an empty plot."""
    history = History()
    for value in (1.0, 2.0):
        history.add(7, {"psnr": value})
    assert history.curve("psnr") == ([7], [2.0])
