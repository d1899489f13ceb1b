"""Reconstruction errors against numpy, and what averaging over the batch does to the gradient: nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aerun.contracts import Moment
from aerun.loss import BCE, MAE, MSE, BCEThenMSE
from aerun.model import FullyConnected
from aerun.training.scheduled import with_values

losses = pytest.mark.parametrize("loss", [MSE, MAE, BCE])


def batch(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Predictions on the whole line, targets in [0,1]."""
    generator = torch.Generator().manual_seed(0)
    prediction = 3 * torch.randn(shape, generator=generator, dtype=dtype)
    return prediction, torch.rand(shape, generator=generator, dtype=dtype)


def per_value(loss: Any, prediction: Tensor, target: Tensor) -> np.ndarray:
    p, t = prediction.double().numpy(), target.double().numpy()
    if loss is MSE:
        return (p - t) ** 2
    if loss is MAE:
        return abs(p - t)
    # -t log s - (1-t) log(1-s) with s the sigmoid of p.
    return t * np.logaddexp(0, -p) + (1 - t) * np.logaddexp(0, p)


@losses
@pytest.mark.parametrize("shape", [(5, 3, 7, 6), (5, 20), (1, 1, 2, 2)])
def test_value_is_that_of_numpy(loss: Any, shape: tuple[int, ...]) -> None:
    prediction, target = batch(*shape)
    errors = per_value(loss, prediction, target)
    assert loss("mean")(prediction, target).item() == pytest.approx(errors.mean(), rel=1e-5)
    per_image = errors.reshape(shape[0], -1).sum(1)
    assert loss("sum")(prediction, target).item() == pytest.approx(per_image.mean(), rel=1e-5)


def test_bce_is_that_of_the_probabilities() -> None:
    prediction, target = batch(5, 20)
    p, t = 1 / (1 + np.exp(-prediction.double().numpy())), target.double().numpy()
    expected = (-t * np.log(p) - (1 - t) * np.log(1 - p)).mean()
    assert BCE("mean")(prediction, target).item() == pytest.approx(expected, rel=1e-5)


def test_bce_is_finite_and_exact_at_extreme_logits() -> None:
    prediction = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    value = BCE("sum")(prediction, torch.tensor([[1.0, 0.0, 0.0, 0.25]]))
    value.backward()
    assert value.item() == 12_500
    assert prediction.grad.tolist() == [[0.0, 0.0, 1.0, -0.25]]


def test_only_bce_takes_logits() -> None:
    assert [loss.takes_logits for loss in (MSE, MAE, BCE)] == [False, False, True]


@losses
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_scale_puts_a_quantity_per_image_beside_the_loss(loss: Any, reduction: str) -> None:
    prediction, target = batch(5, 3, 7, 6)
    per_image = loss("sum")(prediction, target)
    chosen = loss(reduction)
    torch.testing.assert_close(chosen(prediction, target), per_image * chosen.scale(126))


@losses
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("prediction", "target"),
    [((8, 1, 4, 4), (8, 4, 4)), ((8, 1, 4, 4), (8, 3, 4, 4)), ((8, 16), (1, 16)), ((8, 16), (8, 1)), ((8, 16), (16,))],
)
def test_shapes_never_broadcast(loss: Any, reduction: str, prediction: Any, target: Any) -> None:
    for first, second in ((prediction, target), (target, prediction)):
        with pytest.raises(ValueError) as caught:
            loss(reduction)(torch.zeros(first), torch.zeros(second))
        assert str(first) in str(caught.value) and str(second) in str(caught.value)


