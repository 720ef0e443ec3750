"""Data sets: the bundled MNIST is the original, and folders that do not fit are refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from lenet.data import FILES, datasets, hold_out, load_dataset, write_idx
from lenet.errors import LenetError, UsageError


def make(folder: Path, count: int = 12, **arrays: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    labels = (np.arange(count) % 4).astype(np.uint8)
    images = np.arange(count * 16 * 20, dtype=np.uint32).astype(np.uint8).reshape(count, 16, 20)
    for file in FILES:
        write_idx(folder / file, arrays.get(file, images if "images" in file else labels))
    return folder


def test_the_bundled_mnist() -> None:
    mnist = load_dataset()
    assert mnist.name == "MNIST"
    assert mnist.source is None
    assert mnist.train_images.shape == (60_000, 28, 28)
    assert mnist.test_images.shape == (10_000, 28, 28)
    assert (mnist.height, mnist.width, mnist.classes) == (28, 28, 10)
    # Published counts of each digit (Y. LeCun's page of the data set).
    assert np.bincount(mnist.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.train_images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train_images.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_a_damaged_installation_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.MNIST_SHA256, FILES[1], "0" * 64)
    with pytest.raises(LenetError, match=f"the installed MNIST is damaged .{FILES[1]}."):
        load_dataset()


def test_a_file_lost_from_the_installation_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist").mkdir()
    monkeypatch.setattr(datasets.resources, "files", lambda package: tmp_path)
    with pytest.raises(LenetError, match=r"the installed MNIST is damaged .* lacks .*; install lenet again"):
        load_dataset()


def test_a_folder(tmp_path: Path) -> None:
    dataset = load_dataset(make(tmp_path / "mine"))
    assert dataset.name == "mine"
    assert (dataset.height, dataset.width, dataset.classes) == (16, 20, 4)
    assert dataset.train_labels.dtype == np.int32
    assert len(dataset.validation_labels) == 0


def test_other_spellings_and_gzip(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine")
    for file in FILES:
        packed = gzip.compress((folder / file).read_bytes())
        (folder / (file.replace("-idx", ".idx") + ".gz")).write_bytes(packed)
        (folder / file).unlink()
    assert load_dataset(folder).sha256 == load_dataset(make(tmp_path / "plain")).sha256


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine")
    (folder / FILES[0]).unlink()
    (folder / FILES[3]).unlink()
    with pytest.raises(LenetError, match=f"lacks {FILES[0]}, {FILES[3]}"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        (FILES[0], np.zeros(12, np.uint8), "holds 1 dimension of uint8, not images"),
        (FILES[0], np.zeros((12, 16, 20), np.int16), "not images"),
        (FILES[1], np.zeros((12, 16, 20), np.uint8), "not labels"),
        (FILES[1], np.zeros(12, np.float32), "not labels"),
        (FILES[1], np.zeros(11, np.uint8), "has 12 images, .* 11 labels"),
        (FILES[1], np.full(12, -1, np.int32), "run from -1 to -1"),
        (FILES[1], np.full(12, 256, np.int32), "run from 256 to 256"),
        (FILES[2], np.zeros((12, 16, 24), np.uint8), "16 x 20 pixels, test images 16 x 24"),
        (FILES[2], np.zeros((0, 16, 20), np.uint8), "0 labels|has 0 images"),
        (FILES[3], np.full(12, 4, np.uint8), "label 4 does not occur in training"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, file: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(LenetError, match=message) as caught:
        load_dataset(make(tmp_path / "mine", **{file: array}))
    assert "\n" not in str(caught.value)


def test_swapped_files_are_called_that(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine")
    images, labels = (folder / FILES[2]).read_bytes(), (folder / FILES[3]).read_bytes()
    (folder / FILES[2]).write_bytes(labels)
    (folder / FILES[3]).write_bytes(images)
    with pytest.raises(LenetError, match=f"{FILES[2]} holds labels and {FILES[3]} images: they are swapped"):
        load_dataset(folder)


def test_an_error_names_the_file_that_was_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", **{FILES[1]: np.zeros(12, np.float32)})
    packed = folder / "train-labels.idx1-ubyte.gz"
    packed.write_bytes(gzip.compress((folder / FILES[1]).read_bytes()))
    (folder / FILES[1]).unlink()
    with pytest.raises(LenetError, match=str(packed)):
        load_dataset(folder)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), PermissionError(13, "Permission denied")])
def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(folder: Path) -> None:
        raise error

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(LenetError, match=f"{tmp_path}: {error.strerror}; a data set is a folder with"):
        load_dataset(tmp_path)


def test_empty_files(tmp_path: Path) -> None:
    images, labels = np.zeros((0, 16, 20), np.uint8), np.zeros(0, np.uint8)
    with pytest.raises(LenetError, match="holds no images"):
        load_dataset(make(tmp_path / "mine", **{FILES[0]: images, FILES[1]: labels}))


def test_hold_out_moves_images_with_their_labels(tmp_path: Path) -> None:
    dataset = load_dataset(make(tmp_path / "mine", count=40))
    held = hold_out(dataset, 10)
    assert len(held.train_labels) == 30
    assert len(held.validation_labels) == 10
    images = np.concatenate([held.train_images, held.validation_images])
    labels = np.concatenate([held.train_labels, held.validation_labels])
    pairs = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
    assert pairs == sorted(
        (image.tobytes(), int(label)) for image, label in zip(dataset.train_images, dataset.train_labels, strict=True)
    )
    np.testing.assert_array_equal(held.validation_images, hold_out(dataset, 10).validation_images)
    np.testing.assert_array_equal(hold_out(dataset, 0).train_images, dataset.train_images)


def test_hold_out_is_the_same_for_ever(tmp_path: Path) -> None:
    dataset = load_dataset(make(tmp_path / "mine", count=40))
    drawn = np.random.Philox(key=np.array([0, 4 << 32], np.uint64)).random_raw(40)  # stream 4 of seed 0
    chosen = np.sort(np.argsort(drawn)[:7])
    np.testing.assert_array_equal(hold_out(dataset, 7).validation_images, dataset.train_images[chosen])


def test_hold_out_does_not_change_the_number_of_classes(tmp_path: Path) -> None:
    for only in range(12):  # one image of the last class: held out, for some of these
        labels = np.where(np.arange(12) == only, 3, 0).astype(np.uint8)
        assert hold_out(load_dataset(make(tmp_path / "mine", **{FILES[1]: labels})), 6).classes == 4


@pytest.mark.parametrize("count", [-1, 12, 1000])
def test_hold_out_leaves_something_to_train_on(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match="must be from 0 to 11"):
        hold_out(load_dataset(make(tmp_path / "mine")), count)
