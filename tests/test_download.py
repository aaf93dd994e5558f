"""Archives are fetched once, continued after a cut, compared, and their absence is explained."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from data_prep.__main__ import main
from data_prep.download import Source, download_all, fetch
from data_prep.items import PrepareError

BODY = bytes(range(256)) * 500


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `files`, with ranges; closes the connection after `cut` bytes of a body."""

    files: dict[str, bytes] = {}
    etag = '"one"'
    cut: int | None = None
    asked: list[str | None] = []

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        body = self.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = 0
        if asked and self.headers.get("If-Range") == self.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", self.etag)
        self.end_headers()
        self.wfile.write(body[start : None if self.cut is None else start + self.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A server on the loopback that stops with the test; returns (handler class, address)."""
    handler = type("Handler", (Server,), {"files": {"/a.bin": BODY}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield handler, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_compared(server, tmp_path, capsys):
    """The bytes arrive, the checksum is printed; a second call does not ask the server."""
    handler, address = server
    digest = hashlib.sha256(BODY).hexdigest()
    source = Source("a.bin", url=f"{address}/a.bin", sha256=digest)
    assert fetch(source, tmp_path).read_bytes() == BODY
    assert f"sha256 {digest} (as expected)" in capsys.readouterr().out
    fetch(source, tmp_path)
    assert handler.asked == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_what_was_cut_short_is_continued(server, tmp_path):
    """After a cut the next call asks only for the rest, and the whole is right."""
    handler, address = server
    source = Source("a.bin", url=f"{address}/a.bin")
    handler.cut = 1000
    with pytest.raises(PrepareError, match="run again to continue"):
        fetch(source, tmp_path, quiet=True)
    assert not (tmp_path / "a.bin").exists()
    handler.cut = None
    assert fetch(source, tmp_path, quiet=True).read_bytes() == BODY
    assert handler.asked == [None, "bytes=1000-"]


def test_a_file_that_changed_on_the_server_starts_anew(server, tmp_path):
    """Another version is not glued to the first part of the old one."""
    handler, address = server
    source = Source("a.bin", url=f"{address}/a.bin")
    handler.cut = 1000
    with pytest.raises(PrepareError):
        fetch(source, tmp_path, quiet=True)
    handler.cut, handler.etag = None, '"two"'
    handler.files = {"/a.bin": BODY[::-1]}
    assert fetch(source, tmp_path, quiet=True).read_bytes() == BODY[::-1]


def test_another_checksum_is_refused_and_deleted(server, tmp_path):
    """Bytes that are not the published ones never get the file's name."""
    _, address = server
    source = Source("a.bin", url=f"{address}/a.bin", sha256="0" * 64)
    with pytest.raises(PrepareError, match="expected 0000.*: deleted"):
        fetch(source, tmp_path, quiet=True)
    assert not list(tmp_path.glob("a.bin*"))


@pytest.mark.parametrize("path", ["gone.bin", None])
def test_offline_and_gone_are_one_line_with_what_to_do(server, tmp_path, path):
    """A 404 and a closed port name the address, and where to put the file by hand."""
    _, address = server
    url = f"{address}/{path}" if path else "http://127.0.0.1:9/a.bin"
    with pytest.raises(PrepareError, match="offline, or the address is gone") as caught:
        fetch(Source("a.bin", url=url), tmp_path, quiet=True)
    assert url in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_archives_are_unpacked_and_the_others_handed_back(server, tmp_path):
    """Zips are unpacked once in place; sources without a plain address are left to a person."""
    handler, address = server
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("png/ant/1.png", b"x")
    handler.files = {"/b.zip": packed.getvalue()}
    sources = (Source("b.zip", url=f"{address}/b.zip"), Source("c.7z", drive="ID"))
    assert download_all("any", sources, tmp_path, quiet=True) == [sources[1]]
    assert (tmp_path / "png/ant/1.png").read_bytes() == b"x"
    handler.files = {"/b.zip": b"not a zip"}
    with pytest.raises(PrepareError, match="cannot be unpacked"):
        download_all("any", sources, tmp_path / "other", quiet=True)


def test_without_raw_the_archives_are_listed(capsys):
    """`data_prep NAME` alone prints every address and what is only needed for an option."""
    assert main(["sketchy"]) == 2
    captured = capsys.readouterr()
    assert "0B7ISyeE8QtDdTjE1MG9Gcy1kSkE" in captured.out and "--sketches=svg" in captured.out
    assert captured.err.count("\n") == 1 and "--raw is missing" in captured.err
    assert main(["sketchy", "--download=x"]) == 2
    assert "no archive with a plain address" in capsys.readouterr().err
