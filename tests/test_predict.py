"""`lenet predict` as a user runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import lenet
from lenet import backends
from lenet.data import write_idx
from lenet.drawing import prepare_image, unsure
from lenet.evaluation import probabilities
from lenet.executors import State


def predict(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lenet", "predict", "--backend", "numpy", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def enlarged(*digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return dark digits in a row on light gray paper."""
    row = np.kron(np.hstack(digits), np.ones((5, 5)))
    return (230 - 0.8 * row).astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of pictures with digits and without, and of files that are no pictures."""
    folder = tmp_path_factory.mktemp("files")
    images = lenet.load_dataset().test_images
    saved = lenet.load()
    executor = lenet.choose(saved.network, backends.get("numpy"))
    executor.write(State.of(saved.weights))
    least = np.argsort(probabilities(executor.predict(images)).max(axis=1))[:20]
    prepared = np.stack([prepare_image(images[k] / np.float32(255)).image for k in least])
    shares = probabilities(executor.predict(prepared))  # of what is seen of a picture
    at = int(shares.max(axis=1).argmin())
    doubtful = least[at]
    assert unsure(shares[at])
    line = np.full((100, 140), 240, np.uint8)
    line[50:54, 10:130] = 20
    pictures = {
        "seven.png": enlarged(images[0]),
        "row.jpg": enlarged(*images[:5]),
        "doubtful.png": enlarged(images[doubtful]),
        "paper.png": np.full((80, 120), 240, np.uint8),
        "line.png": line,
        "large.png": np.kron(enlarged(images[0]), np.ones((20, 20), np.uint8)),
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    (folder / "cut.jpg").write_bytes((folder / "row.jpg").read_bytes()[:2000])
    return folder


def test_a_line_for_each_file(files: Path) -> None:
    names = ["seven.png", "row.jpg", "paper.png", "line.png", "doubtful.png", "seven.png"]
    result = predict(*(files / name for name in names))
    assert (result.returncode, result.stderr) == (0, "")
    seven, row, paper, line, doubtful, again = result.stdout.splitlines()
    assert seven == again
    assert re.fullmatch(rf"{re.escape(str(files / 'seven.png'))}  7 \((9\d|> 99)%\)", seven)
    read = row.removeprefix(f"{files / 'row.jpg'}  ").split("   ")
    assert [digit[0] for digit in read] == ["7", "2", "1", "0", "4"]
    assert paper == f"{files / 'paper.png'}  blank: no ink to be seen"
    assert line == f"{files / 'line.png'}  ? (not a digit)"
    assert doubtful.endswith("%, unsure)")


def test_json(files: Path) -> None:
    result = predict("--json", files / "row.jpg", files / "paper.png", files / "line.png", files / "doubtful.png")
    assert (result.returncode, result.stderr) == (0, "")
    row, paper, line, doubtful = json.loads(result.stdout)
    assert row["file"] == str(files / "row.jpg")
    assert [digit["digit"] for digit in row["digits"]] == [7, 2, 1, 0, 4]
    for number, digit in enumerate(row["digits"]):
        assert set(digit) == {"digit", "confidence", "unsure", "box"}
        assert 0.6 < digit["confidence"] <= 1
        assert not digit["unsure"]
        left, top, right, bottom = digit["box"]
        assert 140 * number <= left < right <= 140 * (number + 1)  # each test image is 140 pixels wide here
        assert max(right - left, bottom - top) == pytest.approx(100, abs=6)
    assert paper["digits"] == []
    assert [(found["digit"], found["confidence"], found["unsure"]) for found in line["digits"]] == [(None, None, True)]
    assert [found["unsure"] for found in doubtful["digits"]] == [True]


def test_boxes_are_in_pixels_of_the_file(files: Path) -> None:
    result = predict("--json", files / "large.png", files / "seven.png")
    large, small = (answer["digits"] for answer in json.loads(result.stdout))
    assert [found["digit"] for found in large] == [found["digit"] for found in small] == [7]
    assert large[0]["box"] == pytest.approx([20 * side for side in small[0]["box"]], abs=25)


def test_files_that_cannot_be_read_do_not_stop_the_others(files: Path) -> None:
    bad = [files / "absent.png", files / "notes.txt", files / "cut.jpg", files]
    result = predict(bad[0], files / "seven.png", *bad[1:])
    assert result.returncode == 1
    assert result.stdout.startswith(f"{files / 'seven.png'}  7 (")
    assert len(result.stdout.splitlines()) == 1
    lines = result.stderr.splitlines()
    assert len(lines) == len(bad)
    assert all(line.startswith("Error: ") and str(file) in line for line, file in zip(lines, bad, strict=True))
    as_json = predict("--json", *bad)
    assert (as_json.returncode, json.loads(as_json.stdout)) == (1, [])


def test_wrong_usage_and_missing_networks(files: Path, tmp_path: Path) -> None:
    assert predict().returncode == 2
    result = predict("--path", tmp_path, files / "seven.png")
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


def test_a_network_for_images_of_another_size_is_refused(files: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(1)
    for part in ("train", "t10k"):
        write_idx(data / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (30, 16, 16), dtype=np.uint8))
        write_idx(data / f"{part}-labels-idx1-ubyte", (np.arange(30) % 3).astype(np.uint8))
    command = [sys.executable, "-m", "lenet", "train", "--backend", "numpy", "--epochs", "1"]
    network = tmp_path / "network"
    subprocess.run([*command, "--data", str(data), "--path", str(network)], check=True, capture_output=True)
    result = predict("--path", network, files / "seven.png")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "16 x 16" in result.stderr
