"""An Optuna study in a file, as its launcher and its jobs see it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from aerun.contracts import EpochEnd, Observer, RunView
from aerun.errors import ConfigError, PrunedError

try:
    import optuna as optuna
except ImportError as error:
    raise ConfigError("hydra/sweeper=optuna: needs Optuna; pip install 'aerun[optuna]'") from error

STUDY, JOURNAL, METRIC = "sweep", "study.log", "hydra.sweeper.metric"
log = logging.getLogger(__name__)
Direction = Literal["minimize", "maximize"]
Pruner = tuple[str, int, int]  # its name, trials that are not pruned, and epochs of each that are not


def open_study(folder: Path, sampler: str, seed: int, direction: Direction, pruner: Pruner) -> optuna.Study:
    """The folder's study, new or as it was left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(folder / JOURNAL)
    known = len(storage.get_all_trials(storage.get_study_id_from_name(STUDY))) if _exists(storage) else 0
    seed += known  # a continued study should not draw the same points again
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

    return optuna.storages.JournalStorage(JournalFileBackend(str(journal)))


def _exists(storage: optuna.storages.BaseStorage) -> bool:
    return any(study.study_name == STUDY for study in storage.get_all_studies())


def _pruner(name: str, startup: int, warmup: int) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(startup, warmup)
    return optuna.pruners.HyperbandPruner(max(1, warmup)) if name == "hyperband" else optuna.pruners.NopPruner()


class Pruning(Observer):
    """In the job: reports each epoch's metric to the study, and ends the run if the study says so."""

    def __init__(self, trial: Mapping[str, Any]) -> None:
        self.trial = dict(trial)
        study = optuna.load_study(
            study_name=STUDY, storage=_storage(Path(trial["journal"])), pruner=_pruner(*trial["pruner"])
        )
        frozen = next(known for known in study.get_trials(deepcopy=False) if known.number == trial["number"])
        self._handle = optuna.trial.Trial(study, frozen._trial_id)
        self._told = set(frozen.intermediate_values)

    def begin(self, run: RunView) -> None:
        self._is_last = run.is_last  # errors of different stages do not compare

    def epoch(self, end: EpochEnd) -> None:
        """PrunedError if the study prunes the run; ConfigError for a metric that runs do not have."""
        if not end.evaluated or end.ended or not self._is_last:
            return
        metric, epoch, numbers = self.trial["metric"], end.epoch, end.numbers
        if metric not in numbers:
            raise ConfigError(f"{METRIC}={metric}: a run has no such number. Known: {', '.join(numbers)}")
        if epoch not in self._told:
            self._handle.report(numbers[metric], epoch)
        if self._handle.should_prune():
            raise PrunedError(
                f"pruned after epoch {epoch}: {metric} {numbers[metric]:.6g} is worse than others had by then"
            )


def plots(study: optuna.Study, folder: Path) -> list[Path]:
    """Optuna's own pictures of a study, as PNG files; those that it is too small for are left out."""
    import warnings

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawing

    folder.mkdir(exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # that a study is too small for a picture is no news
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    written = []
    for name in ("optimization_history", "param_importances", "parallel_coordinate", "slice", "intermediate_values"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                axes = getattr(drawing, f"plot_{name}")(study)
        except (ValueError, RuntimeError) as error:
            log.info("no picture %s of the study: %s", name, error)
            continue
        first = axes.flat[0] if hasattr(axes, "flat") else axes
        figure = first.get_figure()
        figure.set_size_inches(10, 5)
        figure.savefig(folder / f"{name}.png", dpi=100, bbox_inches="tight")
        pyplot.close(figure)
        written.append(folder / f"{name}.png")
    return written
