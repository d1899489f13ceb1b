"""Whole runs, and what they leave behind."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import aerun
from aerun.config.parse import parse
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run
from aerun.training.checkpoint import read

Compose = Callable[..., dict[str, Any]]
Train = Callable[..., subprocess.CompletedProcess[str]]
TINY = [
    "dataset.train_limit=600",
    "dataset.validation=200",
    "trainer.epochs=3",
    "trainer.device=cpu",
    "trainer.threads=1",
    "trainer.log_every_steps=2",
]


@pytest.fixture
def go(compose: Compose, tmp_path: Path) -> Callable[..., Path]:
    """Run overrides in this process; returns the run folder."""

    def start(*overrides: str, folder: str = "run", **changes: Any) -> Path:
        config = compose([*TINY, *overrides]) | changes
        choices = {"model": "fc", "dataset": "fashion_mnist_mini"}
        run(parse(config, choices), config, tmp_path / folder, overrides=list(overrides))
        return tmp_path / folder

    return start


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"{name}.safetensors")


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def written(path: Path) -> tuple[int, int, int]:
    """Which file it is and when it was written; reading it may change when it was read."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def lines(folder: Path) -> list[dict[str, float]]:
    """metrics.jsonl without the speed, which no two runs share."""
    parsed = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "train/images_per_second"} for line in parsed]


def test_the_default_run_from_another_directory(train: Train, tmp_path: Path) -> None:
    done = train()
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "outputs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test"]["mse"] < 0.8 * summary["baselines"]["pca/mse"]
    for text in ("autoencoder", "mean image", "PCA, 32 components", f"tensorboard --logdir outputs/{folder.name}"):
        assert text in done.stdout
    assert f"{summary['test']['mse']:.6f}" in done.stdout
    assert summary["epochs"] == 30
    events = sum(path.stat().st_size for path in folder.glob("events*"))
    assert events < 3_000_000


