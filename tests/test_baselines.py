"""Linear baselines compared with scikit-learn, sampled regressions and published numbers."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from torch import Tensor

from aerun.contracts import Noise
from aerun.dataset import MNIST, Data, FashionMNIST, FashionMNISTMini, Split
from aerun.metrics import baselines as module
from aerun.metrics.baselines import baselines, linear_filter, principal_components
from aerun.metrics.evaluation import corrupted_batches
from aerun.noise import Gaussian, Masking, NoNoise, SaltPepper
from tests.keys import PLAIN

CPU = torch.device("cpu")
FULL = os.environ.get("AERUN_FASHION_MNIST")
DIGITS = os.environ.get("AERUN_MNIST")


def rows(images: Tensor) -> np.ndarray:
    """uint8 images as the float32 numbers in [0,1] that a model sees, in float64."""
    return (images.flatten(1).numpy() / np.float32(255)).astype(np.float64)


def psnr(images: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the images' own PSNRs, clipped to [0,1]."""
    values = []
    for image, target in zip(images, targets, strict=True):
        values.append(-10 * math.log10(np.mean((np.clip(image, 0, 1) - target) ** 2)))
    return float(np.mean(values))


def split(inputs: Any, targets: Any = None) -> Split:
    tensor = torch.as_tensor(inputs)
    return Split(tensor, tensor if targets is None else torch.as_tensor(targets), None)


def data_of(train: Split, test: Split) -> Data:
    return Data(train, None, test, None, "checksum")


