"""Who may talk to the studio: this machine's own pages, and nobody else's.

A page from anywhere can make a browser send requests to this machine. So every request must name one of the studio's
own hosts, against names that were made to point here (DNS rebinding); must not come from another page, by its Origin;
and changes something only as JSON, which no foreign form can send. Where other machines can reach the studio, it takes
a secret besides.
"""

import ipaddress
import secrets
import socket
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from lenet.studio.wire import MAX_BODY, Refusal

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every answer; nothing is ever loaded from elsewhere, and no script stands in a page."""


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that listens on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Lets requests through, or not.

    Parameters
    ----------
    host : the address that the server listens on

    Attributes
    ----------
    token : what a browser must show once; None where only this machine reaches the server
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self.token = None if is_local(host) else secrets.token_urlsafe(24)

    def install(self, app: Flask) -> None:
        """Look at every request of an app before it is served."""
        app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        app.before_request(self._check)
        app.after_request(self._add_headers)

    def _check(self) -> AnyResponse | None:
        if not self._is_own_host(request.host):
            raise Refusal(403, "this is not an address of the studio")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"{request.scheme}://{request.host}":
            raise Refusal(403, "another page may not use the studio")
        if request.method == "POST" and request.mimetype != "application/json":
            raise Refusal(415, "the request must be application/json")
        return self._check_token() if self.token else None

    def _is_own_host(self, netloc: str) -> bool:
        """Whether a Host header names this server; the port may be that of a tunnel."""
        try:
            name = urlsplit(f"//{netloc}").hostname or ""
        except ValueError:
            return False
        if is_local(name) or name == self._host.lower():
            return True
        return self.token is not None and (_is_address(name) or name in _names())

    def _check_token(self) -> AnyResponse | None:
        assert self.token, "asked for only where there is one"
        cookie = f"lenet-{urlsplit(f'//{request.host}').port or 80}"  # cookies are not told apart by port
        if self._matches(request.args.get("token")) and request.method == "GET":
            rest = [(name, value) for name, value in request.args.items(multi=True) if name != "token"]
            answer = redirect(f"{request.path}?{urlencode(rest)}".rstrip("?"), 303)
            answer.set_cookie(cookie, self.token, httponly=True, samesite="Strict")
            return answer
        if not self._matches(request.cookies.get(cookie)):
            raise Refusal(403, "open the whole address that lenet printed, with its token")
        return None

    def _matches(self, shown: str | None) -> bool:
        assert self.token, "compared only where there is one"
        return shown is not None and secrets.compare_digest(shown.encode(), self.token.encode())

    def _add_headers(self, response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _is_address(name: str) -> bool:
    """Whether a host is given in numbers, which no name server can have a hand in."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names() -> set[str]:
    """Return the names by which others know this machine."""
    name = socket.gethostname().lower()
    return {name, f"{name.partition('.')[0]}.local"}
