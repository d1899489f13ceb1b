"""Learned entropy models and the cosine path against closed forms, float64 loops and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from aerun.config.parse import parse
from aerun.contracts import Diagnostic, Penalty
from aerun.errors import ConfigError
from aerun.latent import Factorized, Hyperprior
from aerun.latent.densities import Density, laplace_log_likelihood
from aerun.latent.entropy_models import FactorizedModel, HyperpriorModel
from aerun.model import FullyConvolutional
from aerun.model.cosine_path import cosine_transform
from aerun.training import build

Compose = Callable[[Sequence[str]], dict[str, Any]]
WEIGHTS = [0.04, 0.01]
MAPS = (6, 5, 7)
MODELS: dict[str, Callable[[], Any]] = {
    "factorized": lambda: Factorized(WEIGHTS, 2).build(MAPS),
    "factorized vector": lambda: Factorized(WEIGHTS, 1).build((6,)),
    "hyperprior": lambda: Hyperprior(WEIGHTS, 2, 4, 2).build(MAPS),
    "hyperprior vector": lambda: Hyperprior(WEIGHTS, 1, 4, 2).build((6,)),
}
models = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> Any:
    torch.manual_seed(0)
    return MODELS[name]().double()


def features(model: Any, rows: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(rows, *model.code_shape, generator=random, dtype=torch.float64)


def value(terms: Sequence[Any], kind: type, name: str) -> Tensor:
    [found] = [term.value for term in terms if isinstance(term, kind) and term.name == name]
    return found


@pytest.mark.parametrize("scale", [0.04, 0.3, 2.0, 256.0])
def test_the_laplace_likelihood_is_a_difference_of_distribution_functions(scale: float) -> None:
    offsets = torch.tensor([0.0, 0.2, -0.4999, 0.5, 0.5001, -1.0, 1.3], dtype=torch.float64)
    wide = torch.tensor(scale, dtype=torch.float64)
    known = torch.distributions.Laplace(torch.tensor(0.0, dtype=torch.float64), wide)
    # On the negative side, where a difference of small numbers is exact.
    expected = (known.cdf(0.5 - offsets.abs()) - known.cdf(-0.5 - offsets.abs())).log()
    torch.testing.assert_close(laplace_log_likelihood(offsets, wide), expected, rtol=1e-9, atol=1e-12)
    whole = torch.arange(-20_000, 20_001, dtype=torch.float64)
    assert laplace_log_likelihood(whole, wide).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_far_from_the_middle_the_likelihood_still_has_a_gradient() -> None:
    offsets = torch.tensor([300.0, -300.0], requires_grad=True)
    laplace_log_likelihood(offsets, torch.tensor(0.1)).sum().backward()
    assert offsets.grad is not None
    torch.testing.assert_close(offsets.grad, torch.tensor([-10.0, 10.0]))


def test_a_learned_distribution_is_one() -> None:
    torch.manual_seed(0)
    density = Density(2, 5, 10.0).double()
    for parameter in density.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    whole = torch.arange(-3000, 3001, dtype=torch.float64).expand(2, 5, -1)
    found = density.log_likelihood(whole, torch.tensor([0, 1]))
    torch.testing.assert_close(found.exp().sum(2), torch.ones(2, 5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert not found[0].equal(found[1])
    upper, lower = (density._logits(whole + half, torch.tensor([0, 1])).sigmoid() for half in (0.5, -0.5))
    near = whole[0, 0].abs() < 20
    torch.testing.assert_close(found[..., near].exp(), (upper - lower)[..., near], rtol=1e-8, atol=1e-14)


@models
def test_evaluation_rounds_and_counts_the_bits_of_each_value(name: str) -> None:
    """Against a loop over values, with the closed form of the Laplace distribution."""
    model = made(name)
    x = features(model)
    code, terms = model(x, None)
    quality = model.quality - 1
    shape = [1, -1] + [1] * (x.dim() - 2)
    y = x * model.log_gain[quality].exp().view(shape)
    nats = torch.zeros(len(x), dtype=torch.float64)
    if isinstance(model, HyperpriorModel):
        maps = y if y.dim() == 4 else y[:, :, None, None]
        of_all = torch.full((len(x),), quality)
        z = model.describe(maps, of_all).round()
        known, scale, k = torch.zeros_like(maps), torch.zeros_like(maps), torch.zeros_like(maps)
        coded = torch.zeros_like(maps)
        for number, (channels, where) in enumerate(model.passes(maps.shape[2:])):
            mean, wide = model.distribution(number, model.features(z, maps.shape[2:]), known, of_all)
            whole = (maps[:, channels] - mean).round()
            for full, part in ((known, mean + whole), (scale, wide), (k, whole), (coded, torch.ones_like(mean))):
                full[:, channels, where] += part[:, :, where]
        assert coded.eq(1).all()  # each value once
        rounded = known.view_as(y)
        for row in range(len(x)):
            for value_, spread in zip(k[row].flatten(), scale[row].flatten(), strict=True):
                half, distance = 0.5 / float(spread), abs(float(value_)) / float(spread)
                within = math.log(1 - math.exp(-half))  # the integral of exp(-|x| / s) / 2s around 0, and elsewhere
                nats[row] -= within if distance == 0 else math.log(math.sinh(half)) - distance
        learned = z
    else:
        assert isinstance(model, FactorizedModel)
        rounded = learned = y.round()
    density, of = model.density, 0 if isinstance(model, HyperpriorModel) else quality
    for row in range(len(x)):
        for channel in range(learned.shape[1]):
            for value_ in learned[row, channel].reshape(-1):
                point = torch.full((1, learned.shape[1], 1), float(value_), dtype=torch.float64)
                upper, lower = (
                    density._logits(point + half, torch.tensor([of])).sigmoid()[0, channel, 0] for half in (0.5, -0.5)
                )
                nats[row] -= (upper - lower).log()
    torch.testing.assert_close(code, rounded * model.log_inverse[quality].exp().view(shape))
    assert value(terms, Diagnostic, "bits").item() == pytest.approx(nats.mean().item() / math.log(2), rel=1e-6)
    assert value(terms, Penalty, "rate").item() == pytest.approx(WEIGHTS[quality] * nats.mean().item(), rel=1e-6)


@models
def test_the_gradient_passes_straight_through_rounding(name: str) -> None:
    model = made(name)
    x = features(model).requires_grad_()
    code, _ = model(x, None)
    if isinstance(model, HyperpriorModel):  # but for the mean, which is added and subtracted
        model.distribution = lambda number, *_: (torch.zeros(()), torch.ones(()))
        code, _ = model(x, None)
    code.sum().backward()
    factor = (model.log_gain + model.log_inverse)[model.quality - 1].exp()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, factor.view(1, -1, *[1] * (x.dim() - 2)).expand_as(x))


def test_each_image_draws_a_quality_by_the_root_of_its_weight() -> None:
    model = Factorized([0.09, 0.01, 0.0025], 1).build((2,))
    draw = model.draw((7, 2), torch.Generator().manual_seed(0))
    assert draw.shape == (7, 3) and draw.min() >= 0 and draw.max() < 1
    draw = torch.zeros(60_000, 3)
    draw[:, 0] = (torch.arange(60_000) + 0.5) / 60_000
    shares = torch.bincount(model._qualities(draw, draw), minlength=3) / 60_000
    expected = torch.tensor([1 / 0.3, 1 / 0.1, 1 / 0.05])
    torch.testing.assert_close(shares, expected / expected.sum(), rtol=0, atol=1e-4)


@models
def test_rows_are_independent(name: str) -> None:
    model = made(name)
    x, draw = features(model, 4), model.draw((4, *model.code_shape), torch.Generator().manual_seed(3)).double()
    together, _ = model(x, draw)
    alone = torch.cat([model(x[row : row + 1], draw[row : row + 1])[0] for row in range(4)])
    torch.testing.assert_close(together, alone)


def test_the_first_steps_are_best_for_fine_quantization() -> None:
    """s^2 / 12 - w log s is least at s = sqrt(6 w)."""
    model = Factorized(WEIGHTS, 1).build((3,))
    steps = torch.linspace(0.01, 2, 200_000, dtype=torch.float64)
    for gain, weight in zip(model.log_gain, WEIGHTS, strict=True):
        best = steps[(steps.square() / 12 - weight * steps.log()).argmin()].item()
        assert (-gain).exp().tolist() == pytest.approx([best] * 3, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_cosine_transform_is_scipys(channels: int) -> None:
    side = 4
    transform = cosine_transform(channels, 1000, side).double()
    assert transform.shape == (channels * side**2,) * 2
    torch.testing.assert_close(
        transform @ transform.T, torch.eye(len(transform), dtype=torch.float64), rtol=0, atol=1e-6
    )
    block = torch.rand(channels, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = block
    if channels == 3:
        red, green, blue = block
        mixed = torch.stack([(red + green + blue) / 3**0.5, (red - blue) / 2**0.5, (red - 2 * green + blue) / 6**0.5])
    expected = torch.from_numpy(dctn(mixed.numpy(), axes=(1, 2), norm="ortho")).flatten()
    found = transform @ block.flatten()
    torch.testing.assert_close(found.abs().sort().values, expected.abs().sort().values, rtol=0, atol=1e-6)
    assert found[0].item() == pytest.approx(expected[0].item(), abs=1e-6)  # the mean comes first


def test_at_first_the_networks_are_the_transform_and_its_inverse() -> None:
    common = {"activation": "relu", "code_activation": "identity", "output_activation": "identity", "init": "default"}
    spec = FullyConvolutional(
        **common,
        **{"init_std": 0.01, "tied": False, "width": 4, "widest": 6, "patch": 2, "blocks": 1, "block": "residual"},
        **{"norm": "none", "levels": 2, "code_channels": 48},
    )
    codec = spec.build((3, 20, 24), (3, 20, 24), 1)
    assert codec.code_shape == (48, 5, 6)
    images = torch.rand(2, 3, 20, 24)
    torch.testing.assert_close(codec.decoder(codec.encoder(images)), images)
    odd = spec.build((3, 19, 22), (3, 19, 22), 1)
    assert odd.code_shape == (48, 5, 6)
    torch.testing.assert_close(odd.decoder(odd.encoder(images[:, :, :19, :22])), images[:, :, :19, :22])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latent=factorized", "latent.weights=[]"], r"weights=\[\]: must list at least one"),
        (["latent=hyperprior", "latent.quality=5"], r"quality=5: must be from 1 to 4"),
        (["latent=hyperprior", "latent.weights=[0.1,0]"], r"weights"),
        (["latent=factorized", "sparsity=topk"], r"both constrain the code"),
        (["model=fully_conv", "model.norm=group"], r"norm=group: takes its statistics"),
        (["model=fully_conv", "regularizer=spectral"], r"begins at zero"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(compose: Compose, words: list[str], message: str) -> None:
    words = [*words, "dataset=random", "trainer.device=cpu", "trainer.threads=1"]
    choices = {word.partition("=")[0]: word.partition("=")[2] for word in words if "." not in word}
    with pytest.raises(ConfigError, match=message) as caught:
        settings = parse(compose(words), choices)
        build.build_autoencoder(settings, settings.dataset.load(torch.device("cpu")))
    assert "\n" not in str(caught.value)
