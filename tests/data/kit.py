"""The kit of small run folders: which runs it has. ``make_runs.py`` writes it, ``measure_runs.py`` measures it.

Every run names an option of each group, so that a changed default changes none of them. The images are 12x12, the
codes a few numbers, and a run takes a second.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS, OWN, EXPECTED = HERE / "runs", HERE / "own", HERE / "expected.json"
PLACE = "KIT"  # stands for the kit's folder in config.yaml and overrides.yaml; a copy of the kit has its own path there
IMAGES, PICTURES = "images.npz", "pictures"

GROUPS = {
    "dataset": "array",
    "noise": "none",
    "latent": "deterministic",
    "sparsity": "none",
    "model": "fc",
    "loss": "mse",
    "optimizer": "adam",
    "scheduler": "none",
    "trainer": "joint",
    "protocol": "none",
}
SHARED = {
    "trainer.batch_size": "16",
    "trainer.device": "cpu",
    "trainer.threads": "1",
    "trainer.pictures": "0",
    "trainer.log_every_steps": "3",
    "optimizer.lr": "0.01",
}
SMALL = "model.hidden=[16] model.code_size=6 "
DEEP = "model=fc_deep model.hidden=[24,12] model.code_size=4 "
FOLDER = f"dataset=image_folder dataset.root={PLACE}/{PICTURES} dataset.size=20 dataset.validation=3 dataset.test=0.2 "


@dataclass(frozen=True)
class Run:
    """One run: its overrides in one text, and how it ends."""

    text: str
    epochs: int | None = 2  # null: it counts steps
    stop_after: int | None = None  # SIGTERM after so many updates
    ends: str = "finished"  # or stopped, diverged
    trusted: str | None = None  # a package of the user's own
    without: tuple[str, ...] = ()  # keys to leave out of config.yaml, as if it had been written before they came

    def overrides(self) -> list[str]:
        """What is typed for it, with PLACE where the kit's folder goes."""
        words = dict(word.split("=", 1) for word in self.text.split())
        values = {**GROUPS, **SHARED, "seed": "3"}
        if self.epochs is not None:
            values["trainer.epochs"] = str(self.epochs)
        if words.get("dataset", "array") == "array":
            values["dataset.root"] = f"{PLACE}/{IMAGES}"
        if self.trusted is not None:
            values["trusted_packages"] = f"[{self.trusted}]"
        return [f"{key}={value}" for key, value in (values | words).items()]


