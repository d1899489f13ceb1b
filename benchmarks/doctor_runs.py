"""The runs that the doctor is measured on: each sick one in one way, and healthy ones of many kinds."""

from __future__ import annotations

from typing import NamedTuple

from aerun.doctor import verdict as names

COMMON = ["trainer.device=cpu", "trainer.pictures=1", "trainer.epochs=12", "dataset.validation=1000"]
# The net of the experiments that the first thresholds came from: 784-128-32-128-784, ReLU, sigmoid output.
NET = [
    "model=fc",
    "model.hidden=[128]",
    "model.code_size=32",
    "model.activation=relu",
    "model.output_activation=sigmoid",
]
SIGMOIDS = ["model=fc", "model.hidden=[256,128,64]", "model.code_size=32", "model.activation=sigmoid"]
# Of convolutions, which take their time: fewer images, in smaller batches.
FEW = ["dataset.train_limit=1500", "trainer.batch_size=32", "trainer.epochs=8", "optimizer.lr=0.003"]
OWN = ["trusted_packages=[benchmarks]"]
PARTS = "benchmarks.doctor_sick"


class Case(NamedTuple):
    """A run, and the verdict that it must get (None: it is healthy)."""

    name: str
    verdict: str | None
    overrides: list[str]


def _own(group: str, name: str) -> list[str]:
    return [f"{group}._target_={PARTS}.{name}", *OWN]


