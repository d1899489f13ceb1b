"""Remedies: each is typed as it stands, composes with the run it is given for, is read by it, and changes it."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import aerun
from aerun.config.parse import parse
from aerun.config.settings import GROUPS
from aerun.doctor import examination
from aerun.doctor.examination import (
    MIN_IMAGES,
    Codebook,
    Curve,
    Examination,
    Fit,
    Frozen,
    Latent,
    Layer,
    Options,
    Outputs,
    Pairing,
    Samples,
)
from aerun.doctor.file_evidence import examine_files
from aerun.doctor.judge import RULES, judge
from aerun.doctor.loss_curve import measure_curve
from aerun.doctor.part_options import declared_options, options_of_config
from aerun.doctor.remedies import OPTIONS, OVERRIDE, accepts, overrides_of
from aerun.doctor.verdict import FEW_EPOCHS, TOO_HIGH, Verdict
from aerun.errors import DivergedError
from aerun.loss import MSE
from aerun.runs.run import run
from tests.doctor.models import pca_autoencoder, pictures

Compose = Callable[[Sequence[str]], dict[str, Any]]
ROOT = Path(__file__).resolve().parent.parent.parent
FIT = Fit(explained=0.8, spread=0.8, own=1.0, exchanged=0.8, code_variation=0.9, gap=1.05, noise_explained=0.1)
CURVE = Curve(epochs=20, slope=0.001, fallen=0.3, jump=0.001, ups=0.1, rise=0.01, update=0.02)
CODE = Layer("code", 64, 0, 0, 0, 0.5)
WELL = Examination(
    fit=FIT, curve=CURVE, pca_explained=0.9, code_values=64, input_values=784, input_offset=1.0, layers=(CODE,)
)
BAD = dataclasses.replace(FIT, explained=0.0, spread=0.5, own=0.6)
FLAT = dataclasses.replace(FIT, explained=0.0, spread=0.0, exchanged=0.0, own=0.5)
POOR = dataclasses.replace(FIT, explained=0.3)


def changed(whole: Any, **fields: Any) -> Any:
    return dataclasses.replace(whole, **fields)


# Evidence of each kind of sickness, by whether the updates are large or small where remedies depend on it.
SICK: dict[str, Examination] = {
    "diverged": changed(WELL, state="diverged", error="epoch 1, step 4: loss is inf; try optimizer.lr=0.01"),
    "diverged before": changed(WELL, state="diverged", error="x; try dataset.normalize=standardise"),
    "diverged long ago": changed(WELL, state="diverged", error="DivergedError: loss is inf"),
    "averaged": changed(WELL, pairing=Pairing(0.0)),
    "shuffled": changed(WELL, pairing=Pairing(1.0, -0.2)),
    "broadcast": changed(WELL, pairing=Pairing(1.0, None, 0.0)),
    "logits": changed(WELL, outputs=Outputs(0, 1, 0, 1, 0, 0, (0.0, 1.0))),
    "outside": changed(WELL, outputs=Outputs(0, 1, -1, 2, 0.5, 0)),
    "collapsed": changed(WELL, latent=Latent((0.0,) * 20, (0.0,) * 20, 784.0)),
    "collapsed at 1": changed(WELL, latent=Latent((0.0,) * 20, (0.0,) * 20, 1.0)),
    "codebook": changed(WELL, codebook=Codebook(0.02, 3.0)),
    "partial": changed(WELL, latent=Latent((0.1, 9) * 2, (0.0, 0, 0, 1.0), 5.0), fit=POOR),
    "penalty": changed(WELL, fit=BAD, curve=changed(CURVE, first_penalty=3.0, last_penalty=1.0)),
    "nonzeros": changed(WELL, fit=POOR),
    "decay": changed(WELL, fit=BAD),
    "frozen": changed(WELL, fit=BAD, frozen=Frozen(("decoder.0",), 0.5)),
    "high": changed(WELL, fit=BAD, curve=changed(CURVE, update=3.0)),
    "swings": changed(WELL, curve=changed(CURVE, jump=0.5, ups=0.5)),
    "begun": changed(WELL, fit=BAD, curve=changed(CURVE, epochs=2, fallen=0.5)),
    "saturated": changed(WELL, fit=BAD, layers=(CODE, Layer("decoder.0", 9, 0, 0, 1.0, 0.5))),
    "dead code": changed(WELL, fit=BAD, layers=(Layer("code", 64, 1, 1, 0, None),)),
    "dead code of a mean": changed(WELL, fit=BAD, layers=(Layer("code", 64, 1, 1, 0, None),), input_offset=99.0),
    "dead layer": changed(WELL, fit=BAD, layers=(CODE, Layer("decoder.0", 9, 1, 1, 0, None))),
    "lost": changed(WELL, fit=BAD, layers=(Layer("code", 64, 0, 0, 0, 1e-9),)),
    "bright": changed(WELL, fit=FLAT, outputs=Outputs(0, 1, 0, 1, 0, 0.9)),
    "bright, unmoved": changed(WELL, fit=FLAT, outputs=Outputs(0, 1, 0, 1, 0, 0.9), curve=changed(CURVE, update=0.0)),
    "low": changed(WELL, fit=BAD, curve=changed(CURVE, update=1e-5)),
    "ignored": changed(WELL, fit=FLAT),
    "ignored, unmoved": changed(WELL, fit=FLAT, curve=changed(CURVE, update=0.0)),
    "the same": changed(WELL, fit=changed(FLAT, exchanged=None)),
    "nothing": changed(WELL, fit=BAD),
    "off scale": changed(WELL, fit=changed(FIT, explained=-1.0, spread=4.0)),
    "over-fitting": changed(WELL, fit=changed(FIT, gap=2.0), curve=changed(CURVE, rise=0.5)),
    "few epochs": changed(WELL, curve=changed(CURVE, slope=0.3)),
    "far behind, falling": changed(WELL, fit=POOR, curve=changed(CURVE, slope=0.05)),
    "narrow": changed(WELL, fit=changed(FIT, explained=0.26), pca_explained=0.3, code_values=1),
    "narrow hidden": changed(WELL, fit=POOR, layers=(CODE, Layer("encoder.1", 3, 0, 0, 0, 0.5))),
    "linear": changed(WELL, fit=POOR),
    "wide": changed(WELL, fit=changed(FIT, explained=0.95, noise_explained=0.9), code_values=1000),
    "copied": changed(WELL, fit=changed(FIT, relabeled=0.02)),
    "far samples": changed(WELL, samples=Samples(9.0, None, 1.0, 8.0)),
    "far samples of a prior": changed(WELL, samples=Samples(9.0, None, 1.0, 8.0), latent=Latent((1.0,), (1.0,), 1.0)),
}
RUNS = [
    ["model=fc"],
    ["model=fc", "model.hidden=[3]", "model.activation=relu", "model.output_activation=sigmoid", "optimizer=sgd"],
    ["model=fc", "sparsity=topk", "sparsity.k=1", "trainer.steps=100"],
    [
        "model=fc",
        "sparsity=kl",
        "model.init=normal",
        "model.init_std=20",
        "trainer.patience=3",
        "optimizer.weight_decay=0.1",
    ],
    ["model=fc", "sparsity=lifetime", "model.code_activation=relu", "freeze=[decoder]"],
    ["model=fc", "loss=bce", "model._target_=benchmarks.doctor_sick.Dead", "trusted_packages=[benchmarks]"],
    ["model=fc", "dataset._target_=benchmarks.doctor_sick.Averaged", "trusted_packages=[benchmarks]"],
    ["model=fc", "loss._target_=benchmarks.doctor_sick.Broadcasting", "trusted_packages=[benchmarks]", "noise=masking"],
    ["model=fc_vae", "latent.beta=784", "optimizer._target_=torch.optim.Adamax"],
    ["model=conv", "sparsity=l1", "trainer=greedy"],
    ["model=fc", "latent=vq", "latent.restart=0"],
    ["model=fc", "latent=residual_vq"],
    ["model=fc", "latent=lfq", "latent.entropy=0"],
    ["model=unet", "dataset.normalize=standardise"],
    ["model=fc_vae", "protocol=samples"],
]


def verdicts_for(typed: Sequence[str], config: dict[str, Any]) -> Iterator[tuple[str, Verdict]]:
    """Every rule's verdict on every sickness, for a run of this configuration."""
    options = options_of_config(config, declared_options(parse(config)), typed)
    for name, evidence in SICK.items():
        for rule in RULES:
            for constrained in {options.constrained, False}:
                fitting = dataclasses.replace(options, constrained=constrained)
                if (verdict := rule(dataclasses.replace(evidence, options=fitting))) is not None:
                    yield f"{name}, {rule.__name__}", verdict


