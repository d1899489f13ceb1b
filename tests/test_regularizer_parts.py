"""The regularizers that ship: values and gradients against closed forms, numpy and torch's own, and whole runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import aerun
from aerun.config.parse import parse
from aerun.contracts import Pass, Penalty, Shapes
from aerun.core.autoencoder import Autoencoder, objective
from aerun.errors import ConfigError
from aerun.latent import Deterministic
from aerun.loss import MSE
from aerun.regularizer import Contractive, Decorrelation, RaeGradient, RaeL2
from aerun.regularizer.jacobian import squared_jacobian
from aerun.regularizer.spectral_layer import SpectralLayer
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run
from aerun.sparsity import NoSparsity
from aerun.training.build import build_autoencoder, prepare
from tests.ends import same_in_two_processes

Compose = Callable[[Sequence[str]], dict[str, Any]]
ROOT = Path(__file__).resolve().parent.parent
TINY = [
    *("dataset=random", "dataset.images=64", "dataset.shape=[1,12,12]", "trainer.epochs=2", "trainer.batch_size=24"),
    *("trainer.figures=none", "trainer.device=cpu", "trainer.threads=1", "tracker=none"),
]
OPTIONS = {
    "contractive": ["regularizer=contractive"],
    "rae_l2": ["regularizer=rae_l2"],
    "rae_gp": ["regularizer=rae_gp"],
    "spectral": ["regularizer=[rae_l2,spectral]", "regularizer.spectral.networks=both"],
    "decorrelation": ["regularizer=decorrelation", "noise=gaussian"],
}
MODELS = {
    "vectors": ["model=fc", "model.hidden=[12]", "model.code_size=6", "model.activation=tanh"],
    "maps": ["model=conv", "model.hidden=[3,4]", "model.activation=softplus"],
    "gaussian": ["model=fc_vae", "model.hidden=[12]", "model.code_size=6"],
}
options = pytest.mark.parametrize("option", OPTIONS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def single_layer() -> tuple[nn.Linear, Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    layer = nn.Linear(7, 5).double()
    return layer, lambda x: layer(x.flatten(1)).sigmoid()


def rows_of_jacobian(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """[B,outputs,inputs], from torch's reverse mode, row by row."""
    rows = [torch.func.jacrev(lambda x: function(x[None])[0].flatten())(row).flatten(1) for row in inputs]
    return torch.stack(rows)


# Derivatives.


def test_the_exact_norm_of_one_sigmoid_layer_is_that_of_the_paper() -> None:
    """Rifai et al. 2011, equation 7: sum_j (h_j (1 - h_j))^2 sum_i W_ji^2, and its gradient."""
    layer, code = single_layer()
    x = normal(4, 7)
    found = squared_jacobian(code, x, None)
    h = code(x)
    expected = ((h * (1 - h)).square() * layer.weight.square().sum(1)).sum(1)
    torch.testing.assert_close(found, expected)
    parameters = [layer.weight, layer.bias]
    for one, other in zip(
        torch.autograd.grad(found.sum(), parameters), torch.autograd.grad(expected.sum(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_exact_norm_of_a_deep_network_with_many_outputs() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 2)).double()
    x = normal(3, 1, 5, 6)
    expected = rows_of_jacobian(net, x).square().sum((1, 2))
    torch.testing.assert_close(squared_jacobian(net, x, None), expected)


def test_projections_estimate_the_norm_without_bias() -> None:
    _, code = single_layer()
    x, draw = normal(3, 7), normal(3, 4000, 5, seed=1)
    jacobian = rows_of_jacobian(code, x)
    each = torch.einsum("bno,boi->bni", draw, jacobian).square().sum(2)
    torch.testing.assert_close(squared_jacobian(code, x, draw), each.mean(1))
    error = each.std(1) / math.sqrt(4000)
    assert ((each.mean(1) - jacobian.square().sum((1, 2))).abs() < 4 * error).all()


@pytest.mark.parametrize("projections", [None, 2])
def test_without_gradients_the_value_is_the_same(projections: int | None) -> None:
    _, code = single_layer()
    x = normal(3, 7)
    draw = None if projections is None else normal(3, 2, 5)
    with torch.no_grad():
        found = squared_jacobian(code, x, draw)
    assert not found.requires_grad and torch.equal(found, squared_jacobian(code, x, draw).detach())


def test_draws_have_the_rows_of_the_batch() -> None:
    shapes, random = Shapes((5, 1, 4, 4), (5, 3, 2, 2), (5, 2, 4, 4)), torch.Generator().manual_seed(0)
    code, output = Contractive(1, 2).draw(shapes, random), RaeGradient(1, 1, 3).draw(shapes, random)
    assert code is not None and code.shape == (5, 2, 3, 2, 2)
    assert output is not None and output.shape == (5, 3, 2, 4, 4)
    assert Contractive(1, None).draw(shapes, random) is None


def build(regularizer: Any, **keys: Any) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 4)),
        nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 12), nn.Unflatten(1, (1, 3, 4))),
        input_shape=(1, 3, 4),
        output_shape=(1, 3, 4),
        code_shape=(4,),
        sparsity=NoSparsity("sigmoid"),
        latent=Deterministic(),
        output_activation="identity",
        regularizers={"it": regularizer},
        **keys,
    ).double()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_weights_are_on_the_scale_of_a_sum_over_an_image(reduction: Any) -> None:
    """RAE-GP and RAE-L2, with either reduction, gradients included, against sums over rows of explicit Jacobians."""
    x = normal(5, 1, 3, 4)
    for part in (RaeGradient(0.3, 0.2, None), RaeL2(0.3, 0.2), Contractive(0.4, None)):
        autoencoder = build(part)
        terms = objective(autoencoder(x), x, autoencoder, MSE(reduction))
        code = autoencoder.encoder(x).sigmoid()
        error = (autoencoder.decoder(code) - x).square().sum()
        length = 0.5 * code.square().sum()
        if isinstance(part, RaeL2):
            size = torch.stack([p.square().sum() for p in autoencoder.decoder.parameters()]).sum()
            expected = error + 0.3 * length + 0.2 * 5 * size
        elif isinstance(part, RaeGradient):
            expected = error + 0.3 * length + 0.2 * rows_of_jacobian(autoencoder.decoder, code).square().sum()
        else:
            jacobian = rows_of_jacobian(lambda images, a=autoencoder: a.encoder(images).sigmoid(), x)
            expected = error + 0.4 * jacobian.square().sum()
        expected = expected / 5 / (12 if reduction == "mean" else 1)
        torch.testing.assert_close(terms["loss"], expected)
        parameters = list(autoencoder.parameters())
        found = torch.autograd.grad(terms["loss"], parameters)
        for one, other in zip(found, torch.autograd.grad(expected, parameters), strict=True):
            torch.testing.assert_close(one, other)


