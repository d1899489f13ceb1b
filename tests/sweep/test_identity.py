"""Which configurations are one run, and what is said of those that are not."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from aerun.base.conf import conf_dir
from aerun.config.identity import IGNORED_KEYS, differing_keys, identities, identity, is_same_part
from aerun.config.parse import parse
from aerun.config.schema import locate
from aerun.runs.run import run
from aerun.sweep.composer import Composer
from aerun.sweep.job_index import JobIndex
from aerun.sweep.job_plan import plan_jobs

Compose = Callable[[Sequence[str]], dict[str, Any]]
# Without a validation part the training loss chooses the best epoch.
TINY = "dataset=random dataset.images=60 dataset.shape=[1,6,6] dataset.validation=0 model.code_size=3 model.hidden=[8]"
WORDS = [*TINY.split(), "trainer.epochs=3", "trainer.batch_size=8", "trainer.device=cpu", "trainer.threads=1"]
# Another value for each ignored key that a run reads.
CHANGED = {
    "checkpoint": "checkpoint.every_minutes=0.0001",
    "trainer.log_every_steps": "trainer.log_every_steps=1",
    "trainer.pictures": "trainer.pictures=3",
    "trainer.figures": "trainer.figures=none",
    "trainer.tsne": "trainer.tsne=true",
    "protocol": "protocol=knn",
    "tracker": "tracker=[csv]",
    "trainer.threads": "trainer.threads=null",  # $OMP_NUM_THREADS: one in tests
    "trusted_packages": "trusted_packages=[somewhere]",
}


def result(folder: Path, compose: Compose, words: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """The weights of a run, its test numbers without those of protocols, and its numbers after each epoch."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = compose(words)
    summary = run(parse(config), config, folder)
    weights = load_file(folder / "checkpoints" / "best.safetensors")
    asked = {number for numbers in summary["protocols"].values() for number in numbers}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # Of the training only the loss: other numbers are of the steps that are logged.
    curves = [{k: v for k, v in line.items() if not k.startswith("train/") or k == "train/loss"} for line in lines]
    test = {name: value for name, value in summary["test"].items() if name not in asked}
    return {name: tensor.tolist() for name, tensor in weights.items()}, test, curves


