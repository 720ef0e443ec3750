"""The search: workers kept busy until enough trials are done, here and on other machines."""

from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from lenet.errors import LenetError
from lenet.stopping import held_back
from lenet.sweep.definition import Sweep
from lenet.sweep.machines import SILENCE, Presence
from lenet.sweep.report import progress
from lenet.sweep.study import Study
from lenet.sweep.worker import Broken, Done, Epoch, Hopeless, Place, Worker

TURN = 1.0
"""Seconds after which the search looks for others, if its workers say nothing."""

ROUNDS = 3
"""The search ends when so many trials in a row are lost for each job: something is wrong with all of them."""


class Search:
    """The trials that this machine runs.

    Parameters
    ----------
    sweep, study, presence
    place : what is trained on
    jobs : trials at a time
    tell : prints a line
    """

    def __init__(
        self, sweep: Sweep, study: Study, presence: Presence, place: Place, jobs: int, tell: Callable[[str], None]
    ) -> None:
        self._sweep, self._study, self._presence = sweep, study, presence
        self._place, self._jobs, self._tell = place, jobs, tell
        self._idle: list[Worker] = []
        self._busy: dict[Worker, int] = {}
        self._lost = 0

    def run(self) -> None:
        """Run trials until so many are done as the sweep wishes; whatever ends it, none is left half done.

        Raises
        ------
        LenetError
            When a worker meets what every other would meet too, or trials are lost again and again.
        """
        waiting = False
        try:
            while True:
                with held_back():  # the journal is never left within an entry
                    self._presence.renew()
                    self._study.give_up_silent()
                    self._begin()
                    if not self._busy and self._study.counted >= self._sweep.trials:
                        return
                    if not self._busy and not waiting:
                        self._tell(f"waiting for trials of other searches (given up if silent for {SILENCE:.0f} s)")
                    waiting = not self._busy
                ready = wait([worker.pipe for worker in self._busy], TURN)
                with held_back():
                    for worker in [worker for worker in self._busy if worker.pipe in ready]:
                        self._hear(worker)
        finally:
            with held_back():
                for worker in (*self._idle, *self._busy):
                    worker.kill()
                for number in self._busy.values():
                    self._study.end(number, "unfinished")

    def _begin(self) -> None:
        study = self._study
        while len(self._busy) < self._jobs and study.counted + study.running < self._sweep.trials:
            number, drawn = study.begin()
            worker = self._idle.pop() if self._idle else Worker(self._place)
            self._busy[worker] = number
            worker.start(self._sweep.settings(drawn), self._sweep.seeds)

    def _hear(self, worker: Worker) -> None:
        match worker.hear():
            case Epoch(seed, epoch, accuracy):
                # One seed shows what is hopeless; the epochs of the others would compare with those of no other trial.
                wanted = seed > 1 or self._study.report(self._busy[worker], epoch, accuracy)
                worker.go_on(wanted)
                if not wanted:
                    self._end(worker, "pruned")
            case Done(accuracies):
                self._end(worker, "complete", accuracies=accuracies)
            case Hopeless(reason):
                self._end(worker, "hopeless", note=reason)
            case Broken(reason, expected=True):
                raise LenetError(reason)
            case Broken(reason):
                self._lose(worker, reason)
            case None:
                self._lose(worker, "its process was killed")

    def _end(self, worker: Worker, outcome: str, **result: Any) -> None:
        number = self._busy.pop(worker)
        self._idle.append(worker)
        self._lost = 0
        if self._study.end(number, outcome, **result):
            self._tell(progress(self._study.trials(), number, self._sweep))

    def _lose(self, worker: Worker, reason: str) -> None:
        """Give a trial up that ended with its worker: another one takes its place."""
        number = self._busy.pop(worker)
        worker.kill()
        self._study.end(number, "unfinished")
        self._lost += 1
        self._tell(f"trial {number} is lost and does not count: {reason}")
        if self._lost == ROUNDS * self._jobs:
            raise LenetError(f"{self._lost} trials in a row were lost, the last one because {reason}")