# Spectral normalization.


@pytest.mark.parametrize(
    "layer", [nn.Linear(7, 5), nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3, 2, 1, 1)], ids=lambda x: type(x).__name__
)
def test_a_normalized_layer_is_torchs_own(layer: Any) -> None:
    """From the same vectors: outputs, gradients, and the vectors after two training passes."""
    torch.manual_seed(0)
    ours, theirs = SpectralLayer(layer, 1), type(layer)(*_arguments(layer))
    theirs.load_state_dict(layer.state_dict())
    theirs = spectral_norm(theirs)
    norm = theirs.parametrizations.weight[0]
    with torch.no_grad():
        norm._u.copy_(ours.left)
        norm._v.copy_(torch.nn.functional.normalize(ours._matrix().T @ ours.left, dim=0))
    x = torch.randn(4, 7) if isinstance(layer, nn.Linear) else torch.randn(4, 3, 6, 6)
    for _ in range(2):
        one, other = ours(x), theirs(x)
        torch.testing.assert_close(one, other)
        (mine,) = torch.autograd.grad(one.square().sum(), ours.layer.weight)
        (its,) = torch.autograd.grad(other.square().sum(), theirs.parametrizations.weight.original)
        torch.testing.assert_close(mine, its)
        torch.testing.assert_close(ours.left, norm._u)


def _arguments(layer: Any) -> tuple[Any, ...]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    extra = (layer.output_padding,) if isinstance(layer, nn.ConvTranspose2d) else ()
    return layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, *extra


def test_evaluation_changes_no_vector_and_training_finds_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    layer = SpectralLayer(nn.Linear(9, 6), 1)
    before = layer.left.clone()
    layer.eval()(torch.randn(2, 9))
    assert torch.equal(layer.left, before)
    layer.train()
    for _ in range(200):
        layer(torch.randn(2, 9))
    largest = np.linalg.svd(layer.layer.weight.detach().double().numpy())[1][0]
    assert float(layer.sigma.detach()) == pytest.approx(largest, rel=1e-5)


# Two views.