@pytest.mark.parametrize("typed", RUNS, ids=" ".join)
def test_every_remedy_composes_with_its_run_and_is_read(typed: list[str], compose: Compose) -> None:
    config = compose(typed)
    known: dict[str, dict[str, Any]] = {}
    for name, verdict in verdicts_for(typed, config):
        words = overrides_of(verdict.remedy)
        if not words:
            assert not re.search(rf"\b({'|'.join(GROUPS)})[\w.]*=", verdict.remedy), (name, verdict.remedy)
            continue
        after = known.get(verdict.remedy) or compose([*typed, *words])
        known[verdict.remedy] = after
        assert after != config, (name, verdict.remedy)
        parse(after, overrides=[*typed, *words])  # rejects keys that are not read, and incompatible options
    assert known


def test_every_rule_is_tried(compose: Compose) -> None:
    found = {name.partition(", ")[2].rpartition(", ")[2] or name for typed in RUNS for name in tried(typed, compose)}
    assert {rule.__name__ for rule in RULES} == found


def tried(typed: Sequence[str], compose: Compose) -> set[str]:
    return {name for name, _ in verdicts_for(typed, compose(typed))}


def test_options_that_remedies_name_are_those_of_conf(compose: Compose) -> None:
    for word, node in OPTIONS.items():
        composed = compose([word])[word.partition("=")[0]]
        assert {key: value for key, value in composed.items() if key != "activation"} == {
            key: value for key, value in node.items() if key != "activation"
        }


