"""Samples of variational and regularized autoencoders against test images: ``python benchmarks/samples.py``

Fashion-MNIST as embedded, a fully connected model with a code of 16 values, three seeds. Each method has one weight,
which is chosen for each row by the Frechet distance of a further seed that is not reported. The classifier is trained
on the same training images, once.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aerun  # noqa: E402
from aerun.base.arguments import Parser, count  # noqa: E402
from aerun.cli.command import run_command  # noqa: E402
from benchmarks.machine import circumstances  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

CHOICE_SEED = 3  # on which weights are chosen
PAGE = ROOT / "docs" / "protocols.md"
COMMON = [
    *("model=fc", "model.hidden=[256]", "model.code_size=16", "model.activation=relu", "trainer.batch_size=128"),
    *("trainer.device=cpu", "trainer.threads=1", "trainer.figures=none", "tracker=none", "protocol=samples"),
    *("protocol.samples.images=1000", "protocol.samples.draws=1", "trainer.evaluate_every_epochs=5"),
]
BOTH = "protocol.samples.sources=[prior,mixture]"
LINEAR = "model.code_activation=identity"  # as those of a Gaussian latent and of wae_mmd are
METHODS = {
    "autoencoder": [LINEAR],
    "VAE": ["latent=gaussian", BOTH],
    "WAE": ["latent=wae_mmd", BOTH],
    "RAE-L2": ["regularizer=rae_l2", LINEAR],
    "RAE-GP": ["regularizer=rae_gp", LINEAR],
}
WEIGHTS = {
    "autoencoder": ("", ()),
    "VAE": ("latent.beta", (0.03, 0.1, 0.3, 1, 3)),
    "WAE": ("latent.weight", (1, 10, 100, 1000)),
    "RAE-L2": ("regularizer.rae_l2.code_weight", (0.001, 0.01, 0.1)),
    "RAE-GP": ("regularizer.rae_gp.code_weight", (0.001, 0.01, 0.1)),
}
# A row is a method and the ending of its numbers.
ROWS = {
    "autoencoder, mixture": ("autoencoder", ""),
    "VAE, prior": ("VAE", ""),
    "VAE, mixture": ("VAE", "@mixture"),
    "WAE, prior": ("WAE", ""),
    "WAE, mixture": ("WAE", "@mixture"),
    "RAE-L2, mixture": ("RAE-L2", ""),
    "RAE-GP, mixture": ("RAE-GP", ""),
}
NAMES = (
    "frechet_distance",
    "kernel_distance",
    "sample_precision",
    "sample_recall",
    "sample_density",
    "sample_coverage",
)
HEAD = [
    "| samples | weight | Frechet | kernel | precision | recall | density | coverage | test MSE x 1000 |",
    "|---|---|---|---|---|---|---|---|---|",
]
READING = """
Codes from a mixture give far better samples than the prior, whose samples of both the VAE and the WAE are farther from
the test images than those of a Gaussian on principal components by Frechet and kernel distance, though more precise.
With a mixture the methods differ little, and the plain autoencoder is as good as the regularized ones; all stay far
from the ceiling in Frechet distance and recall. The kernel distance of training images is not 0, probably because the
classifier's features were trained on them.
"""
Tests = dict[str, list[dict[str, float]]]  # row -> the test numbers of its seeds


class Trained:
    """The test numbers of runs; those that the folder has already are not trained again."""

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder, self.epochs = folder, epochs
        self.known: dict[Path, dict[str, float]] = {}

    def __call__(self, method: str, words: list[str], seed: int) -> dict[str, float]:
        out = self.folder / "_".join([method, *words, str(seed)])
        if out not in self.known:
            typed = [*COMMON, *METHODS[method], *words, f"seed={seed}", f"trainer.epochs={self.epochs}"]
            test = aerun.train(*typed, out=out, verbose=False).summary["test"]
            distances = {key: round(test[key], 2) for key in test if key.startswith("frechet_distance")}
            print(method, *words, f"seed {seed}:", distances, flush=True)
            self.known[out] = test
        return self.known[out]

    def choose(self, method: str, suffix: str) -> list[str]:
        """The weight with the smallest Frechet distance of the seed that is not reported."""
        key, values = WEIGHTS[method]
        options = [[f"{key}={value}"] for value in values]
        return min(options, key=lambda words: self(method, words, CHOICE_SEED)[f"frechet_distance{suffix}"], default=[])


def line(name: str, words: list[str], numbers: list[list[float]]) -> str:
    scales, digits = (1, 1, 1, 1, 1, 1, 1000), (2, 1, 3, 3, 3, 3, 2)
    cells = []
    for values, scale, places in zip(numbers, scales, digits, strict=False):
        spread = f" ± {scale * stdev(values):.{places}f}" if len(values) > 1 else ""
        cells.append(f"{scale * mean(values):.{places}f}{spread}")
    weight = "".join(word.rpartition("=")[2] for word in words)
    return "| " + " | ".join([name, weight, *cells, *[""] * (len(scales) - len(cells))]) + " |"


def measure(arguments: object) -> None:
    """Choose the weights, then train seed by seed, and write the section after each, so that it shows whole seeds."""
    given = vars(arguments)
    with tempfile.TemporaryDirectory() as folder:
        trained = Trained(given["keep"] or Path(folder), given["epochs"])
        chosen = {row: trained.choose(method, suffix) for row, (method, suffix) in ROWS.items()}
        tests: Tests = {row: [] for row in ROWS}
        for seed in range(given["seeds"]):
            for row, (method, _) in ROWS.items():
                tests[row].append(trained(method, chosen[row], seed))
            write_section("samples", describe(tests, chosen, given["epochs"]), PAGE)
    print(describe(tests, chosen, given["epochs"]))


def describe(tests: Tests, chosen: dict[str, list[str]], epochs: int) -> str:
    """The section."""
    lines, first = list(HEAD), next(iter(tests.values()))
    for row, (_, suffix) in ROWS.items():
        values = [[test[f"{key}{suffix}"] for test in tests[row]] for key in NAMES]
        lines.append(line(row, chosen[row], [*values, [test["mse"] for test in tests[row]]]))
    for suffix, row in (("training", "training images (ceiling)"), ("pca", "Gaussian on 16 components (floor)")):
        lines.append(line(row, [], [[first[0][f"{key}@{suffix}"]] for key in NAMES]))
    grids = "; ".join(f"{name} `{key}` of {', '.join(map(str, v))}" for name, (key, v) in WEIGHTS.items() if v)
    text = [
        "## Samples of several models, measured",
        circumstances("samples.py", "cpu", "one thread", ("torch",)),
        "Fashion-MNIST, 9,000 training images, 1,000 test images and as many samples, 784-256-16, MSE, "
        f"{epochs} epochs, {len(first)} seeds: mean ± deviation over seeds. Features of a classifier with "
        f"{first[0]['classifier_error']:.1f} % test errors. The weight is the one with the smallest Frechet distance "
        f"with another seed: {grids}.",
        "\n".join(lines),
        READING.strip(),
    ]
    return "\n\n".join(text)


def build_parser() -> Parser:
    parser = Parser(__doc__.splitlines()[0], "  %(prog)s --seeds 3")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, CHOICE_SEED + 1), default=3, help="runs of each row, at most 3 (3)"
    )
    parser.add_argument("--keep", type=Path, help="where run folders are kept and continued (default: nowhere)")
    parser.add_argument("--epochs", type=count, default=15, help="epochs of each run (15)")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(build_parser, measure))
