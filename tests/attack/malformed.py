"""Requests that no page sends: drawn at random, of bytes, so that nothing in between mends them."""

import base64
import copy
import json
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

from studio_process import ONE, SEVEN

POSTS: dict[str, list[Any]] = {
    "/api/think": [
        {"strokes": SEVEN, "seq": 3, "prepare": True},
        {"test": 4},
        {"pixels": base64.b64encode(bytes(range(196)) * 4).decode()},
    ],
    "/api/unit": [
        {"strokes": SEVEN, "layer": "C1", "map": 1, "y": 1, "x": 1},
        {"test": 4, "layer": "F6", "map": 80},
    ],
    "/api/why": [{"strokes": SEVEN, "toward": 3}, {"test": 4}],
    "/api/drawings": [{"strokes": ONE, "label": 1}],
    "/api/drawings/0123456789abcdef/delete": [{}],
    "/api/finetune": [{}],
    "/api/finetune/keep": [{}],
    "/api/finetune/discard": [{}],
    "/api/finetune/stop": [{}],
    "/api/training": [{"epochs": 0}],
    "/api/training/stop": [{}],
}
"""The routes that are posted to, with objects that they take; but no training is to begin."""

GETS = (
    "/", "/tests", "/training", "/api/network", "/api/drawings", "/api/finetune", "/api/training",
    "/api/tests?label=4&answer=9&wrong=1&below=0.9&offset=0&count=3", "/api/confusion", "/static/studio.js",
)  # fmt: skip

STRANGE = (
    "null", "true", "false", "-0", "-1", "0.5", "1e999", "-1e-999", "NaN", "-Infinity", "9" * 30, "9" * 5000,
    "2.0001", "1E5", "0x10", "01", "+1", ".5", '""', '"7"', '"pen"', '"C3"', '"\\u0000"', '"\\ud800"', '"\\uZZZZ"',
    '"\U0001f58a"', '"%s"' % ("x" * 9999), "[]", "{}", "[[]]", "[[0, 0]]", "[0, 0]", '{"tool": "pen"}', "[null]",
    "'7'", "undefined", "[" * 60 + "]" * 60, "[" * 900 + "]" * 900, "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900,
    '{"a":' * 50_000, "", ",",
)  # fmt: skip
"""What stands where something else is expected: values, and what is no JSON."""

METHODS = (
    "GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "G\xcbT",
    "X" * 500, "__init__", "send_error",
)  # fmt: skip

TRAVERSALS = (
    "../app.py", "..%2fapp.py", "..%5capp.py", "..\\app.py", "%2e%2e/app.py", "%252e%252e/app.py", "....//app.py",
    "..;/app.py", "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "../" * 40 + "etc/passwd",
    "..%c0%af..%c0%afapp.py", ".", "..", "%00", "studio.js%00.txt", "studio.js/", "C:\\x", "\\\\host\\share", "~root",
    "CON", "file:///etc/passwd",
)  # fmt: skip

TARGETS = (
    "*", "", "?", "#", "//", "///", "/%", "/%%%", "/%zz", "/%e2%82", "/%ff%fe", "/\xff\xfe", "/" + "a" * 60_000,
    "/" + "a/" * 9000, "http://[", "http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:x/",
    "http://evil.example/", "//[/", "///[x", "http://", "http:///api/network", "ftp://127.0.0.1/",
    "/api/../api/network", "/api//network", "/./", "/api/network/", "/api/network;x=1",
    "/api/network?" + "a=1&" * 5000, "/api/tests?count=" + "9" * 5000, "/?\x00", "/\t", "/a b c",
)  # fmt: skip

