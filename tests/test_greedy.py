"""Greedy layer-wise training: what a stage is, what it trains, and that a run goes on where it was left."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import aerun
from aerun.compare import Question, collect, compare
from aerun.config.parse import parse
from aerun.config.settings import Settings
from aerun.core.autoencoder import untie
from aerun.core.nested import freeze, freeze_only, nested
from aerun.errors import AerunError
from aerun.runs.init_from import copy_matching_layers
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run
from aerun.training import build
from aerun.training.parts import Parts
from aerun.training.regime import regime_of
from tests.faults.kills import contents, differences, finish, start
from tests.runs import write_run

Compose = Callable[..., dict[str, Any]]
SMALL = [
    *("dataset=random", "dataset.images=48", "dataset.shape=[1,8,8]", "dataset.validation=8"),
    *("trainer=greedy", "model=fc", "model.hidden=[12,6]", "model.code_size=3", "trainer.stage_epochs=2"),
    *("trainer.epochs=2", "trainer.batch_size=16", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=1"),
]


def words(*overrides: str) -> list[str]:
    """A small greedy run, or a joint one where that is asked for, with these overrides."""
    joint = "trainer=joint" in overrides
    return [
        *(word for word in SMALL if not (joint and word in ("trainer=greedy", "trainer.stage_epochs=2"))),
        *overrides,
    ]


@pytest.fixture
def go(compose: Compose, tmp_path: Path) -> Callable[..., Path]:
    """Run overrides in this process; returns the run folder."""

    def begin(*overrides: str, folder: str = "run", **changes: Any) -> Path:
        config = compose(words(*overrides)) | changes
        choices = {"trainer": "greedy", "model": "fc"}
        run(parse(config, choices), config, tmp_path / folder, overrides=list(overrides))
        return tmp_path / folder

    return begin


def settings_and_parts(compose: Compose, *overrides: str) -> tuple[Settings, Parts]:
    settings = parse(compose(words(*overrides)), {"model": "fc", "trainer": "greedy"})
    device = build.prepare(settings)
    return settings, build.build_parts(settings, settings.dataset.load(device), device)


def parts_of(compose: Compose, *overrides: str) -> Parts:
    return settings_and_parts(compose, *overrides)[1]


def weights(folder: Path, name: str = "best") -> dict[str, torch.Tensor]:
    tensors = load_file(folder / "checkpoints" / f"{name}.safetensors")
    return {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


CONV = ["dataset.shape=[3,17,14]", "model=conv", "model.hidden=[4,5]", "model.code_size=null"]


@pytest.mark.parametrize(
    ("overrides", "shapes"),
    [
        ([], [(12,), (6,), (3,)]),
        (["model.tied=true", "latent=gaussian"], [(12,), (6,), (3,)]),
        (["model.hidden=[]"], [(3,)]),
        (CONV, [(4, 9, 7), (5, 4, 3)]),
        ([*CONV, "model.tied=true", "model.code_size=3"], [(4, 9, 7), (5, 4, 3), (3,)]),
        ([*CONV, "latent=gaussian", "model.code_activation=identity"], [(4, 9, 7), (5, 4, 3)]),
    ],
)
def test_a_stage_is_the_autoencoder_of_the_outermost_pairs(
    compose: Compose, overrides: list[str], shapes: list[tuple[int, ...]]
) -> None:
    """Image in, image out, through the whole's own parameters under their own names; the last stage is the whole."""
    whole = parts_of(compose, *overrides).autoencoder
    own = dict(whole.named_parameters())
    before: set[str] = set()
    for pairs, shape in enumerate(shapes, 1):
        stage = nested(whole, pairs)
        images = torch.rand(2, *whole.input_shape)
        assert stage.encode(images).shape == (2, *shape) == (2, *stage.code_shape)
        assert stage.reconstruct(images).shape == images.shape
        names = dict(stage.named_parameters())
        assert before < set(names) and all(own[name] is parameter for name, parameter in names.items())
        before = set(names)
    assert before == set(own) and stage is whole
    assert whole.code_shape == shapes[-1] and isinstance(whole.encoder, nn.Sequential)


