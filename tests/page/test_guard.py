"""What the page's server refuses before Gradio sees it."""

import pytest

pytest.importorskip("starlette", reason="the page needs requirements-app.txt")
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from historical_denoiser.page.guard import HEADERS, Guard, allowed_hosts
from historical_denoiser.page.sessions import Sessions


async def below(scope, receive, send):
    await PlainTextResponse(await Request(scope, receive).body())(scope, receive, send)


@pytest.fixture
def client(tmp_path):
    (tmp_path / "a.wav").write_bytes(bytes(60))
    app = Guard(below, Sessions(tmp_path, 60.0, 100).require_room)
    return TestClient(TrustedHostMiddleware(app, allowed_hosts("127.0.0.1")),
                      "http://127.0.0.1:7860")


@pytest.mark.parametrize("path", ["=https://example.com/a.wav", "=HTTP://example.com", "=http:/b",
                                  "/http://example.com", "=http%3A%2F%2Fexample.com"])
def test_files_of_other_servers_are_not_fetched(client, path):
    assert client.get(f"/gradio_api/file{path}").status_code == 403
    assert client.get("/gradio_api/file=/tmp/http/a.wav").status_code == 200
    for path, status in (("http://example.com/a", 403), ("/tmp/a", 200)):
        body = {"data": [None, [{"path": path, "url": "http://127.0.0.1/a"}]]}
        answer = client.post("/gradio_api/queue/join", json=body)
        assert answer.status_code == status
    assert answer.json() == body  # the application below reads it too


def test_uploads_need_room(client):
    for size, status in ((30, 200), (41, 507)):
        answer = client.post("/gradio_api/upload", content=bytes(size))
        assert answer.status_code == status
    assert "app.all_users_gb" in answer.text
    assert client.post("/gradio_api/upload", content=iter([b"1"])).status_code == 411


def test_other_names_of_this_computer_and_frames_are_refused(client):
    assert client.get("/", headers={"Host": "evil.example:7860"}).status_code == 400
    answer = client.get("/", headers={"Host": "localhost:7860"})
    assert answer.status_code == 200
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert allowed_hosts("0.0.0.0") == ["*"]
