"""The memory of a sweep: an Optuna study in a journal file, which processes and machines share."""

import json
import zlib
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from lenet.errors import LenetError, shown
from lenet.sweep.definition import Choices, Pruning, Range, Sweep
from lenet.sweep.machines import SILENCE, Presence
from lenet.sweep.trial import Trial

JOURNAL = "journal.log"
GRACE = 10
"""Seconds after which the lock that a killed process has left is broken; it is held for milliseconds."""

_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


class Study:
    """The trials of one sweep, as one search sees them.

    Raises
    ------
    LenetError
        When the journal cannot be read, or belongs to another sweep.
    """

    def __init__(self, path: Path, sweep: Sweep, dataset: dict[str, str], presence: Presence) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._presence = presence
        self._distributions = {setting.key: _distribution(setting.space) for setting in sweep.space}
        self._running: dict[int, optuna.Trial] = {}
        file = (path / JOURNAL).absolute()
        try:
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(file), lock_obj=_Lock(file))),
                sampler=_Sampler(sweep.seed),
                pruner=_pruner(sweep.pruning),
                study_name="lenet sweep",
                direction="maximize",
                load_if_exists=True,
            )
            found = self._study.user_attrs
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise LenetError(f"{file} is no journal of a sweep, or damaged: {shown(error)}") from error
        wanted = json.loads(json.dumps({**sweep.identity(), "dataset": dataset}))
        for name, value in wanted.items():
            if found.get(name, value) != value:
                raise LenetError(f"{path} holds a sweep with another {name}; choose another --path")
            if name not in found:
                self._study.set_user_attr(name, value)

    def begin(self) -> tuple[int, dict[str, Any]]:
        """Begin a trial; return its number and what was drawn for each key."""
        trial = self._study.ask(self._distributions)
        trial.set_user_attr("machine", self._presence.name)
        self._running[trial.number] = trial
        return trial.number, trial.params

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Note the accuracy after an epoch, and return whether the trial should go on."""
        trial = self._running[number]
        try:
            trial.report(accuracy, epoch)
            return not trial.should_prune()
        except UpdateFinishedTrialError:  # another search took this one for dead
            return False

    def end(self, number: int, outcome: str, **result: Any) -> bool:
        """Note how a trial ended, and return whether it does count; only the last entry makes it."""
        trial = self._running.pop(number)
        state = {"complete": TrialState.COMPLETE, "unfinished": TrialState.FAIL}.get(outcome, TrialState.PRUNED)
        accuracies = result.get("accuracies")
        try:
            trial.set_user_attr("result", {"outcome": outcome, **result})
            value = sum(accuracies) / len(accuracies) if accuracies else None
            self._study.tell(trial, value, state=state)
        except (UpdateFinishedTrialError, ValueError):  # another search took this one for dead
            return False
        return state in _COUNTED

    def give_up_silent(self) -> None:
        """Mark the trials of searches that died as unfinished."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in self._running and self._silent(trial):
                with suppress(UpdateFinishedTrialError, ValueError):  # another search was faster
                    self._study.tell(trial.number, state=TrialState.FAIL)

    def _silent(self, trial: FrozenTrial) -> bool:
        machine = trial.user_attrs.get("machine")
        if machine is None:  # it is being begun, or its search died just then
            assert trial.datetime_start, "it runs"
            return (datetime.now(trial.datetime_start.tzinfo) - trial.datetime_start).total_seconds() > SILENCE
        return self._presence.silent(machine)

    @property
    def counted(self) -> int:
        """Number of trials that are done."""
        return len(self._study.get_trials(deepcopy=False, states=_COUNTED))

    @property
    def running(self) -> int:
        """Number of trials that run, here and elsewhere."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def trials(self) -> list[Trial]:
        """Return all trials, in the order in which they were begun."""
        return [_trial(trial) for trial in self._study.get_trials(deepcopy=False)]


def _trial(trial: FrozenTrial) -> Trial:
    result = trial.user_attrs.get("result", {})
    outcome = {TrialState.RUNNING: "running", TrialState.FAIL: "unfinished"}.get(trial.state)
    last = trial.last_step
    return Trial(
        number=trial.number,
        outcome=outcome or result["outcome"],
        drawn=trial.params,
        accuracies=result.get("accuracies", ()),
        last=None if last is None else trial.intermediate_values[last],
        epochs=last or 0,
        seconds=trial.duration.total_seconds() if trial.duration else None,
        machine=trial.user_attrs.get("machine", ""),
        note=result.get("note", ""),
    )


def _distribution(space: Range | Choices) -> BaseDistribution:
    if isinstance(space, Choices):
        return CategoricalDistribution(list(space.values))
    if space.whole:
        return IntDistribution(int(space.low), int(space.high), log=space.log, step=int(space.step or 1))
    return FloatDistribution(space.low, space.high, log=space.log, step=space.step)


def _pruner(pruning: Pruning | None) -> BasePruner:
    if pruning is None:
        return NopPruner()
    return MedianPruner(n_startup_trials=pruning.trials, n_warmup_steps=pruning.epochs + 1)


class _Sampler(BaseSampler):
    """Tree-structured Parzen estimator whose random numbers depend only on the seed and on the trials before.

    A search that goes on thus draws what it would have drawn, and two machines never draw the same by chance.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def _sampler(self, study: optuna.Study, trial: FrozenTrial, key: str = "") -> TPESampler:
        before = study.get_trials(deepcopy=False)[: trial.number]
        place = sum(earlier.state != TrialState.FAIL for earlier in before)
        return TPESampler(seed=zlib.crc32(f"{self._seed} {place} {key}".encode()))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._sampler(study, trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


class _Lock(JournalFileOpenLock):
    """The lock of the journal; whoever gets it first cuts off what a crash has left of a line.

    Optuna would append to it, and nothing could read the journal any more.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal), grace_period=GRACE)
        self._journal = journal

    def acquire(self) -> bool:
        held = super().acquire()
        with self._journal.open("rb+") as stream:
            end = stream.seek(0, 2)
            if end:
                stream.seek(end - 1)
                if stream.read(1) != b"\n":
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
        return held
