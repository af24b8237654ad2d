"""The documentation is true: code runs, commands have their options, and links have targets."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
import shlex
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from standalone.doors import DOORS
from tests.test_packaging import PROJECT
from tools import docs_pages

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")])
TEXTS = [*PAGES, ROOT / "benchmarks" / "README.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"--[a-z][a-z0-9.-]*")
OURS = {"bn-image", "bn-shape", "bn-ntk", "bn-sweep", "bn-export", "bn-view"}


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of a page in a language."""
    return [code for name, code in BLOCK.findall(page.read_text()) if name == language]


def commands() -> list[list[str]]:
    """All command lines of the pages, each once, as words."""
    lines = {
        line
        for page in TEXTS
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip()
    }
    return sorted(words for line in lines if (words := shlex.split(line, comments=True)))


@functools.cache
def help_of(program: str, command: str | None) -> str:
    """What `program command --help` prints."""
    main: Any = import_module(DOORS[program].module).main
    printed = io.StringIO()
    argv, sys.argv = sys.argv, [program, *([command] if command else []), "--help"]
    try:
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = argv
    assert end.value.code in (0, None), f"{program} {command} is no command"
    return printed.getvalue()


def options(words: list[str]) -> list[str]:
    """The options among the words of a command line."""
    return [found[0] for word in words if (found := OPTION.match(word))]


@pytest.mark.parametrize("words", [words for words in commands() if words[0] in OURS], ids=shlex.join)
def test_our_commands_have_the_options_that_the_pages_give_them(words: list[str]) -> None:
    program = words[0]
    has_commands = program != "bn-view"
    known = set(OPTION.findall(help_of(program, words[1] if has_commands else None)))
    assert set(options(words)) <= known


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "ns-train"], ids=shlex.join)
def test_ns_train_takes_what_the_pages_give_it(words: list[str]) -> None:
    methods = {entry.name: entry for entry in metadata.entry_points(group="nerfstudio.method_configs")}
    parsers = {entry.name for entry in metadata.entry_points(group="nerfstudio.dataparser_configs")}
    assert words[1] in methods
    for word in words[2:]:
        assert not re.fullmatch(r"bn-\S+-data", word) or word in parsers
    for option in options(words):
        node = methods[words[1]].load().config
        for part in option.removeprefix("--").replace("-", "_").split("."):
            if part in ("data", "help"):
                break  # later words are the dataparser's
            assert dataclasses.is_dataclass(node), option
            assert hasattr(node, part), option
            node = getattr(node, part)


def test_every_command_on_a_page_is_one_that_this_file_checks() -> None:
    others = {"make", "pip", "python", "pre-commit"}
    nerfstudio = {"ns-train", "ns-eval", "ns-render", "ns-export", "ns-viewer", "ns-install-cli"}
    assert {words[0] for words in commands()} <= OURS | others | nerfstudio


def test_targets_of_make_and_extras_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands():
        if words[0] == "make":
            assert set(words[1:]) <= targets
        for extra in re.findall(r"\[([a-z,]+)\]", " ".join(words)) if words[0] == "pip" else []:
            assert set(extra.split(",")) <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = [found[2] for found in docs_pages.LINK.finditer(BLOCK.sub("", page.read_text()))]
    missing = [link for link in targets if not (page.parent / link.partition("#")[0]).exists()]
    assert missing == []


@pytest.mark.parametrize("code", blocks(ROOT / "README.md", "python"))
def test_the_code_of_the_front_page_runs(code: str) -> None:
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        exec(code, names)
    with torch.no_grad():
        torch.testing.assert_close(names["small"](names["points"]), names["mlp"](names["points"]))


def test_the_front_page_is_short_and_shows_why_on_its_first_screen() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 1000
    first = text[: text.index("## Install")]
    for shown in (
        "docs/images/demo.png",
        "make demo",
        "**missed**",
        "docs/claims.md",
        "openaccess.thecvf.com",
    ):
        assert shown in first


def test_links_follow_the_pages_that_move() -> None:
    moved = docs_pages.moved_links
    assert moved("[a](docs/claims.md#c1) ![b](docs/images/demo.png)", "README.md") == (
        "[a](claims.md#c1) ![b](images/demo.png)"
    )
    assert moved("[a](../benchmarks/README.md)", "docs/claims.md") == "[a](benchmarks/README.md)"
    assert moved("![a](../docs/images/x.png)", "benchmarks/README.md") == "![a](../images/x.png)"
    for kept in ("[a](https://b.c/docs/d.md)", "[a](#b)", "[a](LICENSE)"):
        assert moved(kept, "README.md") == kept


def test_included_files_exist_and_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert f" {page.name}" in navigation
        marks = re.findall(r"8 *< *--", page.read_text())
        included = re.findall(r'^--8<-- "([^":\n]+)', page.read_text(), re.MULTILINE)
        sections = re.findall(r"^<!-- --8<-- \[(?:start|end):", page.read_text(), re.MULTILINE)
        assert len(marks) == len(included) + len(sections)  # formatters may break a mark in two
        assert all((ROOT / path).is_file() for path in included)
