"""Collected drawings: never lost, whatever happens; and at any time a data set that can be trained on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from studio_cases import ONE, SEVEN, client, get, image, model, post, session

from lenet import drawing
from lenet.data import FILES, load_dataset, read_idx, write_idx
from lenet.errors import LenetError
from lenet.studio.drawings import RECORD, Collection
from lenet.studio.session import Session
from lenet.studio.wire import Refusal


def collection(folder: Path) -> Collection:
    opened = Collection(folder, 28, 28, 10)
    opened.open()
    return opened


def blot(number: int) -> NDArray[np.uint8]:
    """Return an image that tells which it is."""
    found = np.zeros((28, 28), np.uint8)
    found[14, 14], found[0, 0] = 255, number
    return found


def fill(drawings: Collection, labels: list[int]) -> list[str]:
    return [drawings.add(label, blot(number), strokes=[]).id for number, label in enumerate(labels)]


def split(folder: Path) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return number and label of the images of the data set in a folder: those to learn from, and the test images."""
    found = load_dataset(folder)
    return (
        [(int(i[0, 0]), int(label)) for i, label in zip(found.train_images, found.train_labels, strict=True)],
        [(int(i[0, 0]), int(label)) for i, label in zip(found.test_images, found.test_labels, strict=True)],
    )


# what is kept --------------------------------------------------------------------------------------------------------


def test_a_drawing_is_on_the_disk_when_the_page_is_told(tmp_path: Path) -> None:
    studio = client(session(tmp_path))
    found = post(studio, "/api/drawings", {"strokes": SEVEN, "label": 7}, 201)
    assert found["counts"] == [0] * 7 + [1, 0, 0]
    prepared = drawing.prepare(drawing.parse_strokes({"strokes": SEVEN})).image

    (line,) = (tmp_path / "drawings" / RECORD).read_text().splitlines()
    entry = json.loads(line)
    assert (entry["id"], entry["label"], entry["strokes"], entry["answer"]) == (found["id"], 7, SEVEN, 7)
    np.testing.assert_array_equal(image(entry["image"]), prepared)
    np.testing.assert_array_equal(read_idx(tmp_path / "drawings" / FILES[0]).array, prepared[None])
    np.testing.assert_array_equal(read_idx(tmp_path / "drawings" / FILES[1]).array, [7])

    listed = get(studio, "/api/drawings")
    assert listed["folder"] == str(tmp_path / "drawings")
    (one,) = listed["drawings"]
    assert (one["id"], one["label"], one["held_out"]) == (found["id"], 7, False)
    np.testing.assert_array_equal(image(one["pixels"]), prepared)


def test_newest_first_and_deleted(tmp_path: Path) -> None:
    studio = client(session(tmp_path))
    first = post(studio, "/api/drawings", {"strokes": SEVEN, "label": 7}, 201)["id"]
    second = post(studio, "/api/drawings", {"strokes": ONE, "label": 1}, 201)["id"]
    assert [one["id"] for one in get(studio, "/api/drawings")["drawings"]] == [second, first]
    assert post(studio, f"/api/drawings/{first}/delete")["counts"] == [0, 1] + [0] * 8
    assert [one["id"] for one in get(studio, "/api/drawings")["drawings"]] == [second]
    assert "no such drawing" in post(studio, f"/api/drawings/{first}/delete", status=404)["error"]
    assert len((tmp_path / "drawings" / RECORD).read_text().splitlines()) == 3  # what was drawn is still on record
    reopened = client(session(tmp_path))
    assert [one["id"] for one in get(reopened, "/api/drawings")["drawings"]] == [second]


@pytest.mark.parametrize(
    "body",
    [
        {"strokes": SEVEN},
        {"label": 7},
        {"label": 10, "strokes": SEVEN},
        {"label": -1, "strokes": SEVEN},
        {"label": "7", "strokes": SEVEN},
        {"label": 7, "strokes": []},
        {"label": 7, "strokes": "a"},
        {"label": 7, "test": 0},
    ],
)
def test_what_cannot_be_kept(tmp_path: Path, body: Any) -> None:
    studio = client(session(tmp_path))
    assert post(studio, "/api/drawings", body, 400)["error"]
    assert not (tmp_path / "drawings").exists()


