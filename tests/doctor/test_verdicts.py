"""Every verdict on a model, or on the logs of a run, that is sick in that one way, and none on the healthy one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aerun
from aerun.doctor import verdict as called
from aerun.doctor.examination import Codebook, Curve, Examination, Fit, Frozen, Latent, Layer, Options, Samples
from aerun.doctor.judge import judge
from aerun.loss import BCE, MSE
from tests.doctor.models import pca_autoencoder, pictures, vae

IMAGES = pictures(300)
GOOD = Fit(explained=0.8, spread=0.8, own=1.0, exchanged=0.8, code_variation=0.9, gap=1.05, noise_explained=0.1)
COURSE = Curve(epochs=20, slope=0.01, jump=0.001, ups=0.1, rise=0.01, update=0.02)
HEALTHY = Examination(
    fit=GOOD,
    curve=COURSE,
    pca_explained=0.75,
    code_values=16,
    input_values=64,
    layers=(Layer("code", 16, 0, 0, 0, 0.5),),
)


def names(model: nn.Module, images: Tensor = IMAGES, targets: Tensor | None = None, loss: Any = None) -> list[str]:
    return [verdict.name for verdict in aerun.diagnose_model(model, images, targets, loss=loss).verdicts]


def found(**changed: Any) -> list[str]:
    return [verdict.name for verdict in judge(dataclasses.replace(HEALTHY, **changed))]


def test_pca_and_a_good_run_are_healthy() -> None:
    assert names(pca_autoencoder(), loss=MSE("mean")) == []
    assert names(vae(), loss=MSE("mean")) == []
    assert found() == []


def test_few_entries_of_a_codebook_in_use() -> None:
    assert found(codebook=Codebook(0.9, 200.0)) == []
    assert found(codebook=Codebook(0.01, 2.0)) == [called.CODEBOOK]
    assert found(codebook=Codebook(0.01, 2.0), final=False) == []
    values = {"latent.restart": 0.0, "latent.restart_every": 20, "latent.entries": 256}
    for now, remedy in (
        ({}, "latent.restart=0.1 latent.restart_every=20"),
        ({"latent.restart": 0.2}, "latent.distance"),
    ):
        [verdict] = judge(
            dataclasses.replace(HEALTHY, codebook=Codebook(0.01, 2.0), options=Options({**values, **now}))
        )
        assert verdict.remedy.startswith(remedy) and verdict.or_else == "latent.entries=5"


def test_samples_near_their_floor_are_unlike_data() -> None:
    near, far, farther = (called_samples(distance) for distance in (2.0, 9.5, 30.0))
    assert found(samples=near) == [] and found(samples=None) == []
    assert found(samples=far) == found(samples=farther) == [called.UNLIKE]
    assert found(samples=dataclasses.replace(far, floor=0.5)) == []  # a floor that is better than the ceiling
    [verdict] = judge(dataclasses.replace(HEALTHY, samples=far))
    assert verdict.remedy == "regularizer=rae_l2" and "9.5 from the test images" in verdict.evidence
    collapsed = Latent((0.0,) * 20, (0.0,) * 20, 1.0)
    [verdict] = judge(dataclasses.replace(HEALTHY, samples=far, latent=collapsed))
    assert verdict.name == called.POSTERIOR and verdict.consequences == (called.UNLIKE,)


def test_a_class_in_the_code_of_a_conditional_model() -> None:
    used, copied = (dataclasses.replace(GOOD, relabeled=moved) for moved in (0.06, 0.02))
    assert found(fit=used) == [] and found(fit=copied) == [called.COPIED] and found(fit=copied, final=False) == []
    [verdict] = judge(dataclasses.replace(HEALTHY, fit=copied))
    assert verdict.remedy == "model.code_size=2" and "move 0.02 of the way" in verdict.evidence
    gaussian = Options({"latent.beta": 0.01})
    [verdict] = judge(dataclasses.replace(HEALTHY, fit=copied, options=gaussian, latent=Latent((1.0,), (1.0,), 0.01)))
    assert verdict.remedy == "latent.beta=0.1" and verdict.or_else == ""


def called_samples(distance: float) -> Samples:
    return Samples(distance, None, ceiling=1.0, floor=10.0)


def test_a_decoder_that_takes_no_notice_of_codes() -> None:
    model = pca_autoencoder()
    model.decoder[0].weight.data.zero_()  # type: ignore[index]
    [verdict] = aerun.diagnose_model(model, IMAGES).verdicts
    assert verdict.name == called.IGNORED and called.SAME in verdict.consequences


def test_no_updates_at_all_are_no_matter_of_the_learning_rate() -> None:
    deaf = dataclasses.replace(GOOD, explained=0.0, spread=0.0, exchanged=0.0, own=0.5)
    still = dataclasses.replace(COURSE, update=0.0)
    assert found(fit=deaf, curve=still) == [called.IGNORED]
    assert found(fit=deaf, curve=dataclasses.replace(still, update=1e-4)) == [called.TOO_LOW]


def test_an_error_far_above_the_mean_images_is_reported_as_a_ratio() -> None:
    wild = dataclasses.replace(GOOD, explained=-8.6e7, spread=1e7)
    course = dataclasses.replace(COURSE, update=6.5)
    [verdict] = judge(dataclasses.replace(HEALTHY, fit=wild, curve=course))
    assert verdict.name == called.TOO_HIGH and "8.6e+07 times that of the mean image" in verdict.evidence


def test_dead_code_units_and_not_hidden_ones_as_many_as_are_usual() -> None:
    model = pca_autoencoder(code_activation="relu")
    model.encoder[1].bias.data.fill_(-100.0)  # type: ignore[index]
    assert names(model) == [called.DEAD]
    half = Layer("encoder.1", 128, 0.6, 0.6, 0.0, 0.5)
    assert found(layers=(half,)) == []
    gone = dataclasses.replace(half, still=0.95, dead=0.95)
    assert found(layers=(gone,)) == []  # what is left does the work
    bad, course = dataclasses.replace(GOOD, explained=0.3), dataclasses.replace(COURSE, died={"encoder.1": 3})
    [verdict] = judge(dataclasses.replace(HEALTHY, layers=(gone,), curve=course, fit=bad))
    assert verdict.name == called.DEAD and "95% of 128 (first seen in epoch 3)" in verdict.evidence


def test_steps_beyond_the_weights_that_left_dead_layers_in_a_net_that_works() -> None:
    gone = (Layer("code", 64, 0.97, 0.97, 0.0, 0.5),)
    wild = dataclasses.replace(COURSE, update=1.9)
    [verdict] = judge(dataclasses.replace(HEALTHY, layers=gone, curve=wild))
    assert (verdict.name, verdict.severity) == (
        called.TOO_HIGH,
        "weak",
    ) and "97% of the units of code" in verdict.evidence
    assert found(layers=gone) == [] and found(curve=wild) == []
    behind = dataclasses.replace(GOOD, explained=0.5)
    large = dataclasses.replace(COURSE, update=0.5)
    assert found(fit=behind, curve=large) == [called.TOO_HIGH] and found(fit=behind) == []


@pytest.mark.parametrize(
    ("optimizer", "decay", "is_frozen"), [("AdamW", 50.0, False), ("Adam", 0.1, False), ("Adam", 0, True)]
)
def test_weights_that_are_shrunk_or_frozen(optimizer: str, decay: float, is_frozen: bool) -> None:
    options = Options({"optimizer.weight_decay": decay, "optimizer.lr": 1e-3}, coupled_decay=optimizer == "Adam")
    changed = {"options": options, "frozen": Frozen(("decoder.0",), 0.5) if is_frozen else None}
    poor = dataclasses.replace(GOOD, explained=0.24)
    [verdict] = judge(dataclasses.replace(HEALTHY, fit=poor, **changed))
    assert (verdict.name, verdict.severity) == (called.FROZEN if is_frozen else called.DECAY, "weak")
    assert found(**changed) == []  # of a net that works
    usual = Options({"optimizer.weight_decay": 0.01, "optimizer.lr": 1e-3})
    assert called.DECAY not in found(fit=poor, options=usual)


def test_few_of_many_code_values_where_pca_has_all() -> None:
    few, poor = Options({"sparsity.k": 1}, max_nonzeros=1), dataclasses.replace(GOOD, explained=0.23)
    [verdict] = judge(dataclasses.replace(HEALTHY, fit=poor, options=few, pca_explained=1.0, code_values=64))
    assert (verdict.name, verdict.remedy) == (called.SPARSITY, "sparsity.k=6")


def test_a_run_that_has_barely_begun_is_called_nothing_else() -> None:
    flat = dataclasses.replace(GOOD, explained=0.02, spread=0.001, exchanged=0.001, own=0.6)
    course = dataclasses.replace(COURSE, epochs=2, slope=0.05, fallen=0.25)
    [verdict] = judge(dataclasses.replace(HEALTHY, fit=flat, curve=course))
    assert (verdict.name, verdict.remedy) == (called.FEW_EPOCHS, "trainer.epochs=8")
    assert called.IGNORED in verdict.consequences
    assert found(fit=flat, curve=dataclasses.replace(course, fallen=0.01)) == [called.IGNORED]
    assert found(fit=flat, curve=dataclasses.replace(course, epochs=12)) == [called.IGNORED]


def test_a_validation_loss_that_rises_alone_is_no_over_fitting() -> None:
    assert found(curve=dataclasses.replace(COURSE, rise=0.13), fit=dataclasses.replace(GOOD, gap=1.04)) == []
    assert found(curve=dataclasses.replace(COURSE, rise=0.0), fit=dataclasses.replace(GOOD, gap=2.4)) == []


def test_reconstructions_that_are_their_own_but_far_too_strong() -> None:
    model = pca_autoencoder()
    before = aerun.diagnose_model(model, IMAGES).examination.fit
    model.decoder[0].weight.data *= 2.5  # type: ignore[index]
    diagnosis = aerun.diagnose_model(model, IMAGES)
    assert [verdict.name for verdict in diagnosis.verdicts] == [called.OFF_SCALE]
    assert before and diagnosis.examination.fit
    assert diagnosis.examination.fit.spread == pytest.approx(2.5**2 * before.spread, rel=1e-4)
    strong = dataclasses.replace(GOOD, explained=-1.0, spread=4.0)
    [verdict] = judge(dataclasses.replace(HEALTHY, fit=strong, options=Options({}, denser_in_evaluation=True)))
    assert verdict.remedy.startswith("sparsity=topk")
    assert found(fit=dataclasses.replace(strong, own=0.6)) == [called.NOTHING]


def test_a_signal_that_is_lost_on_the_way() -> None:
    model = pca_autoencoder(hidden=[16, 16, 16], activation=nn.Sigmoid)
    for layer in model.encoder:  # type: ignore[attr-defined]
        if isinstance(layer, nn.Linear):
            layer.weight.data *= 0.02
    [verdict] = aerun.diagnose_model(model, IMAGES).verdicts
    assert verdict.name == called.CONSTANT


def test_hidden_units_at_their_bounds() -> None:
    model = pca_autoencoder(hidden=[16], activation=nn.Sigmoid)
    model.encoder[1].weight.data *= 1e4  # type: ignore[index]
    assert names(model)[0] == called.SATURATED


def test_outputs_at_their_bounds() -> None:
    model = pca_autoencoder(output_activation="sigmoid")
    model.decoder[0].weight.data *= 1e4  # type: ignore[index]
    assert names(model)[0] == called.SATURATED_OUTPUT


def test_targets_beyond_a_sigmoid() -> None:
    model = pca_autoencoder(output_activation="sigmoid")
    assert names(model, (IMAGES - 0.5) * 4)[0] == called.RANGE
    assert called.RANGE not in names(model)


def test_a_sigmoid_before_a_loss_that_takes_logits() -> None:
    model = pca_autoencoder(output_activation="sigmoid")
    model.decoder = nn.Sequential(model.decoder, nn.Sigmoid())
    model.decoder[0][0].weight.data *= 9  # type: ignore[index]
    assert names(model, loss=BCE("mean"))[0] == called.LOGITS
    assert called.LOGITS not in names(model, loss=MSE("mean"))


def test_targets_that_are_averaged_or_shuffled_or_of_another_kind() -> None:
    model = pca_autoencoder()
    mean = IMAGES.mean(0, keepdim=True)
    assert names(model, targets=mean.repeat(300, 1, 1, 1)) == [called.AVERAGED]
    assert (
        names(model, targets=IMAGES[torch.randperm(300, generator=torch.Generator().manual_seed(0))])[0]
        == called.SHUFFLED
    )
    assert called.SHUFFLED not in names(model, targets=IMAGES.flip(3))


def test_a_loss_that_compares_every_output_with_every_target() -> None:
    def broadcasting(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.flatten(1)[:, None] - targets.flatten(1)).square().mean()

    assert names(pca_autoencoder(), loss=broadcasting) == [called.BROADCAST]


def test_outputs_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outputs are \[256, 64\], targets \[256, 1, 8, 8\]"):
        aerun.diagnose_model(nn.Flatten(), IMAGES)


def test_arrays_and_modules_in_training_mode_are_taken_as_they_are() -> None:
    model = pca_autoencoder()
    net = nn.Sequential(model.encoder, nn.Dropout(0.9), model.decoder)
    net.train()
    assert aerun.diagnose_model(net, IMAGES.numpy()).healthy
    assert net.training
    with pytest.raises(ValueError, match="do not match the number of targets"):
        aerun.diagnose_model(net, IMAGES[:20], IMAGES[:10])


def test_a_latent_that_nothing_is_put_into() -> None:
    model = vae(beta=784.0)
    model.encoder[1].weight.data.zero_()  # type: ignore[index]
    model.encoder[1].bias.data.zero_()  # type: ignore[index]
    [verdict] = aerun.diagnose_model(model, IMAGES, loss=MSE("mean")).verdicts
    assert verdict.name == called.POSTERIOR and verdict.remedy == "latent.beta=1"
    assert "beta 784" in verdict.evidence and "unused: 0-5" in verdict.evidence


def test_a_latent_that_collapses_although_the_weight_is_one() -> None:
    model = vae(beta=1.0)
    model.encoder[1].weight.data.zero_()  # type: ignore[index]
    model.encoder[1].bias.data.zero_()  # type: ignore[index]
    [verdict] = aerun.diagnose_model(model, IMAGES, loss=MSE("mean")).verdicts
    assert verdict.name == called.POSTERIOR and verdict.remedy == "latent.free_bits=0.5"


def test_a_weight_of_the_kl_term_per_pixel_is_reported_per_image() -> None:
    """A latent of one's own whose KL is not divided by the pixels, with a mean error: the usual mistake."""
    from aerun.latent import Gaussian

    class Raw(Gaussian):
        def __call__(self, features: Tensor, draw: Tensor | None) -> Any:
            code, [penalty] = super().__call__(features, draw)
            return code, [penalty._replace(per_image=False)]

    model = vae(beta=1.0)
    model.latent = Raw(1.0)
    latent = aerun.diagnose_model(model, IMAGES, loss=MSE("mean")).examination.latent
    assert latent is not None and latent.beta == pytest.approx(64)


