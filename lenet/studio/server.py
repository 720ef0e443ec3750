"""Serving: a port, a thread a request, the browser."""

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, get_interface_ip, make_server

from lenet.errors import LenetError
from lenet.studio.security import Guard

PATIENCE = 60  # seconds after which a connection that says nothing is closed


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"


class _QuietHandler(_Handler):
    def log(self, *arguments: Any) -> None:
        pass


class Server:
    """An app on a port of its own, from when it is made; `serve` answers.

    Parameters
    ----------
    app
    guard : whose token goes into the address
    host, port : where to listen; port 0 takes any that is free
    debug : print every request

    Raises
    ------
    LenetError
        When one cannot listen there.
    """

    def __init__(self, app: Flask, guard: Guard, host: str, port: int, *, debug: bool = False) -> None:
        self._guard, self._host = guard, host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.create_server((host, port), family=family) as listening:
                handler = _Handler if debug else _QuietHandler
                self._server: BaseWSGIServer = make_server(
                    host, port, app, threaded=True, request_handler=handler, fd=listening.fileno()
                )
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise LenetError(f"cannot listen on {host}, port {port}: {reason}; --port 0 takes any free port") from error

    def address(self, page: str = "/") -> str:
        """Return the address of a page, with the token where one is needed."""
        everywhere = {"": socket.AF_INET, "0.0.0.0": socket.AF_INET, "::": socket.AF_INET6}
        host = get_interface_ip(everywhere[self._host]) if self._host in everywhere else self._host
        host = f"[{host}]" if ":" in host else host
        token = f"{'&' if '?' in page else '?'}token={self._guard.token}" if self._guard.token else ""
        return f"http://{host}:{self._server.port}{page}{token}"

    def serve(self) -> None:
        """Answer until Ctrl-C."""
        self._server.serve_forever()

    def start(self) -> None:
        """Answer in the background."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End what `start` began."""
        self._server.shutdown()


def open_browser(address: str, opened: Callable[[str], object] = webbrowser.open) -> None:
    """Show a page in the user's browser, where there is one with a window; a missing browser is no error."""
    if sys.platform.startswith("linux") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        return  # only text browsers are left, and they would take the terminal

    def show() -> None:
        with suppress(Exception):
            opened(address)

    threading.Thread(target=show, daemon=True).start()
