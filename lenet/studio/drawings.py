"""Drawings that somebody has labeled, kept in a folder that is a data set as well.

``drawings.jsonl`` is the record: one line a drawing, or a deletion, only ever appended and flushed to disk before the
page is told. The four IDX files beside it are made of it, anew after every change, so that ``lenet train --data`` reads
the folder. Of every digit, the third drawing and each fifth after it is held out: no training sees it, and it tells
what training has brought. Held-out drawings are the test images of the data set.
"""

import json
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data import FILES, write_idx
from lenet.errors import LenetError
from lenet.files import open_plain
from lenet.studio import wire

RECORD = "drawings.jsonl"
HELD_OUT_FIRST, HELD_OUT_EVERY = 3, 5
MAX_SHOWN = 200


@dataclass(frozen=True)
class Drawing:
    """One labeled drawing.

    Attributes
    ----------
    image : (H, W), as it was prepared when it was drawn
    held_out : whether no training may see it
    """

    id: str
    label: int
    image: NDArray[np.uint8]
    held_out: bool


class Collection:
    """The drawings in a folder, which is made when the first one is kept. Several studios may share it.

    Parameters
    ----------
    folder
    height, width : of the images
    classes : how many labels there are
    """

    def __init__(self, folder: Path, height: int, width: int, classes: int) -> None:
        self.folder = folder
        self.height, self.width, self.classes = height, width, classes
        self._lock = threading.Lock()
        self._forget()

    def open(self) -> None:
        """Look whether the folder can be used, and finish what a crash has left undone.

        Raises
        ------
        LenetError
            When it cannot be read or written, or holds another data set.
        """
        with self._lock:
            self._catch_up()
            if self._drawings:  # the IDX files may be older than the record
                self._change(self._write_data_set)

    def _forget(self) -> None:
        self._drawings: dict[str, Drawing] = {}
        self._seen: Counter[int] = Counter()  # labels ever given, of deleted drawings too
        self._read = 0  # bytes of the record that are known

    # what there is ---------------------------------------------------------------------------------------------------

    def drawings(self) -> list[Drawing]:
        """Return all drawings, the oldest first."""
        with self._lock:
            self._catch_up()
            return list(self._drawings.values())

    def pair(self, held_out: bool) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return images (M, H, W) and labels (M,) of the drawings to learn from, or of those that are held out."""
        return self._pair([drawing for drawing in self.drawings() if drawing.held_out == held_out])

    def _pair(self, chosen: list[Drawing]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        images = np.zeros((len(chosen), self.height, self.width), np.uint8)
        for place, drawing in zip(images, chosen, strict=True):
            place[:] = drawing.image
        return images, np.array([drawing.label for drawing in chosen], np.int32)

    def counts(self) -> list[int]:
        """Return how many drawings there are of each class."""
        counted = Counter(drawing.label for drawing in self.drawings())
        return [counted[label] for label in range(self.classes)]

    # changes ---------------------------------------------------------------------------------------------------------

    def add(self, label: int, image: NDArray[np.uint8], **remarks: Any) -> Drawing:
        """Keep a drawing; ``remarks`` go into the record with it.

        Raises
        ------
        LenetError
            When the folder cannot be written.
        """
        with self._lock:
            self._catch_up()
            number = self._seen[label] + 1
            held_out = number >= HELD_OUT_FIRST and (number - HELD_OUT_FIRST) % HELD_OUT_EVERY == 0
            drawing = Drawing(secrets.token_hex(8), label, image, held_out)
            saved = {"saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            self._append(asdict(drawing) | {"image": wire.pixels(image)} | saved | remarks)
            return drawing

    def delete(self, drawing: str) -> None:
        """Drop a drawing; its line in the record stays.

        Raises
        ------
        Refusal
            404, when there is no such drawing.
        LenetError
            When the folder cannot be written.
        """
        with self._lock:
            self._catch_up()
            if drawing not in self._drawings:
                raise wire.Refusal(404, "there is no such drawing")
            self._append({"deleted": drawing})

    def _append(self, entry: dict[str, Any]) -> None:
        """Write one line to the record and bring the IDX files up to date."""
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        self._change(lambda: self._write_line(line))
        self._catch_up()
        self._change(self._write_data_set)

    def _change(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise LenetError(f"cannot keep drawings in {self.folder}: {error.strerror or error}") from error

    def _write_line(self, line: bytes) -> None:
        """Append to the record, to the disk itself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / RECORD).open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that a crash has cut off
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _catch_up(self) -> None:
        """Read what has been appended to the record since, here or by another studio; lines cut off do not count."""
        try:
            with open_plain(self.folder / RECORD) as file:
                if os.fstat(file.fileno()).st_size < self._read:  # somebody has begun another one
                    self._forget()
                file.seek(self._read)
                content = file.read()
        except (FileNotFoundError, NotADirectoryError):
            self._refuse_other_data()
            self._forget()
            return
        except OSError as error:
            raise LenetError(f"{self.folder / RECORD}: {error.strerror or error}") from error
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._take(line)

    def _refuse_other_data(self) -> None:
        """Raise where a folder without a record is in other use."""
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise LenetError(f"{self.folder} is not a folder; choose another one with --drawings")
            names = [file.name for file in self.folder.iterdir()] if self.folder.exists() else []
        except OSError as error:
            raise LenetError(f"{self.folder}: {error.strerror or error}") from error
        others = [name for name in names if name.removesuffix(".gz").replace(".idx", "-idx") in FILES]
        if others:
            raise LenetError(f"{self.folder} holds another data set ({others[0]}); choose another one with --drawings")

    def _take(self, line: bytes) -> None:
        """Take in one line of the record, unless it is damaged."""
        try:
            entry = wire.parse_object(line)
            if "deleted" in entry:
                self._drawings.pop(str(entry["deleted"]), None)
                return
            label = wire.integer(entry, "label", 0, self.classes - 1)
            image = wire.parse_pixels(entry.get("image"), self.height, self.width)
            held_out = wire.flag(entry, "held_out", False)
        except wire.Refusal:
            return
        self._seen[label] += 1
        name = str(entry.get("id"))
        self._drawings[name] = Drawing(name, label, image, held_out)

    def _write_data_set(self) -> None:
        """Make the IDX files of what there is.

        A data set needs images to learn from and to test on, and no label in the test that there is not in training.
        While nothing is held out, or nothing else is left, both pairs are the same.
        """
        every = list(self._drawings.values())
        training = [drawing for drawing in every if not drawing.held_out] or every
        labels = {drawing.label for drawing in training}
        test = [drawing for drawing in every if drawing.held_out and drawing.label in labels] or training
        arrays = [array for chosen in (training, test) for array in self._pair(chosen)]
        for name, array in zip(FILES, arrays, strict=True):
            written = self.folder / f".{name}.{os.getpid()}"
            write_idx(written, array.astype(np.uint8))
            written.replace(self.folder / name)
