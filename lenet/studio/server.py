"""Serving: a port, a thread a request, the browser."""

import io
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler, get_interface_ip

from lenet.errors import LenetError
from lenet.studio.security import Guard
from lenet.studio.wire import MAX_BODY

TURN = 0.5  # seconds of sleep: a signal that comes to another thread, or just before, wakes nobody
PATIENCE = 60  # seconds after which a connection that says nothing is closed
MAX_CONNECTIONS = 128
MAX_PENDING = 1024  # connections not taken yet; one that finds no room tries again after seconds


class _Server(ThreadedWSGIServer):
    """A thread a connection; for one too many, the oldest that has not said yet what it wants has to go."""

    def __init__(self, host: str, port: int, app: Flask, handler: type[WSGIRequestHandler], fd: int) -> None:
        super().__init__(host, port, app, handler, fd=fd)
        self._asked: dict[socket.socket, bool] = {}  # for each connection, whether its request is there; oldest first
        self._counting = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._counting:
            if len(self._asked) >= MAX_CONNECTIONS:
                silent = (connection for connection, asked in self._asked.items() if not asked)
                oldest = next(silent, next(iter(self._asked)))
                del self._asked[oldest]
                with suppress(OSError):  # it is just going
                    oldest.shutdown(socket.SHUT_RDWR)
            self._asked[request] = False
        super().process_request(request, client_address)

    def has_asked(self, request: Any) -> None:
        """Be told that a request is there."""
        with self._counting:
            if request in self._asked:
                self._asked[request] = True

    def shutdown_request(self, request: Any) -> None:
        with self._counting:
            self._asked.pop(request, None)
        super().shutdown_request(request)


class _Handler(WSGIRequestHandler):
    server: _Server
    timeout = PATIENCE
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def run_wsgi(self) -> None:
        """Answer a request when all of it is there; of a body that is too large or comes in chunks, nothing is read."""
        if not self.path.startswith("/"):  # it is meant for a proxy
            return self.send_error(HTTPStatus.BAD_REQUEST)
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and len(length) < 10 else 0
        self.rfile = io.BytesIO(self.rfile.read(size) if size <= MAX_BODY else b"")
        self.server.has_asked(self.connection)
        return super().run_wsgi()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.log_message("%r %s", self.requestline, code)  # what is asked for may be no address


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
            with socket.create_server((host, port), family=family, backlog=MAX_PENDING) as listening:
                handler = _Handler if debug else _QuietHandler
                self._server = _Server(host, port, app, handler, listening.fileno())
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
        """Answer until Ctrl-C, or until the process is told to end or its terminal is closed, all in the same way."""
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored
                signal.signal(number, signal.default_int_handler)
        with suppress(KeyboardInterrupt):  # heard here, not in the midst of taking a connection
            self.start()
            while True:
                time.sleep(TURN)

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