def test_a_key_that_is_missing_unread_or_has_the_value_is_not_accepted(compose: Compose) -> None:
    options = options_of_config(compose(["model=fc", "trainer.steps=10", "sparsity=lifetime"]))
    assert accepts(options, ["optimizer.lr=1e-05"]) and accepts(Options(), ["no.such=1"])
    assert accepts(options, ["sparsity=topk"])
    typed = dataclasses.replace(options, typed=["sparsity=lifetime", "sparsity.fraction=0.1"])
    assert not accepts(typed, ["sparsity=topk"])  # which does not have the typed key
    for word in ("model.nothing=1", "trainer.epochs=5", "optimizer.lr=0.001", "sparsity.k=3", "latent.beta=1"):
        assert not accepts(options, [word]), word


def test_all_evidence_is_read() -> None:
    """A number that no verdict and no line uses is not collected."""
    own = ROOT / "aerun" / "doctor" / "examination.py"
    files = [*(ROOT / "aerun" / "doctor").glob("*.py"), ROOT / "aerun" / "runs" / "diagnose.py"]
    files += [ROOT / "aerun" / "cli" / "doctor.py"]
    read = {
        node.attr for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    }
    kinds = [kind for kind in vars(examination).values() if dataclasses.is_dataclass(kind)]
    assert len(kinds) > 7 and own in files
    unread = [
        f"{kind.__name__}.{key.name}" for kind in kinds for key in dataclasses.fields(kind) if key.name not in read
    ]
    assert unread == []


# Evidence.


@pytest.mark.parametrize("count", [1, 2, MIN_IMAGES - 1])
def test_a_few_images_are_no_evidence(count: int) -> None:
    model = pca_autoencoder(code_activation="relu")
    model.encoder[1].bias.data.fill_(-100.0)  # type: ignore[index]
    images = pictures(count)
    diagnosis = aerun.diagnose_model(model, images, loss=MSE("mean"))
    assert diagnosis.verdicts == () and f"{count} images are too few" in diagnosis.examination.missing[-1]
    assert aerun.diagnose_model(model, pictures(MIN_IMAGES)).verdicts


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_ratio_of_nothing_to_nothing_is_no_evidence(value: float) -> None:
    images = torch.full((64, 1, 8, 8), value)
    found = aerun.diagnose_model(pca_autoencoder(), images, loss=MSE("mean"))
    assert found.verdicts == () and found.examination.fit is None
    pairing = found.examination.pairing
    assert pairing is not None and (pairing.target_variation, pairing.predicted, pairing.loss_rise) == (None,) * 3
    silent = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    silent[0].weight.data.zero_()
    silent[0].bias.data.zero_()
    [layer] = aerun.diagnose_model(silent, pictures(64)).examination.layers
    assert (layer.dead, layer.variation) == (1.0, None)


def test_from_files_alone_no_units_are_counted() -> None:
    lines = [
        {"epoch": i, "step": i, "train/loss": 1.0, "validation/dead_units": 1.0, "validation/output_spread": 0.5}
        for i in range(1, 5)
    ]
    summary = {"test": {"mse": 0.5, "output_spread": 0.5}, "baselines": {"mean_image/mse": 0.6, "pca/mse": 0.1}}
    found = examine_files({}, lines, {**summary, "code_size": 32})
    [verdict] = [verdict for verdict in judge(found) if verdict.name == "dead units"]
    assert [layer.units for layer in found.layers] == [None] and verdict.evidence == "code 100% (first seen in epoch 1)"
    assert examine_files({}, lines, summary, None, {"validation": 1}).layers == ()