HEADERS = (
    "Host:", "Host: [", "Host: [::1", "Host: \xff", "Host: a, b", "Host: 127.0.0.1:x", "Host: 127.0.0.1@evil.example",
    "Host: " + "a." * 9000, "Origin: \x00", "Origin: http://[", "Cookie: " + "a=b; " * 5000,
    "Cookie: lenet=\xff; ;=;", "Content-Type: application/json; charset=utf-7",
    "Content-Type: application/json; charset=nonsense", "Content-Type:",
    "Content-Type: application/json; boundary=\x01", "Content-Type: multipart/form-data", "Content-Encoding: gzip",
    "Transfer-Encoding: gzip", "Transfer-Encoding: identity, chunked", "Expect: 100-continue", "Expect: 999",
    "Range: bytes=5-1", "Range: bytes=" + "0-1," * 5000, "Range: bytes=-", "If-Modified-Since: \xff",
    "If-None-Match: \"", "If-Range: x", "Date: x", "Accept: " + "*/*;q=x," * 999, "Accept-Encoding: \x7f",
    "X: " + "y" * 60_000, "X: " + "y" * 70_000, "no colon at all", " folded", ": no name", "X\x00Y: 1",
    "X-Forwarded-Host: evil.example", "Forwarded: host=evil", "Connection: keep-alive",
    "Connection: Upgrade\r\nUpgrade: websocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Content_Length: 7", "\r\n".join(f"X-{number}: 1" for number in range(150)), "Authorization: Basic \xff",
    "Content-Range: bytes 1-2/*",
)  # fmt: skip

LENGTHS = (
    "-1", "0", "1", "abc", "1e3", "+5", " 5", "0x10", "5, 5", "5\r\nContent-Length: 6", "9" * 18, "9" * 5000,
    "1048577", "", "\u0665", "1_0", "5.0",
)  # fmt: skip

CHUNKS = (
    "2\r\n{}\r\n0\r\n\r\n", "2\r\n{}", "-2\r\n{}\r\n", "zz\r\n{}\r\n0\r\n\r\n", "ffffffffffffffff\r\n{}", "\r\n\r\n",
    "2;x=y\r\n{}\r\n0\r\n\r\n", "1\r\n{}\r\n0\r\n\r\n", "0\r\n", "", "2\n{}\n0\n\n", "a" * 5000,
    "2\r\n{}\r\n0\r\nX: y\r\n\r\n", "9" * 5000 + "\r\n",
)  # fmt: skip

RUBBISH = (
    b"", b"\r\n", b"\r\n" * 500, b"\x00", b"\xff" * 5000, b"GET", b"GET ", b"GET /", b"GET /\r\n\r\n",
    b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.x\r\n\r\n",
    b"GET / HTTP/1.1.1\r\n\r\n", b"GET / HTTP\r\n\r\n", b"GET / HTTP/-1.1\r\n\r\n",
    b"GET / HTTP/1." + b"9" * 5000 + b"\r\n\r\n", b"GET  /  HTTP/1.1\r\n\r\n", b"/ GET HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(508), b"SSH-2.0-OpenSSH_9.9\r\n", b"EHLO there\r\n",
    b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n", b"A" * 100_000, b"POST / HTTP/0.9\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20,
    b"\xef\xbb\xbfGET / HTTP/1.1\r\n\r\n",
)  # fmt: skip
"""What is hardly HTTP, or for another server."""

_HOLE = "hole in this place"


def _assemble(port: int, method: str, target: str, body: bytes, headers: str = "", **known: str) -> bytes:
    """Return the bytes of a request; ``known`` headers replace those of the page."""
    usual = {"Host": f"127.0.0.1:{port}", "Content_Type": "application/json", "Content_Length": str(len(body))} | known
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in usual.items()]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, *([headers] if headers else [])])
    return head.encode("latin1", "replace") + b"\r\n\r\n" + body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a JSON value as the container and the key or index in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield value, key
        yield from _places(item)


def _post(source: random.Random) -> tuple[str, Any]:
    path, bodies = source.choice(list(POSTS.items()))
    return path, source.choice(bodies)


def spoiled_object(source: random.Random, port: int) -> bytes:
    """Something else stands in one place of an object that would be taken, or an unknown key is added."""
    path, body = _post(source)
    whole = {"": copy.deepcopy(body)}
    container, key = source.choice(list(_places(whole)))
    if isinstance(container, dict) and source.random() < 0.2:
        key = source.choice(["", "__class__", "strokes", "points", "\ud800", "x" * 500])
    container[key] = _HOLE
    content = json.dumps(whole[""]).replace(json.dumps(_HOLE), source.choice(STRANGE)).encode("utf-8", "surrogatepass")
    return _assemble(port, "POST", path, content)


