"""Forms of words and values that people bring from shells and from Hydra's documentation."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from aerun.base.conf import conf_dir
from aerun.cli.hydra_flags import FLAGS_WITH_VALUE
from aerun.config.compose import initialized_hydra, run_config
from aerun.config.explain import compose_choices, compose_explained, explain, not_chosen
from aerun.config.override_syntax import expand_words
from aerun.config.parse import parse
from aerun.config.settings import GROUPS, SEVERAL
from aerun.contracts import TrackedRun
from aerun.errors import ConfigError
from aerun.python.sweep import _place
from aerun.python.words import OF_SWEEPS, check_words
from aerun.runs.schedule_notes import has_no_effect, warn_of_jump
from aerun.scheduler import MultiStep, Plateau
from aerun.sweep.sweep_settings import parse_sweep_settings
from aerun.tracker import TensorBoard

TEXTS = ["3", "-2", "1e-3", "0.5", "true", "null", "auto", "1_000", "007", "nan", "a b", "{x", ""]
Compose = Callable[[list[str]], dict[str, Any]]
SWEEP = {
    "where": None,
    "invalid": "fail",
    "dry_run": False,
    "retry_failed": True,
    "max_failures": None,
    "fail_fast": False,
    "gpus": [],
}


@pytest.mark.parametrize("flag", sorted(flag for flag in FLAGS_WITH_VALUE if flag.startswith("--")))
def test_the_home_folder_after_a_flag(flag: str) -> None:
    assert expand_words([f"{flag}=~/x", f"{flag}=~", "dataset.root=~/x"]) == [
        f"{flag}={Path.home()}/x",
        f"{flag}={Path.home()}",
        f"dataset.root={Path.home()}/x",
    ]
    assert expand_words([f"{flag}=a~/x", "~noise", "~/x"]) == [f"{flag}=a~/x", "~noise", "~/x"]


@pytest.mark.parametrize("name", ["plain", "my conf", "it's", "a,b", "größe"])
@pytest.mark.parametrize("form", ["--config-dir={}", "-cd={}", "--config-dir {}"])
def test_a_folder_of_configurations_of_any_name(name: str, form: str, tmp_path: Path) -> None:
    (tmp_path / name / "model").mkdir(parents=True)
    (tmp_path / name / "model" / "mine.yaml").write_text("defaults: [fc, _self_]\nmy_own_key: 7\n")
    flag = form.split(" ")[0].format(tmp_path / name)
    words = [flag, *([str(tmp_path / name)] if " {}" in form else []), "model=mine", "optimizer.lrr=1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compose_choices(words)["model"]["my_own_key"] == 7


@pytest.mark.parametrize("group", [*GROUPS, "experiment"])
def test_a_group_with_a_plus_is_refused_with_the_word_to_type(group: str) -> None:
    option = min(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    with pytest.raises(ConfigError, match=rf"^\+{group}={option}: .*write {group}={option}$"):
        compose_explained([f"+{group}={option}"])


@pytest.mark.parametrize("group", SEVERAL)
def test_a_key_of_an_option_that_is_not_chosen_names_the_words_that_choose_it(group: str) -> None:
    for path in (conf_dir() / group).glob("*.yaml"):
        keys = [key for key in yaml.safe_load(path.read_text()) or {} if key not in ("_target_", "defaults")]
        for key in keys[:1]:
            word = f"{group}.{path.stem}.{key}"
            found = not_chosen(word, {group: {"other": {}}}, [])
            assert found == f"{word}: {group}={path.stem} is not chosen; {group}=[other,{path.stem}] adds it"
            assert not_chosen(word, {group: {path.stem: {key: 1}}}, []) is None


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (
            "tracker.mlflow.uri=x",
            "tracker.mlflow.uri: tracker=mlflow is not chosen; tracker=[tensorboard,mlflow] adds it",
        ),
        ("protocol.knn.k=3", "protocol.knn.k: protocol=knn is not chosen; protocol=knn adds it"),
        ("tracker.mlflow.url=x", "Did you mean 'uri'? Allowed in tracker.mlflow: uri, experiment, wait_seconds"),
        ("tracker.mlfow.uri=x", "tracker=mlfow: there is no such option. Did you mean 'mlflow'?"),
        (
            "schedule.patience=1",
            "This group changes numbers other than the learning rate, which has the group scheduler",
        ),
        ("scheduler.start=1", "This group sets the learning rate; other numbers have the group schedule"),
        ("schedule=plateau", "linear, none, steps. This group changes numbers other than the learning rate, which has"),
        ("scheduler=linear", "plateau. This group sets the learning rate; other numbers have the group schedule"),
        ("scheduler=[linear]", "scheduler=linear: there is no such option. Did you mean 'cosine'?"),
        ("seeed=1", "seeed: there is no such key. Did you mean 'seed'? Allowed: "),
        ("sparsity.topk.k=3", "sparsity.topk.k: there is no such key. Did you mean 'sparsity.activation'?"),
    ],
)
def test_a_key_below_a_name_that_is_not_there(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        compose_explained([word])


def test_a_sweep_shows_no_single_configuration() -> None:
    raised = Exception("Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified")
    assert "--cfg shows the configuration of one run: without -m" in str(explain(raised, ["-m", "--cfg", "job"]))


@pytest.mark.parametrize("name", ["2026", "1.5", "1e3", "true", "grid"])
def test_a_sweeps_name_may_look_like_another_type(name: str) -> None:
    [word] = check_words([f"sweep.name={name}"], OF_SWEEPS)
    assert _place([f"sweep.name={name}"], None)[1].name == name
    with initialized_hydra() as hydra:
        config = hydra.compose_config("train", [word], run_mode=RunMode.MULTIRUN)
    assert parse_sweep_settings(OmegaConf.to_container(config.sweep)).name == name


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_of_the_environment_is_what_it_is_when_typed(
    text: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALUE", text)
    plain = text not in ("a b", "{x", "")
    typed = compose(["model=fc", f"optimizer.lr={text}", f"model.hidden=[1,{text}]"]) if plain else None
    found = compose(["model=fc", "optimizer.lr=${oc.env:VALUE}", "model.hidden=[1,${oc.env:VALUE}]"])
    wanted = (text, [1, text]) if typed is None else (typed["optimizer"]["lr"], typed["model"]["hidden"])
    assert repr((found["optimizer"]["lr"], found["model"]["hidden"])) == repr(wanted)
    assert compose(["optimizer.lr=${oc.env:ABSENT,0.25}"])["optimizer"]["lr"] == 0.25
    assert compose(["init_from='x_${oc.env:VALUE}'"])["init_from"].endswith(f"x_{text}")  # a part of a text


@pytest.mark.parametrize("option", [path.stem for path in sorted((conf_dir() / "scheduler").glob("*.yaml"))])
@pytest.mark.parametrize("epochs", [1, 3, 16, 30])
def test_a_schedule_without_effect_is_said(option: str, epochs: int, compose: Compose) -> None:
    """Against every step; a plateau depends on losses that are not known before, and no schedule says nothing."""
    schedule = parse(compose([f"scheduler={option}", "trainer.epochs=100"])).scheduler
    steps = range(epochs * 7)
    constant = all(schedule.multiplier(step, total_steps=len(steps), steps_per_epoch=7) == 1 for step in steps)
    assert has_no_effect(schedule, len(steps), 7) == (
        constant and not isinstance(schedule, Plateau) and option != "none"
    )
    assert has_no_effect(MultiStep([50, 80], 0.1), 7, 7) and not has_no_effect(MultiStep([50, 80], 0.1), 51 * 7, 7)


@pytest.mark.parametrize(
    ("words", "jumps"),
    [
        (["scheduler=cosine"], True),
        (["scheduler=multistep"], False),
        (["scheduler=plateau"], False),
        (["scheduler=none"], False),
    ],
)
def test_a_longer_run_says_that_its_rate_jumps(
    words: list[str], jumps: bool, compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    settings = parse(compose([*words, "trainer.epochs=40"]), {"scheduler": words[0].partition("=")[2]})
    warn_of_jump(settings, 20)
    assert ("continues at 0.5" in caplog.text) == jumps == bool(caplog.records)
    caplog.clear()
    warn_of_jump(settings, 40)  # as long as it was
    assert not caplog.text


def test_each_column_of_the_hyperparameters_has_one_type(tmp_path: Path) -> None:
    """``trainer.graph=auto,false`` is text in both runs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    kinds = []
    for number, value in enumerate(("auto", False)):
        tracker = TensorBoard(projector=False, histograms=False)
        tracker.open(TrackedRun(tmp_path / str(number), {"trainer.graph": value}, frozenset(["trainer.graph"])))
        tracker.close()
        events = EventAccumulator(str(tmp_path / str(number))).Reload()
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        kinds.append((b"false" in content, b"auto" in content))
    assert kinds == [(False, True), (True, False)]


def test_the_configuration_is_a_package_too(compose: Compose) -> None:
    """``pkg://aerun.conf``, as other applications of Hydra are extended."""
    wanted = compose([])
    GlobalHydra.instance().clear()
    with initialize_config_module("aerun.conf", version_base="1.3"):
        assert run_config(hydra.compose("train"), []) == wanted
    assert (conf_dir() / "__init__.py").is_file()
