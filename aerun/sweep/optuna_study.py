"""The Optuna study file of a search: open it in the launcher, and report epochs to it from the jobs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aerun.base.files import atomic_write, make_subfolder, open_to_write
from aerun.compare.records import read_run
from aerun.contracts import EpochEnd, Observer, RunView
from aerun.errors import ConfigError, PrunedError
from aerun.sweep.optuna_objective import METRIC_KEY, Direction
from aerun.sweep.points import Axis

try:
    import optuna as optuna
except ImportError as error:
    raise ConfigError("hydra/sweeper=optuna: needs Optuna; pip install 'aerun[optuna]'") from error

STUDY, JOURNAL = "sweep", "study.log"
log = logging.getLogger(__name__)
Pruner = tuple[str, int, int]  # its name, the number of first trials that are not pruned, and of first epochs


def open_study(folder: Path, sampler: str, seed: int, directions: Sequence[Direction], pruner: Pruner) -> optuna.Study:
    """Open the study in the folder, or create it. ``directions``: one for each objective."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(folder / JOURNAL)
    seed += _count_trials(storage, directions)  # so that a continued study does not draw the same points again
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar, in Optuna 4
        chosen = samplers[sampler]()
    return optuna.create_study(
        study_name=STUDY,
        storage=storage,
        sampler=chosen,
        pruner=_pruner(*pruner),
        directions=list(directions),
        load_if_exists=True,
    )


def _storage(journal: Path) -> optuna.storages.JournalStorage:
    from optuna.storages.journal import JournalFileBackend

    open_to_write(journal, "ab").close()  # it is no link
    return optuna.storages.JournalStorage(JournalFileBackend(str(journal)))


def _count_trials(storage: optuna.storages.BaseStorage, directions: Sequence[Direction]) -> int:
    """The number of trials of the study; one without any is deleted if its directions are others."""
    if all(study.study_name != STUDY for study in storage.get_all_studies()):
        return 0
    number = storage.get_study_id_from_name(STUDY)
    trials = len(storage.get_all_trials(number))
    if not trials and [found.name.lower() for found in storage.get_study_directions(number)] != list(directions):
        storage.delete_study(number)
    return trials


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


def suggest(trial: optuna.Trial, axis: Axis) -> None:
    """Draw the value of an axis for a trial."""
    if axis.interval is None:
        trial.suggest_categorical(axis.key, [word.partition("=")[2] for word in axis.overrides])
    elif axis.whole:
        trial.suggest_int(axis.key, int(axis.interval[0]), int(axis.interval[1]), log=axis.logarithmic)
    else:
        trial.suggest_float(axis.key, *axis.interval, log=axis.logarithmic)


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


def save_plots(study: optuna.Study, folder: Path, metrics: Sequence[str]) -> list[Path]:
    """Save Optuna's own plots of the study as PNG files, except those that need more trials.

    ``metrics``: those of its objectives. For two there is a plot of the Pareto front, for more none.
    """
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
    if len(metrics) > 1:
        plots = {"pareto_front": lambda study: drawing.plot_pareto_front(study, target_names=list(metrics))}
    if len(metrics) > 2:
        plots = {}
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