def test_a_code_as_wide_as_the_image_copies() -> None:
    model = pca_autoencoder(code_size=64)
    assert names(model) == [called.WIDE]


def test_a_code_too_narrow() -> None:
    model = pca_autoencoder(code_size=1)
    fit = aerun.diagnose_model(model, IMAGES).examination.fit
    assert fit is not None and fit.explained < 0.4
    assert found(fit=fit, pca_explained=fit.explained, code_values=1) == [called.NARROW]


@pytest.mark.parametrize(
    ("curve", "options", "fit", "name", "remedy"),
    [
        (
            {"update": 0.9},
            {"optimizer.lr": 0.05},
            {"spread": 0.0, "explained": 0.0},
            called.TOO_HIGH,
            "optimizer.lr=0.005",
        ),
        ({"ups": 0.5, "jump": 0.1}, {"optimizer.lr": 0.05}, {}, called.TOO_HIGH, "optimizer.lr=0.015"),
        (
            {"update": 1e-5, "slope": 0.1},
            {"optimizer.lr": 1e-6},
            {"explained": 0.0},
            called.TOO_LOW,
            "optimizer.lr=0.0001",
        ),
        ({"slope": 0.2, "epochs": 3}, {}, {}, called.FEW_EPOCHS, "trainer.epochs=12"),
        ({"slope": 0.3}, {}, {"explained": 0.3}, called.FEW_EPOCHS, "trainer.epochs=80"),
        ({"rise": 0.3}, {}, {"gap": 1.3}, called.OVER_FITTING, "trainer.patience=5"),
        ({"rise": 0.02}, {}, {"gap": 2.4}, called.OVER_FITTING, "trainer.patience=5"),
        (
            {"first_penalty": 3.0, "last_penalty": 0.0},
            {"sparsity.weight": 1.0},
            {"explained": 0.0, "spread": 0.0},
            called.SPARSITY,
            "sparsity.weight=0.017",
        ),
        ({}, {"sparsity.k": 1}, {"explained": 0.3}, called.SPARSITY, "sparsity.k=6"),
    ],
)
def test_what_logs_and_options_tell(
    curve: dict[str, Any], options: dict[str, Any], fit: dict[str, Any], name: str, remedy: str
) -> None:
    verdicts = judge(
        dataclasses.replace(
            HEALTHY,
            curve=dataclasses.replace(COURSE, **curve),
            fit=dataclasses.replace(GOOD, **fit),
            options=Options(options, max_nonzeros=options.get("sparsity.k")),
            code_values=64,
            input_values=784,
        )
    )
    assert (verdicts[0].name, verdicts[0].remedy) == (name, remedy)


