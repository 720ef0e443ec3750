"""What is timed, how long, and what was found."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

CHECKED_STEPS = 20
TOLERANCE = 1e-4  # of the losses of those steps; float32 in another order is an order of magnitude below
TRAINING_IMAGES, TEST_IMAGES, EPOCHS, BATCH_SIZE = 60_000, 10_000, 20, 64  # of the default training on MNIST


@dataclass(frozen=True)
class Work:
    """One thing to time: a training step, the answer to a batch of images, or a primitive.

    Attributes
    ----------
    kind : "train", "answer", or the name of one of `lenet.bench.primitives.primitives`
    batch : images
    distorted : whether the images of a training step are, as in training
    """

    kind: str
    batch: int
    distorted: bool = False

    @property
    def title(self) -> str:
        """What tables call it."""
        name = {"train": "training step", "answer": "answer"}.get(self.kind, self.kind)
        return f"{name}, batch {self.batch:,}" + (", distorted" if self.distorted else "")


KINDS = ("train", "answer")
BATCHES = (1, 64, 1024)
EPOCH = Work("train", BATCH_SIZE, distorted=True)
EVALUATION = Work("answer", 1024)
WORKS = (EPOCH, *(Work(kind, batch) for kind in KINDS for batch in BATCHES))

STEP = Work("train", BATCH_SIZE)
SCANNED = tuple(2**power for power in range(13))
"""Batch sizes, 1 to 4096."""


@dataclass(frozen=True)
class Effort:
    """How long and how often.

    Attributes
    ----------
    seconds : of a turn
    turns : of each contender at each work, in one sitting
    sittings : for each of which all processes start anew; a process may be lucky or unlucky with its places in memory
        for as long as it lives, which no number of turns would show
    """

    seconds: float
    turns: int
    sittings: int = 1


@dataclass
class Result:
    """What was found of one contender; times in seconds, memory in bytes.

    Attributes
    ----------
    threads : of the CPU, where their number was chosen
    starts : from nothing to the first trained batch: imports, kernels compiled or found in the cache, a GPU's context;
        once a sitting
    difference : the largest relative difference of its losses from NumPy's
    samples : by the title of a work, seconds an image, a turn each
    amounts : by the name of a primitive or a ceiling, floating-point operations and bytes of a call
    problem : why it is not there, or what went wrong
    """

    backend: str
    executor: str = ""
    threads: int | None = None
    device: str = ""
    starts: list[float] = field(default_factory=list)
    difference: float | None = None
    memory: int | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)
    amounts: dict[str, tuple[int, int]] = field(default_factory=dict)
    problem: str = ""

    @property
    def name(self) -> str:
        """Backend, executor and threads."""
        name = f"{self.backend} {self.executor}".strip()
        return f"{name}, {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else name

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two results comparable."""
        return self.backend, self.executor, self.threads

    @property
    def start(self) -> float | None:
        """Median seconds until it is ready."""
        return median(self.starts) if self.starts else None

    @property
    def agrees(self) -> bool:
        """Whether it computes what NumPy computes."""
        return self.difference is not None and self.difference <= TOLERANCE

    def seconds(self, work: Work) -> float | None:
        """Return the median seconds of one image."""
        samples = self.samples.get(work.title)
        return median(samples) if samples else None

    def spread(self, work: Work) -> float | None:
        """Return the median deviation from the median, as a share of it."""
        samples, middle = self.samples.get(work.title), self.seconds(work)
        if not samples or not middle:
            return None
        return median(abs(sample - middle) for sample in samples) / middle

    @property
    def epoch(self) -> float | None:
        """Seconds of an epoch of the default training with distortion and evaluation, projected from its parts."""
        step, answer = self.seconds(EPOCH), self.seconds(EVALUATION)
        if step is None or answer is None:
            return None
        return TRAINING_IMAGES * step + (TRAINING_IMAGES + TEST_IMAGES) * answer
