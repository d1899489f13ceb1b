"""Structural similarity compared with the published formula in float64, scipy's filter and torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from torch import Tensor

from aerun.base import ssim as similarity
from aerun.base.ssim import ms_ssim, scales, ssim
from aerun.config.parse import parse
from aerun.dataset.data import Data, Split, as_float
from aerun.errors import ConfigError
from aerun.loss import MSEWithSSIM
from aerun.noise import Masking
from aerun.protocol import StructuralSimilarity, Subject
from aerun.protocol.runner import check_protocols
from aerun.training.build import build_parts

Compose = Callable[[Sequence[str]], dict[str, Any]]
CPU = torch.device("cpu")
SHAPES = [(1, 11, 11), (3, 40, 33), (3, 64, 64)]


def pictures(*shape: int) -> tuple[Tensor, Tensor]:
    """Smooth targets and corrupted images in [0,1], float64."""
    random = torch.Generator().manual_seed(0)
    targets = torch.rand(2, *shape, generator=random, dtype=torch.float64)
    targets = torch.nn.functional.avg_pool2d(targets, 5, 1, 2, count_include_pad=False)
    noise = torch.randn(targets.shape, generator=random, dtype=torch.float64)
    return (0.8 * targets + 0.1 + 0.05 * noise).clamp(0, 1), targets


def by_loop(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """SSIM, and its contrast and structure, of one channel: every window for itself, by the definition."""
    place = np.arange(11) - 5
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = 0.01**2, 0.03**2
    whole, structures = [], []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = (image[row : row + 11, column : column + 11] for image in (x, y))
            mx, my = (window * a).sum(), (window * b).sum()
            vx, vy = (window * (a - mx) ** 2).sum(), (window * (b - my) ** 2).sum()
            cxy = (window * (a - mx) * (b - my)).sum()
            structures.append((2 * cxy + c2) / (vx + vy + c2))
            whole.append((2 * mx * my + c1) / (mx**2 + my**2 + c1) * structures[-1])
    return float(np.mean(whole)), float(np.mean(structures))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ssim_is_that_of_the_definition_and_of_scipys_filter(shape: tuple[int, ...]) -> None:
    images, targets = pictures(*shape)
    found = ssim(images, targets)
    for number, (x, y) in enumerate(zip(images.numpy(), targets.numpy(), strict=True)):
        loop = np.mean([by_loop(a, b)[0] for a, b in zip(x, y, strict=True)])
        assert found[number].item() == pytest.approx(loop, abs=1e-12)

        def smooth(image: np.ndarray) -> np.ndarray:
            return gaussian_filter(image, 1.5, truncate=3.5, axes=(1, 2))[:, 5:-5, 5:-5]

        mx, my = smooth(x), smooth(y)
        vx, vy, cxy = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
        whole = (2 * mx * my + 1e-4) * (2 * cxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
        assert found[number].item() == pytest.approx(whole.mean(), abs=1e-12)


@pytest.mark.parametrize(("side", "count"), [(11, 1), (21, 1), (22, 2), (64, 3), (175, 4), (176, 5), (400, 5)])
def test_as_many_scales_as_hold_the_window(side: int, count: int) -> None:
    assert scales((3, side, 500)) == scales((side, 500)) == count


def test_ms_ssim_is_the_weighted_product_over_halvings() -> None:
    images, targets = pictures(2, 48, 51)
    weights = np.array([0.0448, 0.2856, 0.3001])
    weights = weights / weights.sum()
    expected = []
    for x, y in zip(images.numpy(), targets.numpy(), strict=True):
        product = 1.0
        for scale, weight in enumerate(weights):
            terms = np.mean([by_loop(a, b) for a, b in zip(x, y, strict=True)], axis=0)
            product *= terms[0 if scale == 2 else 1] ** weight
            x, y = (z[:, : z.shape[1] // 2 * 2, : z.shape[2] // 2 * 2] for z in (x, y))
            x, y = (z.reshape(2, z.shape[1] // 2, 2, z.shape[2] // 2, 2).mean((2, 4)) for z in (x, y))
        expected.append(product)
    # 48x51 -> 24x25 -> 12x12: three scales, though four have the room for a window at 6x6.
    assert scales(images.shape) == 3
    assert ms_ssim(images, targets).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_an_image_is_like_itself_and_not_like_its_negative(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    _, targets = pictures(3, 32, 32)
    assert measure(targets, targets).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert (measure(1 - targets, targets) < 0.1).all()
    opposite = (1 - targets).requires_grad_()
    measure(opposite, targets).sum().backward()
    assert torch.isfinite(opposite.grad).all()


def test_gradients_are_those_of_finite_differences() -> None:
    images, targets = pictures(1, 24, 13)
    images = images[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ssim(x, targets[:1]), images)
    assert torch.autograd.gradcheck(lambda x: ms_ssim(x, targets[:1]), images)


def test_without_products_of_matrices_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the method used on a GPU."""
    images, targets = pictures(3, 30, 41)
    expected = ssim(images, targets)
    monkeypatch.setattr(similarity, "_on_host", lambda _: False)
    torch.testing.assert_close(ssim(images, targets), expected)


