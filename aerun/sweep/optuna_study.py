"""The Optuna study file of a search: open it in the launcher, and report epochs to it from the jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from aerun.base.files import atomic_write, make_subfolder, open_to_write
from aerun.compare.records import read_run
from aerun.contracts import EpochEnd, Observer, RunView
from aerun.errors import ConfigError, PrunedError
from aerun.sweep.points import Axis

try:
    import optuna as optuna
except ImportError as error:
    raise ConfigError("hydra/sweeper=optuna: needs Optuna; pip install 'aerun[optuna]'") from error

STUDY, JOURNAL, METRIC_KEY = "sweep", "study.log", "hydra.sweeper.metric"
log = logging.getLogger(__name__)
Direction = Literal["minimize", "maximize"]
Pruner = tuple[str, int, int]  # its name, the number of first trials that are not pruned, and of first epochs


def open_study(folder: Path, sampler: str, seed: int, direction: Direction, pruner: Pruner) -> optuna.Study:
    """Open the study in the folder, or create it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(folder / JOURNAL)
    trials = len(storage.get_all_trials(storage.get_study_id_from_name(STUDY))) if _exists(storage) else 0
    seed += trials  # so that a continued study does not draw the same points again
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
    }
    return optuna.create_study(
        study_name=STUDY,
        storage=storage,
        sampler=samplers[sampler](),
        pruner=_pruner(*pruner),
        direction=direction,
        load_if_exists=True,
    )


def _storage(journal: Path) -> optuna.storages.JournalStorage:
    from optuna.storages.journal import JournalFileBackend

    open_to_write(journal, "ab").close()  # it is no link
    return optuna.storages.JournalStorage(JournalFileBackend(str(journal)))


def _exists(storage: optuna.storages.BaseStorage) -> bool:
    return any(study.study_name == STUDY for study in storage.get_all_studies())


def _pruner(name: str, startup: int, warmup: int) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(startup, warmup)
    return optuna.pruners.HyperbandPruner(max(1, warmup)) if name == "hyperband" else optuna.pruners.NopPruner()


def distribution_of(axis: Axis) -> optuna.distributions.BaseDistribution:
    """Optuna's distribution of an axis."""
    if axis.interval is None:
        return optuna.distributions.CategoricalDistribution([word.partition("=")[2] for word in axis.overrides])
    low, high = axis.interval
    if axis.whole:
        return optuna.distributions.IntDistribution(int(low), int(high), log=axis.logarithmic)
    return optuna.distributions.FloatDistribution(low, high, log=axis.logarithmic)


def run_metric(folder: Path, metric: str) -> float:
    """The metric of a finished run, as a comparison shows it: of its best epoch, or in its summary.

    ConfigError if it has neither.
    """
    numbers = read_run(folder).numbers
    if metric not in numbers:
        raise ConfigError(f"{METRIC_KEY}={metric}: runs do not have this number. Known: {', '.join(numbers)}")
    return numbers[metric]


class Pruning(Observer):
    """In a job: reports each epoch's metric to the study, and ends the run if the study prunes it."""

    def __init__(self, trial: Mapping[str, Any]) -> None:
        self.trial = dict(trial)
        study = optuna.load_study(
            study_name=STUDY, storage=_storage(Path(trial["journal"])), pruner=_pruner(*trial["pruner"])
        )
        frozen = next(known for known in study.get_trials(deepcopy=False) if known.number == trial["number"])
        self._handle = optuna.trial.Trial(study, frozen._trial_id)
        self._reported = set(frozen.intermediate_values)

    def begin(self, run: RunView) -> None:
        self._is_last = run.is_last  # metrics of different stages cannot be compared

    def epoch(self, end: EpochEnd) -> None:
        """Report the epoch. PrunedError if the study prunes the run; ConfigError if runs do not have the metric."""
        if not end.evaluated or end.ended or not self._is_last:
            return
        metric, epoch, numbers = self.trial["metric"], end.epoch, end.numbers
        if metric not in numbers:
            raise ConfigError(f"{METRIC_KEY}={metric}: runs do not have this number. Known: {', '.join(numbers)}")
        if epoch not in self._reported:
            self._handle.report(numbers[metric], epoch)
        if self._handle.should_prune():
            raise PrunedError(
                f"pruned after epoch {epoch}: {metric} {numbers[metric]:.6g} is worse than other trials had by then"
            )


def save_plots(study: optuna.Study, folder: Path) -> list[Path]:
    """Save Optuna's own plots of the study as PNG files, except those that need more trials."""
    import warnings

    import matplotlib
    import numpy as np

    backend = matplotlib.get_backend()  # of a notebook, say
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawing

    plots: dict[str, Callable[[optuna.Study], Any]] = {
        "optimization_history": drawing.plot_optimization_history,
        "param_importances": drawing.plot_param_importances,
        "parallel_coordinate": drawing.plot_parallel_coordinate,
        "slice": drawing.plot_slice,
        "intermediate_values": drawing.plot_intermediate_values,
    }
    make_subfolder(folder.parent, folder.name)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings about small studies are not useful
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    written = []
    for name, plot in plots.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                axes = plot(study)
        except (ValueError, RuntimeError) as error:
            log.info("no plot %s of the study: %s", name, error)
            continue
        first = axes.flat[0] if isinstance(axes, np.ndarray) else axes
        figure = first.get_figure()
        figure.set_size_inches(10, 5)
        with atomic_write(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=100, bbox_inches="tight")
        pyplot.close(figure)
        written.append(folder / f"{name}.png")
    matplotlib.use(backend)
    return written
