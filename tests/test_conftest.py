"""The options of the test suite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from tests.conftest import FEW, leave_few
from tests.laws import FEWEST, cases


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 100])
def test_few_leaves_the_first_and_the_last_case_and_some_between(count: int) -> None:
    names = ["a.py::alone", *(f"b.py::law[{case}]" for case in range(count)), "b.py::law_too[x]"]
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    out = leave_few(items)
    left = [item.nodeid for item in items]
    assert len(left) == min(count, FEW) + 2
    assert {"a.py::alone", "b.py::law[0]", f"b.py::law[{count - 1}]", "b.py::law_too[x]"} <= set(left)
    assert left == [name for name in names if name in left]
    assert {item.nodeid for item in out} == set(names) - set(left)


def test_few_lowers_the_random_cases_of_laws_that_state_their_number(pytestconfig: pytest.Config) -> None:
    found = {}
    try:
        for profile in ("house", "few"):
            settings.load_profile(profile)
            found[profile] = [cases(count).max_examples for count in (2, 30, 300)]
    finally:
        settings.load_profile("few" if pytestconfig.getoption("--few") else "house")
    assert found == {"house": [2, 30, 300], "few": [2, FEWEST, 30]}