SICK = [
    Case("lr_adam_0.05", names.TOO_HIGH, [*NET, "optimizer.lr=0.05"]),
    Case("lr_adam_0.3", names.TOO_HIGH, [*NET, "optimizer.lr=0.3"]),
    Case("lr_sgd_100", names.TOO_HIGH, [*NET, "optimizer=sgd", "optimizer.lr=100"]),
    Case("lr_sgd_sum", names.TOO_HIGH, [*NET, "optimizer=sgd", "optimizer.momentum=0", "loss.reduction=sum"]),
    Case("lr_conv_0.1", names.TOO_HIGH, ["model=conv", "dataset.train_limit=1000", "optimizer.lr=0.1"]),
    Case("lr_swings", names.TOO_HIGH, ["model=fc", "model.hidden=[256]", "optimizer.lr=0.02"]),
    Case("diverged", names.DIVERGED, ["model=fc", "optimizer=sgd", "optimizer.lr=1", "loss.reduction=sum"]),
    Case("lr_low_sgd", names.TOO_LOW, [*NET, "optimizer=sgd", "optimizer.momentum=0"]),
    Case("lr_low_adam", names.TOO_LOW, [*NET, "optimizer.lr=1e-05"]),
    Case("signal_lost", names.CONSTANT, [*SIGMOIDS, "model.output_activation=sigmoid", "optimizer=sgd"]),
    Case(
        "saturated_hidden",
        names.SATURATED,
        [*SIGMOIDS, "model.init=normal", "model.init_std=20", "model.output_activation=sigmoid"],
    ),
    Case("dead_code", names.DEAD, [*NET, *_own("model", "Dead"), "model.code_activation=relu"]),
    Case("outputs_bright", names.SATURATED_OUTPUT, [*NET, *_own("model", "Bright")]),
    Case("codes_ignored", names.IGNORED, ["model=fc", *_own("model", "Deaf")]),
    Case("l1_1", names.SPARSITY, [*NET, "sparsity=l1", "sparsity.weight=1"]),
    Case("kl_10", names.SPARSITY, [*NET, "sparsity=kl", "sparsity.weight=10"]),
    Case("topk_1", names.SPARSITY, ["model=fc", "sparsity=topk", "sparsity.k=1"]),
    Case("beta_784_mse", names.POSTERIOR, ["model=fc_vae", "latent.beta=784"]),
    Case("beta_100_bce", names.POSTERIOR, ["model=fc_vae", "loss=bce", "latent.beta=100"]),
    Case("beta_20_bce", names.PARTIAL, ["model=fc_vae", "loss=bce", "latent.beta=20"]),
    Case("standardised_sigmoid", names.RANGE, [*NET, *_own("dataset", "Standardised")]),
    Case("double_sigmoid", names.LOGITS, ["model=fc", "loss=bce", *_own("model", "SigmoidAtTheEnd")]),
    Case("targets_averaged", names.AVERAGED, [*NET, *_own("dataset", "Averaged")]),
    Case("targets_shuffled", names.SHUFFLED, [*NET, *_own("dataset", "Shuffled")]),
    Case("broadcast", names.BROADCAST, [*NET, *_own("loss", "Broadcasting")]),
    Case("decay_50", names.DECAY, ["model=fc", "optimizer=adamw", "optimizer.weight_decay=50"]),
    Case("decoder_held", names.FROZEN, ["model=fc", "model.hidden=[128]", "freeze=[decoder]"]),
    Case("code_1", names.NARROW, ["model=fc", "model.code_size=1", "optimizer.lr=0.003"]),
    Case("code_1000", names.WIDE, ["model=fc", "model.code_size=1000"]),
    Case("hidden_3", names.LINEAR, ["model=fc", "model.hidden=[3]", "model.code_size=64", "optimizer.lr=0.003"]),
    Case("class_copied", names.COPIED, [*NET, "model.condition=label"]),
    Case("epochs_1", names.FEW_EPOCHS, [*NET, "trainer.epochs=1"]),
    Case("epochs_2", names.FEW_EPOCHS, [*NET, "trainer.epochs=2"]),
    Case(
        "over_fitting",
        names.OVER_FITTING,
        ["model=fc", "model.hidden=[256]", "dataset.train_limit=300", "trainer.epochs=400", "optimizer.lr=0.003"],
    ),
]
# The first of each pair is of the half that thresholds were chosen on, the second of the half that they were not.
HEALTHY = [
    Case("fc", None, ["model=fc"]),
    Case("net", None, NET),
    Case("net_sgd_1", None, [*NET, "optimizer=sgd", "optimizer.lr=1"]),
    Case("deep_2", None, ["model=fc_deep", "trainer.epochs=20"]),
    Case("conv", None, ["model=conv", *FEW]),
    Case("conv_fc", None, ["model=conv_fc", *FEW]),
    Case("fc_vae_bce", None, ["model=fc_vae", "loss=bce"]),
    Case("fc_vae_mse_beta_1", None, ["model=fc_vae"]),
    Case("fc_vae_condition", None, ["model=fc_vae", "loss=bce", "model.condition=label"]),
    Case("iwae", None, ["model=fc_vae", "latent=importance_weighted", "loss=bce"]),
    Case("vq", None, ["model=fc", "latent=vq"]),
    Case("topk_16", None, ["model=fc", "sparsity=topk", "model.code_size=256"]),
    Case("topk_8", None, ["model=fc", "sparsity=topk", "sparsity.k=8", "model.hidden=[256]", "optimizer.lr=0.003"]),
    Case("lifetime", None, ["model=fc", "sparsity=lifetime", "model.code_size=256", "model.activation=relu"]),
    Case("l1", None, [*NET, "sparsity=l1"]),
    Case(
        "kl", None, ["model=fc", "sparsity=kl", "sparsity.weight=0.0001", "model.code_size=128", "optimizer.lr=0.003"]
    ),
    Case("topk_lifetime", None, ["model=fc", "sparsity=topk_lifetime", "model.code_size=256", "model.activation=relu"]),
    Case("masking", None, ["model=fc", "noise=masking", "model.hidden=[256]"]),
    Case("gaussian", None, ["model=fc", "noise=gaussian", "model.hidden=[256]", "loss=bce"]),
    Case("mae", None, ["model=fc", "loss=mae", "model.hidden=[256]", "scheduler=cosine"]),
    Case("tied", None, ["model=fc", "model.tied=true", "model.code_size=128", "optimizer=nadam"]),
    Case(
        "standardised", None, ["model=fc", "dataset.normalize=standardise", "model.hidden=[256]", "optimizer=rmsprop"]
    ),
]