def test_single_precision_is_enough_for_four_digits() -> None:
    images, targets = pictures(3, 64, 64)
    torch.testing.assert_close(ssim(images.float(), targets.float()).double(), ssim(images, targets), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_it_is_torchmetrics_within_the_image() -> None:
    """Whose mean is over windows beyond the edge, too."""
    metrics = pytest.importorskip("torchmetrics.functional.image", reason="needs torchmetrics")
    images, targets = pictures(3, 64, 64)
    measure = metrics.structural_similarity_index_measure
    _, whole = measure(images, targets, data_range=1.0, return_full_image=True, reduction="none")
    torch.testing.assert_close(whole[..., 5:-5, 5:-5].mean((1, 2, 3)), ssim(images, targets))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("measure", ["ssim", "ms_ssim"])
def test_the_loss_adds_what_is_lacking(reduction: Any, measure: Any) -> None:
    images, targets = pictures(3, 24, 24)
    loss = MSEWithSSIM(reduction, weight=0.3, measure=measure)
    similarity = {"ssim": ssim, "ms_ssim": ms_ssim}[measure](images, targets).mean()
    expected = (images - targets).square().mean() + 0.3 * (1 - similarity)
    values = 3 * 24 * 24 if reduction == "sum" else 1
    assert loss(images, targets).item() == pytest.approx(values * expected.item(), rel=1e-12)
    assert loss.scale(3 * 24 * 24) == values / (3 * 24 * 24)
    rounded = loss(images.bfloat16(), targets.float())
    assert rounded.dtype == torch.float32 and rounded.item() == pytest.approx(values * expected.item(), rel=0.1)


RANDOM = ["dataset=random", "dataset.images=40", "trainer.device=cpu", "trainer.threads=1", "model=conv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss=mse_ssim", "dataset.shape=[3,10,40]"], "loss=mse_ssim and dataset=random: images of 10x40 are smaller"),
        (["loss=mse_ssim", "dataset.shape=[40]", "model=fc"], "vectors of 40 values"),
        (["loss=mse_ssim", "dataset.normalize=standardise", "model=fc"], "which loss=mse_ssim requires"),
        (["loss=mse_ssim", "loss.weight=0"], "loss.weight=0: must be a number, above 0"),
        (["protocol=ssim", "dataset.shape=[3,10,40]", "model=fc"], "protocol.ssim: images of 10x40 are smaller"),
    ],
)
def test_what_has_no_such_similarity_is_refused_in_a_line(compose: Compose, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings = parse(compose([*RANDOM, *words]), {"loss": "mse_ssim", "dataset": "random"})
        parts = build_parts(settings, settings.dataset.load(CPU), CPU)
        check_protocols(settings.protocol, parts.data, parts.autoencoder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_protocol_measures_clipped_reconstructions_and_corrupted_inputs(compose: Compose) -> None:
    settings = parse(compose([*RANDOM, "dataset.shape=[3,24,24]", "model.output_activation=identity"]))
    data = settings.dataset.load(CPU)
    autoencoder = build_parts(settings, data, CPU).autoencoder.eval()
    test = as_float(data.test.inputs)
    answer = StructuralSimilarity()(Subject(autoencoder, data, settings.noise, None, settings.dataset, 0))
    rows = as_float(data.train.inputs).double().flatten(1).numpy()
    pca = PCA(min(math.prod(autoencoder.code_shape), len(rows) - 1), svd_solver="full").fit(rows)
    projected = pca.inverse_transform(pca.transform(test.double().flatten(1).numpy()))
    wanted = test.double()
    for prefix, images in (
        ("", autoencoder.reconstruct(test)),
        ("pca_", torch.from_numpy(projected).view(wanted.shape)),
    ):
        expected = images.clamp(0, 1).double()
        assert answer[f"{prefix}ssim"] == pytest.approx(ssim(expected, wanted).mean().item(), abs=1e-4)
        assert answer[f"{prefix}ms_ssim"] == pytest.approx(ms_ssim(expected, wanted).mean().item(), abs=1e-4)
        kept = [explained_variance(plane(wanted), plane(expected)) for plane in (blue_difference, red_difference)]
        spread = [plane(wanted).var() for plane in (blue_difference, red_difference)]
        assert answer[f"{prefix}color"] == pytest.approx(np.average(kept, weights=spread), abs=1e-4)
    noisy = StructuralSimilarity()(Subject(autoencoder, data, Masking(rate=0.5, value=0.0), None, settings.dataset, 0))
    assert set(noisy) == {*answer, "input_ssim"} and noisy["input_ssim"] < 0.9


def blue_difference(images: Tensor) -> np.ndarray:
    red, green, blue = images.double().unbind(1)
    return (blue - (0.299 * red + 0.587 * green + 0.114 * blue)).flatten().numpy()


def red_difference(images: Tensor) -> np.ndarray:
    red, green, blue = images.double().unbind(1)
    return (red - (0.299 * red + 0.587 * green + 0.114 * blue)).flatten().numpy()


def explained_variance(wanted: np.ndarray, found: np.ndarray) -> float:
    return 1 - float(((wanted - found) ** 2).mean() / wanted.var())


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_images_have_no_colors_to_keep(compose: Compose, channels: int) -> None:
    settings = parse(compose([*RANDOM, f"dataset.shape=[{channels},24,24]"]))
    data = settings.dataset.load(CPU)
    for split in (data.train, data.test):
        split.inputs[:] = split.inputs[:, :1]
    autoencoder = build_parts(settings, data, CPU).autoencoder.eval()
    answer = StructuralSimilarity()(Subject(autoencoder, data, settings.noise, None, settings.dataset, 0))
    assert set(answer) == {"ssim", "ms_ssim", "pca_ssim", "pca_ms_ssim"}


def test_targets_that_leave_the_range_are_refused() -> None:
    split = Split(2 * torch.rand(3, 1, 20, 20), 2 * torch.rand(3, 1, 20, 20), None)
    with pytest.raises(ConfigError, match=r"images in \[0,1\]"):
        StructuralSimilarity().check_data(Data(split, None, split, None, ""), None)  # type: ignore[arg-type]