def images_of(shape: tuple[int, ...], count: int = 300, seed: int = 0) -> Tensor:
    """Correlated float64 images in [0,1], some pixels black or white, no two pixels of one mean."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).standard_normal((4, math.prod(shape)))
    values = random.standard_normal((count, 4)) @ patterns / 2 + np.linspace(-1, 1, math.prod(shape))
    return torch.from_numpy((0.5 + 0.4 * values).clip(0, 1).reshape(count, *shape))


@pytest.fixture(scope="module")
def embedded() -> Data:
    return FashionMNISTMini(**PLAIN).load(CPU)


@pytest.fixture(scope="module")
def pca(embedded: Data) -> PCA:
    return PCA(svd_solver="full").fit(rows(embedded.train.inputs))


def projected(pca: PCA, values: np.ndarray, count: int) -> np.ndarray:
    components = pca.components_[:count]
    return (values - pca.mean_) @ components.T @ components + pca.mean_


@pytest.mark.parametrize("code_size", [1, 16, 100])
def test_mean_image_and_pca_agree_with_scikit_learn(embedded: Data, pca: PCA, code_size: int) -> None:
    test = rows(embedded.test.inputs)
    expected = {"mean_image": np.broadcast_to(pca.mean_, test.shape), "pca": projected(pca, test, code_size)}
    result = baselines(embedded, NoNoise(), code_size)
    for name, images in expected.items():
        assert result.pop(f"{name}/mse") == pytest.approx(np.mean((images - test) ** 2), rel=1e-9)
        assert result.pop(f"{name}/sse") == pytest.approx(((images - test) ** 2).sum(1).mean(), rel=1e-9)
        assert result.pop(f"{name}/psnr") == pytest.approx(psnr(images, test), abs=1e-6)
        pooled = -10 * np.log10(np.mean((images.clip(0, 1) - test) ** 2))
        assert result.pop(f"{name}/psnr_pooled") == pytest.approx(pooled, abs=1e-6)
    assert result == {}


def test_a_code_as_large_as_the_image_has_no_error() -> None:
    data = data_of(split(images_of((1, 2, 3))), split(images_of((1, 2, 3), seed=1)))
    for code_size in (6, 60):
        assert baselines(data, NoNoise(), code_size)["pca/mse"] < 1e-20


def test_more_components_than_images_leave_only_what_the_images_do_not_span() -> None:
    train, test = images_of((1, 4, 4), count=5), images_of((1, 4, 4), count=20, seed=1)
    expected = PCA(4).fit(train.flatten(1).numpy())
    outside = expected.inverse_transform(expected.transform(test.flatten(1).numpy())) - test.flatten(1).numpy()
    result = baselines(data_of(split(train), split(test)), NoNoise(), 4)
    assert result["pca/mse"] == pytest.approx(np.mean(outside**2), rel=1e-9)


@pytest.mark.parametrize("code_size", [1, 5, 40])
def test_iterated_components_agree_with_decomposed_ones(code_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FashionMNISTMini(**{**PLAIN, "train_limit": 5000}).load(CPU)
    exact = baselines(data, NoNoise(), code_size)
    monkeypatch.setattr(module, "MAX_EXACT_VALUES", 100)
    monkeypatch.setattr(torch.linalg, "eigh", None)
    iterated = baselines(data, NoNoise(), code_size)
    assert iterated.keys() == exact.keys()
    for name, value in exact.items():
        assert iterated[name] == pytest.approx(value, rel=1e-7)


def test_iterated_components_are_orthonormal_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of((1, 6, 6))
    monkeypatch.setattr(module, "MAX_EXACT_VALUES", 10)
    components = module.principal_components(images, images.flatten(1).mean(0), 4)
    assert components is not None and components.shape == (36, 4)
    assert torch.allclose(components.T @ components, torch.eye(4).double(), atol=1e-10)
    variances = ((images.flatten(1) - images.flatten(1).mean(0)) @ components).var(0)
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)


def test_few_large_images_have_exact_components_too(monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of((3, 9, 8), 40)
    mean = images.flatten(1).double().mean(0)
    full = principal_components(images, mean, 12)
    monkeypatch.setattr(module, "MAX_EXACT_VALUES", 50)
    few = principal_components(images, mean, 12)
    assert full is not None and few is not None and few.shape == (216, 12)
    assert torch.allclose(few @ few.T, full @ full.T, atol=1e-9)
    every = principal_components(images, mean, 100)
    assert every is not None and every.shape == (216, 39)  # the rank of 40 images about their mean


def test_what_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(split(images_of((1, 6, 6), 20)), split(images_of((1, 6, 6), 20)))
    monkeypatch.setattr(module, "MAX_EXACT_VALUES", 10)
    assert "pca/mse" in baselines(data, NoNoise(), 5)
    for code_size, limit in ((20, 256), (5, 4)):
        monkeypatch.setattr(module, "MAX_ITERATED_COMPONENTS", limit)
        result = baselines(data, Gaussian(0.0, 0.1, False), code_size)
        assert {name.partition("/")[0] for name in result} == {"mean_image"}


NOISES = [
    Gaussian(mean=0.0, variance=0.09, clip=False),
    Gaussian(mean=0.2, variance=0.04, clip=False),
    Gaussian(mean=0.1, variance=0.25, clip=True),
    Gaussian(mean=0.3, variance=0.0, clip=True),
    Masking(rate=0.5, value=0.0),
    Masking(rate=0.25, value=0.7),
    SaltPepper(rate=0.3),
    SaltPepper(rate=1.0),
]


def corrupted(images: Tensor, noise: Any, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs with a column of ones, and targets, for so many corruptions of every image."""
    copies = images.repeat(draws, *[1] * (images.dim() - 1))
    noisy = noise(copies, torch.Generator().manual_seed(seed)).flatten(1)
    return torch.cat([noisy, torch.ones(len(noisy), 1)], 1).numpy(), copies.flatten(1).numpy()


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 2, 3), (7,)])
@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_the_filter_is_what_regressions_on_sampled_corruptions_converge_to(noise: Any, shape: tuple[int, ...]) -> None:
    images = images_of(shape)
    weight, offset = linear_filter(split(images), noise)
    exact = torch.cat([weight, offset[None]]).numpy()
    inputs, targets = corrupted(images, noise, draws=400, seed=1)
    sampled = np.linalg.lstsq(inputs, targets, rcond=1e-9)[0]
    # On its own sample the regression is the best there is; least squares with p parameters on n rows is p/n better
    # there than the true optimum is. On a fresh sample it is p/n worse, up to the scatter of such a difference.
    parameters = len(exact) / len(inputs)
    best, closed = (np.mean((inputs @ matrix - targets) ** 2) for matrix in (sampled, exact))
    assert best * (1 - 1e-9) <= closed <= best * (1 + 3 * parameters) + 1e-12
    inputs, targets = corrupted(images, noise, draws=400, seed=2)
    fresh, closed = (np.mean((inputs @ matrix - targets) ** 2) for matrix in (sampled, exact))
    assert closed <= fresh * (1 + parameters) + 1e-12