def test_a_nested_autoencoder_computes_what_is_written_down(compose: Compose) -> None:
    whole = parts_of(compose, "model.activation=tanh").autoencoder
    w = dict(whole.named_parameters())
    x = torch.rand(5, 1, 8, 8)
    h = torch.tanh(torch.tanh(x.flatten(1) @ w["encoder.1.weight"].T + w["encoder.1.bias"]) @ w["encoder.3.weight"].T
                   + w["encoder.3.bias"])  # fmt: skip
    y = torch.tanh(h @ w["decoder.2.weight"].T + w["decoder.2.bias"]) @ w["decoder.4.weight"].T + w["decoder.4.bias"]
    assert torch.allclose(nested(whole, 2)(x).reconstruction.flatten(1), y, atol=1e-6)


ENCODING, DECODING = ("encoder.1", "encoder.3", "encoder.5"), ("decoder.4", "decoder.2", "decoder.0")


def by_hand(
    w: dict[str, torch.Tensor], x: torch.Tensor, plan: list[tuple[int, list[str], float]]
) -> dict[str, torch.Tensor]:
    """Gradient descent with momentum on all of x, twice a stage: (pairs, the layers that move, learning rate) each."""
    for pairs, moving, rate in plan:
        names = [f"{layer}.{kind}" for layer in moving for kind in ("weight", "bias")]
        speed = dict.fromkeys(names, torch.zeros((), dtype=torch.float64))
        for _ in range(2):
            w, h = {name: value.detach().requires_grad_() for name, value in w.items()}, x
            for layer in [*ENCODING[:pairs], *reversed(DECODING[:pairs])]:
                h = h @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]
                h = h if layer in ("decoder.4", "encoder.5") else torch.tanh(h)  # the output, and the code of the whole
            gradients = torch.autograd.grad((h - x).square().mean(), [w[name] for name in names])
            for name, gradient in zip(names, gradients, strict=True):
                speed[name] = 0.9 * speed[name] + gradient
                w[name] = w[name].detach() - rate * speed[name]
    return w


@pytest.mark.parametrize("freezing", [True, False])
def test_the_stages_are_those_of_a_loop_in_float64(go: Callable[..., Path], compose: Compose, freezing: bool) -> None:
    """Outermost pair first, earlier ones held or not, a new optimizer with its own rate each, then all together."""
    overrides = [
        *(
            "model.activation=tanh",
            "model.code_activation=identity",
            "dataset.validation=0",
            "optimizer=sgd",
            "optimizer.lr=0.05",
        ),
        *("trainer.stage_optimizer={lr: [0.3, 0.2, 0.1]}", f"trainer.freeze_earlier={freezing}"),
        "trainer.batch_size=48",  # all of them: their order does not matter
    ]
    parts = parts_of(compose, *overrides)
    x = parts.data.train.inputs[:].double().flatten(1) / (255 if parts.data.train.inputs.dtype == torch.uint8 else 1)
    start = {name: value.detach().double() for name, value in parts.autoencoder.named_parameters()}
    pairs = [[ENCODING[i], DECODING[i]] for i in range(3)]
    stages = pairs if freezing else [[layer for pair in pairs[: i + 1] for layer in pair] for i in range(3)]
    plan = [(i + 1, stages[i], (0.3, 0.2, 0.1)[i]) for i in range(3)]
    expected = by_hand(start, x, [*plan, (3, [*ENCODING, *DECODING], 0.05)])
    found = weights(go(*overrides), "last")
    for name, value in expected.items():
        assert torch.allclose(found[name].double(), value, atol=2e-6), name
        assert not torch.allclose(found[name].double(), start[name], atol=2e-6), name


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.activation=sigmoid"],
        ["latent=gaussian"],
        CONV,
        [*CONV, "model.code_size=3"],
        [*CONV, "latent=gaussian", "model.code_activation=identity"],
    ],
)
def test_untying_changes_nothing_at_that_moment_and_parts_the_weights(compose: Compose, overrides: list[str]) -> None:
    """To the last bit: the copies lie in memory as what was used before, so the very same sums are computed."""
    parts = parts_of(compose, "model.tied=true", *overrides)
    model, x = parts.autoencoder, torch.rand(7, *parts.autoencoder.input_shape)
    before, count = model(x), len(list(model.parameters()))
    untie(model)
    after = model(x)
    for one, other in zip(before[:4], after[:4], strict=True):
        assert torch.equal(one, other)
    assert torch.equal((before.reconstruction - x).square().mean(), (after.reconstruction - x).square().mean())
    parameters = list(model.parameters())
    assert len(parameters) == count + len(model.cuts or ()) + 1
    assert len({parameter.data_ptr() for parameter in parameters}) == len(parameters)
    assert all(value.isfinite().all() for value in parameters) and not any(p.is_meta for p in parameters)