def test_two_runs_of_one_moment_have_two_folders(train: Train, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parent.parent / "scripts" / "train.py"
    command = [sys.executable, str(script), *TINY, "trainer.pictures=0"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(list((tmp_path / "outputs").glob("*/summary.json"))) == 2


def test_the_run_folder_holds_what_the_readme_says(go: Callable[..., Path]) -> None:
    overrides = ["model=fc", "noise=gaussian", "sparsity=topk"]
    folder = go(*overrides)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
        "probes.npz",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "figures/reconstructions_test.png",
        "figures/features_dictionary.png",
        "figures/features_first_layer.png",
        "figures/generated_interpolations.png",
        "figures/code_heatmap.png",
        "figures/code_map.png",
        "figures/curves_loss.png",
    } <= names
    assert "figures/curves_learning_rate.png" not in names  # it does not change
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["sparsity"]["activation"] == "leaky_relu"  # resolved
    assert yaml.safe_load((folder / "overrides.yaml").read_text())["overrides"] == overrides
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert re.fullmatch(r"[0-9a-f]{16}", environment["dataset"]["checksum"])
    summary = json.loads((folder / "summary.json").read_text())
    assert {"mean_image/mse", "pca/mse", "linear/mse"} <= summary["baselines"].keys()
    assert summary["test"]["active_units"] == 16
    assert [line["epoch"] for line in lines(folder)] == [1, 2, 3]
    assert not list(folder.rglob("*.pt")) + list(folder.rglob("*.pkl"))


def test_tensorboard_shows_the_run_once_with_all_it_should(go: Callable[..., Path]) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    keys = [f"tracker.tensorboard.{name}=true" for name in ("projector", "histograms")]
    folder = go("model=vae", "loss=bce", "loss.reduction=sum", *keys)
    runs = EventMultiplexer().AddRunsFromDirectory(str(folder))
    runs.Reload()
    assert list(runs.Runs()) == ["."]
    tags = runs.Runs()["."]
    for part in ("train", "validation"):
        for name in ("loss", "reconstruction", "kl", "reconstruction_nats", "active_units"):
            assert f"{part}/{name}" in tags["scalars"]
    assert {
        "train/learning_rate",
        "train/gradient_norm",
        "train/images_per_second",
        "validation/psnr",
        "validation/output_spread",
        "validation/dead_units",
        "test/mse",
        "test_baseline/pca/mse",
        "test_baseline/mean_image/psnr",
        "1_curves/validation_total_loss",
        "1_curves/validation_mse",
        "3_test/mse",
    } <= set(tags["scalars"])
    assert {
        "1_curves/with_baselines",
        "2_reconstructions/probes",
        "2_reconstructions/test",
        "data/training_images",
        "features/first_layer",
        "code/heatmap",
        "code/map",
        "generated/samples",
        "generated/interpolations",
    } <= set(tags["images"])
    assert "code" in tags["histograms"]
    accumulator = runs.GetAccumulator(".")
    assert "hparams" in accumulator.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name
    assert len(accumulator.Images("2_reconstructions/probes")) == 3
    assert (folder / "projector_config.pbtxt").exists()
    assert (folder / "00000" / "code" / "sprite.png").exists()
    with Image.open(folder / "figures" / "code_map.png") as picture:
        [shown] = accumulator.Images("code/map")
        assert (picture.width, picture.height) == (shown.width, shown.height)
        assert shown.encoded_image_string == (folder / "figures" / "code_map.png").read_bytes()


def test_training_and_validation_of_a_term_share_a_chart(go: Callable[..., Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    events = EventAccumulator(str(go("sparsity=l1")), size_guidance={"tensors": 0}).Reload()
    [event] = events.Tensors("custom_scalars__config__")
    layout = Layout()
    layout.ParseFromString(event.tensor_proto.string_val[0])
    charts, errors = (
        {chart.title: list(chart.multiline.tag) for chart in category.chart} for category in layout.category
    )
    assert charts.keys() == {"loss", "reconstruction", "l1", "active_units"}
    scalars = events.Tags()["scalars"]
    assert {tag for tag in scalars for pattern in errors["mse"] if re.search(pattern, tag)} == {
        *("validation/mse", "test/mse", "test_baseline/mean_image/mse", "test_baseline/pca/mse")
    }
    for tags in charts.values():
        assert [[tag for tag in scalars if re.search(pattern, tag)] for pattern in tags] == [[t[1:-1]] for t in tags]


def test_hyperparameters_have_one_type_a_key_whatever_the_run(compose: Compose) -> None:
    from aerun.runs.folder import flatten_settings

    runs = ["model=fc", "model=conv", "sparsity=kl", "optimizer.lr=1", "dataset.validation=100", "trainer.clip_norm=1"]
    runs += ["trainer.graph=false", "trainer.tsne=true", "dataset.memory_limit=4000", "dataset.memory_limit=4kB"]
    runs += ["trainer=greedy", "trainer=greedy trainer.stage_epochs=[1,2]", "model.tied=true"]
    tables = [flatten_settings(compose(words.split()), {"model": "fc"}) for words in runs]
    for key in {key for table in tables for key in table}:
        assert len({type(table[key]) for table in tables if key in table}) == 1, key
    assert tables[0]["model"] == "fc" and tables[0]["sparsity"] == "NoSparsity"
    shown = [
        *((tables[0], "trainer.graph", "auto"), (tables[6], "trainer.graph", "false")),
        *((tables[0], "trainer.tsne", False), (tables[7], "trainer.tsne", True)),
        *((tables[8], "dataset.memory_limit", "4000"), (tables[9], "dataset.memory_limit", "4kB")),
        *((tables[10], "trainer.stage_epochs", "10"), (tables[11], "trainer.stage_epochs", "[1, 2]")),
    ]
    assert [table[key] for table, key, _ in shown] == [value for *_, value in shown]


@pytest.mark.parametrize("overrides", [[], ["model=vae", "noise=masking"], ["sparsity=lifetime", "noise=gaussian"]])
def test_one_seed_is_one_run_bit_for_bit_and_another_differs(go: Callable[..., Path], overrides: list[str]) -> None:
    first, again = (go(*overrides, folder=name) for name in ("first", "again"))
    other = go(*overrides, "seed=1", folder="other")
    assert equal(weights(first), weights(again))
    assert lines(first) == lines(again)
    assert not equal(weights(first), weights(other))


def test_runs_of_different_seeds_are_measured_on_the_same_images_and_noise(go: Callable[..., Path]) -> None:
    summaries = [
        json.loads((go("noise=gaussian", f"seed={seed}", folder=str(seed)) / "summary.json").read_text())
        for seed in (0, 1)
    ]
    assert summaries[0]["baselines"] == summaries[1]["baselines"]
    assert summaries[0]["test"]["input_psnr"] == summaries[1]["test"]["input_psnr"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model=vae", "noise=masking", "scheduler=cosine"],
        ["model=fc_vae", "loss=bce", "dataset.binarise=dynamic", "latent=importance_weighted", "latent.samples=2"],
        ["scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.5", "sparsity=lifetime"],
        ["optimizer=sgd", "noise=salt_pepper", "trainer.patience=2", "dataset.normalize=standardise"],
        ["loss=bce_then_mse", "loss.switch=0.4", "model.output_bias=mean"],
    ],
)
def test_a_run_cut_off_and_continued_is_the_undisturbed_run(
    go: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    from aerun.training.checkpoint import Checkpointer
    from aerun.training.progress import Progress

    whole = go(*overrides, folder="whole")
    save = Checkpointer.save

    def save_and_die(self: Checkpointer, progress: Progress) -> None:
        save(self, progress)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        "aerun.training.checkpoint.MAX_SHARE_OF_TIME", math.inf
    )  # a checkpoint after every epoch, short as they are
    monkeypatch.setattr(Checkpointer, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        go(*overrides, folder="cut")
    monkeypatch.undo()
    cut = whole.parent / "cut"
    assert not (cut / "summary.json").exists()
    go(*overrides, folder="cut", resume=str(cut))
    assert equal(weights(whole), weights(cut))
    assert lines(whole) == lines(cut)
    assert (whole / "probes.npz").read_bytes() == (cut / "probes.npz").read_bytes()
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (whole, cut)]
    assert summaries[0]["test"] == summaries[1]["test"]
    assert summaries[0]["best_epoch"] == summaries[1]["best_epoch"]


def test_resume_on_the_command_line(train: Train, tmp_path: Path) -> None:
    tiny = [override for override in TINY if "epochs" not in override]
    assert train(*tiny, "trainer.epochs=4", "hydra.run.dir=four").returncode == 0
    assert train(*tiny, "trainer.epochs=2", "hydra.run.dir=two").returncode == 0
    finished = train("resume=two")
    assert finished.returncode == 0 and "is already finished" in finished.stdout
    refused = train("resume=two", "seed=3")
    assert refused.returncode == 1 and "seed=3: a resumed run keeps its settings" in refused.stderr
    shorter = train("resume=two", "trainer.epochs=1")
    assert shorter.returncode == 1 and "trainer.epochs=1: the run has 2" in shorter.stderr
    assert train("resume=two", "trainer.epochs=4").returncode == 0
    assert equal(weights(tmp_path / "four"), weights(tmp_path / "two"))
    assert lines(tmp_path / "four") == lines(tmp_path / "two")


def test_a_folder_that_holds_a_run_is_not_written_over(train: Train, tmp_path: Path) -> None:
    assert train(*TINY, "hydra.run.dir=mine").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    before.pop(tmp_path / "mine" / ".lock")
    refused = train(*TINY, "hydra.run.dir=mine", "seed=1")
    assert refused.returncode == 1 and "contains a run with another configuration" in refused.stderr
    assert before == {path: path.read_bytes() for path in before}


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    go: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from aerun.loss import MSE

    original, calls = MSE.__call__, {"count": 0}

    def poisoned(self: MSE, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls["count"] += prediction.requires_grad
        return original(self, prediction, target) * (float("inf") if calls["count"] == 8 else 1.0)

    monkeypatch.setattr(MSE, "__call__", poisoned)
    monkeypatch.setattr("aerun.training.checkpoint.MAX_SHARE_OF_TIME", math.inf)
    # 600 images in batches of 128 are 5 steps an epoch: step 8 is the third of epoch 2.
    with pytest.raises(aerun.DivergedError, match=r"epoch 2, step 8: reconstruction is inf \(gradient norm"):
        go()
    for name in ("last", "best"):
        state = weights(tmp_path / "run", name)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "diverged"


def test_the_best_weights_of_a_short_run_outlive_its_divergence(
    go: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from aerun.loss import MSE

    original, calls = MSE.__call__, {"count": 0}

    def poisoned(self: MSE, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls["count"] += prediction.requires_grad
        return original(self, prediction, target) * (float("inf") if calls["count"] == 13 else 1.0)

    undisturbed = go("trainer.epochs=2", folder="two")
    monkeypatch.setattr(MSE, "__call__", poisoned)
    monkeypatch.setattr("aerun.training.checkpoint.MAX_SHARE_OF_TIME", 1e-9)
    with pytest.raises(aerun.DivergedError):  # in epoch 3; the only checkpoint is that of epoch 1
        go()
    assert read(tmp_path / "run" / "checkpoints" / "last.safetensors")[1]["progress"]["epoch"] == 1
    assert equal(weights(tmp_path / "run", "best"), weights(undisturbed, "best"))


def test_a_diverged_run_on_the_command_line(train: Train, tmp_path: Path) -> None:
    done = train(*TINY, "optimizer=sgd", "optimizer.lr=1000", "model=fc_deep", "hydra.run.dir=sick")
    assert done.returncode == 1
    assert re.search(r"epoch 1, step \d+: reconstruction is (inf|nan) \(gradient norm", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "sick" / "summary.json").exists()


def test_three_lines_give_the_trained_model(go: Callable[..., Path]) -> None:
    folder = go("model=fc_deep")
    model = aerun.load(folder)
    images = torch.rand(5, 1, 28, 28)
    codes = model.encode(images)
    assert codes.shape == (5, 2)
    assert torch.equal(model.decode(codes), model.reconstruct(images.numpy()))
    best = weights(folder, "best")
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in model.state_dict().items())
    assert not model.training and not any(name.startswith("hydra") for name in vars(model))


def test_loading_does_not_import_hydra(go: Callable[..., Path]) -> None:
    folder = go()
    code = f"import sys, aerun; aerun.load({str(folder)!r}); print('hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_standardised_run_loads_with_its_statistics(go: Callable[..., Path]) -> None:
    folder = go("dataset.normalize=standardise")
    model = aerun.load(folder)
    summary = json.loads((folder / "summary.json").read_text())
    images, _ = embedded_test()
    mse = float((model.reconstruct(images) - images).double().square().mean())
    assert mse == pytest.approx(summary["test"]["mse"], rel=1e-6)


def embedded_test() -> tuple[torch.Tensor, torch.Tensor]:
    from aerun.dataset.idx import EMBEDDED, read_idx_bytes

    images, labels = (
        torch.from_numpy(read_idx_bytes(EMBEDDED / f"t10k-{kind}-ubyte.gz")[0].copy())
        for kind in ("images-idx3", "labels-idx1")
    )
    return images[:, None].float() / 255, labels


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_loading_what_is_no_run_is_refused_in_a_line(tmp_path: Path, folder: str) -> None:
    with pytest.raises(aerun.DataError, match="is not a run folder"):
        aerun.load(tmp_path / folder)


@pytest.mark.parametrize("overrides", [[], ["model=vae", "noise=masking"], ["noise=gaussian", "loss=mae"]])
def test_evaluating_again_agrees_to_the_last_digit(go: Callable[..., Path], overrides: list[str]) -> None:
    folder = go(*overrides)
    summary = json.loads((folder / "summary.json").read_text())
    events = {path.name: path.stat().st_size for path in folder.glob("events*")}
    again = reevaluate(folder)
    assert again["test"] == summary["test"]
    assert again["baselines"] == summary["baselines"]
    assert again["differs_from_summary"] == []
    assert events == {path.name: path.stat().st_size for path in folder.glob("events*")}


def test_evaluate_on_the_command_line(train: Train, tmp_path: Path) -> None:
    assert train(*TINY, "hydra.run.dir=mine").returncode == 0
    (tmp_path / "mine" / "figures" / "code_heatmap.png").unlink()
    probes = (tmp_path / "mine" / "probes.npz").read_bytes()
    (tmp_path / "mine" / "probes.npz").unlink()
    done = train("run=mine", command="evaluate")
    assert done.returncode == 0 and "agrees with summary.json to the last digit" in done.stdout
    assert (tmp_path / "mine" / "figures" / "code_heatmap.png").exists()
    assert (tmp_path / "mine" / "probes.npz").read_bytes() == probes
    wrong = train("run=nowhere", command="evaluate")
    assert wrong.returncode == 1
    assert wrong.stderr.strip().endswith("is not a run folder (it does not contain config.yaml)")


def test_early_stopping_and_step_limit_end_the_run(go: Callable[..., Path]) -> None:
    stopped = go("trainer.patience=1", "trainer.min_delta=100", "trainer.epochs=9", folder="stopped")
    assert len(lines(stopped)) == 2
    limited = go("trainer.steps=7", folder="limited")
    assert lines(limited)[-1]["step"] == 7 and len(lines(limited)) == 2


def test_plateau_ends_the_run_when_the_rate_is_low(go: Callable[..., Path]) -> None:
    folder = go(
        "scheduler=plateau",
        "scheduler.patience=0",
        "scheduler.threshold=0.99",
        "scheduler.stop_lr=0.00005",
        "trainer.epochs=9",
    )
    rates = [line["train/learning_rate"] for line in lines(folder)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4])
    assert (folder / "figures" / "curves_learning_rate.png").exists()


def test_without_a_validation_part_training_is_monitored(go: Callable[..., Path]) -> None:
    folder = go("dataset.validation=0", "scheduler=plateau")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["monitored"] == "train/loss"
    assert summary["best_loss"] == min(line["train/loss"] for line in lines(folder))


def test_clipping_bounds_the_update_and_logs_the_norm_before_it(go: Callable[..., Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sgd = ["optimizer=sgd", "optimizer.momentum=0", "optimizer.lr=1", "trainer.steps=1", "trainer.log_every_steps=1"]
    free, clipped = go(*sgd, folder="free"), go(*sgd, "trainer.clip_norm=0.001", folder="clipped")
    norms = [EventAccumulator(str(f)).Reload().Scalars("train/gradient_norm")[0].value for f in (free, clipped)]
    assert norms[0] == pytest.approx(norms[1]) and norms[0] > 0.001
    # One step of gradient descent at rate 1 moves the weights by the gradient itself.
    start = go(*sgd, "optimizer.lr=1e-30", folder="start")
    for folder, expected in ((free, norms[0]), (clipped, 0.001)):
        moved = [weights(folder)[k] - weights(start)[k] for k in weights(start) if k.startswith("model.")]
        assert float(torch.cat([m.flatten() for m in moved]).norm()) == pytest.approx(expected, rel=1e-3)


def test_steps_decide_in_place_of_epochs(go: Callable[..., Path]) -> None:
    assert lines(go("trainer.steps=23", "trainer.pictures=1", folder="long"))[-1]["step"] == 23


def test_a_folder_with_other_files_is_not_touched(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine" / "00000").mkdir(parents=True)
    (tmp_path / "mine" / "00000" / "photo.png").write_text("dear to me")
    (tmp_path / "mine" / "summary.json").write_text("mine")
    done = train(*TINY, "hydra.run.dir=mine")
    assert done.returncode == 1 and "contains 00000 but no run" in done.stderr
    assert (tmp_path / "mine" / "00000" / "photo.png").exists()
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["00000", "summary.json"]


def test_weights_that_went_wrong_in_the_last_step_are_no_result(train: Train, tmp_path: Path) -> None:
    wild = ["dataset.validation=0", "trainer.batch_size=600", "optimizer=sgd", "optimizer.lr=1e30", "trainer.epochs=1"]
    done = train(*[o for o in TINY if "validation" not in o and "epochs" not in o], *wild, "hydra.run.dir=wild")
    assert done.returncode == 1 and "epoch 1" in done.stderr
    assert not (tmp_path / "wild" / "summary.json").exists()
    assert not (tmp_path / "wild" / "checkpoints" / "best.safetensors").exists()


def test_a_relative_root_is_found_from_anywhere(train: Train, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 6), np.float32))
    small = ["dataset=array", "dataset.root=x.npy", "trainer.epochs=1", "model.code_size=2"]
    assert train(*small, "hydra.run.dir=run").returncode == 0
    command = [sys.executable, "-m", "aerun", "evaluate", f"run={tmp_path / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    elsewhere = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert elsewhere.returncode == 0, elsewhere.stderr


def test_a_recipe_may_set_everything(train: Train, tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    recipe = "# @package _global_\ndefaults:\n  - override /model: conv\nseed: 7\ntrainer:\n  epochs: 2\n"
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(recipe)
    done = train("--config-dir=conf", "experiment=mine", "--cfg", "job")
    assert "seed: 7" in done.stdout and "epochs: 2" in done.stdout and "aerun.model.Convolutional" in done.stdout
    done = train("--config-dir=conf", "experiment=mine", "seed=3", "--cfg", "job")
    assert "seed: 3" in done.stdout


def test_a_run_of_ones_own_class_loads_only_for_who_trusts_it(go: Callable[..., Path], tmp_path: Path) -> None:
    folder = go()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["noise"] = {"_target_": "subprocess.Popen", "args": ["touch", str(tmp_path / "owned")]}
    config["trusted_packages"] = ["subprocess"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(aerun.ConfigError, match=r"noise\._target_=subprocess\.Popen: only classes in"):
        aerun.load(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
def test_compiled_training_agrees_with_eager(go: Callable[..., Path]) -> None:
    eager, compiled = go("model=vae", folder="eager"), go("model=vae", "trainer.compile=true", folder="compiled")
    losses = [[line["train/loss"] for line in lines(folder)] for folder in (eager, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_run_killed_before_it_could_say_that_it_finished_says_so_when_repeated(
    go: Callable[..., Path], compose: Compose
) -> None:
    folder = go()
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "state": "running"}))
    before = written(folder / "summary.json")
    go()
    again = json.loads((folder / "status.json").read_text())
    assert again["state"] == "finished" and again["began"] == status["began"]
    assert written(folder / "summary.json") == before


def test_a_run_whose_maps_are_channels_last_goes_on_as_if_it_had_not_been_left(go: Callable[..., Path]) -> None:
    words = ["model=conv", "trainer.channels_last=true"]
    whole = go(*words, folder="whole")
    shorter = go(*words, "trainer.epochs=2", folder="continued")
    assert shorter == go(*words, folder="continued", resume=str(shorter))
    assert equal(weights(whole), weights(shorter))


def test_a_run_made_before_a_key_was_there_can_still_be_used(go: Callable[..., Path]) -> None:
    folder = go()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for key in ("graph", "channels_last", "processes"):
        del config["trainer"][key]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert reevaluate(folder)["differs_from_summary"] == []


def test_a_run_that_was_recorded_on_a_gpu_can_be_evaluated_without(go: Callable[..., Path]) -> None:
    folder = go()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["trainer"] |= {"graph": True, "precision": "tf32"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert reevaluate(folder)["differs_from_summary"] == []