@losses
def test_half_precision_predictions_are_compared_in_float32(loss: Any) -> None:
    prediction, target = batch(5, 20)
    prediction = prediction.bfloat16()
    value = loss("mean")(prediction, target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(per_value(loss, prediction, target).mean(), rel=1e-5)


@losses
def test_float64_stays_float64(loss: Any) -> None:
    prediction, target = batch(5, 20, dtype=torch.float64)
    value = loss("mean")(prediction, target)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(per_value(loss, prediction, target).mean(), rel=1e-12)


class TestCrossEntropyThenSquaredError:
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_each_part_is_that_loss_with_its_gradient(self, reduction: Any) -> None:
        loss = BCEThenMSE(reduction, switch=0.6)
        share = torch.ones(())
        minimised = with_values(loss, {"entropy_share": share})
        prediction, target = batch(5, 20)
        prediction.requires_grad_()
        for value, expected in (
            (1.0, BCE(reduction)(prediction, target)),
            (0.0, MSE(reduction)(prediction.sigmoid(), target)),
        ):
            share.fill_(value)
            found = minimised(prediction, target)
            assert found.item() == pytest.approx(expected.item(), rel=1e-6)
            torch.testing.assert_close(*(torch.autograd.grad(each, prediction)[0] for each in (found, expected)))
            assert minimised.scale(20) == loss.scale(20) == BCE(reduction).scale(20)

    def test_several_predictions_of_an_image_have_the_error_of_each_part(self) -> None:
        loss, share = BCEThenMSE("sum", switch=0.6), torch.ones(())
        prediction, target = batch(4, 3, 1, 5, 2)[0], batch(4, 1, 5, 2)[1].unsqueeze(1)
        p, t = 1 / (1 + np.exp(-prediction.double().numpy())), target.double().numpy()
        entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum((2, 3, 4))
        squares = ((p - t) ** 2).sum((2, 3, 4))
        first, second = (with_values(loss, {"entropy_share": value}) for value in (share, share * 0))
        np.testing.assert_allclose(first.nats(prediction, target), entropy, rtol=1e-5)
        np.testing.assert_allclose(second.nats(prediction, target), squares, rtol=1e-5)
        np.testing.assert_allclose(loss.nats(prediction, target), squares, rtol=1e-5)

    def test_evaluation_is_the_squared_error_throughout(self) -> None:
        prediction, target = batch(5, 20)
        p = 1 / (1 + np.exp(-prediction.double().numpy()))
        expected = np.mean((p - target.double().numpy()) ** 2)
        assert BCEThenMSE("mean", 0.6)(prediction, target).item() == pytest.approx(expected, rel=1e-5)

    def test_cross_entropy_is_at_least_twice_the_squared_error(self) -> None:
        prediction, target = batch(200, 50)
        loss = BCEThenMSE("mean", 0.6)
        for row, wanted in zip(prediction.split(1), target.split(1), strict=True):
            assert BCE("mean")(row, wanted) >= 2 * loss(row, wanted)

    def test_the_switch_is_a_share_of_the_steps(self) -> None:
        share = BCEThenMSE("mean", switch=0.6).schedules()["entropy_share"]
        assert [share(Moment(number, 20, 5)) for number in range(20)] == [1.0] * 12 + [0.0] * 8


class TestBatchAverage:
    """Averaging the loss over the batch does not make an autoencoder return one image for all.

    The mean over the batch of per-image means is the mean over everything, value by value and gradient by
    gradient: an image's own error reaches the weights undiluted by the others', only scaled by 1/B.
    """

    IMAGES = 12

    @pytest.fixture
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        codec = FullyConnected(
            hidden=[],
            code_size=64,
            activation="leaky_relu",
            code_activation="leaky_relu",
            output_activation="identity",
            init="default",
            init_std=0.01,
            tied=False,
        ).build((1, 28, 28), (1, 28, 28), 1)
        return nn.Sequential(codec.encoder, nn.LeakyReLU(), codec.decoder).double()

    @pytest.fixture
    def images(self) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.rand(self.IMAGES, 1, 28, 28, generator=generator, dtype=torch.float64)

    @staticmethod
    def gradient(model: nn.Module, loss: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])

    @staticmethod
    def hand_written(loss: Any, prediction: Tensor, target: Tensor) -> Tensor:
        """The error of every value, from elementary functions."""
        if loss is MSE:
            return (prediction - target) ** 2
        if loss is MAE:
            return (prediction - target).abs()
        probability = 1 / (1 + (-prediction).exp())
        return -target * probability.log() - (1 - target) * (1 - probability).log()

    def assert_same(self, actual: Tensor, expected: Tensor) -> None:
        assert (actual - expected).norm() <= 1e-12 * expected.norm()

    @losses
    def test_gradient_is_that_of_one_mean_over_everything(self, loss: Any, model: nn.Module, images: Tensor) -> None:
        actual = self.gradient(model, loss("mean")(model(images), images))
        expected = self.gradient(model, self.hand_written(loss, model(images), images).mean())
        self.assert_same(actual, expected)

    @losses
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_gradient_is_that_of_a_loop_over_images(
        self, loss: Any, reduction: str, model: nn.Module, images: Tensor
    ) -> None:
        together = self.gradient(model, loss(reduction)(model(images), images))
        one_by_one = torch.zeros_like(together)
        for image in images.split(1):
            one_by_one += self.gradient(model, loss(reduction)(model(image), image)) / self.IMAGES
        self.assert_same(together, one_by_one)

    @losses
    def test_gradient_is_that_of_per_image_means_averaged(self, loss: Any, model: nn.Module, images: Tensor) -> None:
        together = self.gradient(model, loss("mean")(model(images), images))
        errors = self.hand_written(loss, model(images), images)
        per_image = torch.stack([error.mean() for error in errors])
        self.assert_same(together, self.gradient(model, per_image.mean()))

    @losses
    def test_sum_has_the_gradient_of_mean_times_the_pixels(self, loss: Any, model: nn.Module, images: Tensor) -> None:
        mean = self.gradient(model, loss("mean")(model(images), images))
        total = self.gradient(model, loss("sum")(model(images), images))
        self.assert_same(total, mean * 784)

    @losses
    def test_the_error_of_one_image_does_not_reach_the_reconstruction_of_another(
        self, loss: Any, images: Tensor
    ) -> None:
        prediction = torch.full_like(images, 0.3).requires_grad_()
        changed = images.clone()
        changed[0] = 1 - changed[0]
        [before] = torch.autograd.grad(loss("mean")(prediction, images), prediction)
        [after] = torch.autograd.grad(loss("mean")(prediction, changed), prediction)
        assert not before[0].equal(after[0]) and before[1:].equal(after[1:])