def test_without_a_fit_a_penalty_that_was_only_large_at_first_is_no_fault() -> None:
    options = Options({"sparsity.weight": 1.0})

    def without_fit(last: float) -> list[str]:
        curve = dataclasses.replace(COURSE, first_penalty=1.3, last_penalty=last)
        return [str(verdict) for verdict in judge(Examination(curve=curve, options=options, final=False))]

    assert without_fit(0.1) == []
    [line] = without_fit(1.0)
    assert called.SPARSITY in line and "1 times in the last; try sparsity.weight=0.05" in line


def test_a_cause_is_reported_with_its_consequences_in_one_line() -> None:
    dead = tuple(Layer(name, 32, 1.0, 1.0, 0.0, 0.0) for name in ("encoder.1", "code"))
    [verdict] = judge(
        dataclasses.replace(
            HEALTHY,
            layers=dead,
            fit=dataclasses.replace(GOOD, explained=0.0, spread=0.0),
            curve=dataclasses.replace(COURSE, update=1.2),
            options=Options({"optimizer.lr": 0.05}),
        )
    )
    assert verdict.name == called.TOO_HIGH
    assert verdict.consequences[:2] == (called.DEAD, called.SAME)
    assert str(verdict).endswith("try optimizer.lr=0.005")


def test_nothing_is_said_of_what_was_not_examined() -> None:
    assert judge(Examination()) == []