@pytest.mark.parametrize("noise", NOISES[:1] + NOISES[4:7], ids=str)
def test_the_filter_is_measured_on_the_draws_of_the_evaluation(noise: Any) -> None:
    data = data_of(split(images_of((1, 3, 4))), split(images_of((1, 3, 4), count=1500, seed=1)))
    weight, offset = (tensor.numpy() for tensor in linear_filter(data.train, noise))
    inputs = np.concatenate([noisy.flatten(1).numpy() for _, noisy, _ in corrupted_batches(data.test, noise)])
    targets = data.test.targets.flatten(1).numpy()
    result = baselines(data, noise, 2)
    assert result["linear/mse"] == pytest.approx(np.mean((inputs @ weight + offset - targets) ** 2), rel=1e-9)
    assert result["linear/psnr"] == pytest.approx(psnr(inputs @ weight + offset, targets), abs=1e-6)
    assert result["linear/mse"] < result["mean_image/mse"]


def test_total_masking_leaves_the_mean_image() -> None:
    data = data_of(split(images_of((3, 2, 3))), split(images_of((3, 2, 3), seed=1)))
    result = baselines(data, Masking(rate=1.0, value=0.5), 2)
    assert result["linear/mse"] == pytest.approx(result["mean_image/mse"], rel=1e-9)


def test_noise_without_moments_has_an_estimated_filter_of_small_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shift(Noise):
        def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
            return images.roll(1, -1)

    data = data_of(split(images_of((1, 3, 4))), split(images_of((1, 3, 4))))
    estimate = baselines(data, Shift(), 2)
    assert estimate["linear/draws"] == 333 and estimate["linear/mse"] < 1e-20  # 100,000 rows; a shift is linear
    monkeypatch.setattr(module, "MAX_FULL_VALUES", 11)
    assert not any(name.startswith("linear") for name in baselines(data, Shift(), 2))


@pytest.mark.parametrize("constant", [False, True])
def test_a_linear_relation_is_found_exactly(constant: bool) -> None:
    random = np.random.default_rng(0)
    matrix, offset = random.standard_normal((12, 5)), random.standard_normal(5)
    parts = []
    for count in (200, 50):
        inputs = random.standard_normal((count, 1, 3, 4))
        if constant:  # pixels that say nothing, or nothing new
            inputs[:, 0, 0, 0] = 0.5
            inputs[:, 0, 0, 1] = inputs[:, 0, 0, 2]
        parts.append(split(inputs, inputs.reshape(count, 12) @ matrix + offset))
    result = baselines(data_of(*parts), NoNoise(), 3)
    assert result["linear/mse"] < 1e-20
    assert "linear/psnr" not in result and "pca/mse" not in result  # targets leave [0,1] and are not the inputs


def test_without_noise_the_filter_is_linear_regression_on_the_targets(embedded: Data) -> None:
    small = FashionMNISTMini(**{**PLAIN, "input_transform": [{"Resize": {"size": 7}}]}).load(CPU)
    regression = LinearRegression().fit(rows(small.train.inputs), rows(small.train.targets))
    predicted = regression.predict(rows(small.test.inputs))
    result = baselines(small, NoNoise(), 49)
    assert result["linear/mse"] == pytest.approx(np.mean((predicted - rows(small.test.targets)) ** 2), rel=1e-7)
    assert result["linear/psnr"] == pytest.approx(psnr(predicted, rows(small.test.targets)), abs=1e-6)


@pytest.fixture
def tiny() -> Data:
    return data_of(split(images_of((1, 3, 4))), split(images_of((1, 3, 4), seed=1)))