# Causes.


def test_minibatches_explain_as_much_as_a_simulation_says() -> None:
    generator = torch.Generator().manual_seed(0)
    epochs, steps = 2000, 25
    losses = 1 + 0.2 * torch.randn(epochs, steps, generator=generator)
    rises = (losses.mean(1)[1:] - losses.mean(1)[:-1]).clamp_min(0).mean()
    roughness = (losses[:, 1:] - losses[:, :-1]).abs().mean()
    lines = [
        {"epoch": i, "step": i * steps, "train/loss": 1.0, "train/loss_roughness": float(roughness)}
        for i in range(1, 5)
    ]
    assert measure_curve(lines).chance == pytest.approx(float(rises), rel=0.05)


def test_swings_that_minibatches_explain_are_none() -> None:
    for chance, is_swinging in ((None, True), (0.01, True), (0.2, False)):
        verdicts = judge(changed(WELL, curve=changed(CURVE, jump=0.1, ups=0.5, chance=chance)))
        assert [verdict.name for verdict in verdicts] == [TOO_HIGH] * is_swinging
        assert chance is None or not verdicts or "minibatches explain 1.0%" in verdicts[0].evidence


@pytest.mark.parametrize("pca", [0.827, 0.881, 0.93])
def test_runs_that_are_undertrained_alike_get_one_verdict(pca: float) -> None:
    """Errors of 3.5 to 4.1 times PCA's that still fall, however fast."""
    for ratio in (3.5, 3.6, 3.7, 3.8, 3.9, 4.1):
        explained = 1 - ratio * (1 - pca)
        if explained > 0.6:
            continue
        for slope in (0.015, 0.05, 0.09, 0.11, 0.3):
            fit, curve = changed(FIT, explained=explained), changed(CURVE, slope=slope)
            found = judge(changed(WELL, fit=fit, curve=curve, pca_explained=pca))
            assert [(verdict.name, verdict.remedy) for verdict in found] == [(FEW_EPOCHS, "trainer.epochs=80")]


def diverging(compose: Compose, folder: Path, *typed: str, high: float = 1.0) -> Any:
    """The diagnosis of a run that diverges on values up to ``high``."""
    import numpy as np

    np.savez(folder / "values.npz", images=np.random.default_rng(0).uniform(0, high, (200, 64)).astype(np.float32))
    words = [
        "dataset=array",
        f"dataset.root={folder / 'values.npz'}",
        "trainer.device=cpu",
        "trainer.pictures=0",
        *typed,
    ]
    config = compose(words)
    with pytest.raises(DivergedError) as caught:
        run(parse(config), config, folder / "run", overrides=words)
    [verdict] = aerun.diagnose(folder / "run").verdicts
    assert (
        str(caught.value).endswith(f"; try {verdict.remedy}") and verdict.evidence in f"DivergedError: {caught.value}"
    )
    parse(compose([*words, *overrides_of(verdict.remedy)]), overrides=[*words, *overrides_of(verdict.remedy)])
    return verdict


def test_a_number_that_is_not_finite_before_any_update_is_about_the_inputs(compose: Compose, tmp_path: Path) -> None:
    verdict = diverging(compose, tmp_path, "model=fc_vae", "optimizer.lr=1e-8", high=10_000.0)
    assert re.search(r"Nothing was updated before: the inputs range from [\d.]+ to 1e\+04$", verdict.evidence)
    assert verdict.remedy == "dataset.normalize=standardise model.output_activation=identity"


def test_one_after_large_updates_is_about_the_learning_rate(compose: Compose, tmp_path: Path) -> None:
    verdict = diverging(compose, tmp_path, "model=fc", "optimizer=sgd", "optimizer.lr=1e6", "loss.reduction=sum")
    key, _, rate = verdict.remedy.partition("=")
    assert key == "optimizer.lr" and 0 < float(rate) < 1e4
    assert "The first update changed the weights by" in verdict.evidence


def test_a_remedy_is_typed_as_it_stands() -> None:
    assert overrides_of("dataset.normalize=standardise model.output_activation=identity") == (
        "dataset.normalize=standardise",
        "model.output_activation=identity",
    )
    assert overrides_of("optimizer.lr times 3") == () == overrides_of("more images, or noise=masking")
    assert OVERRIDE.fullmatch("model.hidden=[256]")
