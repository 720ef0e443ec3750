"""selftest, draw, viewtest and train --watch as a user runs them: processes that serve, and end when told to."""

import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio_cases import ONE, SEVEN
from test_cli import lenet, one_line

from lenet import gallery
from lenet.data import FILES, load_dataset, write_idx
from lenet.evaluation import Evaluation
from lenet.gallery import Gallery
from lenet.studio.server import open_browser

START = 3.0  # seconds from the command to the first answer
ANSWER = 30.0  # milliseconds from a stroke to the answer with all layers, on the server, as a median


class Running:
    """A command that serves, from its line with the address on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process = process
        self.lines: list[str] = []
        for line in process.stdout:
            self.lines.append(line)
            if found := re.search(r"http://(\S+?):(\d+)(\S*)", line):
                break
        else:
            raise AssertionError(process.communicate()[1])
        self.host, self.port, self.page = found[1], int(found[2]), found[3]
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request and return status and body."""
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if answer.headers["Content-Type"] == "application/json" else text

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Send a signal and return the exit code and the rest of what was printed."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextmanager
def running(*arguments: str | Path, cwd: Path) -> Iterator[Running]:
    command = [sys.executable, "-u", "-m", "lenet", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


@pytest.mark.parametrize("command", ["selftest", "draw"])
def test_the_studio_is_served_until_ctrl_c(tmp_path: Path, command: str) -> None:
    with running(command, "--no-browser", cwd=tmp_path) as studio:
        assert len(studio.lines) == 1
        assert (studio.host, studio.page) == ("127.0.0.1", "/")
        assert studio.ask("GET", "/")[0] == 200
        assert studio.ask("GET", "/api/network")[1]["name"] == "pretrained"
        assert studio.ask("GET", "/api/network", Host="evil.example")[0] == 403
        status, found = studio.ask("POST", "/api/think", {"strokes": SEVEN})
        assert (status, found["answer"]) == (200, 7)
        assert studio.ask("POST", "/api/drawings", {"strokes": ONE, "label": 1})[0] == 201
        assert studio.end() == (0, "", "")
    assert (tmp_path / "drawings" / "drawings.jsonl").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_studio_ends_as_with_ctrl_c(tmp_path: Path, name: str) -> None:
    with running("selftest", cwd=tmp_path) as studio:
        assert studio.ask("GET", "/")[0] == 200
        assert studio.end(getattr(signal, name)) == (0, "", "")


def test_a_signal_that_comes_to_another_thread_ends_the_studio() -> None:
    """It wakes no main thread that sleeps."""
    program = """if True:
        import signal, threading, time
        from flask import Flask
        from lenet.studio.security import Guard
        from lenet.studio.server import Server
        def press():
            time.sleep(0.5)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        threading.Thread(target=press, daemon=True).start()
        Server(Flask("studio"), Guard("127.0.0.1"), "127.0.0.1", 0).serve()
    """
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


def test_with_debug_requests_are_printed(tmp_path: Path) -> None:
    with running("selftest", "--debug", cwd=tmp_path) as studio:
        studio.ask("GET", "/api/network")
        code, _, err = studio.end()
    assert code == 0
    assert "GET /api/network" in err
    assert "development server" not in err


def test_the_studio_is_there_at_once(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        with running("selftest", cwd=tmp_path) as studio:
            assert studio.ask("GET", "/")[0] == 200
            seconds.append(time.monotonic() - started)
    assert min(seconds) < START, seconds


def test_a_stroke_is_answered_at_once(tmp_path: Path) -> None:
    """Send a drawing as it grows, point by point, as the page does."""
    (points,) = (stroke["points"] for stroke in SEVEN)
    line = np.concatenate([np.linspace(a, b, 20) for a, b in pairwise(points)]).tolist()
    with running("selftest", cwd=tmp_path) as studio:
        milliseconds = []
        for end in range(1, len(line)):
            stroke = {"tool": "pen", "points": line[: end + 1]}
            status, found = studio.ask("POST", "/api/think", {"strokes": [stroke], "seq": end})
            assert (status, found["seq"]) == (200, end)
            milliseconds.append(found["milliseconds"])
        assert found["answer"] == 7
        assert len(found["layers"]) == 7
    assert statistics.median(milliseconds) < ANSWER, milliseconds


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = one_line(lenet("selftest", "--no-browser", "--port", port, "--drawings", tmp_path / "d"), 1)
    assert f"port {port}" in line
    assert "in use" in line


def test_the_port_that_was_asked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running("selftest", "--port", str(port), cwd=tmp_path) as studio:
        assert studio.port == port


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_here(tmp_path: Path, host: str) -> None:
    assert host in one_line(lenet("selftest", "--host", host, "--drawings", tmp_path / "d"), 1)


def test_others_need_the_token(tmp_path: Path) -> None:
    with running("selftest", "--host", "0.0.0.0", cwd=tmp_path) as studio:
        assert re.fullmatch(r"/\?token=[\w-]{32,}", studio.page)
        assert studio.ask("GET", "/")[0] == 403
        assert studio.ask("GET", "/api/network")[0] == 403
        assert studio.ask("GET", studio.page)[0] == 303
        cookie = f"lenet-{studio.port}={studio.page.partition('=')[2]}"
        assert studio.ask("POST", "/api/think", {"test": 0}, Cookie=cookie)[0] == 200


@pytest.mark.parametrize("options", [["--path", "nowhere"], ["--drawings", "file"], ["--data", "nowhere"]])
def test_what_cannot_be_opened(tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("dear friend")
    monkeypatch.chdir(tmp_path)
    assert options[1] in one_line(lenet("selftest", "--no-browser", *options), 1)


def test_threads_and_ports_that_make_no_sense(tmp_path: Path) -> None:
    assert "--threads" in one_line(lenet("selftest", "--threads", "0", "--drawings", tmp_path), 2)
    assert lenet("selftest", "--port", "70000").returncode == 2


# the browser ---------------------------------------------------------------------------------------------------------


def test_the_browser_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setenv("BROWSER", "something")
    open_browser("http://127.0.0.1:1/", opened.append)
    for _ in range(100):
        if opened:
            break
        time.sleep(0.01)
    assert opened == ["http://127.0.0.1:1/"]


def test_without_a_window_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    opened: list[str] = []
    open_browser("http://127.0.0.1:1/", opened.append)
    time.sleep(0.05)
    assert opened == []


def test_a_browser_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "something")

    def fail(address: str) -> None:
        raise webbrowser.Error("could not locate runnable browser")

    open_browser("http://127.0.0.1:1/", fail)
    time.sleep(0.05)  # an exception in a thread would be a warning, and fail the test


# train --watch -------------------------------------------------------------------------------------------------------


def test_a_training_is_watched(tmp_path: Path) -> None:
    options = ("--epochs", "2", "--path", tmp_path / "net")
    with running("train", "--watch", "--no-browser", *options, cwd=tmp_path) as training:
        assert training.page == "/training"
        assert training.ask("GET", "/training")[0] == 200
        seen = []
        while not seen or seen[-1]["state"] == "running":
            seen.append(training.ask("GET", "/api/training")[1])
            time.sleep(0.05)
        out, err = training.process.communicate(timeout=60)
        assert training.process.returncode == 0, err
    assert seen[-1]["state"] == "done"
    assert seen[-1]["message"] == f"saved in {tmp_path / 'net'}"
    assert len(seen[-1]["history"]) == 2
    assert seen[-1]["kernels"]["shape"] == [6, 1, 5, 5]
    assert any(0 < each["done"] < 1 and each["cost"] for each in seen)
    assert "images right" in out
    assert "GET" not in err


def test_a_watched_training_stops_with_ctrl_c(tmp_path: Path) -> None:
    options = ("--epochs", "500", "--path", tmp_path / "net")
    with running("train", "--watch", *options, cwd=tmp_path) as training:
        while not training.ask("GET", "/api/training")[1]["history"]:
            time.sleep(0.05)
        code, _, err = training.end()
    assert code == 130
    assert "Stopped" in err
    assert (tmp_path / "net" / "network.json").exists()


# viewtest ------------------------------------------------------------------------------------------------------------


def test_viewtest_is_the_same_app(tmp_path: Path) -> None:
    with running("viewtest", "--wrong", "--label", "4", "--no-browser", cwd=tmp_path) as studio:
        assert studio.page == "/tests?label=4&wrong=1"
        assert studio.ask("GET", studio.page)[0] == 200
        found = studio.ask("GET", "/api/tests?label=4&wrong=1")[1]
        assert {item["label"] for item in found["items"]} == {4}
        assert studio.end() == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_viewtest_as_text() -> None:
    result = lenet("viewtest", "--text", "--wrong", "--label", "4", "--count", "2", COLUMNS="80")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    first, second = re.findall(r"#(\d+): 4 as (\d), (\d+) %", lines[0])
    assert "4" not in (first[1], second[1])
    assert len(lines) == 1 + 14 + 2
    assert re.fullmatch(r"\d+ of 10,000 test images", lines[-1])
    assert int(first[0]) < int(second[0])
    assert load_dataset().test_labels[int(first[0])] == 4


def test_viewtest_as_a_picture(tmp_path: Path) -> None:
    result = lenet("viewtest", "--png", tmp_path / "sheet.png", "--wrong", "--count", "12")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 10 * 28


@pytest.mark.parametrize("options", [["--label", "10"], ["--answer", "-1"], ["--count", "0"], ["--label", "x"]])
def test_viewtest_of_what_there_is_not(options: list[str]) -> None:
    assert lenet("viewtest", "--text", *options).returncode == 2


def test_viewtest_of_nothing() -> None:
    result = lenet("viewtest", "--text", "--label", "0", "--answer", "1", "--wrong", "--count", "1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("of 10,000 test images")


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    assert "cannot write" in one_line(lenet("viewtest", "--png", tmp_path / "no" / "sheet.png"), 1)


def hand_made(images: Any, labels: list[int], answers: list[int], confidences: list[float]) -> Gallery:
    found = Evaluation(np.array(labels, np.int32), np.array(answers, np.int32), np.zeros(len(labels)), 10)
    return Gallery(np.array(images, np.uint8), found, np.array(confidences))


def test_half_blocks_by_hand() -> None:
    ink = [[0, 255, 0, 255], [0, 0, 255, 255], [200, 100, 0, 0]]  # three rows: the last one has paper below
    text = gallery.as_text(hand_made([ink, ink], [1, 2], [1, 3], [0.5, 0.999]), np.array([0, 1]), columns=40)
    assert text.splitlines() == [
        "#0: 1 as 1, 50 %    #1: 2 as 3, 100 %",
        " \u2580\u2584\u2588                 \u2580\u2584\u2588",
        "\u2580                   \u2580",
    ]


def test_a_narrow_terminal_has_one_image_a_row() -> None:
    ink = np.full((3, 4, 4), 255)
    text = gallery.as_text(hand_made(ink, [1, 2, 3], [1, 2, 3], [1, 1, 1]), np.arange(3), columns=10)
    assert text.count("\n\n") == 2


def test_a_contact_sheet_shows_what_was_chosen() -> None:
    images = np.zeros((12, 28, 28))
    images[5] = 255
    shown = hand_made(images, [1] * 12, [1] * 6 + [2] * 6, [1.0] * 12)
    with Image.open(BytesIO(gallery.contact_sheet(shown, np.arange(12)))) as sheet:
        picture = np.asarray(sheet.convert("RGB")).astype(int)
    side, across = gallery.SCALE * 28, gallery.SCALE * 28 + gallery.MARGIN
    left = gallery.MARGIN + 5 * across
    assert (picture[gallery.MARGIN : gallery.MARGIN + side, left : left + side] == 0).all()
    colored = (picture.max(axis=2) - picture.min(axis=2) > 60).any(axis=0)
    assert colored[: 2 * across].any()  # the second row, 10 and 11, which are wrong
    assert not colored[gallery.MARGIN + 2 * across : 6 * across].any()
    assert colored[gallery.MARGIN + 6 * across :].any()


def test_drawings_of_a_folder_can_be_viewed(tmp_path: Path) -> None:
    for name, array in zip(FILES, (np.zeros((3, 28, 28)), [1, 2, 3]) * 2, strict=True):
        write_idx(tmp_path / name, np.array(array, np.uint8))
    result = lenet("viewtest", "--text", "--data", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "3 of 3 test images" in result.stdout
