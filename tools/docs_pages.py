"""A hook of MkDocs: pages that lie outside docs/ become pages of the site, and links follow them there.

README.md is the home page, benchmarks/README.md and benchmarks/results are below benchmarks/. So each text is
written once and is read on a code host as well as on the site.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks/README.md",
}
"""Files of the repository that are pages, with their places on the site."""

RESULTS = "benchmarks/results"
"""Tables and pictures, which keep their paths on the site."""

LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)")
"""What a link or a picture points to, if that is a file."""


def outside_pages() -> dict[str, str]:
    """Files from outside docs/ that the site takes, with their places there."""
    results = [path for path in sorted((ROOT / RESULTS).iterdir()) if path.suffix in (".md", ".png")]
    return PAGES | {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT).as_posix() for path in results}


def place_of(path: str) -> str | None:
    """Where a file of the repository is on the site; None for one that is not there."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return outside_pages().get(path)


def moved_links(text: str, source: str) -> str:
    """The text of a page with links that hold on the site.

    Args:
        text: Markdown, whose links are relative to the file that it is in.
        source: that file, relative to the repository.
    """
    here = place_of(source)
    assert here is not None

    def moved(found: re.Match[str]) -> str:
        path, sign, anchor = found[2].partition("#")
        place = place_of(normpath(str(PurePosixPath(source).parent / path)))
        if place is None:
            return found[0]
        return found[1] + relpath(place, str(PurePosixPath(here).parent)) + sign + anchor

    return LINK.sub(moved, text)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/."""
    from mkdocs.structure.files import File, InclusionLevel

    for source, place in outside_pages().items():
        is_table = source.startswith(RESULTS)
        level = InclusionLevel.NOT_IN_NAV if is_table else InclusionLevel.INCLUDED
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source), inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let the links of a page follow the pages that moved."""
    source = {place: path for path, place in outside_pages().items()}.get(
        page.file.src_uri, f"docs/{page.file.src_uri}"
    )
    return moved_links(markdown, source)