KIT = {
    "fc": Run("model=fc model.hidden=[16] model.code_size=6", epochs=16),
    "fc_sgd_cosine_bce_masking": Run(
        SMALL + "noise=masking loss=bce optimizer=sgd optimizer.lr=0.5 scheduler=cosine scheduler.warmup_epochs=1 "
        "model.output_activation=sigmoid model.output_bias=mean"
    ),
    "fc_deep_topk_adamw_gaussian": Run(
        DEEP + "sparsity=topk sparsity.k=2 noise=gaussian noise.clip=true optimizer=adamw model.init=xavier "
        "trainer.clip_norm=0.5 protocol=[logistic,knn,linear_svm,ssim] protocol.linear_svm.strengths=[1e-3] "
        "protocol.logistic.strengths=[1e-3]",
        epochs=5,
    ),
    "conv_l1_rmsprop_multistep": Run(
        "model=conv model.hidden=[3,4] sparsity=l1 optimizer=rmsprop scheduler=multistep scheduler.milestones=[1] "
        "noise=salt_pepper trainer.channels_last=true trainer.deterministic=true"
    ),
    "conv_code_kl_nadam": Run(
        "model=conv model.hidden=[3,4] model.code_size=5 model.init=kaiming sparsity=kl sparsity.rho=0.2 "
        "optimizer=nadam"
    ),
    "conv_fc_lifetime_plateau_mae": Run(
        "model=conv_fc model.hidden=[3,3] model.kernel_size=3 sparsity=lifetime loss=mae scheduler=plateau "
        "scheduler.patience=0 trainer.patience=5 trainer.min_delta=0.001",
        epochs=3,
    ),
    "conv_wta_topk_lifetime": Run(
        "model=conv_wta model.hidden=[3,3] model.kernel_size=3 model.decoder_kernel_size=5 sparsity=topk_lifetime "
        "sparsity.k=2 dataset.classes=[0,2,3] dataset.validation=0"
    ),
    "conv_deep_marks_ssim_folder": Run(
        FOLDER + "model=conv_deep model.width=3 model.widest=6 model.code_size=6 loss=mse_ssim "
        "noise=[dust,scratches,blur_spots,gaussian] noise.parts.gaussian.variance=0.01 trainer.batch_size=4 "
        "dataset.flip=true dataset.zoom=0.2"
    ),
    "unet_dust_gelu": Run(
        FOLDER
        + "model=unet model.hidden=[3,4] model.code_channels=3 model.activation=gelu noise=dust trainer.batch_size=4"
    ),
    "unet_scratches": Run(
        FOLDER + "model=unet model.hidden=[3,4] model.code_channels=3 noise=scratches trainer.batch_size=4 "
        "dataset.train_limit=6"
    ),
    "fc_crop": Run(SMALL + "noise=crop model.activation=silu optimizer.weight_decay=0.01"),
    "conv_blur_spots_colouring": Run(
        FOLDER + "model=conv model.hidden=[3,4] dataset.input_transform=[Grayscale] noise=blur_spots dataset.size=36 "
        "trainer.batch_size=4"
    ),
    "vae_conv_likelihood": Run(
        "model=vae model.hidden=[3,4] model.code_size=4 latent=gaussian latent.beta=2 loss=mse loss.reduction=sum "
        "protocol=likelihood protocol.likelihood.samples=40 protocol.likelihood.images=6"
    ),
    "fc_vae_bce_binarise_dynamic": Run(
        "model=fc_vae model.hidden=[16] model.code_size=4 latent=gaussian loss=bce dataset.binarise=dynamic "
        "protocol=likelihood protocol.likelihood.samples=40"
    ),
    "fc_iwae_binarise_static": Run(
        "model=fc_vae model.hidden=[16] model.code_size=4 latent=importance_weighted latent.samples=3 loss=bce "
        "dataset.binarise=static protocol=likelihood protocol.likelihood.samples=40"
    ),
    "fc_standardise_tied_labels": Run(
        SMALL + "dataset.normalize=standardise model.tied=true protocol=[label_efficiency,semi_supervised] "
        "protocol.label_efficiency.labels=[8] protocol.label_efficiency.draws=2 "
        "protocol.label_efficiency.strengths=[1e-2,1e-3] protocol.semi_supervised.labels=[8] "
        "protocol.semi_supervised.draws=1 protocol.semi_supervised.steps=5 protocol.semi_supervised.batch_size=8"
    ),
    "fc_init_from_freeze": Run(SMALL + f"init_from={PLACE}/fc freeze=[encoder.1] model.init=normal"),
    "fc_bce_then_mse_steps": Run(
        SMALL + "loss=bce_then_mse model.output_activation=sigmoid trainer.steps=8 trainer.clip_value=0.01", epochs=None
    ),
    "fc_vectors_random": Run(
        SMALL + "dataset=random dataset.images=80 dataset.shape=[20] dataset.factors=5 trainer.evaluate_every_epochs=2"
    ),
    "fc_patches": Run(
        SMALL + f"dataset=patches dataset.root={PLACE}/{PICTURES} dataset.size=6 dataset.count=64 dataset.test=0.4 "
        "sparsity=kl model.activation=sigmoid trainer.tsne=true"
    ),
    "fc_fashion_mnist_mini": Run(
        "model=fc model.code_size=2 dataset=fashion_mnist_mini dataset.train_limit=48 dataset.validation=16"
    ),
    "fc_torch_optimizer": Run(SMALL + "optimizer=adagrad"),
    "fc_own_parts": Run(
        SMALL + "sparsity=soft_threshold sparsity.width=0.04 noise=darkening loss=quartic",
        trusted="own_parts",
    ),
    "fc_before_flip_and_zoom": Run(
        SMALL + "sparsity=l1", without=("dataset.flip", "dataset.zoom", "init_from", "freeze")
    ),
    "fc_stream": Run(SMALL + "dataset.memory_limit=4kB"),
    "fc_stream_stopped": Run(SMALL + "dataset.memory_limit=4kB noise=masking", stop_after=8, ends="stopped"),
    "fc_stopped": Run(
        SMALL + "noise=gaussian sparsity=topk sparsity.k=3 scheduler=cosine optimizer=sgd",
        3,
        stop_after=8,
        ends="stopped",
    ),
    "vae_stopped": Run(
        "model=fc_vae model.hidden=[16] model.code_size=4 latent=gaussian loss=bce", 3, stop_after=7, ends="stopped"
    ),
    "greedy_tied_untied": Run(
        DEEP + "trainer=greedy trainer.stage_epochs=[1,1,2] trainer.untie_at=finetune model.tied=true noise=masking "
        "trainer.stage_optimizer={lr:[0.01,0.005,0.002]}",
        epochs=1,
    ),
    "greedy_conv": Run(
        "model=conv model.hidden=[3,4] model.code_size=4 trainer=greedy trainer.stage_epochs=1 "
        "trainer.freeze_earlier=false sparsity=topk sparsity.k=2",
        epochs=1,
    ),
    "greedy_stopped": Run(
        DEEP + "trainer=greedy trainer.stage_epochs=2 sparsity=topk sparsity.k=2 optimizer=nadam",
        epochs=1,
        stop_after=13,
        ends="stopped",
    ),
    "greedy_stopped_fine_tuning": Run(
        DEEP + "trainer=greedy trainer.stage_epochs=1 model.tied=true trainer.untie_at=finetune",
        stop_after=18,
        ends="stopped",
    ),
    "fc_diverged": Run(SMALL + "optimizer=sgd optimizer.lr=1e9", epochs=3, ends="diverged"),
}
EXPORTED = {"exported": "conv_code_kl_nadam"}  # written by aerun-export --format safetensors


def copy_kit(kit: Path, copy: Path) -> None:
    """Copy the kit, and put the copy's path where its files have PLACE."""
    shutil.copytree(kit, copy)
    for path in copy.glob("*/*.yaml"):
        path.write_text(path.read_text().replace(f"{PLACE}/", f"{copy}/"))
