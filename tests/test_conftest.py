"""What all tests share: the option --few, skipping where a package is absent, nerfstudio's quick start."""

from __future__ import annotations

import importlib
import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from tests import nerfstudio_start
from tests.conftest import FEW, absent_package, leave_few
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


def imported(name: str) -> Exception:
    """The error of an import, as pytest reports that of a file of tests: as the cause of its own."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        outer = RuntimeError("cannot be collected")
        outer.__cause__ = error
        return outer
    raise AssertionError(f"{name} is there")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("no_such_package.part", "no_such_package"),
        ("torch.no_such_module", None),  # a mistake in the import, and no reason to skip the test
        ("tests.no_such_module", None),
    ],
)
def test_only_an_absent_package_is_a_reason_to_skip(name: str, package: str | None) -> None:
    assert absent_package(imported(name)) == package


def test_other_errors_are_no_reason_to_skip() -> None:
    assert absent_package(None) is None
    assert absent_package(ImportError("cannot import a name", name="no_such_package")) is None


def test_the_names_of_callers_are_those_of_inspect() -> None:
    assert [caller.function for caller in nerfstudio_start.stack()] == [
        frame.function for frame in inspect.stack()
    ]


def test_methods_of_others_are_made_without_a_question() -> None:
    """nerfstudio asks whether to install one if it finds that somebody else has made it."""
    from nerfstudio.configs.external_methods import get_external_methods

    configs, descriptions = get_external_methods()
    assert configs.keys() == descriptions.keys() and len(configs) > 10