def test_decorrelation_is_a_loop_over_pairs_of_units() -> None:
    random = np.random.default_rng(0)
    for shape in ((9, 4), (5, 3, 2, 2)):
        first, second = random.standard_normal((2, *shape))
        run = Pass(*[torch.zeros(1)] * 6, nn.Identity(), nn.Identity(), lambda x: x, None, nn.Identity(), lambda x: x)
        code, view = torch.from_numpy(first), torch.from_numpy(second)
        [term] = Decorrelation(0.7, 0.1).penalties(run._replace(code=code, second_view=view))
        rows = [codes.reshape(*shape[:2], -1).transpose(0, 2, 1).reshape(-1, shape[1]) for codes in (first, second)]
        a, b = ((r - r.mean(0)) / np.sqrt(r.var(0) + 1e-5) for r in rows)
        expected = 0.0
        for i in range(shape[1]):
            for j in range(shape[1]):
                c = np.mean(a[:, i] * b[:, j])
                expected += (1 - c) ** 2 if i == j else 0.1 * c**2
        assert isinstance(term, Penalty) and float(term.value) == pytest.approx(expected, rel=1e-9)
        assert torch.autograd.gradcheck(
            lambda x, run=run, view=view: (
                Decorrelation(0.7, 0.1).penalties(run._replace(code=x, second_view=view))[0].value
            ),
            code.requires_grad_(),
        )


def test_the_second_view_is_another_draw_of_the_noise_at_every_step(compose: Compose) -> None:
    from aerun.dataset.data import first_batch
    from aerun.training.build import build_parts
    from aerun.training.step import make_step

    settings = parse(compose([*TINY, *OPTIONS["decorrelation"], "noise.variance=0.09"]))
    device = prepare(settings)
    parts = build_parts(settings, settings.dataset.load(device), device)
    step = make_step(parts, learning_rate=lambda number: 1.0)
    batch = first_batch(parts.data.train, 8)
    views = [(inputs, extras["second_view"]) for inputs, _, extras in (step.prepare(batch, n) for n in (0, 0, 1))]
    assert torch.equal(views[0][0], views[1][0]) and torch.equal(views[0][1], views[1][1])
    assert not torch.equal(views[0][0], views[0][1]) and not torch.equal(views[0][1], views[2][1])
    clean = batch.inputs.float() / (255 if batch.inputs.dtype == torch.uint8 else 1)
    assert 0.2 < float((views[0][1] - clean).std()) < 0.4


# Runs.


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / "last.safetensors")


@options
@pytest.mark.parametrize("model", MODELS)
def test_runs_resume_bit_for_bit_and_evaluate_again(compose: Compose, tmp_path: Path, option: str, model: str) -> None:
    words = [*TINY, *MODELS[model], *OPTIONS[option]]
    config = compose(words)
    summary = run(parse(config), config, tmp_path / "whole")
    shorter = compose([*words, "trainer.epochs=1"])
    run(parse(shorter), shorter, tmp_path / "parts")
    longer = {**config, "resume": str(tmp_path / "parts")}
    again = run(parse(longer), longer, tmp_path / "parts")
    assert again["test"] == summary["test"]
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert reevaluate(tmp_path / "whole")["differs_from_summary"] == []
    loaded = aerun.load(tmp_path / "whole")
    images = torch.rand(3, 1, 12, 12)
    aerun.export(tmp_path / "whole", tmp_path / "out", ["torch", "safetensors"])
    module = torch.export.load(tmp_path / "out" / "encoder.pt2").module()
    torch.testing.assert_close(module(images), loaded.encode(images), rtol=1e-4, atol=1e-5)
    assert aerun.diagnose(tmp_path / "whole").verdicts is not None


@options
def test_greedy_stages_and_bfloat16(compose: Compose, tmp_path: Path, option: str) -> None:
    words = [*TINY, *MODELS["vectors"], *OPTIONS[option], "trainer=greedy", "trainer.stage_epochs=1"]
    config = compose([*words, "trainer.precision=bfloat16"])
    summary = run(parse(config), config, tmp_path / "run")
    assert all(math.isfinite(value) for value in summary["test"].values())


def test_a_run_ends_in_two_processes_as_in_one(compose: Compose, tmp_path: Path) -> None:
    every = "regularizer=[contractive,rae_l2,rae_gp,spectral,decorrelation]"
    uneven = "trainer.batch_size=23"  # rows: shares of 12 and 11
    same_in_two_processes(compose, [*TINY, *MODELS["vectors"], every, "noise=gaussian", uneven], tmp_path)


def test_what_does_not_fit_is_rejected_in_a_line(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"regularizer=decorrelation and noise=none: two corruptions"):
        parse(compose([*TINY, "regularizer=decorrelation"]), {"noise": "none"})
    words = [*TINY, "model=fc", "model.tied=true", "regularizer=spectral"]
    settings = parse(compose(words), {"model": "fc"})
    data = settings.dataset.load(torch.device("cpu"))
    with pytest.raises(
        ConfigError, match=r"regularizer=spectral and model=fc: the decoder has no .* weight of its own"
    ):
        build_autoencoder(settings, data)