@pytest.mark.parametrize("overrides", [[], [*CONV, "model.code_size=3"]])
def test_a_run_that_unties_goes_on_with_the_same_loss_and_other_weights(
    go: Callable[..., Path], overrides: list[str]
) -> None:
    asked = ["model.tied=true", "trainer.untie_at=finetune", *overrides]
    folder = go(*asked)
    own, pretrained = weights(folder), weights(folder, "stage3")
    matrices = [name for name in own if name.startswith("decoder") and name.endswith("weight")]
    assert len(matrices) == 3 and not any(name in pretrained for name in matrices)
    model = aerun.load(folder)
    assert {name: tuple(value.shape) for name, value in model.named_parameters()} == {
        name: tuple(value.shape) for name, value in own.items()
    }
    mirror = sorted((name for name in own if name.startswith("encoder") and name.endswith("weight")), reverse=True)
    for encoding, decoding in zip(mirror, sorted(matrices), strict=True):
        theirs = own[encoding].T if own[encoding].dim() == 2 else own[encoding]
        assert theirs.shape == own[decoding].shape and not torch.equal(theirs, own[decoding])
    assert reevaluate(folder)["differs_from_summary"] == []
    # Without a rate nothing moves: the first validation loss is that of the last stage's best weights.
    still = go(*asked, "optimizer=sgd", "optimizer.lr=1e-30", "trainer.stage_optimizer={lr: 0.1}", folder="still")
    last = min(line["stage3/validation/loss"] for line in lines(still) if line["stage"] == 3)
    assert lines(still)[-1]["validation/loss"] == last


@pytest.mark.parametrize("names", ["[encoder.1,decoder.4]", "[encoder]", "[decoder.4.bias]"])
def test_frozen_layers_do_not_move_by_a_bit(go: Callable[..., Path], compose: Compose, names: str) -> None:
    """Nor are they in the optimizer, whose weight decay would move them."""
    prefixes = tuple(f"{name}" for name in names.strip("[]").split(","))
    asked = [f"freeze={names}", "optimizer=adamw", "optimizer.weight_decay=0.5", "trainer.stage_epochs=[0,2,2]"]
    parts = parts_of(compose, *asked)
    start = {name: value.detach().clone() for name, value in parts.autoencoder.named_parameters()}
    frozen = {name for name in start if any(name == p or name.startswith(f"{p}.") for p in prefixes)}
    count = sum(len(group["params"]) for group in parts.optimizer.param_groups)
    assert frozen and count == len(start) - len(frozen)
    end = weights(go(*asked), "last")
    for name, value in start.items():
        assert torch.equal(end[name], value) == (name in frozen), name