@pytest.fixture(scope="module")
def expected(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        return result(tmp_path_factory.mktemp("run"), compose, WORDS, patch)


@pytest.mark.parametrize("key", CHANGED)
def test_an_ignored_key_changes_no_weight_and_no_test_number(
    key: str, expected: Any, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*WORDS, CHANGED[key]]
    assert result(tmp_path, compose, words, monkeypatch) == expected
    assert identity(compose(words)) == identity(compose(WORDS)) and not differing_keys(compose(words), compose(WORDS))


def test_every_ignored_key_is_tried() -> None:
    assert {*CHANGED, "resume", "sweep"} == set(IGNORED_KEYS)  # the last two are no settings of a run


def test_every_other_key_counts_and_is_named(compose: Compose) -> None:
    config = compose(["model=conv", "noise=masking", "scheduler=cosine", "sparsity=l1", "protocol=knn", "callback=ema"])
    digest = identity(config)

    def reversed_keys(node: Any) -> Any:
        return {key: reversed_keys(node[key]) for key in reversed(node)} if isinstance(node, dict) else node

    assert identity(reversed_keys(config)) == digest
    assert identity({**config, "resume": "/somewhere", "sweep": {"name": "x"}}) == digest
    counted = 0
    for path in paths(config):
        changed = copy.deepcopy(config)
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = "something else"
        key = ".".join(path)
        if f"{key}.".startswith(tuple(f"{ignored}." for ignored in IGNORED_KEYS)):
            assert identity(changed) == digest, key
            assert identity(changed, [key]) != identity(config, [key]), key  # of a sweep that varies it
        else:
            assert identity(changed) != digest, key
            # A changed class has other defaults, so that keys at the former ones differ, too.
            differing = differing_keys(config, changed)
            assert key in differing and (differing == [key] or path[-1] == "_target_"), key
            counted += 1
    assert counted > 50


def paths(node: dict[str, Any]) -> list[list[str]]:
    """The path to every leaf."""
    found = []
    for key, value in node.items():
        inner = paths(value) if isinstance(value, dict) and value else [[]]
        found += [[key, *path] for path in inner]
    return found


@pytest.mark.parametrize(
    "path",
    sorted(
        path for group in ("dataset", "model", "trainer", "protocol") for path in conf_dir().glob(f"{group}/*.yaml")
    ),
)
def test_a_key_that_an_older_configuration_lacks_counts_as_its_default(path: Path) -> None:
    node = yaml.safe_load(path.read_text())
    if "_target_" not in (node or {}):
        return
    fields = dataclasses.fields(locate(node["_target_"]))
    optional = [field for field in fields if field.default is not dataclasses.MISSING]
    old = {key: value for key, value in node.items() if key not in {field.name for field in optional}}
    group = path.parent.name
    for field in optional:
        now = {**old, field.name: field.default}
        assert identity({group: now}) == identity({group: old}), field.name
        another = {**old, field.name: "another"}
        assert is_same_part(now, old) and not is_same_part(another, old), field.name
        assert (identity({group: another}) == identity({group: old})) == (
            group in IGNORED_KEYS or f"{group}.{field.name}" in IGNORED_KEYS
        ), field.name


def test_a_key_without_effect_does_not_change_the_identity_of_old_jobs() -> None:
    before = {"dataset": {"size": 64}, "seed": 0}
    now = {
        "dataset": {"size": 64, "flip": False, "zoom": 0.0},
        "seed": 0,
        "freeze": [],
        "init_from": None,
        "callback": {},
    }
    assert identity(now) == identity(before)
    assert identity({**now, "dataset": {**now["dataset"], "zoom": 0.1}}) != identity(before)
    assert identity({**now, "model": {"flip": False}}) != identity(before)


def test_a_device_is_the_one_that_was_chosen() -> None:
    def on(device: str) -> dict[str, Any]:
        return {"seed": 0, "trainer": {"device": device}}

    known = identities(on("auto"), "cuda:0")
    assert identity(on("auto")) in known and identity(on("cuda")) in known and identity(on("cuda:1")) in known
    assert identity(on("cpu")) not in known
    assert identity(on("auto")) in identities(on("cpu"), "cpu")
    assert identity(on("cuda")) not in identities(on("cpu"), None)


def record(folder: Path, config: dict[str, Any], device: str = "cpu") -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "environment.json").write_text(json.dumps({"device": device}))


def test_a_sweep_finds_its_runs_by_their_own_configurations(composer: Composer, tmp_path: Path) -> None:
    """Also if sweep.json is missing, or has the digests of another version."""
    old = composer(["seed=1"]).config
    del old["freeze"], old["init_from"], old["dataset"]["flip"], old["trainer"]["graph"]
    record(tmp_path / "first", composer(["seed=0"]).config)
    record(tmp_path / "second", old)
    index = JobIndex("s", [], {"second": {"overrides": [], "values": {"seed": 1}, "hash": "of another version"}})
    for counted in ([], ["seed"]):
        index.find_recorded(tmp_path, counted)
        words = ["trainer.device=cpu", "checkpoint.every_minutes=1"]
        composed = [composer([f"seed={seed}", *words]) for seed in (0, 1, 2)]
        jobs = plan_jobs(composed, composer, counted, index, tmp_path)
        assert [job.name for job in jobs[:2]] == ["first", "second"] and jobs[2].name not in index.recorded


def test_a_new_run_of_a_sweep_names_the_keys_in_which_it_differs(composer: Composer, tmp_path: Path) -> None:
    index = JobIndex("s", [], {})

    def explained(words: list[str], swept: list[str]) -> str | None:
        jobs = plan_jobs([composer(["seed=0", *words])], composer, swept, index, tmp_path)
        return index.explain_new(jobs, swept)

    assert explained(["optimizer.lr=1"], ["seed"]) is None  # nothing was there before
    record(tmp_path / "first", composer(["seed=0"]).config)
    index.find_recorded(tmp_path)
    assert explained([], ["seed"]) is None
    text = explained(["optimizer.lr=1", "callback=ema"], ["seed"]) or ""
    assert "differs from first in optimizer.lr, callback.ema._target_" in text
    assert explained(["optimizer.lr=1"], ["optimizer.lr"]) is None
    assert explained(["sparsity=topk"], ["sparsity"]) is None
    assert explained(["trainer.device=cuda"], ["seed"]) is not None
