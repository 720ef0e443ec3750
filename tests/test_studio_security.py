"""Who the studio talks to, and that nothing sent to it makes it fail or write where it should not."""

import json
import socket
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studio_cases import SEVEN, client, post, session

from lenet.studio import security
from lenet.studio.app import create_app
from lenet.studio.security import Guard
from lenet.studio.wire import MAX_BODY

POSTS = (
    "/api/think",
    "/api/unit",
    "/api/why",
    "/api/drawings",
    "/api/drawings/0123456789abcdef/delete",
    "/api/finetune",
    "/api/finetune/keep",
    "/api/finetune/discard",
    "/api/finetune/stop",
    "/api/training",
    "/api/training/stop",
)
GETS = ("/api/network", "/api/drawings", "/api/finetune", "/api/tests", "/api/confusion", "/api/training")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """Return a studio that refuses to train."""
    made = session(tmp_path_factory.mktemp("studio"))
    made.trainer.start = lambda epochs: None  # type: ignore[method-assign]
    return client(made)


@pytest.fixture
def public(tmp_path: Path) -> tuple[FlaskClient, str]:
    """Return a studio that others can reach, and its token."""
    guard = Guard("0.0.0.0")
    assert guard.token
    return client(session(tmp_path), guard), guard.token


def one_line(answer: Any, status: int) -> str:
    """Check that an answer is a refusal as the page expects it, and return its reason."""
    assert answer.status_code == status, answer.text
    assert list(answer.json) == ["error"]
    reason: str = answer.json["error"]
    assert reason
    assert "\n" not in reason
    return reason


def test_every_route_is_known_to_these_tests(studio: FlaskClient) -> None:
    api = {rule.rule for rule in studio.application.url_map.iter_rules() if rule.rule.startswith("/api")}
    known = {path.replace("0123456789abcdef", "<drawing>") for path in (*POSTS, *GETS)}
    assert api == known


# hosts and origins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "192.168.1.5", "[::2]", "x[", ""],
)
@pytest.mark.parametrize("path", ["/", "/api/network", "/static/x.js"])
def test_a_foreign_host_is_refused(studio: FlaskClient, host: str, path: str) -> None:
    one_line(studio.get(path, headers={"Host": host}), 403)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:4711", "localhost:80", "LOCALHOST", "[::1]:5000", "127.0.0.2"]
)
def test_names_of_this_machine_are_let_in(studio: FlaskClient, host: str) -> None:
    assert studio.get("/api/network", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "https://localhost", "http://localhost.evil", ""]
)
@pytest.mark.parametrize("path", POSTS)
def test_a_foreign_origin_is_refused(studio: FlaskClient, origin: str, path: str) -> None:
    one_line(studio.post(path, json={}, headers={"Origin": origin}), 403)
    one_line(studio.get("/api/drawings", headers={"Origin": origin}), 403)


def test_the_own_origin_is_let_in(studio: FlaskClient) -> None:
    headers = {"Host": "127.0.0.1:4711", "Origin": "http://127.0.0.1:4711"}
    assert studio.post("/api/think", json={"test": 0}, headers=headers).status_code == 200


