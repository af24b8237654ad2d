"""Commands with a page: started, found, and ended whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving import free_port, page, served, wait_for

PAGE = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
port = int(sys.argv[sys.argv.index("--viewer.websocket-port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


def test_a_command_serves_its_page_until_the_block_ends(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(PAGE)
    with served(("python", "page.py"), tmp_path / "log.txt", folder=tmp_path) as (process, port):
        assert page(port) == "hello"
        assert process.poll() is None
    assert process.returncode is not None
    assert page(port) == ""


def test_a_command_that_ends_too_soon_shows_its_log(tmp_path: Path) -> None:
    words = ("python", "-c", "print('no luck'); raise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"python ended with 3:\nno luck"), served(words, tmp_path / "log"):
        pass


def test_waiting_ends() -> None:
    with pytest.raises(TimeoutError):
        wait_for(lambda: False, 0)
    assert page(free_port()) == ""
