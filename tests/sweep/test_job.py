"""Names and identities of a sweep's jobs."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerun.config.identity import identity
from aerun.sweep.job import MAX_LENGTH, SHOWN_LENGTH, Job, label_run, name_jobs

KEYS = ["model", "seed", "optimizer.lr", "sparsity.k", "+trainer.new", "dataset.root", "model.hidden", "trainer.tsne"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=90),
    st.lists(st.integers(0, 4096), max_size=30),
    st.sampled_from(["/data/a b/c", "../..", ".", "", "-", "fc", "a,b", "ünï/ço∂é", "CON", "x" * 300]),
)
SETS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), min_size=1, max_size=40)


def digests(count: int, start: int = 0) -> list[str]:
    return [identity({"seed": number}) for number in range(start, start + count)]


@settings(max_examples=300, deadline=None)
@given(SETS, st.data())
def test_names_are_safe_short_and_differ_in_their_first_characters(values: list[Any], data: st.DataObject) -> None:
    codes = digests(len(values))
    old = data.draw(st.integers(0, len(values) - 1))
    taken = name_jobs(values[:old], codes[:old])
    made = taken + name_jobs(values[old:], codes[old:], taken)  # as if points were added to a sweep
    assert len({name[:SHOWN_LENGTH].lower() for name in made}) == len(values)
    for name, digest in zip(made, codes, strict=True):
        assert re.fullmatch(r"[\w.+-]+", name) and re.match(r"\w", name), name
        assert len(name) <= MAX_LENGTH + 9 and len(name.encode()) <= 255
        assert name.endswith(f"_{digest[:8]}")


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"model": "conv"}, "conv_"),
        ({"sparsity.k": 8, "optimizer.lr": 0.001}, "k8-lr0.001_"),
        ({"seed": 3, "model": "fc"}, "seed3-fc_"),
        ({"trainer.batch_size": 64}, "batch64_"),
        ({"model.hidden": [128, 64]}, "hidde_128_64_"),
        ({"scheduler": None}, "sched"),
        ({}, "default_"),
    ],
)
def test_a_name_contains_the_varied_settings(values: dict[str, Any], start: str) -> None:
    assert name_jobs([values], digests(1))[0].startswith(start)


def test_labels_with_the_same_first_characters_end_in_their_hash() -> None:
    values = [{"dataset.root": f"/data/of/mine/with/the/number/{number}"} for number in range(30)]
    made = name_jobs(values, digests(30))
    assert len({name[:SHOWN_LENGTH] for name in made}) == 30
    assert all(len(name) == SHOWN_LENGTH for name in made)


def test_values_that_look_the_same_have_different_identities() -> None:
    values = [1, 1.5, "1", True, None, "null", "none", [1], ["1"], "", 0, False, "0"]
    assert len({identity({"seed": value}) for value in values}) == len(values)


def test_a_job_can_be_pickled(tmp_path: Path) -> None:
    job = Job("fc_1", tmp_path / "fc_1", {"seed": 0}, {"model": "fc"}, ["seed=0"], {"seed": 0, "lr": 1e-3}, "abc")
    again = pickle.loads(pickle.dumps(job))
    assert again == job and isinstance(again.folder, Path)
    assert job.label == "seed=0 lr=0.001"


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ([], "mlp"),
        (["model=conv", "sparsity=topk", "sparsity.k=8", "seed=1", "trainer.epochs=3"], "conv-topk-k8-seed1"),
        (["noise=masking", "+noise.rate=0.5", "loss=bce", "latent=gaussian"], "mlp-masking-rate0.5-bce-gaussian"),
        (["optimizer.lr=3e-3", "dataset.root=/a/b", "~freeze", "tracker=none", "hydra.run.dir=x"], "mlp-lr3e-3"),
        (["scheduler=none", "resume=null", "model.hidden=[9,8]"], "mlp"),
        (["seed=1"] * 3 + [f"model.{'x' * 9}{number}={10**9}" for number in range(9)], "mlp-seed1-xxxxx1000000000"),
    ],
)
def test_a_run_is_named_by_what_was_chosen_and_typed(words: list[str], label: str) -> None:
    typed = dict(word.split("=") for word in words if "." not in word and "=" in word)
    found = label_run({"model": "mlp", "sparsity": "none", "noise": "none", **typed}, words)
    assert found.startswith(label) and len(found) <= MAX_LENGTH
    assert found == label or "xxxxx" in label


def test_names_of_a_grid_are_words_without_none() -> None:
    grid = [
        {"model": model, "sparsity": sparsity, "noise": noise, "optimizer.lr": rate, "seed": seed}
        for model in ("fc", "mlp")
        for sparsity in ("none", "topk")
        for noise in ("none", "gaussian")
        for rate in (1e-3, 3e-3)
        for seed in range(3)
    ]
    names = [name.rpartition("_")[0] for name in name_jobs(grid, digests(len(grid)))]
    assert names[0] == "fc-lr0.001-s0" and names[-1] == "mlp-topk-gaus-lr0.003-s2"
    pairs = [{"model": model, "sparsity": name, "seed": 7} for model in ("fc", "conv") for name in ("none", "topk")]
    names = [name.rpartition("_")[0] for name in name_jobs(pairs, digests(4))]
    assert names == ["fc-seed7", "fc-topk-seed7", "conv-seed7", "conv-topk-seed7"]
