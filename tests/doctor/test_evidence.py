"""What is measured of models, images and logs, against sums by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from aerun.contracts import TrainingData
from aerun.doctor.image_evidence import (
    explained_by_neighbors,
    measure_latent,
    measure_loss_rise,
    output_limits,
    share_nearest_to_own_target,
    variance_of,
)
from aerun.doctor.layer_units import measure_layers, unit_statistics
from aerun.doctor.loss_curve import measure_curve, relative_slope
from aerun.latent import VampPrior
from aerun.loss import BCE, MAE, MSE
from tests.doctor.models import pca_autoencoder, pictures, vae


def test_units_are_still_dead_and_saturated_as_counted_by_hand() -> None:
    values = torch.tensor([[0.0, 1.0, 0.3, 0.995], [0.0, 1.0, 0.9, 0.002], [0.0, 1.0, 0.1, 0.5]])
    units, still, dead, saturated, variation = unit_statistics(values, (0.0, 1.0)).tolist()
    assert (units, still, dead) == (4, 0.5, 0.25)
    assert saturated == pytest.approx(8 / 12)
    columns = [[row[i] for row in values.tolist()] for i in range(4)]
    means = [sum(column) / 3 for column in columns]
    variance = sum((x - mean) ** 2 for column, mean in zip(columns, means, strict=True) for x in column)
    assert variation == pytest.approx(variance / float(values.square().sum()))


def test_a_channel_is_a_unit_wherever_it_looks() -> None:
    values = torch.zeros(5, 3, 2, 2)
    values[4, 1, 0, 1] = 1.0
    assert unit_statistics(values)[:3].tolist() == [3, pytest.approx(2 / 3), pytest.approx(2 / 3)]


def test_layers_have_the_names_that_freeze_knows_and_come_in_order() -> None:
    model = pca_autoencoder(code_size=3, hidden=[5])
    assert [layer.name for layer in measure_layers(model, pictures(8))] == ["encoder.1", "code", "decoder.0"]
    assert set(dict(model.named_modules())) > {"encoder.1", "decoder.0"}


def test_the_slope_is_that_of_an_exponential() -> None:
    assert relative_slope([math.exp(-0.1 * epoch) for epoch in range(30)]) == pytest.approx(0.1)
    assert relative_slope([0.5]) is None


def test_an_error_that_falls_on_validation_images_alone_is_no_slope() -> None:
    both = [math.exp(-0.3 * i) for i in range(6)]
    lines = [
        {"epoch": i, "train/loss": 1.0, "train/reconstruction": e, "validation/mse": e} for i, e in enumerate(both)
    ]
    assert measure_curve(lines).slope == pytest.approx(0.3)
    assert measure_curve([line | {"train/reconstruction": 0.5} for line in lines]).slope == 0


def test_the_curve_counts_rises_and_penalties() -> None:
    lines = [
        {
            "epoch": i,
            "step": i,
            "train/loss": loss,
            "train/reconstruction": 0.5,
            "train/l1": 2.0,
            "validation/loss": loss,
        }
        for i, loss in enumerate([9.0, 9.0, 1.0, 2.0, 1.0, 3.0], 1)
    ]
    curve = measure_curve(lines, ("l1", 0.25))
    assert curve.ups == 0.5  # 2 -> 1 -> 3
    assert curve.jump == pytest.approx(2 / 2 / 2)
    assert curve.rise == pytest.approx(2)
    assert curve.first_penalty == pytest.approx(0.25 * 2 / 0.5)


def test_a_training_loss_that_jumps_far_below_the_validation_loss_hardly_counts() -> None:
    losses = [1.0, 0.02, 0.01, 0.02, 0.01, 0.03, 0.01, 0.02]
    lines = [{"epoch": i, "train/loss": loss} for i, loss in enumerate(losses, 1)]
    alone, validated = measure_curve(lines), measure_curve([line | {"validation/loss": 1.0} for line in lines])
    assert alone.jump == pytest.approx((0.02 + 0.01) / 3 / 0.0175)
    assert validated.jump == pytest.approx((0.02 + 0.01) / 3)


def test_of_a_run_in_stages_the_last_counts() -> None:
    lines = [{"epoch": 1, "step": 1, "stage": 1, "stage1/train/loss": 5.0}]
    lines += [{"epoch": 2, "step": 2, "stage": 2, "stage2/train/loss": 3.0}]
    assert measure_curve(lines).epochs == 1
    assert measure_curve([*lines, {"epoch": 3, "step": 3, "stage": 3, "train/loss": 1.0}]).epochs == 1


def test_neighbors_predict_what_a_loop_says() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(20, 3), torch.randn(20, 2)
    error = 0.0
    for i in range(20):
        order = sorted((j for j in range(20) if j != i), key=lambda j: float((inputs[i] - inputs[j]).square().sum()))
        mean = targets[order[:5]].double().mean(0)
        error += float((mean - targets[i]).square().sum())
    total = float((targets - targets.mean(0)).square().sum())
    assert explained_by_neighbors(inputs, targets) == pytest.approx(1 - error / total, rel=1e-4)


def test_shuffled_targets_are_not_predicted_and_their_own_are() -> None:
    images = pictures(200)
    assert explained_by_neighbors(images, images.flip(3)) > 0.3
    assert explained_by_neighbors(images, images[torch.randperm(200)]) < 0


def test_only_a_loss_that_broadcasts_does_not_see_the_order() -> None:
    def broadcasting(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.flatten(1)[:, None] - target.flatten(1)[None]).square().mean()

    images = pictures(32)
    assert abs(measure_loss_rise(broadcasting, images) or 0) < 1e-5
    for loss in (MSE("mean"), MAE("sum"), BCE("mean")):
        assert (measure_loss_rise(loss, images) or 0) > 0.05


def test_an_answer_is_nearer_to_its_own_target_only_if_it_is_one() -> None:
    images = pictures(64)
    assert share_nearest_to_own_target(images, images) == 1
    assert share_nearest_to_own_target(images.mean(0, keepdim=True).expand(64, -1, -1, -1), images) == pytest.approx(
        0.5, abs=0.02
    )


@pytest.mark.parametrize(
    ("name", "ends"),
    [("identity", (-math.inf, math.inf)), ("sigmoid", (0, 1)), ("tanh", (-1, 1)), ("relu", (0, math.inf))],
)
def test_the_output_reaches_as_far_as_its_activation(name: str, ends: tuple[float, float]) -> None:
    assert output_limits(pca_autoencoder(output_activation=name)) == ends


def test_kl_of_each_dimension_is_the_closed_form() -> None:
    model = vae(code_size=3)
    images = pictures(50)
    latent = measure_latent(model, images, images, MSE("mean"))
    assert latent is not None
    mean, log_variance = model.encoder(images).double().detach().chunk(2, 1)
    want = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(0)
    assert latent.kl == pytest.approx(want.tolist(), rel=1e-4)
    assert latent.mean_variance == pytest.approx(mean.var(0).tolist(), rel=1e-4)
    assert latent.beta == 4


def test_kl_of_each_dimension_is_that_to_a_learned_prior() -> None:
    model = vae(code_size=3)
    images = pictures(50)
    torch.manual_seed(0)
    prior = VampPrior(components=1, beta=1.0).for_data(TrainingData((1, 8, 8), 50)).build((3,))
    prior.prior_mean.copy_(torch.tensor([2.0, 0.0, -1.0]))
    prior.prior_log_variance.copy_(torch.tensor([0.0, 1.0, -1.0]))
    model.latent = prior
    latent = measure_latent(model, images, images, MSE("mean"))
    assert latent is not None
    mean, log_variance = model.encoder(images).double().detach().chunk(2, 1)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    want = kl_divergence(
        posterior, Normal(prior.prior_mean[0].double(), (0.5 * prior.prior_log_variance[0]).double().exp())
    )
    assert latent.kl == pytest.approx(want.mean(0).tolist(), rel=0.05)


def test_any_module_can_be_looked_at() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 64))
    assert [layer.name for layer in measure_layers(net, pictures(8))] == ["1"]
    assert float(variance_of(pictures(8))) > 0