def test_what_a_model_holds_itself_stays_held_in_every_stage(compose: Compose) -> None:
    """Whatever a stage holds and lets go again."""
    whole = parts_of(compose, "trainer.stage_epochs=[1,1,1]").autoencoder
    own = {name for name, _ in whole.named_parameters() if name.startswith("encoder.5")}
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_(name not in own)
    freeze(whole, ["decoder.0"])
    for pairs, held in ((3, ["decoder.0"]), (1, []), (3, [])):
        part = nested(whole, pairs)
        assert freeze_only(part, held)
        still = {name for name, parameter in part.named_parameters() if not parameter.requires_grad}
        there = {name for name, _ in part.named_parameters()}
        assert still == {name for name in there if name in own or any(name.startswith(f"{layer}.") for layer in held)}


def test_layers_that_are_not_there_and_stages_with_nothing_to_train_are_refused(compose: Compose) -> None:
    for overrides, text in {
        (
            "freeze=[encoder.2]",
        ): "freeze=encoder.2: there is no such layer. Did you mean 'encoder.5'? Layers: encoder.1, "
        "encoder.3, encoder.5, decoder.0, decoder.2, decoder.4",
        ("freeze=[encoder,decoder]",): "freeze=[encoder,decoder]: nothing would be left to train",
        (
            "freeze=[encoder.1,decoder.4]",
        ): "trainer=greedy and freeze=[encoder.1,decoder.4]: stage 1 would have nothing",
        ("model=conv_fc", "dataset.shape=[1,28,28]", "model.kernel_size=2"): "model=fc, fc_deep or conv",
        ("trainer.stage_epochs=[1,2]",): "trainer.stage_epochs: has 2 values for 3 layer pairs",
        ("trainer.stage_epochs=[1,2,0]", "trainer.epochs=0"): "the innermost pair would not be trained",
        ("trainer.stage_optimizer={lr: [1, 2]}",): "trainer.stage_optimizer: has 2 values for 3 layer pairs",
        ("trainer.stage_optimizer={lrr: 1}",): "trainer.stage_optimizer.lrr: there is no such key. Did you mean 'lr'?",
        ("trainer.stage_optimizer={lr: [1, 2], eps: [1]}",): "different numbers of values",
        ("trainer.stage_optimizer=fast",): "trainer.stage_optimizer=fast: must be keys of the optimizer",
        ("trainer.untie_at=finetune",): "model.tied=false",
        ("trainer.untie_at=finetune", "model.tied=true", "trainer.epochs=0"): "there is no fine-tuning",
        (
            "scheduler=plateau",
            "scheduler.stop_lr=0.01",
            "optimizer.lr=1",
            "trainer.stage_optimizer={lr: 0.001}",
        ): "scheduler.stop_lr=0.01 is not below trainer.stage_optimizer.lr=0.001",
    }.items():
        with pytest.raises(AerunError) as refusal:
            regime_of(*settings_and_parts(compose, *overrides))
        assert text in str(refusal.value) and "\n" not in str(refusal.value), overrides


