"""Points that share compositions, compared with Hydra's own composition of each point."""

from __future__ import annotations

import copy
import functools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import aerun.sweep.composition as module
from aerun.config.compose import resolve
from aerun.config.identity import identity
from aerun.config.interpolations import is_linked, linked_keys
from aerun.sweep.composer import Composer
from aerun.sweep.job import Job
from aerun.sweep.job_index import JobIndex, read_job_index
from aerun.sweep.job_plan import plan_jobs
from tests.sweep.conftest import MakeComposer

Compose = Callable[[Sequence[str]], dict[str, Any]]
POINTS = [
    "",
    "seed=3",
    "seed=3 optimizer.lr=1e-4",
    "model=conv",
    "model=vae",
    "model=fc_vae loss=bce",
    "model=fc model.hidden=[256,128]",
    "model=fc model.hidden=[]",
    "model=fc_deep model.tied=true",
    "model=conv_fc",
    "sparsity=topk sparsity.k=8",
    "sparsity=lifetime sparsity.fraction=0.1",
    "sparsity=topk_lifetime sparsity.k=2",
    "sparsity=l1 model.code_activation=relu",
    "sparsity=kl sparsity.rho=0.1",
    "noise=gaussian noise.variance=0.2",
    "noise=masking noise.rate=0.5 noise.rate=0.25",
    "noise=salt_pepper",
    "loss=mae loss.reduction=sum",
    "loss=bce",
    "optimizer=sgd optimizer.momentum=0.5 optimizer.lr=1",
    "optimizer=adamw optimizer.weight_decay=0",
    "optimizer=rmsprop",
    "optimizer=nadam optimizer.betas=[0.8,0.9]",
    "scheduler=cosine",
    "scheduler=multistep",
    "scheduler=plateau scheduler.patience=0",
    "latent=gaussian latent.beta=4",
    "latent=gaussian model=fc_deep",
    "dataset=random",
    "dataset.train_limit=600 dataset.validation=200",
    "dataset.validation=0.25",
    "dataset.normalize=standardise",
    "dataset.input_transform=[Grayscale]",
    "dataset.input_transform=[{Resize:{size:14}},Grayscale]",
    "dataset.root=/tmp +dataset.root=/tmp",
    "dataset=mnist dataset.root=/tmp",
    "dataset=image_folder dataset.root=/tmp dataset.size=32",
    "dataset=image_folder dataset.root='/tmp' dataset.size=[32,48]",
    "dataset=array dataset.root=/tmp/../tmp",
    "trainer.epochs=1",
    "trainer.steps=20",
    "trainer.steps=null",
    "trainer.clip_norm=1 trainer.clip_value=0.5",
    "trainer.patience=3 trainer.min_delta=1e-3",
    "trainer.deterministic=true trainer.threads=2",
    "trainer.tsne=yes",
    "checkpoint.every_minutes=null",
    "checkpoint.every_minutes=0.5",
    "checkpoint={every_minutes:2}",
    "trusted_packages=[mine,yours]",
    "+trainer.epochs=7",
    "++trainer.epochs=7",
    "++seed=7 model=conv",
    "model.activation=gelu model.init=xavier",
    "model.init=normal model.init_std=0.1",
    "model.code_activation=${model.activation}",
    "sparsity=l1 sparsity.activation=${model.activation} model.activation=gelu",
    "trainer.batch_size=64 seed=${trainer.batch_size}",
    "model=conv noise=masking sparsity=l1 loss=mae optimizer=sgd scheduler=cosine seed=9 trainer.epochs=4",
    "~model.hidden model.hidden=[3]",
    "~optimizer.amsgrad",
    "~scheduler +scheduler=cosine",
    "sweep.name=x seed=1",
]


def agree(composer: Composer, compose: Compose, words: list[str], fixed: Sequence[str] = ()) -> bool:
    """Assert that the point is composed as Hydra does, or rejected if Hydra rejects it; return whether it is valid."""
    composer.typed = [*fixed, *words]
    composed = composer(words)
    try:
        expected = compose([*fixed, *words])
    except Exception:
        assert composed.error is not None, words
        return False
    if composed.config:
        assert composed.config == expected, words
    else:
        assert composed.error is not None, words
    return composed.error is None


def test_points_are_composed_as_hydra_composes_them(composer: Composer, compose: Compose) -> None:
    valid = sum(agree(composer, compose, line.split()) for line in POINTS)
    assert valid >= 50


def test_a_point_that_nobody_typed_trusts_nothing(composer: Composer) -> None:
    """It is a line of a file."""
    assert composer(["trusted_packages=[mine]"]).config["trusted_packages"] == []


def test_points_do_not_depend_on_earlier_points(make_composer: MakeComposer, composer: Composer) -> None:
    """Points share compositions: compose all of them twice more, in another order."""
    other, order = make_composer(()), POINTS * 2
    random.Random(0).shuffle(order)
    for line in order:
        assert other(line.split()) == composer(line.split()), line


