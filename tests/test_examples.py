"""The files of examples/, as a user has them: outside of the package, one class and one option each."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import aerun
from aerun.config.parse import parse
from aerun.errors import ConfigError
from aerun.runs.folder import read_summary
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run
from aerun.training.build import build_parts, prepare
from tests.ends import EVERY_STEP, killed_and_resumed, same_in_two_processes, weights
from tests.faults.kills import contents, differences, finish, start, wait_for

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples"
OPTIONS = {
    "soft_threshold": "sparsity",
    "vector_quantizer": "latent",
    "total_variation": "regularizer",
    "poisson": "noise",
    "charbonnier": "loss",
    "sklearn_digits": "dataset",
    "effective_rank": "callback",
    "worst_reconstructions": "callback",
    "stop_at_target": "callback",
    "shared_table": "tracker",
}
TRUST = f"trusted_packages=[{','.join(OPTIONS)}]"
DIGITS = [
    *("dataset=sklearn_digits", "dataset.train_limit=200", "model=fc", "model.hidden=[]", "model.code_size=16"),
    *("model.activation=relu", "trainer.epochs=2", "trainer.batch_size=32", "trainer.pictures=0"),
    *("trainer.device=cpu", "trainer.threads=1"),
]
VQ = ["latent=vector_quantizer", "latent.entries=16", "latent.dimension=4"]
Compose = Callable[[Sequence[str]], dict[str, Any]]
Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """examples/ on the path, as PYTHONPATH=examples has it."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture
def command(train: Train) -> Train:
    """The command line with examples/conf and examples/ on PYTHONPATH, and nothing else of this checkout's."""
    return lambda *words, **keys: train(
        f"--config-dir={FOLDER / 'conf'}", *words, TRUST, PYTHONPATH=str(FOLDER), **keys
    )


@pytest.fixture
def config(compose: Compose) -> Compose:
    """As ``compose``, with examples/conf."""
    return lambda words: compose([f"hydra.searchpath=[file://{FOLDER / 'conf'}]", *words, TRUST])


def train_in(folder: Path, config: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return run(parse(config), config, folder, **keys)


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_folder(folder: Path) -> None:
    """It opens again, evaluates to the last digit, and is diagnosed."""
    summary = read_summary(folder)
    assert summary is not None
    model = aerun.load(folder, trusted_packages=list(OPTIONS))
    images = torch.rand(3, *model.input_shape)
    assert model.decode(model.encode(images)).shape == images.shape
    assert reevaluate(folder, list(OPTIONS))["differs_from_summary"] == []
    found = aerun.diagnose(folder, trusted_packages=list(OPTIONS))
    assert sorted(verdict.name for verdict in found.verdicts) == sorted(summary["verdicts"])


def test_each_is_one_class_in_one_file_and_one_option() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(OPTIONS)
    assert {path.stem for path in (FOLDER / "conf").rglob("*.yaml")} == set(OPTIONS)
    for name, group in OPTIONS.items():
        tree = ast.parse((FOLDER / f"{name}.py").read_text())
        [cls] = [
            node.name for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign)
        ]
        assert yaml.safe_load((FOLDER / "conf" / group / f"{name}.yaml").read_text())["_target_"] == f"{name}.{cls}"


def test_the_page_shows_the_very_files() -> None:
    page = (ROOT / "docs" / "extend.md").read_text()
    shown = set(re.findall(r'^--8<-- "(examples/\S+)"$', page, re.MULTILINE))
    assert shown == {str(path.relative_to(ROOT)) for path in FOLDER.rglob("*") if path.suffix in (".py", ".yaml")}
    assert (ROOT / "mkdocs.yml").read_text().count('pymdownx.snippets: {base_path: ["."], check_paths: true') == 1