def test_the_second_call_reads_the_file(tiny: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = baselines(tiny, NOISES[0], 2, tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 1
    monkeypatch.setattr(torch.linalg, "eigh", None)
    assert baselines(tiny, NOISES[0], 2, tmp_path / "new") == first
    with pytest.raises(TypeError):
        baselines(tiny, NOISES[0], 2)


def test_other_data_noise_or_code_size_is_another_file(tiny: Data, tmp_path: Path) -> None:
    baselines(tiny, NOISES[0], 2, tmp_path)
    others = [
        (tiny, NOISES[1], 2),
        (tiny, NOISES[0], 3),
        (data_of(split(tiny.train.inputs[:100]), tiny.test), NOISES[0], 2),
        (data_of(split(tiny.train.inputs.flip(0)[:100]), tiny.test), NOISES[0], 2),
        (Data(tiny.train, None, split(tiny.test.inputs[:9]), None, "another checksum"), NOISES[0], 2),
    ]
    for data, noise, code_size in others:
        assert baselines(data, noise, code_size, tmp_path) == baselines(data, noise, code_size)
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("content", [b"", b'{"mean_image/mse": 0.0', b"[]", b"null", b'{"a": "b"}', b"\xff\xfe\x00"])
def test_a_damaged_cache_file_is_computed_again(content: bytes, tiny: Data, tmp_path: Path) -> None:
    first = baselines(tiny, NOISES[0], 2, tmp_path)
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(content)
    assert baselines(tiny, NOISES[0], 2, tmp_path) == first
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_does_not_lose_the_answer(tiny: Data, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert baselines(tiny, NOISES[0], 2, tmp_path / "file" / "cache") == baselines(tiny, NOISES[0], 2)


@pytest.fixture(scope="module")
def full() -> Data:
    return FashionMNIST(root=FULL, download=False, **PLAIN).load(CPU)


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="AERUN_FASHION_MNIST does not name a folder with the four files")
@pytest.mark.parametrize(("code_size", "expected"), [(32, 11.872), (64, 8.129)])
def test_published_errors_on_fashion_mnist(full: Data, code_size: int, expected: float) -> None:
    result = baselines(full, NoNoise(), code_size)
    assert result["mean_image/mse"] * 784 == pytest.approx(67.927, abs=1e-3)
    assert result["pca/mse"] * 784 == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not DIGITS, reason="AERUN_MNIST does not name a folder with MNIST's four files")
def test_thirty_components_have_the_error_on_mnist_that_the_science_paper_prints() -> None:
    """Hinton & Salakhutdinov 2006, figure 2B: 13.87, which fixes what is summed, on which images, and that nothing is
    clamped. The other sizes are closed forms in float64, computed independently of this code."""
    data = MNIST(root=DIGITS, download=False, **PLAIN).load(CPU)
    for components, expected in ((2, 43.645), (30, 13.866), (128, 3.297)):
        result = baselines(data, NoNoise(), components)
        assert result["pca/sse"] == pytest.approx(expected, abs=1e-3)
    assert result["mean_image/sse"] == pytest.approx(52.897, abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="AERUN_FASHION_MNIST does not name a folder with the four files")
@pytest.mark.parametrize("noise", [Gaussian(mean=0.0, variance=0.5, clip=False), Masking(rate=0.5, value=0.0)], ids=str)
def test_the_filter_beats_a_regression_on_three_corruptions_of_fashion_mnist(full: Data, noise: Any) -> None:
    images, copies = torch.from_numpy(rows(full.train.inputs)), 3
    normal, cross = np.zeros((785, 785)), np.zeros((785, 784))
    for seed in range(copies):
        inputs, targets = corrupted(images, noise, draws=1, seed=seed)
        normal += inputs.T @ inputs
        cross += inputs.T @ targets
    matrix = np.linalg.lstsq(normal, cross, rcond=1e-10)[0]
    inputs = np.concatenate([noisy.flatten(1).double().numpy() for _, noisy, _ in corrupted_batches(full.test, noise)])
    targets = rows(full.test.targets)
    sampled = inputs @ matrix[:-1] + matrix[-1]
    exact = baselines(full, noise, 1)
    # 785 parameters a pixel on 180,000 rows: 0.4% is lost.
    assert 0 < np.mean((sampled - targets) ** 2) / exact["linear/mse"] - 1 < 2 * 785 / (copies * 60_000)
    assert 0 < exact["linear/psnr"] - psnr(sampled, targets) < 0.04


def test_the_leading_components_alone_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (90, 1, 6, 7), np.uint8))
    mean = images.flatten(1).double().mean(0) / 255
    whole = principal_components(images, mean, 5)
    monkeypatch.setattr(module, "MAX_FULL_VALUES", 10)
    leading = principal_components(images, mean, 5)
    assert whole is not None and leading is not None
    torch.testing.assert_close(leading @ leading.T, whole @ whole.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(leading[:, 0].abs(), whole[:, 0].abs(), rtol=0, atol=1e-10)