def broken_json(source: random.Random, port: int) -> bytes:
    """Bytes of a body are cut off, turned, repeated or encoded in another way."""
    path, body = _post(source)
    content = json.dumps(body).encode()
    at = source.randrange(len(content))
    content = source.choice(
        (
            content[:at],
            content[:at] + source.randbytes(source.randint(1, 9)) + content[at + 1 :],
            content[:at] + content,
            json.dumps(body).encode(source.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))),
            source.randbytes(source.randint(1, 3000)),
            source.choice(STRANGE).encode(),
        )
    )
    return _assemble(port, "POST", path, content)


def other_type(source: random.Random, port: int) -> bytes:
    """A body comes as what no page sends."""
    path, body = _post(source)
    kind = source.choice(
        ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "a/b/c")
    )
    return _assemble(port, "POST", path, json.dumps(body).encode(), Content_Type=kind)


def other_method(source: random.Random, port: int) -> bytes:
    """A route is asked in another way than it is meant to be."""
    path = source.choice([*POSTS, *GETS])
    method = source.choice([each for each in METHODS if each != "POST" or path in GETS])
    return _assemble(port, method, path, source.choice((b"", b"{}", b"[" * 999)))


def other_path(source: random.Random, port: int) -> bytes:
    """A path that is none, or leads out of the folders."""
    start = source.choice(("/static/", "/", "/api/drawings/", "/api/"))
    noise = "".join(source.choices(string.printable + "\xe9\xff%%%", k=source.randint(1, 40)))
    target = source.choice((source.choice(TARGETS), start + source.choice(TRAVERSALS), start + noise))
    if start == "/api/drawings/" and source.random() < 0.5:
        target += "/delete"
    method = source.choice(("GET", "GET", "HEAD", "POST"))
    return _assemble(port, method, target, b"{}" if method == "POST" else b"")


def other_query(source: random.Random, port: int) -> bytes:
    """The test images are asked for in a way that makes no sense."""
    names = ("label", "answer", "wrong", "below", "offset", "count", "token", "", "%00", "x" * 99)
    values = (
        "-1",
        "10",
        "1e9",
        "nan",
        "inf",
        "9" * 5000,
        "%",
        "%ff",
        "%00",
        "\u0663",
        "0x1",
        "1.5",
        "",
        "x",
        "--1",
        "1_0",
    )
    parts = [f"{source.choice(names)}={source.choice(values)}" for _ in range(source.randint(1, 5))]
    return _assemble(port, "GET", "/api/tests?" + source.choice("&;?").join(parts), b"")


def other_headers(source: random.Random, port: int) -> bytes:
    """Headers that are garbage, or lie."""
    path, body = source.choice((_post(source), (source.choice(GETS), None)))
    content = b"" if body is None else json.dumps(body).encode()
    if path == "/api/drawings" and body:
        content = content.replace(b'"label": 1', b'"label": 77')  # it is not to be kept
    headers = "\r\n".join(source.sample(HEADERS, source.randint(1, 3)))
    return _assemble(port, "GET" if body is None else "POST", path, content, headers)


def other_length(source: random.Random, port: int) -> bytes:
    """A length that is none, or another, or chunks that are none."""
    path, _ = _post(source)
    if source.random() < 0.5:
        return _assemble(port, "POST", path, b'{"a": 1}', Content_Length=source.choice(LENGTHS))
    chunks = source.choice(CHUNKS).encode()
    return _assemble(port, "POST", path, chunks, Transfer_Encoding="chunked").replace(
        b"Content-Length", source.choice((b"X-Length", b"Content-Length"))
    )


def rubbish(source: random.Random, port: int) -> bytes:
    """Bytes that are hardly HTTP."""
    return source.choice(
        (source.choice(RUBBISH), source.randbytes(source.randint(1, 500)), b"GET / " + source.randbytes(30))
    )


def cut_off(source: random.Random, port: int) -> bytes:
    """A good request that ends too early."""
    path, body = _post(source)
    whole = _assemble(port, "POST", path, json.dumps(body).encode())
    return whole[: source.randrange(len(whole))]


KINDS: tuple[Callable[[random.Random, int], bytes], ...] = (
    spoiled_object, broken_json, other_type, other_method, other_path, other_query, other_headers, other_length,
    rubbish, cut_off,
)  # fmt: skip
