"""A server of our own that can be made worse, two tiny Debian packages, and a few scores."""

import hashlib
import http.server
import shutil
import threading
from pathlib import Path

import pytest
from packing import TUNE, build_debs

from historical_denoiser.corpus import downloads
from historical_denoiser.corpus.downloads import RemoteFile


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; each of the other attributes is a way to make it worse."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []  # bytes after which the next responses break off
        self.silent = 0  # number of the next responses that leave the connection open instead
        self.statuses: list[int] = []  # of the next responses
        self.ranges = True  # whether it understands the header
        self.asked: list[str | None] = []  # the Range headers of all requests
        self.stopped = threading.Event()

    def list_files(self, dataset: str, checksums: bool = True) -> list[RemoteFile]:
        return [RemoteFile(dataset, name, str(len(content)) if checksums else "",
                           f"md5:{hashlib.md5(content).hexdigest()}" if checksums else "",
                           "music", "CC0", f"http://127.0.0.1:{self.server_port}/{name}", "", "")
                for name, content in self.files.items()]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        content = self.server.files.get(self.path.strip("/"))
        status = 404 if content is None else 200
        if self.server.statuses:
            status = self.server.statuses.pop(0)
        start = 0
        if status == 200 and asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(content) else 416
        self.send_response(status)
        body = content[start:] if status in (200, 206) else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts and body:
            body = body[: self.server.cuts.pop(0)]
        self.wfile.write(body)
        if self.server.silent and body:
            self.server.silent -= 1
            self.wfile.flush()
            self.server.stopped.wait(5.0)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(downloads, "SPARE_BYTES", 0)
    monkeypatch.setattr(downloads, "CHUNK_BYTES", 100)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.stopped.set()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(scope="session")
def built_debs(tmp_path_factory) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is missing")
    folder = tmp_path_factory.mktemp("debs")
    build_debs(folder)
    return folder


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A collection `songs` of two scores and a draft."""
    folder = tmp_path / "corpus" / "songs"
    folder.mkdir(parents=True)
    for name in ("one", "two", "draft1"):
        (folder / f"{name}.abc").write_text(TUNE, encoding="utf-8")
    return folder.parent


@pytest.fixture
def songs(corpus, tmp_path, monkeypatch) -> None:
    """Makes the two scores all that there is to render from."""
    table = tmp_path / "scores.csv"
    table.write_text("collection,group,exclude,licence,notes\n"
                     "songs,^(\\w+)\\.,draft*,public domain,\n", encoding="utf-8")
    monkeypatch.setattr("historical_denoiser.corpus.scores.TABLE", table)
    monkeypatch.setattr("music21.common.getCorpusFilePath", lambda: corpus)


@pytest.fixture
def debs(built_debs, tmp_path) -> Path:
    """Two packages, where a run that builds `tmp_path / "out"` looks for them."""
    return Path(shutil.copytree(built_debs, tmp_path / "out" / "downloads"))