def test_random_combinations_are_composed_as_hydra_composes_them(composer: Composer, compose: Compose) -> None:
    draw = random.Random(1)
    lists = {
        "model": ["fc", "conv", "vae"],
        "sparsity": ["none", "l1"],
        "noise": ["none", "masking"],
        "seed": [0, 1],
        "optimizer.lr": [1e-3, 1],
        "trainer.epochs": [1, 2],
        "model.activation": ["relu", "gelu"],
        "model.hidden": ["[2]", "[4,3]"],
        "noise.rate": [0.1, 0.2],
        "checkpoint.every_minutes": ["null", 1],
    }
    valid = []
    for _ in range(25):
        keys = draw.sample(list(lists), draw.randint(1, 6))
        valid.append(agree(composer, compose, [f"{key}={draw.choice(lists[key])}" for key in keys]))
    assert True in valid and False in valid


def test_a_users_own_options_and_experiments_are_composed_as_by_hydra(
    make_composer: MakeComposer, compose: Compose, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [fc, _self_]\nhidden: [12, 7]\ncode_size: 5\n")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "paper.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: mine\n  - override /noise: masking\n"
        "optimizer: {lr: 0.5}\nseed: 8\n"
    )
    fixed = [f"hydra.searchpath=[file://{tmp_path}]"]
    composer = make_composer(fixed)
    lines = ["model=mine", "model=mine model.code_size=3", "experiment=paper", "experiment=paper seed=1"]
    lines += ["experiment=paper optimizer.lr=0.1 noise.rate=0.9", "experiment=paper model=fc", "model=fc"]
    assert all(agree(composer, compose, line.split(), fixed) for line in lines)
    assert composer(["experiment=paper"]).config["model"]["hidden"] == [12, 7]


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ("optimizer.lrr=0.1", "optimizer.lrr: there is no such key. Did you mean 'optimizer.lr'?"),
        ("+optimizer.lrr=0.1", "optimizer.lrr: there is no such key"),
        ("optimizer.lr=-1", "optimizer.lr=-1"),
        ("seed=x", "seed=x: must be a whole number"),
        ("sparsity=topk sparsity.k=96", "sparsity.k=96 is larger than the code size, model.code_size=32"),
        ("latent=gaussian sparsity=l1", "latent=gaussian and sparsity=l1"),
        ("model=fcc", "model=fcc: there is no such option. Did you mean 'fc'?"),
        ("sparsity.k=8", "sparsity.k: the chosen option of sparsity does not have this key; sparsity=batch_topk, "),
        ("dataset=array dataset.root=/does/not/exist", "dataset.root=/does/not/exist: no such file"),
        ("dataset=image_folder", "dataset.root: a value is needed"),
        ("resume=/somewhere", "resume: continues one run"),
        ("seed=${nowhere}", "nowhere"),
        ("~dataset", "dataset: an option of this group is missing"),
        ("model.init_std=1", "model.init_std: has no effect"),
    ],
)
def test_an_invalid_point_has_an_error_of_one_line(composer: Composer, point: str, says: str) -> None:
    for _ in range(2):  # the second time from the shared composition
        error = composer(point.split()).error
        assert error is not None and says in error and "\n" not in error
    assert composer(["seed=1"]).error is None


def jobs(composer: Composer, points: list[str], swept: list[str], index: JobIndex) -> list[Job]:
    composed = [composer(point.split()) for point in points]
    assert not [point.error for point in composed if point.error]
    found = plan_jobs(composed, composer, swept, index, Path("/sweep"))
    index.add(found)
    return found


def test_points_with_the_same_configuration_are_one_job(composer: Composer) -> None:
    points = ["seed=0", "model=mlp seed=0", "", "optimizer.lr=0.001", "optimizer.lr=1e-3", "seed=1"]
    found = jobs(composer, points, ["seed", "model", "optimizer.lr"], JobIndex("s", [], {}))
    assert [job.overrides for job in found] == [["seed=0"], ["seed=1"]]
    assert found[0].identity == identity(composer([]).config)


def test_known_jobs_keep_their_folders_when_points_and_keys_are_added(composer: Composer) -> None:
    index = JobIndex("s", [], {})
    first = jobs(composer, [f"seed={seed}" for seed in range(4)], ["seed"], index)
    before = {job.identity: job.name for job in first}
    points = [f"seed={seed} noise={noise}" for noise in ("none", "masking") for seed in range(6)]
    second = jobs(composer, points, ["seed", "noise"], index)
    after = {job.identity: job.name for job in second}
    assert len(second) == 12 and before.items() <= after.items()
    assert len(set(after.values())) == 12 == len(index.jobs)
    third = jobs(composer, ["model=conv"], ["model"], index)
    assert third[0].values == {"model": "conv"} and third[0].name not in after.values()
    again = jobs(composer, ["seed=2 model=mlp", "noise=masking seed=5"], [], index)
    assert [job.name for job in again] == [before[first[2].identity], after[second[11].identity]]


