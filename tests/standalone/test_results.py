"""A folder never mixes results of two inputs, or of two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bn_field_plugin import UserError
from standalone.results import RECORD, Results, Source

FIT = Results("fit", ("numbers.json", "picture.*", "parts/*", "state"), kept=("state",))
COMPARE = Results("compare", ("numbers.json",))


def source(folder: Path, content: str, name: str = "a.png") -> Source:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return Source.of(path, "")


def fill(folder: Path) -> None:
    (folder / "parts").mkdir(exist_ok=True)
    for name in ("numbers.json", "picture.jpg", "parts/1", "state", "mine.txt"):
        (folder / name).write_text("old")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_inputs_of_one_stem_get_folders_of_their_own(tmp_path: Path) -> None:
    one, two = source(tmp_path / "x", "1"), source(tmp_path / "y", "2", "a.jpg")
    default = tmp_path / "out" / "a"
    first = FIT.begin(default, one, chosen=False)
    fill(first)
    second = FIT.begin(default, two, chosen=False)
    fill(second)
    assert (first, second) == (default, tmp_path / "out" / "a-2")
    assert names(first) == {"numbers.json", "picture.jpg", "state", "mine.txt", RECORD}
    # Later runs find their input's folder, even if a lower number has become free.
    assert FIT.begin(default, two, chosen=False) == second
    assert FIT.begin(default, one, chosen=False) == first
    assert COMPARE.begin(default, one, chosen=False) == tmp_path / "out" / "a-3"
    assert json.loads((second / RECORD).read_text())["input"] == two.path


def test_a_new_run_on_the_same_input_begins_with_nothing_of_the_old_one(tmp_path: Path) -> None:
    one = source(tmp_path / "x", "1")
    for chosen in (False, True):
        folder = FIT.begin(tmp_path / "out", one, chosen=chosen)
        fill(folder)
        FIT.begin(tmp_path / "out", one, chosen=chosen)
        assert names(folder) == {"mine.txt", RECORD}
        assert not list((folder / "parts").iterdir())


def test_a_resumed_run_keeps_its_state_alone(tmp_path: Path) -> None:
    one = source(tmp_path / "x", "1")
    folder = FIT.begin(tmp_path / "out", one, chosen=True)
    fill(folder)
    FIT.begin(folder, one, chosen=True, resume=True)
    assert names(folder) == {"mine.txt", "state", RECORD}
    changed = source(tmp_path / "x", "1 and more")
    with pytest.raises(UserError, match=r"--resume .*a\.png is not what was fitted there"):
        FIT.begin(folder, changed, chosen=True, resume=True)


def test_a_chosen_folder_with_other_results_is_refused(tmp_path: Path) -> None:
    folder = FIT.begin(tmp_path / "out", source(tmp_path / "x", "1"), chosen=True)
    fill(folder)
    with pytest.raises(UserError, match=r"holds results of fit .*a\.png: give another"):
        FIT.begin(folder, source(tmp_path / "y", "2"), chosen=True)
    with pytest.raises(UserError, match="holds results of fit"):
        COMPARE.begin(folder, source(tmp_path / "x", "1"), chosen=True)
    assert (folder / "picture.jpg").read_text() == "old"


def test_results_that_say_nothing_of_their_input_are_left_alone(tmp_path: Path) -> None:
    one, folder = source(tmp_path / "x", "1"), tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").touch()
    assert FIT.begin(folder, one, chosen=False) == folder  # these files are of no command of ours
    (folder / RECORD).write_text("[")
    fill(folder)
    assert FIT.begin(folder, one, chosen=False) == tmp_path / "out-2"
    with pytest.raises(UserError, match="unknown input"):
        FIT.begin(folder, one, chosen=True)
    assert FIT.begin(folder, one, chosen=True, resume=True) == folder  # loading it checks it


def test_what_is_built_in_and_what_is_missing(tmp_path: Path) -> None:
    assert Source.of(None, "astronaut") == Source("astronaut", None, "astronaut")
    with pytest.raises(UserError, match="cannot be read"):
        Source.of(tmp_path / "absent", "")


def test_a_folder_that_takes_no_file_keeps_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = FIT.begin(tmp_path / "a", source(tmp_path / "x", "1"), chosen=False)
    fill(folder)
    before = names(folder)
    monkeypatch.setattr("standalone.results.write_whole", fail)
    with pytest.raises(OSError, match="No space"):
        FIT.begin(tmp_path / "a", source(tmp_path / "x", "1"), chosen=False)
    assert names(folder) == before