# tokens --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_no_token_where_only_this_machine_gets_in(host: str) -> None:
    assert Guard(host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_a_new_token_where_others_get_in(host: str) -> None:
    tokens = {Guard(host).token for _ in range(5)}
    assert len(tokens) == 5
    assert all(token and len(token) >= 32 for token in tokens)


@pytest.mark.parametrize("path", ["/", "/tests", "/static/studio.js", *GETS])
def test_without_a_token_there_is_nothing(public: tuple[FlaskClient, str], path: str) -> None:
    studio, token = public
    for query in ("", "?token=", "?token=x", f"?token={token[:-1]}", f"?Token={token}", "?token=%C3%A9%ED%A0%80"):
        assert "token" in one_line(studio.get(path + query), 403)
    assert "token" in one_line(studio.get(path, headers={"Cookie": "lenet-80=x"}), 403)


def test_no_change_without_a_cookie(public: tuple[FlaskClient, str]) -> None:
    studio, token = public
    for path in POSTS:
        one_line(studio.post(path, json={}), 403)
        one_line(studio.post(f"{path}?token={token}", json={}), 403)


def test_a_token_becomes_a_cookie(public: tuple[FlaskClient, str]) -> None:
    studio, token = public
    host = {"Host": "192.168.1.5:5001"}
    answer = studio.get(f"/tests?wrong=1&token={token}&label=3", headers=host)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/tests?wrong=1&label=3"
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["lenet-5001"]
    assert (cookie.value, cookie["httponly"], cookie["samesite"], cookie["domain"]) == (token, True, "Strict", "")
    assert studio.get("/", headers=host | {"Cookie": f"lenet-5001={token}"}).status_code == 200
    assert post_with_cookie(studio, token, "/api/think", {"test": 0}).status_code == 200


def post_with_cookie(studio: FlaskClient, token: str, path: str, body: Any, **headers: str) -> Any:
    return studio.post(path, json=body, headers={"Cookie": f"lenet-80={token}", **headers})


def test_others_know_this_machine_by_numbers_or_by_its_own_name(
    public: tuple[FlaskClient, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, token = public
    monkeypatch.setattr(socket, "gethostname", lambda: "Desk")
    for host in ("10.0.0.7", "[fe80::1]", "desk", "desk.local", "localhost"):
        assert post_with_cookie(studio, token, "/api/think", {"test": 0}, Host=host).status_code == 200, host
    for host in ("evil.example", "desk.evil.example", "10.0.0.7:99999", "10.0.0.7:x"):
        one_line(post_with_cookie(studio, token, "/api/think", {"test": 0}, Host=host), 403)


def test_a_cookie_does_not_excuse_a_foreign_origin(public: tuple[FlaskClient, str]) -> None:
    studio, token = public
    one_line(post_with_cookie(studio, token, "/api/think", {"test": 0}, Origin="http://evil.example"), 403)


# headers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/tests", "/training", "/api/network", "/nothing", "/static/nothing.js"])
def test_every_answer_forbids_what_the_pages_do_not_need(studio: FlaskClient, path: str) -> None:
    headers = studio.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "http" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers


def test_no_answer_is_kept(studio: FlaskClient) -> None:
    assert studio.get("/api/drawings").headers["Cache-Control"] == "no-store"
    assert studio.get("/").headers["Cache-Control"] == "no-store"


# bodies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_changes_anything(studio: FlaskClient, path: str, kind: str) -> None:
    one_line(studio.post(path, data=b"{}", content_type=kind), 415)


@pytest.mark.parametrize("path", POSTS)
def test_a_large_body_is_refused(studio: FlaskClient, path: str) -> None:
    body = json.dumps({"test": 0, "padding": "x" * MAX_BODY}).encode()
    one_line(studio.post(path, data=body, content_type="application/json"), 413)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"test": NaN}', b'{"test": Infinity}', b"\xff\xfe", b"[" * 100_000,
     b'{"a":' * 50_000, b'{"test": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "list", "null", "text", "nan", "infinity", "bytes", "deep", "deeper", "digits"],
)  # fmt: skip
def test_a_malformed_body_is_refused(studio: FlaskClient, path: str, body: bytes) -> None:
    one_line(studio.post(path, data=body, content_type="application/json"), 400)


@pytest.mark.parametrize("path", [*GETS, "/", "/tests"])
def test_what_is_only_read_cannot_be_posted(studio: FlaskClient, path: str) -> None:
    if path not in POSTS:
        one_line(studio.post(path, json={}), 405)
    one_line(studio.put(path, json={}), 405)
    one_line(studio.delete(path), 405)


def test_what_changes_something_cannot_be_read(studio: FlaskClient) -> None:
    for path in set(POSTS) - set(GETS):
        assert studio.get(path).status_code == 405


# paths ---------------------------------------------------------------------------------------------------------------

SECRETS = (
    "app.py",
    "../app.py",
    "../templates/studio.html",
    "..%2fapp.py",
    "..\\app.py",
    "/etc/passwd",
    "....//app.py",
    "%00",
)


@pytest.mark.parametrize("name", SECRETS)
def test_static_files_lie_in_one_folder(studio: FlaskClient, name: str) -> None:
    for path in (f"/static/{name}", f"/static/{quote(name, safe='')}", f"/static/./{name}"):
        assert studio.get(path, follow_redirects=True).status_code in (400, 404), path


@pytest.mark.parametrize(
    "name", [*SECRETS, "drawings.jsonl", "0", "x" * 5000, "\u00e9\ud7ff", "a b", "-1", "__class__"]
)
def test_strange_drawings_are_not_there(studio: FlaskClient, name: str) -> None:
    answer = studio.post(f"/api/drawings/{quote(name, safe='')}/delete", json={})
    assert answer.status_code in (404, 405), answer.text


def test_no_name_from_the_page_becomes_a_path(tmp_path: Path) -> None:
    studio = client(session(tmp_path))
    body = {"strokes": SEVEN, "label": 7, "id": "../../x", "folder": "/tmp/x", "path": "../y"}
    found = post(studio, "/api/drawings", body, 201)
    assert {file.name for file in tmp_path.iterdir()} == {"drawings"}
    assert found["id"] != body["id"]


# anything ------------------------------------------------------------------------------------------------------------

KEYS = ("strokes", "test", "pixels", "prepare", "seq", "layer", "map", "y", "x", "toward", "label", "epochs", "tool")
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-20, 500),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(["C1", "S2", "C3", "F5", "output", "pen", "eraser", "", "AAAA", "\ud800", "\x00"]),
    st.text(max_size=20),
)
POINTS = st.lists(st.lists(st.floats(-2, 3), min_size=1, max_size=3), max_size=8)
STROKES = st.lists(st.fixed_dictionaries({"tool": st.sampled_from(["pen", "eraser", 3]), "points": POINTS}), max_size=4)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)
GOOD: list[dict[str, Any]] = [
    {},
    {"test": 0},
    {"strokes": SEVEN, "label": 7},
    {"test": 0, "layer": "C3", "map": 1, "y": 1, "x": 1},
]
BODIES = st.builds(
    lambda good, other: good | other, st.sampled_from(GOOD), st.dictionaries(st.sampled_from(KEYS), VALUES | STROKES)
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        one_line(answer, answer.status_code)
    else:
        assert answer.is_json


@pytest.mark.parametrize("path", POSTS)
@FUZZ
@given(body=BODIES)
def test_no_object_makes_it_fail(studio: FlaskClient, path: str, body: Any) -> None:
    check(studio.post(path, data=json.dumps(body), content_type="application/json"))


@pytest.mark.parametrize("path", POSTS)
@FUZZ
@given(body=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_it_fail(studio: FlaskClient, path: str, body: bytes) -> None:
    check(studio.post(path, data=body, content_type="application/json"))


@FUZZ
@given(
    query=st.dictionaries(
        st.sampled_from(["label", "answer", "wrong", "below", "offset", "count", "token"]),
        st.integers(-5, 600).map(str) | st.floats().map(str) | st.text(max_size=10),
    )
)
def test_no_query_makes_it_fail(studio: FlaskClient, query: dict[str, str]) -> None:
    check(
        studio.get("/api/tests", query_string={name: text.encode("utf-8", "replace") for name, text in query.items()})
    )


@FUZZ
@given(path=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PATCH"]))
def test_no_path_makes_it_fail(studio: FlaskClient, path: str, method: str) -> None:
    address = "/" + quote(path.encode("utf-8", "replace"))
    assert studio.open(address, method=method, json={} if method == "POST" else None).status_code < 500


@pytest.mark.parametrize("debug", [False, True])
def test_what_fails_all_the_same_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    monkeypatch.setattr("lenet.gallery.Gallery.select", lambda self, **filters: 1 / 0)
    studio = create_app(session(tmp_path), Guard("127.0.0.1"), debug=debug).test_client()
    assert "ZeroDivisionError" in one_line(studio.get("/api/tests"), 500)
    assert "ZeroDivisionError" in caplog.text
    assert ("Traceback" in caplog.text) == debug


def test_is_local() -> None:
    assert not security.is_local("127.0.0.1.evil.example")
    assert not security.is_local("localhost.evil.example")
    assert not security.is_local("")