def test_one_runs_from_the_command_line(command: Train, tmp_path: Path) -> None:
    done = command(*DIGITS, *VQ, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    check_folder(tmp_path / "run")


@pytest.mark.parametrize("name", OPTIONS)
def test_each_runs_alone(config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)  # where the shared table is
    option = [f"{OPTIONS[name]}={name}"] if name != "sklearn_digits" else []
    train_in(tmp_path / "run", config([*DIGITS, *option]))
    check_folder(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"_target_=.*: only classes in aerun, .* are trusted"):
        aerun.load(tmp_path / "run")


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_all_run_together_in_a_sweep(command: Train, tmp_path: Path, launcher: str) -> None:
    """The two that constrain the code in jobs of their own."""
    codes = ["sparsity=none,soft_threshold", "latent=deterministic,vector_quantizer", "sweep.invalid=skip"]
    callbacks = "callback=[effective_rank,worst_reconstructions,stop_at_target]"
    table = tmp_path / "runs.jsonl"
    others = [
        "tracker=shared_table",
        f"tracker.shared_table.file={table}",
        "noise=poisson",
        "loss=charbonnier",
        callbacks,
        "callback.stop_at_target.value=5",
    ]
    done = command("-m", *DIGITS, *codes, *others, f"hydra/launcher={launcher}", "sweep.name=all")
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent for path in (tmp_path / "outputs" / "all").glob("*/summary.json"))
    assert len(folders) == 3
    for folder in folders:
        check_folder(folder)
        assert (folder / "figures" / "worst_reconstructions.png").exists()
        assert len(numbers(folder)) == 1  # the target is low
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    assert sorted(line["run"] for line in lines) == [folder.name for folder in folders]
    for line in lines:
        summary = read_summary(folders[0].parent / line["run"])
        assert summary is not None and line["test/mse"] == summary["test"]["mse"] and line["sweep"] == "all"
    seeds = [weights(folder) for folder in folders]
    assert {"latent.codebook", "sparsity.log_threshold"} <= {name for tensors in seeds for name in tensors}


