"""What a search draws, and its results for several metrics. Nothing is trained here."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="needs aerun[optuna]")

from aerun.errors import ConfigError
from aerun.sweep.composer import Composer
from aerun.sweep.job import Job
from aerun.sweep.job_index import JobIndex, read_job_index
from aerun.sweep.optuna_front import EXCLUDED, format_best, pareto_front
from aerun.sweep.optuna_objective import Objective
from aerun.sweep.optuna_search import OptunaSearch
from aerun.sweep.points import axes
from tests.sweep.conftest import MakeComposer
from tests.sweep.test_optuna_check import SETTINGS, write_run

optuna: Any = pytest.importorskip("optuna")
BOTH = {"metric": ["validation/mse", "validation/psnr"], "direction": None, "sampler": "nsgaii"}
SPACE = ["optimizer.lr=interval(0.001,0.1)"]


def open_search(
    folder: Path, composer: Composer, words: list[str] = SPACE, where: str | None = None, **keys: Any
) -> OptunaSearch:
    index = read_job_index(folder) or JobIndex(folder.name, [], {}, {})
    settings = type(SETTINGS)(**{**vars(SETTINGS), **keys})
    return OptunaSearch(settings, axes(words, composer.parser), composer, index, folder, True, where)


def write_results(job: Job, mse: float, psnr: float) -> None:
    write_run(job, mse)
    line = {"epoch": 1, "step": 1, "validation/mse": mse, "validation/psnr": psnr}
    (job.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii"])
def test_keys_are_drawn_only_for_options_that_have_them(
    make_composer: MakeComposer, tmp_path: Path, sampler: str
) -> None:
    words = [
        "sparsity.k=choice(2,4)",
        "sparsity=none,topk,l1",
        "model=choice(fc,conv_fc)",
        "model.kernel_size=choice(3,5)",
    ]
    words += ["noise=choice(none,gaussian)", "noise.variance=interval(0.1,0.5)", "seed=0"]
    search = open_search(tmp_path, make_composer(()), words, sampler=sampler)
    kept, seen = set[tuple[str, ...]](), set[str]()
    for _ in range(20):
        trial = search.ask()
        [point] = search.points(trial)
        assert point.error is None, point.error
        assert {word.partition("=")[0] for word in point.overrides} == {*trial.params, "seed"}  # nothing left out
        for key, option in (("sparsity.k", "topk"), ("model.kernel_size", "conv_fc"), ("noise.variance", "gaussian")):
            assert (key in trial.params) == (trial.params[key.partition(".")[0]] == option)
            seen |= {key} & trial.params.keys()
        kept.add(tuple(trial.params))
        search.study.tell(trial, random.Random(trial.number).random())
    assert len(seen) == 3 and len(kept) > 3
    assert not [trial for trial in search.study.get_trials() if search._differing_keys(trial)]


def test_trials_of_older_code_have_all_keys(make_composer: MakeComposer, tmp_path: Path) -> None:
    search = open_search(tmp_path, make_composer(()), ["sparsity=none,topk", "sparsity.k=2,4"])
    params = {"sparsity": "none", "sparsity.k": "2"}
    search.study.add_trial(optuna.trial.create_trial(params=params, distributions=search.distributions, value=1.0))
    [trial] = search.study.get_trials()
    assert search._differing_keys(trial) == [] and search.points(trial)[0].overrides == ["sparsity=none"]
    for params, differing in (
        ({"sparsity": "topk"}, ["sparsity.k"]),
        ({"sparsity": "none"}, []),
        ({"sparsity": "none", "seed": 1}, ["seed"]),
    ):
        frozen = optuna.trial.create_trial(
            params=params,
            distributions={key: optuna.distributions.CategoricalDistribution([value]) for key, value in params.items()},
            value=1.0,
        )
        assert search._differing_keys(frozen) == differing


def test_a_search_draws_only_what_meets_the_condition(make_composer: MakeComposer, tmp_path: Path) -> None:
    words = ["model.code_size=choice(8,16,32,64)", "sparsity=topk", "sparsity.k=choice(2,4,8)"]
    search = open_search(tmp_path, make_composer(()), words, "model.code_size<=sparsity.k*4", trials=20)
    for _ in range(20):
        trial = search.ask()
        assert int(trial.params["model.code_size"]) <= 4 * int(trial.params["sparsity.k"])
        search.study.tell(trial, 1.0)
    excluded = [trial for trial in search.study.get_trials() if EXCLUDED in trial.user_attrs]
    assert excluded and {trial.state.name for trial in excluded} == {"PRUNED"}
    assert search._draw() == (None, 0)  # those that were excluded do not count


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("model.code_size>64", "none of 1000 draws from the search space meets it"),
        ("model.codesize>6", "no point has model.codesize. Did you mean 'model.code_size'?"),
    ],
)
def test_a_condition_that_cannot_work_ends_a_search_before_it_begins(
    make_composer: MakeComposer, tmp_path: Path, where: str, says: str
) -> None:
    with pytest.raises(ConfigError) as error:
        open_search(tmp_path, make_composer(()), ["model.code_size=choice(8,16)"], where)
    assert says in str(error.value) and not list(tmp_path.iterdir())


def test_the_front_is_what_no_trial_dominates() -> None:
    """Compared pair by pair."""
    draw = random.Random(0)
    goals = [Objective("a", "minimize"), Objective("b", "maximize"), Objective("c", "minimize")]
    for count in (1, 2, 30):
        values = [tuple(draw.randint(0, 6) / 2 for _ in goals) for _ in range(count)]
        better = [(a, -b, c) for a, b, c in values]  # lower is better in each
        expected = {
            number
            for number, own in enumerate(better)
            if not any(all(x <= y for x, y in zip(o, own, strict=True)) and o != own for o in better)
        }
        results = [(optuna.trial.create_trial(values=list(each)), [job(str(i))]) for i, each in enumerate(values)]
        front = pareto_front(goals, results)
        assert {int(jobs[0].name) for _, jobs in front} == expected
        assert format_best(goals, results).count("\n") == 1 + len(front)


def job(name: str) -> Job:
    return Job(name, Path(name), {}, {}, [], {"run": name}, name)


def test_a_search_for_two_metrics_is_continued_as_itself_only(composer: Composer, tmp_path: Path) -> None:
    search = open_search(tmp_path, composer, **BOTH)
    assert [objective.direction for objective in search.objectives] == ["minimize", "maximize"]
    for values in ((0.2, 7.0), (0.1, 5.0), (0.3, 6.0)):
        trial = search.ask()
        jobs = search._jobs(search.points(trial), trial.number)
        search.index.add(jobs)
        search._pending[trial.number] = jobs
        for each in jobs:
            assert each.trial is None  # nothing is pruned
            write_results(each, *values)
        search._finish_trial(trial.number)
    search.index.write(tmp_path)
    assert [trial.values for trial in search.study.get_trials()] == [[0.2, 7.0], [0.1, 5.0], [0.3, 6.0]]
    names = list(search.index.jobs)
    again = open_search(tmp_path, composer, **BOTH)
    head, title, *rows = again.best().splitlines()
    assert "3 trials" in head and title.split() == ["validation/mse", "↓", "validation/psnr", "↑", "run", "folder"]
    assert [row.split()[:2] + row.split()[-1:] for row in rows] == [["0.1", "5", names[1]], ["0.2", "7", names[0]]]
    again.save()
    assert (tmp_path / "study" / "pareto_front.png").stat().st_size > 1000
    with (tmp_path / "study" / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [line["on_front"] for line in table] == ["true", "true", "false"]
    assert [(line["validation/mse"], line["runs"]) for line in table] == list(
        zip(["0.2", "0.1", "0.3"], names, strict=True)
    )
    for keys, named in (
        ({"metric": ["validation/psnr", "validation/mse"]}, "hydra.sweeper.metric"),
        ({"metric": ["validation/mse", "validation/input_psnr"]}, "hydra.sweeper.metric"),
        ({"metric": "validation/mse"}, "hydra.sweeper.metric"),
        ({"direction": ["minimize", "minimize"]}, "hydra.sweeper.direction"),
    ):
        with pytest.raises(ConfigError, match=rf"another search, which differs in {named}"):
            open_search(tmp_path, composer, **{**BOTH, **keys})


def test_a_study_without_trials_takes_another_direction(composer: Composer, tmp_path: Path) -> None:
    assert len(open_search(tmp_path, composer).study.directions) == 1
    assert [found.name for found in open_search(tmp_path, composer, **BOTH).study.directions] == [
        "MINIMIZE",
        "MAXIMIZE",
    ]
    assert [found.name for found in open_search(tmp_path, composer).study.directions] == ["MINIMIZE"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii"])
def test_a_search_opens_without_warnings(
    composer: Composer, tmp_path: Path, sampler: str, recwarn: pytest.WarningsRecorder
) -> None:
    open_search(tmp_path, composer, sampler=sampler)
    assert not [warning for warning in recwarn if "optuna" in str(warning.category)]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"metric": []}, "metric=[]: must be one metric"),
        ({"metric": ["a", "a"]}, "must be one metric, or several different ones"),
        ({"direction": ["minimize"], "metric": ["a", "b"]}, "direction=[minimize]: must be one for each of 2 metrics"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as error:
        type(SETTINGS)(**{**vars(SETTINGS), **keys})
    assert says in str(error.value)


def test_what_is_said_before_work_begins(composer: Composer, tmp_path: Path) -> None:
    search = open_search(tmp_path, composer, metric=["validation/mse", "test/mes"], direction=None, pruner="median")
    first, second = search.notes()
    assert first.startswith("hydra.sweeper.metric=test/mes: nothing declares this metric. Did you mean 'mse'?")
    assert second == "hydra.sweeper.pruner: no run is stopped early in a search with several metrics"