def test_a_sweep_keeps_the_default_model_that_it_began_with(make_composer: MakeComposer, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"name": "s", "command": [], "jobs": {}}')  # before defaults were recorded
    index = read_job_index(tmp_path)
    assert index is not None and index.defaults == {"model": "fc"}
    before, now = make_composer(()), make_composer(())
    before.sweep_defaults, now.sweep_defaults = index.defaults, now.defaults
    for words in (["seed=3"], ["sparsity=topk", "sparsity.k=8"], ["noise=masking", "model.hidden=[20]"]):
        assert identity(before(words).config) == identity(now(["model=fc", *words]).config)
        assert identity(now(words).config) == identity(now(["model=mlp", *words]).config)
        assert before(words).overrides == words
    for words in (["model=mlp"], ["model=conv", "seed=1"], ["experiment=tutorial/topk5"], ["experiment=hinton2006"]):
        assert before(words) == now(words)


def test_points_share_what_they_have_in_common(make_composer: MakeComposer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word is parsed once, every combination of options composed once (60 ms), and one of values resolved once
    (10 ms) only if interpolations read them."""
    composer = make_composer(())
    counts = Counter[str]()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **keywords)

        return call

    monkeypatch.setattr(composer.parser, "parse_overrides", counted("parses", composer.parser.parse_overrides))
    monkeypatch.setattr(
        composer.loader, "load_sweep_config", counted("compositions", composer.loader.load_sweep_config)
    )
    monkeypatch.setattr(module, "resolve", counted("resolutions", module.resolve))
    lists = {
        "model": ["fc", "conv", "vae", "fc_deep", "fc_vae"],
        "noise": ["none", "masking"],
        "model.activation": ["relu", "gelu"],  # which interpolations read
        "optimizer.lr": ["1e-3", "3e-3"],
        "seed": [str(seed) for seed in range(25)],
        "trainer.epochs": ["2"],
    }
    points = [list(point) for point in product(*([f"{key}={value}" for value in lists[key]] for key in lists))]
    composer.learn_keys(points)
    composed = [composer(point) for point in points]
    given = [composer.values(point.overrides) for point in composed]
    assert len(points) == 1000 and not [point.error for point in composed if point.error]
    assert len({identity(point.config) for point in composed}) == 1000 and given[-1]["seed"] == 24
    assert counts["compositions"] <= 5 * 2 + 1  # one for the defaults
    assert counts["resolutions"] == 2 * 2 * 2 + 3 * 2  # the code_activation of fc and conv is ${.activation}
    assert counts["parses"] == sum(map(len, lists.values()))


def test_values_that_are_set_afterwards_are_those_that_nothing_else_depends_on(make_composer: MakeComposer) -> None:
    """Every key of many compositions, set before and after the interpolations are resolved."""
    composer = make_composer(())
    tried = 0
    for options in (
        "",
        "model=conv sparsity=l1",
        "model=fc_deep noise=masking",
        "sparsity=topk protocol=knn",
        "model=vae",
    ):
        base = composer._base(tuple(options.split()))
        for key in sorted(base.value_keys):
            if is_linked(key, base.linked):
                continue
            config = copy.deepcopy(base.config)
            OmegaConf.update(config, key, "changed")
            expected = resolve(config, [])
            found = resolve(base.config, [])
            *parents, name = key.split(".")
            functools.reduce(lambda node, parent: node[parent], parents, found)[name] = "changed"
            assert found == expected, key
            tried += 1
    assert tried > 200


@pytest.mark.parametrize(
    ("config", "linked"),
    [
        ({"a": {"b": "${.c}", "c": 1}}, {"a.b", "a.c"}),
        ({"a": {"b": {"c": "${..d}"}, "d": 1}}, {"a.b.c", "a.d"}),
        ({"a": "${oc.select:b.c,d}"}, {"a", "oc.select", "b.c", "d"}),
        ({"a": "x ${b} y ${c.d}"}, {"a", "b", "c.d"}),
        ({"a": "${b[c]}"}, {"a", "b", "c"}),
        ({"a": "${b.${c}}"}, {"a", ""}),
        ({"a": ["${b}"]}, {""}),
        ({"a": 1, "b": "{}"}, set()),
    ],
)
def test_the_keys_of_interpolations(config: dict[str, Any], linked: set[str]) -> None:
    assert linked_keys(config) == linked
    for key in ("b", "b.c", "b.c.d", "e"):
        assert is_linked(key, {"b.c"}) == (key != "e")
        assert is_linked(key, {""})