KILLED = {
    "tied": [
        "model.tied=true",
        "trainer.untie_at=finetune",
        "scheduler=plateau",
        "scheduler.patience=0",
        "noise=gaussian",
    ],
    "whole": ["trainer.epochs=0", "trainer.freeze_earlier=false", "trainer.stage_optimizer={lr: [0.01, 0.02, 0.03]}"],
}


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("tied", [(9, 26)]),
        pytest.param("tied", [(i, 40 - i) for i in range(1, 38, 3)], marks=pytest.mark.slow),
        pytest.param("whole", [(i, 30 - i) for i in range(1, 28, 3)], marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_as_it_renames_a_file_ends_as_the_undisturbed_one(
    compose: Compose, tmp_path: Path, kind: str, points: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every renaming commits something: checkpoints amid stages, at their ends and beginnings, and what stages keep."""
    monkeypatch.setattr("aerun.training.checkpoint.MAX_SHARE_OF_TIME", math.inf)
    config = compose([*SMALL, *KILLED[kind], "checkpoint.every_minutes=0.000001"])
    assert finish(start(config, tmp_path / "reference")) == 0
    expected, failed = contents(tmp_path / "reference"), []
    for point in points:
        folder = tmp_path / f"at-{point[0]}"
        codes = [finish(start(config, folder, die_at=at)) for at in point]
        assert finish(start(config, folder)) == 0
        wrong = differences(expected, contents(folder))
        failed += [(point, codes, wrong[:5])] if wrong else []
    assert not failed


def test_layers_of_a_finished_run_are_taken_over_as_far_as_they_correspond(
    go: Callable[..., Path], compose: Compose, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Of a shallower, tied run the outermost pair; its mirror layer's matrix, transposed, where none is its own."""
    source = go("trainer=joint", "model.hidden=[]", "model.code_size=12", "model.tied=true", folder="source")
    given = weights(source)
    parts = parts_of(compose)
    own = {name: value.detach().clone() for name, value in parts.autoencoder.named_parameters()}
    caplog.clear()
    with caplog.at_level("INFO", "aerun.runs.init_from"):
        copy_matching_layers(source, parts.autoencoder)
    assert caplog.messages == [
        f"from {source}: encoder.1, decoder.4; initialized: encoder.3, encoder.5, decoder.2, decoder.0"
    ]
    now = dict(parts.autoencoder.named_parameters())
    assert torch.equal(now["encoder.1.weight"], given["encoder.1.weight"])
    assert torch.equal(now["decoder.4.weight"], given["encoder.1.weight"].T)
    assert torch.equal(now["decoder.4.bias"], given["decoder.0.bias"])
    assert all(torch.equal(now[name], own[name]) for name in own if name.split(".")[1] not in "14")
    # Into a tied model, and of one whose outer layers have another width: nothing further in counts then.
    tied = parts_of(compose, "model.tied=true").autoencoder
    copy_matching_layers(source, tied)
    assert torch.equal(tied.get_parameter("encoder.1.weight"), given["encoder.1.weight"])
    for overrides, folder, text in [
        (["model.hidden=[13,6]"], source, "no layer of that run has the position and shape of a layer of this model"),
        ([], tmp_path / "nowhere", "is not a run folder"),
    ]:
        with pytest.raises(AerunError, match=text) as refusal:
            copy_matching_layers(folder, parts_of(compose, *overrides).autoencoder)
        assert str(refusal.value).startswith(f"init_from={folder}: ") and "\n" not in str(refusal.value)


def test_convolutions_are_taken_over_too(go: Callable[..., Path], compose: Compose) -> None:
    source = go("trainer=joint", *CONV, "model.hidden=[4]", "model.tied=true", folder="source")
    model = parts_of(compose, *CONV, "model.hidden=[4]").autoencoder
    copy_matching_layers(source, model)
    theirs, images = aerun.load(source), torch.rand(3, 3, 17, 14)
    assert torch.allclose(model.reconstruct(images), theirs.reconstruct(images), atol=1e-6)


def test_a_run_begins_with_what_it_takes_over_and_does_not_ask_for_it_again(
    go: Callable[..., Path], compose: Compose, tmp_path: Path
) -> None:
    source = go("trainer=joint", "model.hidden=[]", "model.code_size=12", folder="source")
    asked = [f"init_from={source}", "freeze=[encoder.1,decoder.4]", "trainer=joint", "trainer.epochs=3"]
    whole = go(*asked, folder="whole")
    given, found = weights(source), weights(whole, "last")
    assert torch.equal(found["encoder.1.weight"], given["encoder.1.weight"])
    assert torch.equal(found["decoder.4.weight"], given["decoder.0.weight"])
    config = compose(words(*asked))
    assert config["init_from"] == str(source)
    assert finish(start(config, tmp_path / "cut", die_at=8)) == 9
    source.rename(tmp_path / "gone")
    assert finish(start(config, tmp_path / "cut")) == 0
    assert differences(contents(whole), contents(tmp_path / "cut")) == []


def test_stages_are_logged_under_their_names_and_comparisons_show_the_fine_tuning(
    go: Callable[..., Path], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = go("trainer.patience=1", "trainer.min_delta=100")
    found = lines(folder)
    assert [(line["stage"], line["epoch"]) for line in found] == [(i // 2 + 1, i + 1) for i in range(8)]
    losses = [[name for name in line if name.endswith("train/loss")] for line in found]
    assert losses == [[f"stage{i // 2 + 1}/train/loss"] for i in range(6)] + [["train/loss"]] * 2
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    for name in ("stage1/train/loss", "stage3/validation/loss", "stage2/train/gradient_norm", "validation/loss"):
        assert name in events.Tags()["scalars"]
    assert "2_reconstructions/stages" in events.Tags()["images"]
    assert (folder / "figures" / "reconstructions_stages.png").exists()
    [group] = compare(collect([folder]), Question(metrics=("validation/loss",))).groups
    assert group.statistic("validation/loss").mean == found[-1]["validation/loss"]


def test_a_loss_that_changes_in_the_course_of_a_run_does_so_in_each_stage(
    go: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aerun.loss import BCEThenMSE

    asked: list[float] = []
    schedules = BCEThenMSE.schedules

    def noted(self: BCEThenMSE) -> dict[str, Callable[[Any], float]]:
        def share(at: Any) -> float:
            asked.append(at.progress)
            return schedules(self)["entropy_share"](at)

        return {"entropy_share": share}

    monkeypatch.setattr(BCEThenMSE, "schedules", noted)
    go("loss=bce_then_mse", "trainer.pictures=0")
    assert asked == [step / 6 for _ in range(4) for step in range(6)]  # 40 images in batches of 16, twice


def test_without_fine_tuning_comparisons_show_the_last_stage(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 0.1, config={"trainer": {"_target_": "aerun.trainer.Greedy", "epochs": 0}})
    found = [
        {"epoch": i, "step": i, "stage": (i + 1) // 2, f"stage{(i + 1) // 2}/validation/loss": i} for i in (1, 2, 3, 4)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
    [run] = collect([folder])
    assert [line.get("validation/loss") for line in run.lines] == [None, None, 3, 4]
    assert run.numbers["validation/loss"] == 4


def test_a_folder_made_before_these_keys_loads(go: Callable[..., Path]) -> None:
    folder = go("trainer=joint")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["init_from"], config["freeze"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert reevaluate(folder)["differs_from_summary"] == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["trainer.processes=2", "trainer.compile=true", "trainer.precision=bfloat16"])
def test_stages_computed_in_other_ways_end_as_they_do_plainly(train: Any, tmp_path: Path, way: str) -> None:
    shared = [*SMALL, "model.tied=true", "trainer.untie_at=finetune", "scheduler=cosine"]
    for name, more in (("plain", []), ("other", [way])):
        done = train(*shared, *more, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    plain, other = (lines(tmp_path / name) for name in ("plain", "other"))
    assert [line.keys() for line in plain] == [line.keys() for line in other]
    rel = 0.02 if "bfloat16" in way else 1e-4
    for one, two in zip(plain, other, strict=True):
        key = next(name for name in one if name.endswith("validation/loss"))
        assert two[key] == pytest.approx(one[key], rel=rel)


def test_a_sweep_checks_layers_before_the_first_job(train: Any) -> None:
    done = train("-m", *SMALL, "freeze=[encoder.1],[encoder.9]", "sweep.dry_run=true", "sweep.name=s")
    assert re.search(r"invalid +freeze=\[encoder.9\] +freeze=encoder.9: there is no such layer", done.stdout), done