def test_a_sweep_names_what_does_not_fit_before_the_first_job(command: Train, tmp_path: Path) -> None:
    done = command(
        "-m", *DIGITS, "latent=vector_quantizer", "latent.dimension=4,5", "latent.decay=0.9,1", "sweep.name=s"
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "latent.dimension=5: does not divide the 16 channels of a code" in done.stdout
    assert "latent.decay=1: must be a number, at least 0 and below 1" in done.stdout
    assert not list((tmp_path / "outputs").glob("s/*"))


# A sparsity and a noise, a loss, against what their equations say.


def test_soft_thresholding_shrinks_values_and_learns_by_how_much() -> None:
    from soft_threshold import SoftThreshold

    part, values = SoftThreshold(0.5), np.random.default_rng(0).standard_normal((8, 10))
    features = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    code, [diagnostic] = part(features, True)
    code.sum().backward()
    expected = np.sign(values) * np.maximum(np.abs(values) - 0.5, 0)
    np.testing.assert_allclose(code.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (features.grad.numpy() == (np.abs(values) > 0.5)).all()
    assert part.log_threshold.grad.item() == pytest.approx(-0.5 * np.sign(expected).sum(), rel=1e-5)
    assert (diagnostic.name, diagnostic.value.item()) == ("threshold", pytest.approx(0.5))


def test_poisson_noise_has_the_moments_that_it_declares() -> None:
    from poisson import Poisson

    noise, clean = Poisson(20.0), torch.tensor([0.0, 0.1, 0.5, 1.0])
    drawn = noise(clean.expand(200_000, 4), torch.Generator().manual_seed(0)).double()
    moments = noise.moments(4)
    assert torch.allclose(drawn.mean(0), moments.mean(clean.double()), atol=3e-3)
    assert torch.allclose(drawn.square().mean(0), moments.pixel(clean, clean, True).double(), atol=5e-3)
    products = (drawn[:, :, None] * drawn[:, None]).mean(0)
    expected = moments.pixel(clean[:, None], clean[None], False).double()
    assert torch.allclose(products.triu(1), expected.triu(1), atol=3e-3)


def test_total_variation_is_a_mean_over_neighbors() -> None:
    from total_variation import TotalVariation

    from aerun.contracts import Pass, Penalty

    images = np.random.default_rng(0).random((3, 2, 4, 5))
    run = Pass(*[torch.zeros(1)] * 6, *[torch.nn.Identity()] * 3, None, *[torch.nn.Identity()] * 2)
    [term] = TotalVariation(0.5).penalties(run._replace(prediction=torch.from_numpy(images)))
    expected = np.abs(np.diff(images, axis=3)).mean() + np.abs(np.diff(images, axis=2)).mean()
    assert isinstance(term, Penalty) and term.weight == 0.5
    assert math.isclose(float(term.value), expected, rel_tol=1e-12)


def test_charbonnier_is_a_smooth_absolute_error() -> None:
    from charbonnier import Charbonnier

    a, b = np.random.default_rng(0).random((2, 5, 3)).astype(np.float32)
    expected = np.mean(np.sqrt((a.astype(np.float64) - b) ** 2 + 0.01**2) - 0.01)
    assert math.isclose(float(Charbonnier(0.01)(torch.from_numpy(a), torch.from_numpy(b))), expected, rel_tol=1e-5)
    with pytest.raises(ValueError, match=r"\[5, 3\] against target \[5\]"):
        Charbonnier(0.01)(torch.from_numpy(a), torch.from_numpy(b[:, 0]))


# A metric of which more is better.


def test_a_metric_of_which_more_is_better_is_ranked_so_from_files_alone(config: Compose, tmp_path: Path) -> None:
    for size in (2, 12):
        train_in(tmp_path / f"size{size}", config([*DIGITS, "callback=effective_rank", f"model.code_size={size}"]))
    summaries = {size: read_summary(tmp_path / f"size{size}") or {} for size in (2, 12)}
    assert summaries[2]["metrics"] == {"effective_rank": {"unit": "dimensions", "higher_is_better": True}}
    assert 1 <= summaries[2]["test"]["effective_rank"] <= 2 < summaries[12]["test"]["effective_rank"] <= 12
    words = [str(tmp_path), "--metric", "test/effective_rank"]
    code = (
        "import sys; from aerun.cli.main import main; main(); assert not {'torch', 'effective_rank'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "compare", *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    [head] = [place for place, line in enumerate(lines) if "test/effective_rank ↑" in line]
    assert [line.split()[0] for line in lines[head + 2 : head + 4]] == ["12", "2"], done.stdout


def test_the_effective_rank_is_that_of_a_spectrum(config: Compose) -> None:
    from effective_rank import EffectiveRank

    class Codes:
        """Codes with the singular values 3, 3 and 0 of their own."""

        def encode(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    class Part:
        def given(self, autoencoder: Any) -> Iterator[tuple[Any, Tensor, Tensor]]:
            corners = torch.tensor([[1.0, 1, 7], [1, -1, 7], [-1, 1, 7], [-1, -1, 7]])
            yield from ((autoencoder, rows, rows) for rows in corners.split(2))

    assert math.isclose(EffectiveRank().measure(Codes(), "test", Part())["effective_rank"], 2.0, rel_tol=1e-9)


def test_a_target_ends_a_run_for_good(config: Compose, tmp_path: Path) -> None:
    words = [*DIGITS, "callback=stop_at_target", "trainer.epochs=30"]
    train_in(tmp_path / "all", config([*DIGITS, "trainer.epochs=30"]))
    reached = [line["validation/mse"] for line in numbers(tmp_path / "all")]
    target = reached[3]
    words += ["callback.stop_at_target.metric=validation/mse", f"callback.stop_at_target.value={target}"]
    first = next(epoch for epoch, value in enumerate(reached, 1) if value <= target)
    train_in(tmp_path / "run", config(words))
    assert [line["epoch"] for line in numbers(tmp_path / "run")] == list(range(1, first + 1))
    assert (read_summary(tmp_path / "run") or {})["epochs"] == first
    longer = {**config(words), "resume": str(tmp_path / "run")}
    longer["trainer"]["epochs"] = 40
    assert train_in(tmp_path / "run", longer)["epochs"] == first
    with pytest.raises(
        Exception, match=r"callback=stop_at_target: ValueError in should_stop: validation/msee is not rep"
    ):
        train_in(tmp_path / "no", config([*words, "callback.stop_at_target.metric=validation/msee"]))


# A latent with a codebook.


def reference(
    codebook: np.ndarray, counts: np.ndarray, vectors: np.ndarray, decay: float, restart: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of VQ-VAE's appendix A.1, entry by entry in float64: new codebook, new N_k, entry of each vector."""
    nearest = np.array([np.argmin([np.sum((z - e) ** 2) for e in codebook]) for z in vectors])
    sums = counts[:, None] * codebook  # m_k
    new, totals = codebook.copy(), counts.copy()
    for k in range(len(codebook)):
        mine = vectors[nearest == k]
        totals[k] = decay * counts[k] + (1 - decay) * len(mine)
        m = decay * sums[k] + (1 - decay) * mine.sum(0)
        if totals[k] > 0:
            new[k] = m / totals[k]
    errors = np.sum((vectors - codebook[nearest]) ** 2, 1)
    worst, mean = list(np.argsort(-errors, kind="stable")), totals.mean()
    for place, k in enumerate(np.flatnonzero(totals <= restart * mean)):
        new[k], totals[k] = vectors[worst[place]], mean
    return new, totals, nearest


def test_the_codebook_moves_as_in_a_loop_in_float64() -> None:
    from vector_quantizer import VectorQuantizer

    torch.manual_seed(0)
    part, random = VectorQuantizer(6, 2, 0.8, 0.25, 0.2), np.random.default_rng(0)
    assert not list(part.parameters())
    codebook, counts = part.codebook.double().numpy(), np.zeros(6)
    restarted = 0
    for step in range(20):
        features = random.standard_normal((5, 4, 3)) * (1 if step % 5 else 3)  # [B,C,positions], two vectors a position
        vectors = features.reshape(5, 2, 2, 3).transpose(0, 1, 3, 2).reshape(-1, 2)
        before = codebook
        codebook, counts, nearest = reference(codebook, counts, vectors, 0.8, 0.2)
        restarted += step > 0 and int((counts == counts.mean()).sum())
        code, terms = part(torch.from_numpy(features).float(), None)
        expected = before[nearest].reshape(5, 2, 3, 2).transpose(0, 1, 3, 2).reshape(5, 4, 3)
        np.testing.assert_allclose(code.numpy(), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(part.codebook.numpy(), codebook, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(part.counts.numpy(), counts, rtol=1e-4, atol=1e-5)
        commitment, perplexity = terms
        assert math.isclose(float(commitment.value), np.mean((vectors - before[nearest]) ** 2), rel_tol=1e-4)
        share = np.bincount(nearest) / len(nearest)
        expected_perplexity = np.exp(-np.sum(share[share > 0] * np.log(share[share > 0])))
        assert math.isclose(float(perplexity.value), expected_perplexity, rel_tol=1e-4)
    kept = part.eval().codebook.clone()
    part(torch.from_numpy(features).float(), None)
    assert torch.equal(part.codebook, kept)


def test_the_gradient_passes_straight_through() -> None:
    from vector_quantizer import VectorQuantizer

    torch.manual_seed(0)
    part = VectorQuantizer(5, 3, 0.9, 0.25, 0.0).eval()
    features, decoder = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6)
    code, terms = part(features, None)
    (code * decoder).sum().backward(retain_graph=True)
    assert features.grad is not None and torch.equal(features.grad, decoder)
    features.grad = None
    terms[0].value.backward()
    z, entries = features.detach().double().numpy(), part.codebook.double().numpy()
    nearest = ((z.reshape(-1, 1, 3) - entries) ** 2).sum(2).argmin(1)
    np.testing.assert_allclose(
        features.grad.numpy(), 2 * (z - entries[nearest].reshape(4, 6)) / 24, rtol=1e-5, atol=1e-6
    )
    assert terms[0].weight == 0.25


def test_a_codebook_is_trained_by_greedy_stages_only_in_the_last(config: Compose, tmp_path: Path) -> None:
    words = [*DIGITS, *VQ, "model.hidden=[24]", "trainer=greedy", "trainer.stage_epochs=1", "trainer.epochs=1"]
    summary = train_in(tmp_path / "run", config(words))
    assert summary["metrics"] == {"perplexity": {"unit": "entries", "higher_is_better": True}}
    stages = [weights(tmp_path / "run", name) for name in ("stage1", "stage2", "best")]
    first, second, tuned = (tensors["latent.codebook"] for tensors in stages)
    assert not (first == second).all() and not (second == tuned).all()
    assert not stages[0]["latent.counts"].any() and stages[1]["latent.counts"].all()
    assert "stage1/train/perplexity" not in numbers(tmp_path / "run")[0]
    assert "stage2/train/perplexity" in numbers(tmp_path / "run")[1]
    check_folder(tmp_path / "run")


def test_a_run_that_is_killed_and_resumed_ends_as_an_undisturbed_one(config: Compose, tmp_path: Path) -> None:
    """Killed within an epoch, and another stopped by SIGTERM: weights and codebook bit for bit."""
    plan = config([*DIGITS, *VQ, "trainer.epochs=4", EVERY_STEP])
    assert killed_and_resumed(plan, tmp_path) == []
    child = start(plan, tmp_path / "stopped")
    wait_for(tmp_path / "stopped" / "checkpoints" / "last.safetensors", child)
    os.kill(child, signal.SIGTERM)
    finish(child)
    assert finish(start(plan, tmp_path / "stopped")) == 0
    assert differences(contents(tmp_path / "whole"), contents(tmp_path / "stopped")) == []
    assert "latent.codebook" in weights(tmp_path / "run")


def test_a_codebook_is_taken_over_and_frozen(config: Compose, tmp_path: Path) -> None:
    train_in(tmp_path / "one", config([*DIGITS, *VQ]))
    best = weights(tmp_path / "one", "best")
    more = [*DIGITS, *VQ, f"init_from={tmp_path / 'one'}", "seed=1"]
    train_in(tmp_path / "frozen", config([*more, "freeze=[latent]"]))
    train_in(tmp_path / "free", config(more))
    frozen, free = weights(tmp_path / "frozen"), weights(tmp_path / "free")
    for name in ("latent.codebook", "latent.counts"):
        assert (frozen[name] == best[name]).all() and not (free[name] == best[name]).all()
    assert not (frozen["encoder.1.weight"] == best["encoder.1.weight"]).all()
    other = config([*more, "latent.entries=8"])
    settings = parse(other)
    device = prepare(settings)
    parts = build_parts(settings, settings.dataset.load(device), device)
    with pytest.raises(ConfigError, match=r"freeze=latents: there is no such layer\. Did you mean 'latent'\?"):
        train_in(tmp_path / "no", config([*more, "freeze=[latents]"]))
    assert parts.autoencoder.latent.codebook.shape == (8, 4)


def test_two_processes_end_as_one(config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the order in which numbers are added: every process sees the whole minibatch."""
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    words = [*DIGITS, *VQ, "noise=poisson", "callback=[effective_rank,stop_at_target]"]
    words += ["trainer.epochs=5", "trainer.evaluate_every_epochs=2", "callback.stop_at_target.value=1"]
    same_in_two_processes(config, words, tmp_path)
    assert len(numbers(tmp_path / "one")) == 2  # the first evaluation reaches the target, and both processes stop
    for expected, found in zip(numbers(tmp_path / "one"), numbers(tmp_path / "two"), strict=True):
        for name in expected.keys() - {"train/images_per_second"}:
            assert math.isclose(found[name], expected[name], rel_tol=1e-4), name


def test_a_quantized_run_is_exported_embedded_and_searched(config: Compose, tmp_path: Path) -> None:
    train_in(tmp_path / "run", config([*DIGITS, *VQ]))
    trust = ["vector_quantizer", "sklearn_digits"]
    aerun.export(tmp_path / "run", tmp_path / "out", ["torch", "safetensors"], trusted_packages=trust)
    images = torch.rand(4, 1, 8, 8)
    model = aerun.load(tmp_path / "out", trusted_packages=trust)
    codes = model.encode(images)
    assert torch.equal(codes, aerun.load(tmp_path / "run", trusted_packages=trust).encode(images))
    assert torch.allclose(torch.export.load(tmp_path / "out" / "encoder.pt2").module()(images), codes)
    entries = {tuple(row) for row in model.latent.codebook.tolist()}
    assert {tuple(row) for row in codes.reshape(-1, 4).tolist()} <= entries
    pictures = torch.rand(20, 1, 8, 8)
    collection = aerun.embed(model, pictures)
    found = aerun.search(collection, model.encode(pictures[:2]).numpy(), k=3, metric="euclidean")
    assert (found.distances[:, 0] == 0).all()  # codes are discrete: others may be the same
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'aerun.load("FOLDER", trusted_packages=["vector_quantizer", "sklearn_digits"])' in card
