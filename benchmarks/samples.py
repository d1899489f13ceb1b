"""Samples of several models against test images: ``python benchmarks/samples.py [--drawings FOLDER] [--sheets FOLDER]``

Fashion-MNIST as embedded, or with --drawings a folder of pictures. Each method has one weight, which is chosen for each
row by the Frechet distance on Fashion-MNIST with a further seed that is not reported; nothing is chosen on the
drawings. Features are those of a classifier that is trained on the same training images, once, and for drawings, which
are too few to train one, those of a pretrained network. Sections of docs/generate.md; --sheets writes 64 samples of
each row, to be looked at, and --pictures the overviews of that page.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aerun  # noqa: E402
from aerun.base.arguments import Parser  # noqa: E402
from aerun.cli.command import run_command  # noqa: E402
from benchmarks.machine import circumstances  # noqa: E402
from benchmarks.page import write_section  # noqa: E402
from benchmarks.samples_sheets import VQ_ROW, samples_of, write_pictures, write_sheets  # noqa: E402

CHOICE_SEED = 3  # on which weights are chosen
PAGE = ROOT / "docs" / "generate.md"
COMMON = [
    *("model.activation=relu", "trainer.device=cpu", "trainer.threads=1", "trainer.figures=none", "tracker=none"),
    *("protocol=samples", "protocol.samples.draws=1", "trainer.evaluate_every_epochs=5"),
]
FULL, CONVOLUTIONS = ["model=fc", "model.hidden=[256]"], ["model=conv", "model.hidden=[64,32]"]
BOTH = "protocol.samples.sources=[prior,mixture]"
LINEAR = "model.code_activation=identity"  # as those of a Gaussian latent and of wae_mmd are
VQ = ["latent=vq", "latent.entries=256", "latent.dimension=32", "latent.shared=true"]
METHODS = {
    "autoencoder": [*FULL, LINEAR],
    "convolutional": [*CONVOLUTIONS, LINEAR],
    "VAE": [*FULL, "latent=gaussian", BOTH],
    "WAE": [*FULL, "latent=wae_mmd", BOTH],
    "RAE-L2": [*FULL, "regularizer=rae_l2", LINEAR],
    "RAE-GP": [*FULL, "regularizer=rae_gp", LINEAR],
    "VQ": [*CONVOLUTIONS, *VQ, "protocol.samples.sources=[prior,frequencies]"],
}
WEIGHTS = {
    "VAE": ("latent.beta", (0.03, 0.1, 0.3, 1, 3)),
    "WAE": ("latent.weight", (1, 10, 100, 1000)),
    "RAE-L2": ("regularizer.rae_l2.code_weight", (0.001, 0.01, 0.1)),
    "RAE-GP": ("regularizer.rae_gp.code_weight", (0.001, 0.01, 0.1)),
}
# A row is a method and the source of its codes; the source is a suffix of the numbers if it is not the first.
ROWS = {
    "autoencoder, mixture": ("autoencoder", "mixture", ""),
    "convolutional autoencoder, mixture": ("convolutional", "mixture", ""),
    "VAE, prior": ("VAE", "prior", ""),
    "VAE, mixture": ("VAE", "mixture", "@mixture"),
    "WAE, prior": ("WAE", "prior", ""),
    "WAE, mixture": ("WAE", "mixture", "@mixture"),
    "RAE-L2, mixture": ("RAE-L2", "mixture", ""),
    "RAE-GP, mixture": ("RAE-GP", "mixture", ""),
    VQ_ROW: ("VQ", "prior", ""),
    "VQ, independent indices": ("VQ", "frequencies", "@frequencies"),
}
NAMES = (
    *("frechet_distance", "kernel_distance", "sample_precision", "sample_recall", "sample_density", "sample_coverage"),
)
HEAD = [
    "| samples | weight | Frechet | kernel | precision | recall | density | coverage | test MSE x 1000 |",
    "|---|---|---|---|---|---|---|---|---|",
]
Tests = dict[str, list[dict[str, float]]]  # row -> the test numbers of its seeds


@dataclass(frozen=True)
class Collection:
    """Pictures that models are trained on: ``code_size`` values of the codes, ``images`` that are compared."""

    name: str
    title: str
    words: list[str]
    code_size: int
    epochs: int
    images: int
    features: str


FASHION = Collection("fashion", "Fashion-MNIST", ["trainer.batch_size=128"], 16, 15, 1000, "classifier")


def drawings_in(folder: Path) -> Collection:
    words = [
        "dataset=image_folder",
        f"dataset.root={folder}",
        "dataset.size=32",
        "dataset.fit=pad",
        "dataset.flip=true",
    ]
    return Collection("drawings", "Drawings", [*words, "trainer.batch_size=32"], 64, 40, 281, "pretrained")


class Trained:
    """Runs, their test numbers, and those of held-out images; runs that the folder has already are not trained
    again."""

    def __init__(self, folder: Path, collection: Collection) -> None:
        self.folder, self.collection = folder, collection
        self.known: dict[Path, dict[str, float]] = {}

    def out(self, method: str, words: list[str], seed: int) -> Path:
        return self.folder / "_".join([self.collection.name, method, *words, str(seed)])

    def __call__(self, method: str, words: list[str], seed: int) -> dict[str, float]:
        out, own = self.out(method, words, seed), self.collection
        if out not in self.known:
            size = [] if method == "VQ" else [f"model.code_size={own.code_size}"]
            typed = [*METHODS[method], *COMMON, *own.words, *size, *words, f"seed={seed}"]
            typed += [f"trainer.epochs={own.epochs}", f"protocol.samples.images={own.images}"]
            typed.append(f"protocol.samples.features={own.features}")
            test = aerun.train(*typed, out=out, verbose=False).summary["test"]
            distances = {key: round(test[key], 2) for key in test if key.startswith("frechet_distance")}
            print(own.name, method, *words, f"seed {seed}:", distances, flush=True)
            self.known[out] = test
        return self.known[out]

    def choose(self, row: str) -> list[str]:
        """The weight with the smallest Frechet distance of the seed that is not reported."""
        method, _, suffix = ROWS[row]
        key, values = WEIGHTS.get(method, ("", ()))
        options = [[f"{key}={value}"] for value in values]
        return min(options, key=lambda words: self(method, words, CHOICE_SEED)[f"frechet_distance{suffix}"], default=[])


def line(name: str, words: list[str], numbers: list[list[float]]) -> str:
    scales, digits = (1, 1, 1, 1, 1, 1, 1000), (2, 1, 3, 3, 3, 3, 2)
    cells = []
    for values, scale, few in zip(numbers, scales, digits, strict=False):
        places = 3 if few == 1 and max(values) < 10 else few  # kernel distances differ by the number of features
        spread = f" ± {scale * stdev(values):.{places}f}" if len(values) > 1 else ""
        cells.append(f"{scale * mean(values):.{places}f}{spread}")
    weight = "".join(word.rpartition("=")[2] for word in words)
    return "| " + " | ".join([name, weight, *cells, *[""] * (len(scales) - len(cells))]) + " |"


def measure(arguments: object) -> None:
    """Choose the weights on Fashion-MNIST, then train seed by seed, and write the section after each, so that it shows
    whole seeds."""
    given = vars(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given["keep"] or Path(temporary)
        own = drawings_in(given["drawings"]) if given["drawings"] else FASHION
        trained, choosing = Trained(folder, own), Trained(folder, FASHION)
        chosen = {row: choosing.choose(row) for row in ROWS}
        tests: Tests = {row: [] for row in ROWS}
        for seed in range(given["seeds"]):
            for row, (method, _, _) in ROWS.items():
                tests[row].append(trained(method, chosen[row], seed))
            write_section(own.name, describe(own, tests, chosen), PAGE)
        runs = {row: (trained.out(ROWS[row][0], chosen[row], 0), ROWS[row][1]) for row in ROWS}
        if given["sheets"] or given["pictures"]:
            found = samples_of(runs, own.code_size)
            if given["sheets"]:
                write_sheets(given["sheets"], own.name, found)
            if given["pictures"]:
                write_pictures(ROOT / "docs" / "images", own.name, runs, found)


def describe(own: Collection, tests: Tests, chosen: dict[str, list[str]]) -> str:
    """The section of one set of pictures."""
    lines, first = list(HEAD), next(iter(tests.values()))
    for row, (_, _, suffix) in ROWS.items():
        values = [[test[f"{key}{suffix}"] for test in tests[row]] for key in NAMES]
        lines.append(line(row, chosen[row], [*values, [test["mse"] for test in tests[row]]]))
    lines.append(line(f"Gaussian on {own.code_size} components", [], [[first[0][f"{key}@pca"]] for key in NAMES]))
    lines.append(line("training images", [], [[first[0][f"{key}@training"]] for key in NAMES]))
    lines.append(line("held-out images", [], [[first[0][f"{key}@validation"]] for key in NAMES]))
    grids = "; ".join(f"{name} `{key}` of {', '.join(map(str, v))}" for name, (key, v) in WEIGHTS.items())
    nats = [[test[key] for test in tests[VQ_ROW]] for key in ("prior_nats", "independent_nats")]
    error = first[0].get("classifier_error")
    features = "a pretrained network" if error is None else f"a classifier with {error:.1f} % test errors"
    spread = f"{len(first)} seeds: mean ± deviation over seeds" if len(first) > 1 else "one seed, no spread"
    where = "with another seed" if own is FASHION else "on Fashion-MNIST; nothing was chosen on these pictures"
    text = [
        f"## {own.title}, measured",
        circumstances("samples.py", "cpu", "one thread", ("torch",)),
        f"{own.images:,} test images and as many samples, codes of {own.code_size} values, {own.epochs} epochs, "
        f"{spread}. Features of {features}. "
        f"The weight is the one with the smallest Frechet distance "
        f"{where} ({grids}). VQ has {tests[VQ_ROW][0]['bits']:.0f} bits an image; the indices of a test image cost "
        f"{mean(nats[0]):.1f} nats by the prior, {mean(nats[1]):.1f} nats if they are independent.",
        "\n".join(lines),
    ]
    return "\n\n".join(text)


def build_parser() -> Parser:
    parser = Parser(__doc__.splitlines()[0], "  %(prog)s --seeds 3 --drawings ~/art --sheets made")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, CHOICE_SEED + 1), default=3, help="runs of each row, at most 3 (3)"
    )
    parser.add_argument("--drawings", type=Path, help="a folder of pictures in place of Fashion-MNIST")
    parser.add_argument("--keep", type=Path, help="where run folders are kept and continued (default: nowhere)")
    parser.add_argument("--sheets", type=Path, help="where sheets of 64 samples of each row are written")
    parser.add_argument("--pictures", action="store_true", help="also draw the overviews of docs/images")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(build_parser, measure))
