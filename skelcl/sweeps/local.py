"""Runs a sweep on this machine: trials are drawn, started, stopped early, and go on after a kill."""

from __future__ import annotations

import math
import random
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from skelcl.errors import InputError
from skelcl.files import atomic_write
from skelcl.sweeps.definition import Sweep
from skelcl.sweeps.trial import TrialRun, logged, objective

if TYPE_CHECKING:
    import optuna

POLL = 0.2
"""Seconds between two looks at the trials."""
MAX_FIRST_FAILURES = 3
"""So many failed trials before any succeeded end the sweep."""


@dataclass(frozen=True)
class Result:
    """A trial as it stands.

    Args:
        number: From 0 on.
        state: ``complete``, ``stopped`` (early), ``failed`` or ``interrupted``.
        values: Options and their values.
        objective: Its last value; None before the first.
        measured: How often it was measured.
        folder: Of the trial.
    """

    number: int
    state: str
    values: Mapping[str, Any]
    objective: float | None
    measured: int
    folder: Path


class LocalSweep:
    """A sweep in a folder.

    The folder holds ``sweep.yaml``, the trials in ``trial_000`` … and ``study.db``, Optuna's record of what was drawn
    and what came of it; a trial that has ended is told there once. What a grid or random search tries depends on
    nothing but the trial's number. The objective of a trial is its last value: nothing is selected among epochs.

    Args:
        sweep: What to run.
        folder: A new one, or that of the same sweep.
        say: Takes lines on what happens.

    Raises:
        InputError: If the folder belongs to another sweep or is in use, or Optuna is not installed.
    """

    def __init__(self, sweep: Sweep, folder: Path, say: Callable[[str], object] = print) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise InputError("a local sweep needs Optuna: pip install 'skelcl[sweep]'") from error
        self.sweep, self.folder, self.say = sweep, folder, say
        self.failed: dict[int, str] = {}
        self._take_folder()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if sweep.early is not None:
            # W&B's rule: of all that got to η⁰, η¹, η² … times min_iter measurements, the best 1/η go on.
            first, eta = sweep.early
            pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=eta)
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
        self._study = optuna.create_study(
            study_name="sweep",
            storage=self._storage,
            direction="maximize" if sweep.maximize else "minimize",
            pruner=pruner,
            load_if_exists=True,
        )

    def _take_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # The system itself gives this lock back when its holder is killed.
        self._lock = sqlite3.connect(self.folder / "lock", timeout=0, isolation_level=None)
        try:
            self._lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise InputError(f"{self.folder}: another `skelcl sweep` is at work here") from error
        kept = self.folder / "sweep.yaml"
        if not kept.is_file():
            with atomic_write(kept) as part:
                part.write_text(yaml.safe_dump(dict(self.sweep.content), sort_keys=False), encoding="utf-8")
        elif yaml.safe_load(kept.read_text(encoding="utf-8")) != self.sweep.content:
            raise InputError(f"{self.folder}: holds another sweep than {self.sweep.path}; name a new --folder")

    def close(self) -> None:
        """Give the folder back."""
        self._storage.remove_session()
        self._storage.engine.dispose()
        self._lock.close()

    def run(self, count: int | None = None, jobs: int = 1) -> None:
        """Run trials until there are ``count``, those of earlier calls included.

        Args:
            count: Trials in all; None for the whole grid, or the ``run_cap`` of the file.
            jobs: Trials at a time.

        Raises:
            InputError: If the sweep has no end.
        """
        total = self._total(count)
        running: dict[int, tuple[optuna.Trial, TrialRun]] = {}
        try:
            while True:
                while len(running) < jobs and (trial := self._next(total, running)) is not None:
                    values = self._values(self._draw(trial))
                    self.say(f"trial {trial.number}: {' '.join(f'{key}={value}' for key, value in values.items())}")
                    run = TrialRun(self._folder(trial.number), self.sweep.arguments(values))
                    running[trial.number] = trial, run
                if not running:
                    return
                time.sleep(POLL)
                for number, (trial, run) in list(running.items()):
                    if self._ended(trial, run):
                        del running[number]
        finally:
            for _, run in running.values():
                run.stop()

    def results(self) -> list[Result]:
        """All trials, the best first, then those stopped early, then those without an end."""
        found = []
        for trial in self._study.get_trials(deepcopy=False):
            state = {"COMPLETE": "complete", "PRUNED": "stopped"}.get(trial.state.name)
            state = state or ("failed" if trial.number in self.failed else "interrupted")
            folder = self._folder(trial.number)
            measured = objective(folder, self.sweep.metric)
            last = measured[-1] if measured else None
            found.append(Result(trial.number, state, self._values(trial.params), last, len(measured), folder))
        order = ("complete", "stopped", "interrupted", "failed")

        def rank(one: Result) -> tuple[int, float, int]:
            value = math.inf if one.objective is None or math.isnan(one.objective) else one.objective
            if self.sweep.maximize and value != math.inf:
                value = -value
            return order.index(one.state), value, one.number

        return sorted(found, key=rank)

    def _folder(self, number: int) -> Path:
        return self.folder / f"trial_{number:03d}"

    def _total(self, count: int | None) -> int:
        limits = [limit for limit in (count, self.sweep.run_cap) if limit is not None]
        if self.sweep.method == "grid":
            limits.append(math.prod(self._sizes().values()))
        if not limits:
            raise InputError(f"{self.sweep.path}: a {self.sweep.method} search has no end of its own; say --count N")
        return min(limits)

    def _next(self, total: int, running: Mapping[int, object]) -> optuna.Trial | None:
        """The trial to start: one that was interrupted or failed in an earlier call, else a new one, else None."""
        import optuna

        trials = self._study.get_trials(deepcopy=False)
        if len(self.failed) >= MAX_FIRST_FAILURES and not any(trial.state.name == "COMPLETE" for trial in trials):
            return None
        for trial in trials:
            if trial.state.name == "RUNNING" and trial.number not in running and trial.number not in self.failed:
                study = self._storage.get_study_id_from_name(self._study.study_name)
                return optuna.Trial(
                    self._study, self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
                )
        waiting = any(trial.state.name == "WAITING" for trial in trials)  # planned, then the sweep was killed
        if not waiting and len(trials) >= total:
            return None
        if self.sweep.method == "bayes":
            self._study.sampler = optuna.samplers.TPESampler(seed=len(trials))
        elif not waiting:
            self._study.enqueue_trial(self._planned(len(trials)))
        return self._study.ask()

    def _planned(self, number: int) -> dict[str, Any]:
        """The draw of a grid or random search: an index of each choice, a point of 0…1 of everything else."""
        sizes = self._sizes()
        if self.sweep.method == "grid":
            return dict(zip(sizes, next(islice(product(*map(range, sizes.values())), number, None)), strict=True))
        points = {one.key: random.Random(f"{number} {one.key}").random() for one in self.sweep.parameters}
        return {key: int(point * sizes[key]) if key in sizes else point for key, point in points.items()}

    def _sizes(self) -> dict[str, int]:
        """Number of values of each parameter that is an even choice, or has to be tried with each of its values."""
        grid = self.sweep.method == "grid"
        return {one.key: len(one.values) for one in self.sweep.parameters if one.values and (grid or not one.quantile)}

    def _draw(self, trial: optuna.Trial) -> dict[str, Any]:
        """What was planned or drawn for a trial, or is drawn now."""
        sizes, keys = self._sizes(), [one.key for one in self.sweep.parameters]
        return {
            key: trial.suggest_categorical(key, range(sizes[key])) if key in sizes else trial.suggest_float(key, 0, 1)
            for key in keys
        }

    def _values(self, draw: Mapping[str, Any]) -> dict[str, Any]:
        """Options and their values, of as many as were drawn."""
        values: dict[str, Any] = {}
        sizes = self._sizes()
        for one in self.sweep.parameters:
            if one.key in sizes and one.key in draw:
                values[one.key] = (one.values or ())[draw[one.key]]
            elif one.key in draw and one.quantile is not None:
                values[one.key] = one.quantile(draw[one.key])
        return values

    def _ended(self, trial: optuna.Trial, run: TrialRun) -> bool:
        """Tell Optuna what a trial has logged since the last look; whether it has ended."""
        import optuna

        code = run.code  # asked first: what it logs before its end is then seen
        values = objective(run.folder, self.sweep.metric)
        known = len(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        for step, value in enumerate(values[known:], known + 1):
            trial.report(value, step)
            if code is None and trial.should_prune():
                run.stop()
                self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                self.say(f"trial {trial.number}: stopped early, {self.sweep.metric} {value:.4g} at measurement {step}")
                return True
        if code is None:
            return False
        run.stop()
        if code == 0 and values and math.isfinite(values[-1]):
            self._study.tell(trial, values[-1])
            self.say(f"trial {trial.number}: {self.sweep.metric} {values[-1]:.4g}")
        else:
            # Not told to Optuna: the trial stays open, and the next call tries it again.
            self.failed[trial.number] = self._why(run, code, values)
            self.say(f"trial {trial.number}: failed: {self.failed[trial.number]}")
        return True

    def _why(self, run: TrialRun, code: int, values: list[float]) -> str:
        log = run.folder / "log.txt"
        if code:
            return f"{run.complaint()} ({log})"
        if values:
            return f"{self.sweep.metric} is {values[-1]} ({log})"
        names = ", ".join(logged(run.folder)) or "nothing"
        return f"{self.sweep.metric} was not measured; the run logs {names} ({log})"
