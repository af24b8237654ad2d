"""Small campaigns of faults find nothing broken in our code, and do notice code that breaks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults import fuzzing
from benchmarks.faults.forgeries import FORGERS, forgery, sound_files
from benchmarks.faults.full_disk import BALLAST, Command, fill, small_disk, try_command, try_writer
from benchmarks.faults.kills import kill_writer
from benchmarks.faults.writers import Writer, writers
from bn_field_plugin.errors import UserError
from standalone.image.cli import main as bn_image


def test_forged_files_are_decoded_or_refused() -> None:
    sound = sound_files()
    assert {fuzzing.outcome_of(data) for data in sound} == {fuzzing.DECODED}
    tally = fuzzing.decode_batch(7, range(500), sound)
    assert tally.harm == {}
    assert tally.done == sum(tally.outcomes.values()) == 500
    assert tally.by_kind().keys() == FORGERS.keys()
    assert sum(counts[fuzzing.DECODED] for counts in tally.by_kind().values()) > 20


def test_a_forgery_is_that_of_its_number() -> None:
    sound = sound_files()
    assert forgery(1, 2, sound) == forgery(1, 2, sound)
    assert len({forgery(1, number, sound)[1] for number in range(50)}) > 40


def test_files_that_end_or_hold_up_the_decoder_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def decode(_: bytes) -> str:
        match next(calls):
            case 2:
                os.kill(os.getpid(), signal.SIGKILL)
            case 4:
                while True:
                    pass
        return fuzzing.DECODED

    monkeypatch.setattr(fuzzing, "outcome_of", decode)
    monkeypatch.setattr(fuzzing, "SECONDS", 0.2)
    # After each death a new process takes the rest of the batch, and counts its calls from 0.
    tally = fuzzing.decode_apart(0, range(3), sound_files())
    assert list(tally.harm) == ["2"]
    assert "died: -9" in tally.harm["2"]
    assert tally.done == 3
    for _ in range(4):
        next(calls)
    hung = fuzzing.decode_apart(0, [9], sound_files())
    assert hung.harm == {"9": "HARM: more than 0.2 s"}


def test_a_campaign_goes_on_from_what_it_has_kept(tmp_path: Path) -> None:
    sound, path = sound_files(), tmp_path / "fuzz.json"
    whole = fuzzing.decode_batch(3, range(60), sound)
    first = fuzzing.decode_batch(3, range(40), sound)
    first.save(path)
    found = fuzzing.Tally.load(path, 3)
    assert found == first
    found.add(fuzzing.decode_batch(3, range(40, 60), sound))
    assert (found.done, found.outcomes) == (whole.done, whole.outcomes)
    assert fuzzing.Tally.load(path, 4) == fuzzing.Tally(4)


@pytest.mark.parametrize("writer", writers(), ids=lambda writer: writer.name)
def test_killed_writers_leave_the_old_or_the_new_state(writer: Writer, tmp_path: Path) -> None:
    found = kill_writer(writer, kills=2, seed=0, folder=tmp_path)
    assert found.broken == []
    assert found.old + found.new + found.between == 2


def test_a_writer_that_writes_in_place_is_found_out(tmp_path: Path) -> None:
    def write(folder: Path, version: int) -> None:
        with (folder / "file").open("w") as file:
            file.write(f"{version} ")
            file.flush()
            time.sleep(0.02)
            file.write(f"{version}")

    def read(folder: Path) -> int:
        first, second = (folder / "file").read_text().split()
        assert first == second
        return int(first)

    assert kill_writer(Writer("in place", write, read), kills=12, seed=0, folder=tmp_path).broken


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A small disk, where this user may mount one."""
    try:
        with small_disk() as folder:
            yield folder
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("writer", writers(), ids=lambda writer: writer.name)
def test_a_full_disk_keeps_what_was_there(writer: Writer, disk: Path) -> None:
    outcome = try_writer(writer, disk)
    assert outcome.faults == []
    assert "space" in outcome.line


def test_a_command_on_a_full_disk_says_one_line(disk: Path) -> None:
    (disk / BALLAST).unlink(missing_ok=True)
    (disk / "picture.bni").write_bytes(sound_files()[0])
    args = ("render", "picture.bni", "large.tif", "--scale", "30", "--overwrite")
    for outcome in try_command(Command(bn_image, args, "bn-image render"), disk):
        assert outcome.faults == []
    fill(disk, 0)
    assert os.statvfs(disk).f_bavail == 0
