"""What labels are worth to a variational autoencoder: ``python benchmarks/conditional.py``

The default images, binary cross-entropy, code sizes 2 and 10, with and without model.condition=label, everything else
as shipped, and two exact lines without a code: the mean image, and the mean image of each class, which needs the label.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aerun  # noqa: E402
from benchmarks.machine import circumstances  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

PAGE = ROOT / "docs" / "train.md"
SIZES = (2, 10)
COMMON = [
    *("model=fc_vae", "model.hidden=[256]", "loss=bce", "trainer.batch_size=128", "trainer.evaluate_every_epochs=5"),
    *("trainer.device=cpu", "trainer.threads=1", "trainer.figures=none", "tracker=none"),
]
SHOWN = 4  # of the words in COMMON
READING = """
With 2 values the label saves several times its entropy, since so small a code cannot contain both the class and the
rest; the mean image of the class alone, without a code, covers more than half of the distance from the mean image. With
10 values the label saves about its entropy, nearly all of it in the KL: the code has less to say, and reconstructions
are as good as without the label, not better.
"""


def trained(words: list[str], seeds: int) -> list[list[float]]:
    """Negative bound, reconstruction error and KL divergence of the test images by seed, in nats per image."""
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = aerun.train(*COMMON, *words, f"seed={seed}", out=f"{folder}/run", verbose=False)
            test = run.summary["test"]
        found.append([test["reconstruction_nats"] + test["kl"], test["reconstruction_nats"], test["kl"]])
        print(*words, f"seed {seed}: {found[-1][0]:.2f} nats", flush=True)
    return [list(values) for values in zip(*found, strict=True)]


def mean_image_nats(by_class: bool) -> float:
    """The cross-entropy of the test images from the mean training image, or from that of their class, in nats."""
    import torch
    from torch.nn.functional import binary_cross_entropy

    from aerun.config.compose import compose_words
    from aerun.config.parse import parse

    data = parse(*compose_words(COMMON)).dataset.load(torch.device("cpu"))
    (train, known), (test, labels) = (
        (part.inputs.flatten(1).double() / 255, part.labels if by_class else torch.zeros(len(part), dtype=torch.long))
        for part in (data.train, data.test)
    )
    means = torch.stack([train[known == label].mean(0) for label in range(int(known.max()) + 1)])
    return float(binary_cross_entropy(means[labels], test, reduction="sum") / len(test))


def cell(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    """Train, and write the section of docs/train.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    lines = ["| code | label | bound | reconstruction | KL |", "|---|---|---|---|---|"]
    lines += [f"| none, the mean image | no | {mean_image_nats(False):.2f} | | |"]
    lines += [f"| none, the mean image of the class | yes | {mean_image_nats(True):.2f} | | |"]
    for size in SIZES:
        for label, condition in (("no", "none"), ("yes", "label")):
            words = [f"model.code_size={size}", f"model.condition={condition}", f"trainer.epochs={arguments.epochs}"]
            cells = map(cell, trained(words, arguments.seeds))
            lines.append(f"| {size} values | {label} | {' | '.join(cells)} |")
    text = (
        "What the label saves, in nats per test image (less is better; mean ± deviation of "
        f"{arguments.seeds} seeds, {arguments.epochs} epochs, `{' '.join(COMMON[:SHOWN])}`). The bound is the sum of "
        "the two columns after it. If both were exact log densities, they would differ by at most log 10 = 2.30 nats, "
        "the entropy of the label.\n\n"
        + "\n".join(lines)
        + f"\n{READING}\n"
        + circumstances("conditional.py", "cpu", "1 thread", ["torch"])
    )
    print(text)
    write_section("conditional", text, PAGE)


if __name__ == "__main__":
    main()
