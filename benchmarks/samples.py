"""Samples of variational and regularized autoencoders against test images: ``python benchmarks/samples.py``

Fashion-MNIST as embedded, a fully connected model with a code of 16 values, three seeds, the shipped settings of each
option: nothing is tuned to this table. The classifier is trained on the same training images, once.
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

PAGE = ROOT / "docs" / "protocols.md"
COMMON = [
    *("model=fc", "model.hidden=[256]", "model.code_size=16", "model.activation=relu", "trainer.batch_size=128"),
    *("trainer.device=cpu", "trainer.threads=1", "trainer.figures=none", "tracker=none", "protocol=samples"),
    *("protocol.samples.images=1000", "protocol.samples.draws=1"),
]
BOTH = "protocol.samples.sources=[prior,mixture]"
RUNS = {
    "VAE": ["latent=gaussian", BOTH],
    "WAE": ["latent=wae_mmd", BOTH],
    "RAE-L2": ["regularizer=rae_l2"],
    "RAE-GP": ["regularizer=rae_gp"],
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
    "| samples | Frechet | kernel, x 1000 | precision | recall | density | coverage | test MSE x 1000 |",
    "|---|---|---|---|---|---|---|---|",
]


def rows(name: str, tests: list[dict[str, float]]) -> dict[str, list[list[float]]]:
    """Row -> for each number, its values by seed."""
    found = {}
    for suffix in ("", "@mixture"):
        if f"frechet_distance{suffix}" not in tests[0]:
            continue
        source = "prior" if BOTH in RUNS[name] and not suffix else "mixture"
        values = [[test[f"{key}{suffix}"] for test in tests] for key in NAMES]
        found[f"{name}, {source}"] = [*values, [test["mse"] for test in tests]]
    return found


def line(name: str, numbers: list[list[float]]) -> str:
    scales, digits = (1, 1000, 1, 1, 1, 1, 1000), (2, 1, 3, 3, 3, 3, 2)
    cells = []
    for values, scale, places in zip(numbers, scales, digits, strict=False):
        spread = f" ± {scale * stdev(values):.{places}f}" if len(values) > 1 else ""
        cells.append(f"{scale * mean(values):.{places}f}{spread}")
    return "| " + " | ".join([name, *cells, *[""] * (len(scales) - len(cells))]) + " |"


def measure(arguments: object) -> None:
    """Train seed by seed, and write the section after each, so that it always shows whole seeds."""
    given = vars(arguments)
    tests: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given["seeds"]):
            for name, words in RUNS.items():
                run = aerun.train(
                    *(*COMMON, *words, f"seed={seed}", f"trainer.epochs={given['epochs']}"),
                    out=(given["keep"] or Path(folder)) / f"{name}{seed}",
                    verbose=False,
                )
                tests[name].append(run.summary["test"])
            write_section("samples", describe(tests, seed + 1, given["epochs"]), PAGE)
    print(describe(tests, given["seeds"], given["epochs"]))


def describe(tests: dict[str, list[dict[str, float]]], seeds: int, epochs: int) -> str:
    """The section, of the first ``seeds`` of each row."""
    lines, first = list(HEAD), next(iter(tests.values()))[0]
    for name, numbers in tests.items():
        lines += [line(row, values) for row, values in rows(name, numbers).items()]
    for suffix, name in (("training", "training images (ceiling)"), ("pca", "Gaussian on 16 components (floor)")):
        lines.append(line(name, [[first[f"{key}@{suffix}"]] for key in NAMES]))
    text = [
        "## Samples of several models, measured",
        circumstances("samples.py", "cpu", "one thread", ("torch",)),
        "Fashion-MNIST, 9,000 training images, 1,000 test images and as many samples, 784-256-16, MSE, "
        f"{epochs} epochs, {seeds} seeds: mean ± deviation over seeds. Features of a classifier with "
        f"{first['classifier_error']:.1f} % test errors; nothing is tuned.",
        "\n".join(lines),
    ]
    return "\n\n".join(text)


def build_parser() -> Parser:
    parser = Parser(__doc__.splitlines()[0], "  %(prog)s --seeds 3")
    parser.add_argument("--seeds", type=count, default=3, help="runs of each row (3)")
    parser.add_argument("--keep", type=Path, help="where run folders are kept and continued (default: nowhere)")
    parser.add_argument("--epochs", type=count, default=6, help="epochs of each run (6)")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(build_parser, measure))
