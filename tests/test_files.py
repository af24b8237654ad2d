"""Files are whole or absent, whatever happens to the writing process or the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bn_field_plugin.files import remove_partial_files, replacing, write_whole
from tests.disks import full_disk

WAIT_WITH_HALF_A_FILE = """
import sys
from pathlib import Path
from bn_field_plugin.files import replacing
with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("half", flush=True)
    sys.stdin.read()
"""


def half_written(path: Path, repository: Path) -> subprocess.Popen:
    """A process that has written half of a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT_WITH_HALF_A_FILE, str(path)],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    return process


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_whole(path, "first")
    write_whole(path, b"second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.png"
    write_whole(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            assert temporary.suffix == ".png"
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    with full_disk(), pytest.raises(OSError, match="too large") as raised:
        write_whole(path, bytes(2000))
    assert raised.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_leaves_goes_with_the_next_write(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "odd [name]*.txt"
    write_whole(path, "old")
    process = half_written(path, repository)
    write_whole(tmp_path / "other.txt", "")
    assert remove_partial_files(tmp_path, "odd*.txt") == []  # its writer is still running
    assert len(list(tmp_path.iterdir())) == 3
    process.kill()
    process.communicate()
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, "other.txt"}


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", "content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_takes_no_files_raises(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        write_whole(tmp_path / "file", "content")
