"""What the page's server refuses before Gradio sees it, and headers of all of its answers."""

import json
import re
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from historical_denoiser.core.checks import UserError
from historical_denoiser.page.texts import TEXT

# Another site may not show the page in a frame, where it could make users click on it.
HEADERS = {"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY",
           "X-Content-Type-Options": "nosniff"}
FOREIGN_FILE = re.compile(r"/file[=/]+https?:", re.IGNORECASE)  # Gradio would fetch it
FORBIDDEN, LENGTH_REQUIRED, NO_ROOM = 403, 411, 507


def allowed_hosts(host: str) -> list[str]:
    """Returns the names by which browsers may call a page at `app.host`.

    Otherwise a foreign site could get its own name resolved to this computer, and use the page.
    """
    return ["*"] if host in ("0.0.0.0", "::") else [host, "localhost", "127.0.0.1", "[::1]"]


class Guard:
    """ASGI middleware: no file of another server is fetched, and uploads need room.

    Args:
        app: The application below.
        require_room: Raises UserError if there is no room for so many bytes more.
    """

    def __init__(self, app: Any, require_room: Callable[[int], object]) -> None:
        self.app, self.require_room = app, require_room

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        request, bodies = Request(scope, receive), []
        if "json" in request.headers.get("content-type", ""):
            bodies.append({"type": "http.request", "body": await request.body()})

        async def receive_again() -> dict:
            return bodies.pop() if bodies else await receive()

        answer = self._refusal(request, bodies[0]["body"] if bodies else b"") or self.app
        await answer(scope, receive_again, send_with_headers)

    def _refusal(self, request: Request, body: bytes) -> PlainTextResponse | None:
        """Returns the answer to a request that is refused, or None."""
        if FOREIGN_FILE.search(request.url.path) or _names_address(body):
            return PlainTextResponse(TEXT.errors.foreign_file, FORBIDDEN)
        if request.method == "POST" and request.url.path.rstrip("/").endswith("/upload"):
            length = request.headers.get("content-length", "")
            if not length.isdecimal():
                return PlainTextResponse(TEXT.errors.no_length, LENGTH_REQUIRED)
            try:
                self.require_room(int(length))
            except UserError as error:
                return PlainTextResponse(str(error), NO_ROOM)
        return None


def _names_address(body: bytes) -> bool:
    """Returns whether a file in a JSON body is at an address, from which Gradio would fetch it."""
    try:
        waiting = [json.loads(body)] if body else []
    except ValueError:
        return False  # Gradio refuses it
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if re.match("https?:", str(value.get("path"))):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False