def test_what_a_stroke_holds_besides_is_not_kept(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    strokes = [stroke | {"color": "x" * 1000, "deep": deep} for stroke in SEVEN]
    post(client(session(tmp_path)), "/api/drawings", {"strokes": strokes, "label": 7}, 201)
    assert json.loads((tmp_path / "drawings" / RECORD).read_text())["strokes"] == SEVEN


def test_at_most_200_are_shown(tmp_path: Path) -> None:
    drawings = collection(tmp_path / "drawings")
    names = fill(drawings, [3] * 205)
    studio = client(session(tmp_path))
    found = get(studio, "/api/drawings")
    assert [one["id"] for one in found["drawings"]] == names[:4:-1]
    assert found["counts"][3] == 205


# a data set ----------------------------------------------------------------------------------------------------------


def test_the_third_of_each_digit_and_each_fifth_after_it_are_held_out(tmp_path: Path) -> None:
    drawings = collection(tmp_path)
    fill(drawings, [4, 7] * 9)
    training, test = split(tmp_path)
    assert test == [(4, 4), (5, 7), (14, 4), (15, 7)]
    assert sorted(training + test) == [(number, (4, 7)[number % 2]) for number in range(18)]
    images, labels = drawings.pair(held_out=True)
    assert [(int(i[0, 0]), int(label)) for i, label in zip(images, labels, strict=True)] == test
    assert len(drawings.pair(held_out=False)[1]) == 14


def test_one_drawing_is_a_data_set(tmp_path: Path) -> None:
    fill(collection(tmp_path), [9])
    assert split(tmp_path) == ([(0, 9)], [(0, 9)])


def test_a_deleted_drawing_makes_no_other_one_held_out(tmp_path: Path) -> None:
    drawings = collection(tmp_path)
    names = fill(drawings, [5, 5])
    drawings.delete(names[0])
    fill(drawings, [5, 5])
    assert [one.held_out for one in drawings.drawings()] == [False, True, False]


def test_no_test_image_has_a_label_that_is_not_learned(tmp_path: Path) -> None:
    drawings = collection(tmp_path)
    names = fill(drawings, [2, 8, 8, 8])
    for name in names[1:3]:
        drawings.delete(name)
    assert split(tmp_path) == ([(0, 2)], [(0, 2)])
    assert drawings.pair(held_out=True)[1].tolist() == [8]
    drawings.delete(names[0])
    assert split(tmp_path) == ([(3, 8)], [(3, 8)])


@pytest.mark.parametrize("labels", [[0], [3, 3, 3], [1, 7] * 4, list(range(10)) * 3])
def test_lenet_train_reads_the_folder(tmp_path: Path, labels: list[int]) -> None:
    fill(collection(tmp_path / "drawings"), labels)
    options = ["--data", tmp_path / "drawings", "--path", tmp_path / "net", "--epochs", "1", "--backend", "numpy"]
    command = [sys.executable, "-m", "lenet", "train", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "net" / "network.json").exists()


# crashes and others --------------------------------------------------------------------------------------------------


def test_a_line_cut_off_costs_no_other_drawing(tmp_path: Path) -> None:
    names = fill(collection(tmp_path), [1, 2, 3])
    record = tmp_path / RECORD
    whole = record.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in (1, 2, last // 2, last - 1):
        record.write_bytes(whole[:-cut])
        drawings = collection(tmp_path)
        assert [one.id for one in drawings.drawings()] == names[:2]
        new = drawings.add(4, blot(9), strokes=[]).id
        assert record.read_bytes().startswith(whole[:-cut])
        for each in (drawings, collection(tmp_path)):
            kept = [one.id for one in each.drawings()]
            # what lacks no more than its end of line is whole again
            assert kept == ([*names, new] if cut == 1 else [*names[:2], new])


def test_idx_files_are_made_again_of_the_record(tmp_path: Path) -> None:
    fill(collection(tmp_path), [1, 2, 3])
    before = split(tmp_path)
    (tmp_path / FILES[0]).write_bytes(b"torn")
    (tmp_path / FILES[3]).unlink()
    collection(tmp_path)
    assert split(tmp_path) == before


def test_damaged_lines_are_left_alone(tmp_path: Path) -> None:
    names = fill(collection(tmp_path), [1])
    record = tmp_path / RECORD
    good = record.read_bytes()
    entry = json.loads(good)
    bad = [b"\xff\xfe", b"{}", b"[]", b"12", b'{"deleted": 5}', b'{"deleted": "x"}']
    bad += [
        json.dumps(entry | {"id": "x", **change}).encode()
        for change in ({"label": 10}, {"image": "AAAA"}, {"label": "1"})
    ]
    record.write_bytes(b"\n".join([*bad, good]))
    drawings = collection(tmp_path)
    assert [one.id for one in drawings.drawings()] == names
    names += fill(drawings, [2])
    assert [one.id for one in collection(tmp_path).drawings()] == names
    assert record.read_bytes().startswith(b"\n".join(bad))


def test_two_studios_share_a_folder(tmp_path: Path) -> None:
    one, other = collection(tmp_path), collection(tmp_path)
    names = [each.add(6, blot(number), strokes=[]).id for number, each in enumerate((one, other, one, other))]
    for each in (one, other):
        assert [drawing.id for drawing in each.drawings()] == names
        assert [drawing.held_out for drawing in each.drawings()] == [False, False, True, False]
    other.delete(names[0])
    assert one.counts()[6] == 3
    with pytest.raises(Refusal):
        one.delete(names[0])
    assert split(tmp_path) == ([(1, 6), (3, 6)], [(2, 6)])


def test_a_folder_that_goes_away_is_made_again(tmp_path: Path) -> None:
    drawings = collection(tmp_path / "drawings")
    fill(drawings, [1, 2])
    for file in (tmp_path / "drawings").iterdir():
        file.unlink()
    assert drawings.drawings() == []
    (tmp_path / "drawings").rmdir()
    names = fill(drawings, [3])
    assert [one.id for one in drawings.drawings()] == names
    assert split(tmp_path / "drawings") == ([(0, 3)], [(0, 3)])


def test_other_data_is_never_overwritten(tmp_path: Path) -> None:
    write_idx(tmp_path / FILES[0], np.zeros((1, 28, 28), np.uint8))
    before = (tmp_path / FILES[0]).read_bytes()
    drawings = Collection(tmp_path, 28, 28, 10)
    for use in (drawings.open, drawings.drawings, lambda: drawings.add(1, blot(0), strokes=[])):
        with pytest.raises(LenetError, match="another data set"):
            use()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {FILES[0]: before}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "drawings").write_text("dear friend")
    with pytest.raises(LenetError, match="not a folder"):
        collection(tmp_path / "drawings")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "drawings"
    folder.mkdir(mode=0)
    with pytest.raises(LenetError, match="Permission denied"):
        collection(folder)


def test_a_disk_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = client(session(tmp_path))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = post(studio, "/api/drawings", {"strokes": SEVEN, "label": 7}, 500)
    assert "No space left on device" in answer["error"]


def test_a_killed_process_loses_nothing_that_was_told(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from lenet.studio.drawings import Collection\n"
        "drawings = Collection(Path(sys.argv[1]), 28, 28, 10)\n"
        "while True:\n"
        "    print(drawings.add(3, np.full((28, 28), 9, np.uint8), strokes=[[0.5] * 40] * 200).id, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(12)]
        process.kill()
        told += process.stdout.read().splitlines()[:-1]  # the last line may be cut
    kept = [one.id for one in collection(tmp_path).drawings()]
    assert kept[: len(told)] == told
    assert len(kept) <= len(told) + 2
    load_dataset(tmp_path)


def test_another_number_of_classes(tmp_path: Path) -> None:
    letters = Collection(tmp_path, 28, 28, 26)
    letters.add(25, blot(0), strokes=[])
    assert letters.counts()[25] == 1
    assert collection(tmp_path).drawings() == []  # no digit


def test_viewing_test_images_does_not_need_the_folder(tmp_path: Path) -> None:
    (tmp_path / "drawings").write_text("dear friend")
    studio = client(Session(model(), tmp_path / "drawings"))
    assert get(studio, "/api/tests?count=1")["items"]
    assert "not a folder" in get(studio, "/api/drawings", 500)["error"]
