"""What is known of one trial of a sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Trial:
    """What is known of a trial.

    Attributes
    ----------
    number : from 0, in the order in which trials were begun
    outcome : ``complete``, ``pruned`` (given up by the median), ``hopeless`` (no network, or its cost not finite),
        ``unfinished`` (stopped or lost, and not counted) or ``running``
    drawn : what was drawn for each key of the space
    accuracies : the accuracy on the images held out that each seed ended with
    last : the last accuracy of the first seed, also where it was given up
    epochs : epochs of the first seed
    seconds : from begin to end
    machine : which search ran it
    note : why it was hopeless
    """

    number: int
    outcome: str
    drawn: Mapping[str, Any]
    accuracies: Sequence[float]
    last: float | None
    epochs: int
    seconds: float | None
    machine: str
    note: str

    @property
    def counted(self) -> bool:
        """Whether it is one of the number that the sweep wishes."""
        return self.outcome in ("complete", "pruned", "hopeless")

    @property
    def accuracy(self) -> float | None:
        """Mean over the seeds; None for a trial that is not complete."""
        return mean(self.accuracies) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None where there are not two."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return the complete trials, the best first; of equals, the earlier one."""
    complete = [trial for trial in trials if trial.accuracies]
    return sorted(complete, key=lambda trial: (-mean(trial.accuracies), trial.number))
