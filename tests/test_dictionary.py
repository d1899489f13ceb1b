"""Keys of sparse dictionaries, data with known features, how many are recovered, and new weights for dead units."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import OrthogonalMatchingPursuit

from aerun.callback import Resample
from aerun.config.parse import parse
from aerun.contracts import RunView
from aerun.dataset import Superposition
from aerun.errors import ConfigError
from aerun.protocol.features import explained, pursue, similarity
from aerun.runs.run import run
from aerun.training.build import build_parts, prepare
from aerun.training.parts import Parts
from aerun.training.step import make_step
from tests.keys import PLAIN

Compose = Callable[[Sequence[str]], dict[str, Any]]
TINY = [
    *("dataset=superposition", "dataset.images=200", "dataset.features=12", "dataset.dimension=8", "model=fc"),
    *("model.code_size=12", "model.activation=relu", "trainer.batch_size=32", "trainer.epochs=2"),
    *("trainer.pictures=0", "trainer.device=cpu", "trainer.threads=1"),
]


def parts_of(compose: Compose, *words: str) -> Parts:
    config = compose([*TINY, *words])
    settings = parse(config)
    device = prepare(settings)
    return build_parts(settings, settings.dataset.load(device), device)


def weight(parts: Parts, name: str) -> np.ndarray:
    return parts.autoencoder.get_parameter(name).detach().double().numpy().copy()


def test_decoder_columns_keep_unit_norm_and_their_gradients_are_projected(compose: Compose) -> None:
    """One step of SGD against one by hand: gradient, without its part along the column, step, unit norm."""
    words = ["optimizer=sgd", "optimizer.lr=0.5", "model.unit_norm_decoder=true", "sparsity=topk", "sparsity.k=3"]
    parts = parts_of(compose, *words)
    model, x = parts.autoencoder, parts.data.train.inputs[:32]
    before, bias = weight(parts, "decoder.0.weight"), weight(parts, "decoder.0.bias")
    np.testing.assert_allclose(np.linalg.norm(before, axis=0), 1, rtol=1e-6)
    code = model(x).code.detach().double().numpy()
    gradient = 2 / x.numel() * (code @ before.T + bias - x.double().numpy()).T @ code
    gradient -= before * (before * gradient).sum(0)
    expected = before - 0.5 * gradient
    expected /= np.linalg.norm(expected, axis=0)
    from aerun.dataset.data import Batch

    make_step(parts, learning_rate=lambda number: 1.0)(Batch(x, x), 0)
    np.testing.assert_allclose(weight(parts, "decoder.0.weight"), expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(expected, before, atol=1e-4)


def test_the_decoders_bias_is_subtracted_from_the_input_and_trained_by_both(compose: Compose) -> None:
    parts = parts_of(compose, "model.pre_bias=true")
    model, x = parts.autoencoder, torch.rand(5, 8)
    with torch.no_grad():
        model.get_parameter("decoder.0.bias").copy_(torch.linspace(-1, 1, 8))
    w, b = weight(parts, "encoder.2.weight"), weight(parts, "encoder.2.bias")
    v, c = weight(parts, "decoder.0.weight"), weight(parts, "decoder.0.bias")
    result = model(x)
    features = (x.double().numpy() - c) @ w.T + b
    np.testing.assert_allclose(result.features.detach().numpy(), features, rtol=1e-4, atol=1e-6)
    result.prediction.sum().backward()
    slope = 5 - (v.sum(0) * (features > 0)).sum(0) @ w
    np.testing.assert_allclose(model.get_parameter("decoder.0.bias").grad.numpy(), slope, rtol=1e-4, atol=1e-5)
    assert sum(name.endswith("bias") for name in model.state_dict()) == 2  # saved once


@pytest.mark.parametrize("latent", ["deterministic", "gaussian"])
def test_a_decoder_starts_as_the_transpose_of_its_encoder(compose: Compose, latent: str) -> None:
    parts = parts_of(compose, "model.hidden=[10]", "model.decoder_init=transpose", f"latent={latent}")
    for source, mirror in (("encoder.3", "decoder.0"), ("encoder.1", "decoder.2")):
        shared = weight(parts, f"{mirror}.weight")
        assert (shared == weight(parts, f"{source}.weight")[: shared.shape[1]].T).all()
    make_step(parts, learning_rate=lambda number: 1.0)
    assert parts.autoencoder.get_parameter("decoder.0.weight") is not parts.autoencoder.get_parameter(
        "encoder.3.weight"
    )


def test_known_features_are_what_the_data_consist_of() -> None:
    keys = {"images": 500, "features": 12, "dimension": 30, "probability": 0.2, "smallest": 0.4, "noise": 0.0}
    dataset = Superposition(**{**PLAIN, **keys}, generator_seed=3)
    directions, arrays = dataset.known_features(), dataset.read()
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
    assert (arrays.train.shape, arrays.test.shape) == ((500, 30), (100, 30))
    values = np.linalg.lstsq(directions.T.astype(float), arrays.train.T.astype(float), rcond=None)[0]
    np.testing.assert_allclose(directions.T @ values, arrays.train.T, atol=1e-5)  # nothing else is in them
    active = values > 1e-4
    assert abs(active.mean() - 0.2) < 4 * (0.2 * 0.8 / values.size) ** 0.5
    assert values[active].min() >= 0.4 - 1e-4 and values.max() <= 1 + 1e-4
    assert abs(values[active].mean() - 0.7) < 4 * 0.6 / (12 * active.sum()) ** 0.5
    other = Superposition(**{**PLAIN, **keys}, generator_seed=4)
    assert not np.allclose(other.known_features(), directions)
    noisy = Superposition(**{**PLAIN, **keys, "noise": 0.5}, generator_seed=3).read()
    assert abs((noisy.train - arrays.train).std() - 0.5) < 0.02


def test_recovery_is_that_of_all_assignments() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((4, 3))
    learned = np.concatenate([3 * truth[[2]] + 0.1 * random.standard_normal((1, 3)), random.standard_normal((4, 3))])
    cosines = np.array([[t @ v / (t @ t * (v @ v)) ** 0.5 for v in learned] for t in truth])
    best = max(itertools.permutations(range(5), 4), key=lambda order: sum(cosines[i, j] for i, j in enumerate(order)))
    matched = [cosines[i, j] for i, j in enumerate(best)]
    found = similarity(truth, learned)
    assert found["matched_cosine"] == pytest.approx(sum(matched) / 4)
    assert found["mmcs"] == pytest.approx(cosines.max(1).mean())
    assert found["recovered"] == sum(value > 0.9 for value in matched) / 4 > 0
    fewer = similarity(truth, truth[:2])  # two features have no vector of their own
    assert (fewer["recovered"], fewer["matched_cosine"]) == (0.5, pytest.approx(0.5))


def test_pursuit_is_scikit_learns_and_finds_sparse_codes() -> None:
    random = np.random.default_rng(1)
    dictionary, codes = random.standard_normal((40, 20)), np.zeros((15, 40))
    for row in codes:
        row[random.choice(40, 2, replace=False)] = 1 + random.random(2)
    targets = codes @ dictionary
    np.testing.assert_allclose(pursue(targets, dictionary, 2), targets, atol=1e-8)
    rough = OrthogonalMatchingPursuit(n_nonzero_coefs=1, fit_intercept=False).fit(
        (dictionary / np.linalg.norm(dictionary, axis=1, keepdims=True)).T, targets.T
    )
    expected = rough.predict((dictionary / np.linalg.norm(dictionary, axis=1, keepdims=True)).T).T
    np.testing.assert_allclose(pursue(targets, dictionary, 1), expected, atol=1e-8)
    spread = ((targets - targets.mean(0)) ** 2).sum()
    assert explained(targets, expected) == pytest.approx(1 - ((targets - expected) ** 2).sum() / spread)


def test_the_true_dictionary_recovers_everything(compose: Compose, tmp_path: Path) -> None:
    """A decoder with the true features, and the numbers in the summary of a run."""
    from aerun.protocol import Features, Subject

    words = ["protocol=features", "sparsity=topk", "sparsity.k=2", "model.unit_norm_decoder=true"]
    settings = parse(compose([*TINY, *words]))
    parts = parts_of(compose, *words)
    truth = torch.from_numpy(settings.dataset.known_features())
    with torch.no_grad():
        parts.autoencoder.get_parameter("decoder.0.weight").copy_(truth.T)
    parts.autoencoder.eval()
    subject = Subject(parts.autoencoder, parts.data, parts.noise, parts.loss, settings.dataset, 0)
    found = Features()(subject)
    assert (found["features/recovered"], found["features/mmcs"]) == (1, pytest.approx(1))
    assert found["features/random_recovered"] < 1 and found["features/pca_recovered"] < 1
    assert found["features/l0"] <= 2 and 0 < found["features/alive"] <= 1
    best = found["features/true_explained_variance"]
    assert best > found["features/random_explained_variance"] and best > found["features/explained_variance"]
    assert {metric.name for metric in Features.metrics} == found.keys()
    config = compose([*TINY, *words])
    summary = run(parse(config), config, tmp_path / "run")
    assert found.keys() <= summary["test"].keys()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["model.unit_norm_decoder=true", "model.tied=true"], "model.unit_norm_decoder=true and model.tied=true"),
        (["model.pre_bias=true", "loss=bce"], "model.pre_bias=true, model.output_activation=identity and loss="),
        (["model.pre_bias=true", "model.output_activation=tanh"], "model.pre_bias=true, model.output_activation=tanh"),
        (["protocol=features", "dataset=random"], "protocol=features and dataset="),
        (["callback=resample", "model.tied=true"], "callback=resample and model.tied=true"),
        (["callback=resample", "trainer.processes=2"], "callback=resample and trainer.processes=2"),
        (["callback=resample", "latent=gaussian"], "callback=resample and latent="),
        (["callback=resample", "model=conv", "dataset=random"], "callback=resample and model="),
    ],
)
def test_what_does_not_fit_is_rejected_in_a_line(compose: Compose, words: list[str], text: str) -> None:
    base = TINY if "dataset=random" not in words else TINY[8:]
    with pytest.raises(ConfigError) as refusal:
        parse(compose([*base, *words]))
    assert text in str(refusal.value) and "\n" not in str(refusal.value)


class Log:
    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}

    def scalars(self, values: dict[str, float], step: int) -> None:
        self.numbers |= values


def resampled(parts: Parts, step: int, **keys: Any) -> float:
    """Resample by a callback that observes these parts; the number of dead units."""
    log = Log()
    callback = Resample(**{"every_steps": 5, "until_step": None, "images": 100, "scale": 0.2, **keys})
    view = (parts.autoencoder, parts.data, parts.noise, parts.loss, parts.optimizer, log, None, None, 1, 1)
    callback.begin(RunView(*view, seed=parts.seed))
    callback.step(step, None)
    return log.numbers.get("train/resampled_units", -1)


def test_dead_units_get_the_direction_of_a_badly_reconstructed_input(compose: Compose) -> None:
    parts = parts_of(compose, "sparsity=topk", "sparsity.k=2", "model.pre_bias=true")
    inputs = parts.data.train.inputs
    only = 7
    with torch.no_grad():
        inputs.zero_()
        inputs[only] = 1 + torch.arange(8.0)
        for side in ("encoder.2", "decoder.0"):
            parts.autoencoder.get_parameter(f"{side}.bias").zero_()
        parts.autoencoder.get_parameter("encoder.2.weight")[:] = -1
        parts.autoencoder.get_parameter("encoder.2.weight")[[0, 4]] = torch.tensor([[0.1], [0.2]])
    make_step(parts, learning_rate=lambda number: 0.0)
    for parameter in parts.autoencoder.parameters():
        parts.optimizer.state[parameter] = {"exp_avg": torch.ones_like(parameter), "step": torch.ones(())}
    before = {name: value.clone() for name, value in parts.autoencoder.state_dict().items()}
    assert resampled(parts, 4) == -1  # not a multiple of five
    assert resampled(parts, 10, until_step=9) == -1
    assert all(value.equal(before[name]) for name, value in parts.autoencoder.state_dict().items())
    assert resampled(parts, 5, images=1000) == 10
    dead = [unit for unit in range(12) if unit not in (0, 4)]
    direction = (1 + np.arange(8.0)) / np.linalg.norm(1 + np.arange(8.0))
    w, v = weight(parts, "encoder.2.weight"), weight(parts, "decoder.0.weight")
    size = 0.2 * np.mean([0.1, 0.2]) * 8**0.5
    np.testing.assert_allclose(w[dead], np.tile(size * direction, (10, 1)), rtol=1e-5)
    old = before["decoder.0.weight"].double().numpy()
    length = np.linalg.norm(old[:, [0, 4]], axis=0).mean()
    np.testing.assert_allclose(v[:, dead], np.tile(length * direction, (10, 1)).T, rtol=1e-5)
    assert (v[:, [0, 4]] == old[:, [0, 4]]).all() and (weight(parts, "encoder.2.bias")[dead] == 0).all()
    state = parts.optimizer.state
    averages = state[parts.autoencoder.get_parameter("decoder.0.weight")]["exp_avg"]
    assert (averages[:, dead] == 0).all() and (averages[:, [0, 4]] == 1).all()
    assert state[parts.autoencoder.get_parameter("encoder.2.weight")]["step"] == 1


def test_draws_follow_squared_losses(compose: Compose) -> None:
    """Two images whose squared errors have the ratio 2: the worse is drawn four times as often."""
    parts = parts_of(compose, "sparsity=topk", "sparsity.k=2")
    drawn = []
    for step in range(0, 500, 5):
        with torch.no_grad():
            for parameter in parts.autoencoder.parameters():
                parameter.zero_()
            parts.data.train.inputs.zero_()
            parts.data.train.inputs[3, 0], parts.data.train.inputs[9, 1] = 1, 2**0.5
            parts.autoencoder.get_parameter("encoder.1.bias")[0] = 1  # one unit is alive, and has a weight
            parts.autoencoder.get_parameter("encoder.1.weight")[0, 2] = 1
        assert resampled(parts, step, images=1000) == 11
        drawn.append(weight(parts, "encoder.1.weight")[1:].argmax(1))
    share = (np.concatenate(drawn) == 1).mean()
    assert abs(share - 0.8) < 4 * (0.8 * 0.2 / 1100) ** 0.5
