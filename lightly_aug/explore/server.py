"""The server of the page: on this machine only, and only for pages that it sent itself."""

import logging
import os
import socket
import threading
import warnings
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

from lightly_aug.explore.page import Tab
from lightly_aug.explore.recipe import choose
from lightly_aug.explore.state import State
from lightly_aug.optional import extra
from lightly_aug.status import count_of
from lightly_aug.weights import Backbone

with extra("explore"):
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui

__all__ = ["LocalOnly", "listen", "serve"]

_HOST: Final = "127.0.0.1"
_PORT: Final = 8080
_NAMES: Final = ("127.0.0.1", "localhost")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class LocalOnly:
    """Refuse requests that do not come from this page, and let the page load nothing from elsewhere.

    A site of the internet can point its own name at this machine, open a WebSocket to it, or embed its address as an
    image, and the browser sends the request. The Host, Origin or Sec-Fetch-Site header then names the site or says that
    it is another one. Links to the page are allowed on any site.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        local = host.rpartition(":")[0] in _NAMES or host in _NAMES
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        embedded = foreign and headers.get("sec-fetch-dest") != "document"
        if not local or embedded or headers.get("origin", f"http://{host}") != f"http://{host}":
            await _refuse(scope, receive, send)
            return
        policy = (
            "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
            f"img-src 'self' data:; font-src 'self'; connect-src 'self' ws://{host}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        added = [
            (b"content-security-policy", policy.encode()),
            (b"referrer-policy", b"no-referrer"),
            (b"x-content-type-options", b"nosniff"),
        ]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        await self.app(scope, receive, answer)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    text = b"This page is for the browser of this machine: open it as http://127.0.0.1 with its port.\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def listen(port: int | None) -> socket.socket:
    """Return a socket of this machine that nobody outside of it can reach.

    Args:
        port: The port; by default 8080, or a free one if that is taken.

    Raises:
        ValueError: The port is taken, or not allowed.
    """
    for wanted in (_PORT, 0) if port is None else (port,):
        listening = socket.socket()
        if os.name == "posix":  # where it means: although connections of the last run are still closing
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((_HOST, wanted))
            listening.listen()
        except OSError as error:
            listening.close()
            reason = error.strerror or str(error)
        else:
            return listening
    raise ValueError(f"lightly-aug explore: --port must be a free port of this machine, got {port}: {reason}")


def serve(
    folder: Path, files: Sequence[Path], listening: socket.socket, *, size: int, backbone: Backbone | None, show: bool
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        folder: Folder of the images.
        files: The images.
        listening: The socket, of `listen`.
        size: Side of the views at first, in pixels.
        backbone: A trained network that compares images with their views; None for none.
        show: Whether to open the page in the browser.
    """
    first = State(tuple(files), (choose("simclr", size),))

    @ui.page("/", title=f"{folder.resolve().name} · lightly_aug")
    def page() -> None:
        Tab(folder, first, backbone)

    app = FastAPI(openapi_url=None)  # no pages about the page
    ui.run_with(app, dark=None, tailwind=False, show_welcome_message=False, reconnect_timeout=5.0)
    logging.getLogger("nicegui").setLevel(logging.ERROR)  # a path that does not exist is no warning
    config = uvicorn.Config(
        LocalOnly(app), log_level="critical", timeout_graceful_shutdown=1, ws_per_message_deflate=False
    )
    url = f"http://{_HOST}:{listening.getsockname()[1]}"
    print(f"{url} shows {count_of(len(files), 'image')} of {folder}; Ctrl-C ends it", flush=True)
    if show:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    try:
        with warnings.catch_warnings():
            # NiceGUI looks at every object of the process when it starts, also at deprecated ones of torch
            warnings.filterwarnings("ignore", category=FutureWarning, module="nicegui")
            uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
