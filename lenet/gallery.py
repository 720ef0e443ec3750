"""The test images with what a network answers: chosen, as text for a terminal, as one picture."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet.evaluation import Evaluation, probabilities
from lenet.inspection import Inspector

RIGHT, WRONG = "#202020", "#b34500"  # told apart without seeing red or green
SCALE, COLUMNS, CAPTION, MARGIN = 4, 10, 14, 6  # of the contact sheet: enlargement, images a row, pixels
HALVES = np.array([[" ", "\u2584"], ["\u2580", "\u2588"]])  # two pixels, one above the other, in one character
GAP = 3  # columns between images in a terminal


@dataclass(frozen=True)
class Gallery:
    """Labeled images (M, H, W) and the answers to them.

    Attributes
    ----------
    images
    evaluation : their labels and the answers
    confidences : (M,), the probability that the network gives to its answer
    """

    images: NDArray[np.uint8]
    evaluation: Evaluation
    confidences: NDArray[np.float64]

    @classmethod
    def of(cls, inspector: Inspector, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> "Gallery":
        """Have the network answer all images."""
        shares = probabilities(inspector.predict(images).astype(np.float64))
        answers = shares.argmax(axis=1).astype(np.int32)
        losses = -np.log(np.maximum(shares[np.arange(len(labels)), labels], np.finfo(np.float64).tiny))
        return cls(images, Evaluation(labels, answers, losses, shares.shape[1]), shares.max(axis=1))

    def select(
        self, *, label: int | None = None, answer: int | None = None, wrong: bool = False, below: float | None = None
    ) -> NDArray[np.intp]:
        """Return the indices of the images with this label, this answer, a wrong answer, a confidence below."""
        found = self.evaluation
        chosen = ~found.right if wrong else np.ones(len(found.labels), bool)
        if label is not None:
            chosen &= found.labels == label
        if answer is not None:
            chosen &= found.answers == answer
        if below is not None:
            chosen &= self.confidences < below
        return np.flatnonzero(chosen)

    def caption(self, index: int) -> str:
        """Say what an image is taken for: ``#247: 4 as 2, 87 %``."""
        label, answer = self.evaluation.labels[index], self.evaluation.answers[index]
        return f"#{index}: {label} as {answer}, {100 * self.confidences[index]:.0f} %"


def as_text(gallery: Gallery, chosen: NDArray[np.intp], columns: int) -> str:
    """Return images for a terminal ``columns`` wide, two rows of pixels in a line of text, with captions."""
    width = max(gallery.images.shape[2], max((len(gallery.caption(i)) for i in chosen), default=0))
    a_row = max(1, (columns + GAP) // (width + GAP))
    blocks = []
    for start in range(0, len(chosen), a_row):
        row = chosen[start : start + a_row]
        cells = [[gallery.caption(i), *_half_blocks(gallery.images[i])] for i in row]
        blocks.append(
            "\n".join(
                (" " * GAP).join(f"{text:<{width}}" for text in line).rstrip() for line in zip(*cells, strict=True)
            )
        )
    return "\n\n".join(blocks)


def _half_blocks(image: NDArray[np.uint8]) -> list[str]:
    """Return an image as lines of half blocks, ink where there is more of it than not."""
    ink = (image > 127).astype(int)
    if len(ink) % 2:
        ink = np.vstack([ink, np.zeros_like(ink[:1])])
    return ["".join(line) for line in HALVES[ink[0::2], ink[1::2]]]


def contact_sheet(gallery: Gallery, chosen: NDArray[np.intp]) -> bytes:
    """Return a PNG of images with captions, the wrong answers in another color."""
    from PIL import Image, ImageDraw, ImageFont

    _, height, width = gallery.images.shape
    cell_width, cell_height = SCALE * width + MARGIN, SCALE * height + CAPTION + MARGIN
    rows = max(1, -(-len(chosen) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * cell_width + MARGIN, rows * cell_height + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for place, index in enumerate(chosen):
        row, column = divmod(place, COLUMNS)
        left, top = MARGIN + column * cell_width, MARGIN + row * cell_height
        picture = Image.fromarray(255 - gallery.images[index]).resize(
            (SCALE * width, SCALE * height), Image.Resampling.NEAREST
        )
        sheet.paste(picture, (left, top))
        color = RIGHT if gallery.evaluation.right[index] else WRONG
        draw.text((left, top + SCALE * height + 1), gallery.caption(index), fill=color, font=font)
    content = io.BytesIO()
    sheet.save(content, format="png")
    return content.getvalue()
