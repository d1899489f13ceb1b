"""A key of a group's option counts only for the points of a sweep that chose an option which has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aerun.config.explain import option_keys
from aerun.config.settings import GROUPS
from aerun.sweep.composer import ComposedPoint, Composer
from aerun.sweep.job_index import JobIndex
from aerun.sweep.job_plan import plan_jobs
from aerun.sweep.points import File, Grid, Point, axes, each_value
from tests.sweep.conftest import MakeComposer


def grid(composer: Composer, *words: str) -> list[ComposedPoint]:
    points = Grid().points(axes(words, composer.parser), composer.parser)
    composer.learn_keys(points)
    return [composer(point) for point in points]


def settable(composer: Composer, group: str, option: str, other: str) -> dict[str, str]:
    """The keys of an option that the other one lacks, with their values as typed."""
    own, foreign = (composer([f"{group}={name}"]).config.get(group, {}) for name in (option, other))
    values = {
        key: json.dumps(value).replace('"', "").replace(" ", "") for key, value in own.items() if key not in foreign
    }
    return {key: value for key, value in values.items() if value not in ("???", "{}") and not set(value) & set("/$")}


@pytest.mark.parametrize("group", GROUPS)
def test_every_key_of_every_option_counts_only_where_it_exists(make_composer: MakeComposer, group: str) -> None:
    """Each option next to one that lacks its keys: that one is composed as it is alone, the first with all of them."""
    alone = make_composer(())
    options = [option for option in option_keys()[group] if alone([f"{group}={option}"]).config]
    for option, other in zip(options, [*options[1:], options[0]], strict=True):
        keys = settable(alone, group, option, other)
        typed = [f"{group}.{key}={value}" for key, value in keys.items()]
        composer = make_composer(())
        first, second = grid(composer, f"{group}={other},{option}", *typed)
        assert (first.config, first.error) == (alone([f"{group}={other}"]).config, alone([f"{group}={other}"]).error)
        assert first.overrides == [f"{group}={other}"]
        assert [word.partition("=")[0] for word in second.overrides] == [group, *(f"{group}.{key}" for key in keys)]
        assert second.config == alone([f"{group}={option}"]).config
        for key in keys:  # as a search asks before it draws a value
            assert composer.has_key([f"{group}={option}"], f"{group}.{key}")
            assert not composer.has_key([f"{group}={other}"], f"{group}.{key}")


def names(composed: list[ComposedPoint], composer: Composer) -> list[dict[str, Any]]:
    assert not [point.error for point in composed if point.error]
    jobs = plan_jobs(
        composed, composer, ["sparsity", "sparsity.k", "noise", "protocol"], JobIndex("s", [], {}), Path("/")
    )
    return [job.values for job in jobs]


def test_points_without_the_key_are_one(make_composer: MakeComposer) -> None:
    composer = make_composer(())
    composed = grid(composer, "sparsity=none,topk", "sparsity.k=4,8")
    assert names(composed, composer) == [
        {"sparsity": "none"},
        {"sparsity": "topk", "sparsity.k": 4},
        {"sparsity": "topk", "sparsity.k": 8},
    ]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["sparsity=l1,topk_lifetime,topk,none", "sparsity.k=4,8", "sparsity.weight=0.1,0.2"], 7),
        (["protocol=knn,logistic", "protocol.knn.k=3,5"], 3),
        (["protocol=[knn,ssim],none", "protocol.knn.k=3,5"], 3),
        (["noise=none,gaussian", "noise.variance=0.1"], 2),
        (["optimizer=sgd,adam", "optimizer.momentum=0.1,0.5", "optimizer.betas=[0.8,0.9]"], 3),
        (["trainer=joint,greedy", "model=fc_deep", "trainer.stage_epochs=2", "trainer.patience=null"], 2),
        (["sparsity=topk,lifetime", "~sparsity.fraction", "+sparsity.fraction=0.1"], None),
        (["experiment=ksparse,fcwta", "sparsity.k=5"], 2),
        (["experiment=ksparse", "sparsity=none,topk"], 2),
        (["experiment=ksparse", "sparsity=none,topk", "sparsity.k=3,4"], 3),
        (["model=fc,conv", "model.hidden=[8],[9]", "~model.hidden"], None),
        (["noise=none,[gaussian,masking]", "noise.parts.gaussian.variance=0.1,0.2"], 3),
        (["noise=[dust],[gaussian]", "noise.parts.gaussian.variance=0.1,0.2", "noise.parts.dust.most=3,4"], 4),
    ],
)
def test_arms_of_a_grid(make_composer: MakeComposer, words: list[str], count: int | None) -> None:
    composer = make_composer(())
    composed = grid(composer, *words)
    if count is None:  # nothing but an error in a line
        assert all(point.error is None or "\n" not in point.error for point in composed)
        return
    assert len(names(composed, composer)) == count


def test_lists_and_draws_have_the_arm_without_the_key_too(make_composer: MakeComposer, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("sparsity=none\nsparsity=topk\n")
    composer = make_composer(())
    typed = axes(["sparsity.k=4,8"], composer.parser)
    points = File(file=str(tmp_path / "runs")).points(typed, composer.parser)
    composer.learn_keys(points)
    assert len(names([composer(point) for point in points], composer)) == 3
    drawn = make_composer(())
    words = ["sparsity=choice(none,topk)", "sparsity.k=choice(4,8)", "optimizer.lr=interval(0.1,1)"]
    drawn.learn_keys(each_value(axes(words, drawn.parser)))
    point = drawn(["sparsity=none", "sparsity.k=8", "optimizer.lr=0.5"])
    assert point.error is None and point.overrides == ["sparsity=none", "optimizer.lr=0.5"]


@pytest.mark.parametrize(
    "point", [["sparsity=none", "sparsity.k=4"], ["sparsity.k=4"], ["experiment=ksparse", "sparsity=none"]]
)
def test_a_key_that_no_point_has_stays_an_error(make_composer: MakeComposer, point: Point) -> None:
    composer = make_composer(())
    composer.learn_keys([point])
    error = composer(point).error
    assert error is not None and "sparsity" in error
    [first, second] = grid(make_composer(()), "sparsity=none,topk", "sparsity.kk=4")
    assert first.error is not None and "sparsity.kk" in first.error and second.error is not None


def test_a_deleted_key_counts_where_it_exists(make_composer: MakeComposer) -> None:
    composer = make_composer(())
    first, second = grid(composer, "noise=none,crop", "~noise.training_only")
    assert first.error is None and first.overrides == ["noise=none"]
    assert second.error is None and "training_only" not in second.config["noise"]


def test_each_value_contains_all_values(composer: Composer) -> None:
    points = each_value(axes(["a=1,2,3", "b=4", "c=interval(0,1)", "d=x,y"], composer.parser))
    assert len(points) == 4 and {word for point in points for word in point} == {
        *("a=1", "a=2", "a=3", "b=4", "d=x", "d=y")
    }
