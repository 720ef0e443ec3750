"""Data sets: the MNIST that ships in the package, or any folder with the same four files."""

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.idx import IdxFile, read_idx
from lenet.errors import LenetError, UsageError
from lenet.streams import Purpose, permutation, stream

MAX_CLASSES = 256

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

MNIST_SHA256 = dict(
    zip(
        FILES,
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        strict=True,
    )
)
"""SHA-256 of the original MNIST files, unpacked."""


@dataclass(frozen=True)
class Dataset:
    """Labeled images: (M, H, W) uint8 with labels (M,) int32.

    Attributes
    ----------
    name : ``MNIST``, or the folder's name
    source : the folder; None for the MNIST in the package
    validation_images, validation_labels : training images held out by `hold_out`, at first none
    sha256 : for each of the four files, that of its unpacked bytes
    """

    name: str
    source: Path | None
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int32]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int32]
    validation_images: NDArray[np.uint8]
    validation_labels: NDArray[np.int32]
    sha256: dict[str, str]

    @property
    def height(self) -> int:
        """Rows of an image."""
        return self.test_images.shape[1]

    @property
    def width(self) -> int:
        """Columns of an image."""
        return self.test_images.shape[2]

    @property
    def classes(self) -> int:
        """Number of classes: the largest training label and one, but at least two."""
        labels = np.concatenate([self.train_labels, self.validation_labels])
        return max(2, int(labels.max()) + 1)


def load_dataset(directory: Path | None = None) -> Dataset:
    """Load a folder with the four files, each plain or gzipped; None stands for the MNIST in the package.

    Raises
    ------
    LenetError
        When a file is missing or damaged, or the four do not go together.
    """
    if directory is None:
        try:
            with resources.as_file(resources.files("lenet.data") / "mnist") as folder:
                dataset = _load(folder, None)
        except LenetError as error:
            raise LenetError(f"the installed MNIST is damaged ({error}); install lenet again") from error
        damaged = [name for name in FILES if dataset.sha256[name] != MNIST_SHA256[name]]
        if damaged:
            raise LenetError(f"the installed MNIST is damaged ({', '.join(damaged)}); install lenet again")
        return dataset
    return _load(directory, directory)


def _load(folder: Path, source: Path | None) -> Dataset:
    paths = _find(folder)
    contents = {file: read_idx(path) for file, path in paths.items()}
    train_images, train_labels = _pair(paths, contents, FILES[0], FILES[1])
    test_images, test_labels = _pair(paths, contents, FILES[2], FILES[3])
    if train_images.shape[1:] != test_images.shape[1:]:
        raise LenetError(
            f"{folder}: training images are {_size(train_images)} pixels, test images {_size(test_images)}"
        )
    dataset = Dataset(
        name=source.resolve().name if source else "MNIST",
        source=source,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        validation_images=train_images[:0],
        validation_labels=train_labels[:0],
        sha256={file: content.sha256 for file, content in contents.items()},
    )
    if test_labels.max() >= dataset.classes:
        raise LenetError(
            f"{paths[FILES[3]]}: label {test_labels.max()} does not occur in training, "
            f"whose labels are 0 to {dataset.classes - 1}"
        )
    return dataset


def _find(folder: Path) -> dict[str, Path]:
    """Return the path of each of the four files, under one of its usual names."""
    try:
        present = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise LenetError(f"{folder}: {error.strerror}; a data set is a folder with {', '.join(FILES)}") from error
    paths = {}
    for file in FILES:
        names = [name + suffix for name in (file, file.replace("-idx", ".idx")) for suffix in ("", ".gz")]
        if found := [name for name in names if name in present]:
            paths[file] = folder / found[0]
    missing = [file for file in FILES if file not in paths]
    if missing:
        raise LenetError(f"{folder} lacks {', '.join(missing)} (plain or .gz)")
    return paths


def _pair(
    paths: dict[str, Path], contents: dict[str, IdxFile], image_file: str, label_file: str
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return images and labels that go together."""
    images, labels = contents[image_file].array, contents[label_file].array
    image_path, label_path = paths[image_file], paths[label_file]
    if images.ndim == 1 and labels.ndim == 3:
        raise LenetError(f"{image_path} holds labels and {label_path.name} images: they are swapped")
    if images.ndim != 3 or images.dtype != np.uint8:
        raise LenetError(f"{image_path}: holds {_kind(images)}, not images (3 dimensions of bytes)")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise LenetError(f"{label_path}: holds {_kind(labels)}, not labels (1 dimension of whole numbers)")
    if len(images) != len(labels):
        raise LenetError(f"{image_path} has {len(images)} images, {label_path.name} {len(labels)} labels")
    if images.size == 0:
        raise LenetError(f"{image_path}: holds no images")
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise LenetError(
            f"{label_path}: labels run from {labels.min()} to {labels.max()}, not within 0..{MAX_CLASSES - 1}"
        )
    return images, labels.astype(np.int32)


def _kind(array: NDArray[Any]) -> str:
    return f"{array.ndim} dimension{'s' if array.ndim > 1 else ''} of {array.dtype}"


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]} x {images.shape[2]}"


def hold_out(dataset: Dataset, count: int) -> Dataset:
    """Move ``count`` training images, the same ones for every run and seed, to the validation images.

    Raises
    ------
    UsageError
        When that leaves no training image, or ``count`` is negative.
    """
    total = len(dataset.train_labels)
    if not 0 <= count < total:
        raise UsageError(f"--validation must be from 0 to {total - 1}, not {count}")
    order = permutation(stream(0, Purpose.VALIDATION), total)
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    return replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
        validation_images=dataset.train_images[held],
        validation_labels=dataset.train_labels[held],
    )
