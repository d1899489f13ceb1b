"""Classes against the rest and drawn defects, for docs/anomalies.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

import aerun
from aerun.use.anomalies.anomaly_report import draw_anomalies
from aerun.use.anomalies.finding import fit_run, score_pictures
from aerun.use.opened_run import open_run
from benchmarks.defects import CHOSEN_ON, REPORTED_ON, write_kind

PLAIN = ["tracker=none", "trainer.figures=none", "trainer.threads=1", "trainer.device=cpu"]
REPORTED_SEED = 1  # of the drawn pictures; models were chosen on those of seed 0
SHOWN = ("wood", 2)  # kind and model of the figure
IMAGES, HELD_OUT = 2000, 500  # training and validation images of a class
CLASS_WORDS = ["model=mlp", "model.code_size=16", "trainer.epochs=30", "trainer.batch_size=32"]
DEFECT_WORDS = {
    "vector code, `model=mlp model.code_size=32`, 200 epochs": [
        *("model=mlp", "model.code_size=32", "trainer.epochs=200", "trainer.batch_size=16", "scheduler=cosine"),
    ],
    "feature maps, `model=conv model.hidden=[16,32,8]`, 150 epochs": [
        *("model=conv", "model.hidden=[16,32,8]", "trainer.epochs=150", "trainer.batch_size=16", "scheduler=cosine"),
    ],
    "trained to remove marks, `model=unet noise=[dust,scratches,stains]`, 50 epochs": [
        *("model=unet", "noise=[dust,scratches,stains]", "optimizer.lr=5e-4", "trainer.epochs=50"),
        *("trainer.batch_size=16", "scheduler=cosine"),
    ],
}


def mean_of(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± standard deviation."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def auroc(normal: np.ndarray, others: np.ndarray) -> float:
    """The area under the ROC curve of scores that are higher for anomalies."""
    truth = np.arange(len(normal) + len(others)) >= len(normal)
    return float(roc_auc_score(truth, np.concatenate([normal, others])))


def classes(outputs: Path, seeds: int) -> str:
    """One class of digits or garments against the other nine."""
    parts = []
    for dataset, title in {"mnist": "digits", "fashion_mnist": "garments"}.items():
        found = [
            [_class_numbers(outputs, dataset, label, seed, seed == 0) for label in range(10)] for seed in range(seeds)
        ]
        rows = []
        for name in found[0][0]:
            values = [[numbers[name] for numbers in runs if name in numbers] for runs in found]
            values = [each for each in values if each]
            each_class = np.mean(values, 0)
            worst = int(each_class.argmax() if name == "false alarms" else each_class.argmin())
            means = [float(np.mean(each)) for each in values]
            rows.append([name, mean_of(means, 4), f"{each_class[worst]:.3f} ({worst})"])
        parts.append(f"**{title.capitalize()}**\n\n{table([title, 'mean of ten classes', 'worst class'], rows)}")
    return (
        "## One class against the rest, measured\n"
        f"\nAUROC: a model, or a detector of scikit-learn, sees {IMAGES:,} images of one class; the 10,000 test images "
        f"of all classes are scored. {seeds} seeds, mean ± deviation over them; PCA and the last detectors have one. "
        f"`{' '.join(CLASS_WORDS)}`, {HELD_OUT} validation images. Chosen on training images of the digits 0, 2 and 4; "
        "garments are reported without any choice. The last two rows: the share of normal test images above the "
        "threshold of `fused` for 5 %, and of the others.\n\n" + "\n\n".join(parts)
    )


def _class_numbers(outputs: Path, dataset: str, label: int, seed: int, rivals: bool) -> dict[str, float]:
    words = [*CLASS_WORDS, *PLAIN, f"dataset={dataset}", "dataset.download=false", "protocol=anomaly", f"seed={seed}"]
    words += [f"dataset.exclude=[all,but,{label}]", f"dataset.train_limit={IMAGES}", f"dataset.validation={HELD_OUT}"]
    words += ["trainer.evaluate_every_epochs=5"]
    run = aerun.train(*words, out=outputs / f"anomaly_{dataset}_{label}_{seed}", verbose=False)
    test = run.summary["test"]
    names = ("fused", "error", "error_peak", "ssim", "ssim_peak", "mahalanobis", "knn")
    found = {f"`{name}`": test[f"anomaly/{name}_auroc"] for name in names}
    print(dataset, label, seed, {name: round(value, 3) for name, value in found.items()}, flush=True)
    if rivals:
        found |= {f"`{name}`": test[f"anomaly/{name}_auroc"] for name in ("pca", "pca_peak")}
        data = open_run(run.folder).data
        assert data.anomalies is not None
        train, normal, others = (
            part.inputs[:].flatten(1).numpy() / np.float32(255) for part in (data.train, data.test, data.anomalies)
        )
        detectors = {
            "one-class SVM": OneClassSVM(nu=0.1),
            "isolation forest": IsolationForest(random_state=0, n_jobs=1),
        }
        for name, detector in detectors.items():
            detector.fit(train)
            found[name] = auroc(-detector.decision_function(normal), -detector.decision_function(others))
        index = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(train)
        distances = [index.kneighbors(part)[0].mean(1) for part in (normal, others)]
        found["5 nearest images, pixels"] = auroc(*distances)
    found |= {"false alarms": test["anomaly/fused_false_alarms"], "anomalies found": test["anomaly/fused_detected"]}
    return found


def defects(outputs: Path, seeds: int) -> str:
    """Generated pictures with known defects."""
    folder, rows = outputs / "defects", []
    for kind in REPORTED_ON:
        if not (folder / kind / "ground_truth").exists():
            write_kind(folder, kind, REPORTED_SEED)
    for number, (title, words) in enumerate(DEFECT_WORDS.items()):
        for kind in REPORTED_ON:
            runs = [_defect_numbers(outputs, folder, kind, words, number, seed) for seed in range(seeds)]
            cells = [[mean_of([run[name] for run in runs]) for name in runs[0]]]
            rows.append([title if kind == REPORTED_ON[0] else "", kind, *cells[0]])
    for kind in REPORTED_ON:
        numbers = _rival_numbers(folder / kind)
        rows.append(["pixel by pixel" if kind == REPORTED_ON[0] else "", kind, *numbers])
    heads = ["model", "kind", "`fused`", "`error_peak`", "`pca_peak`"]
    heads += [f"{what} `{name}`" for what in ("pixels", "PRO") for name in ("error", "ssim", "pca")]
    return (
        "## Defects, measured\n"
        f"\nAUROC of pictures (the first three columns of numbers) and of pixels, and the per-region overlap. "
        "`benchmarks/defects.py` draws 300 good pictures of 64 x 64 pixels for training (100 of them validate), 40 for "
        f"testing, and 48 with a scratch, a hole, a spot or a smear. {seeds} seeds. Models and scores were chosen on "
        f"the kinds {' and '.join(CHOSEN_ON)}; no model saw those below before. The last rows are a rival of twenty "
        "lines: |x - mean| / deviation of each pixel over the training pictures, under the same window, and for a "
        "picture its largest value.\n\n" + table(heads, rows)
    )


def draw_defects(outputs: Path, path: Path) -> None:
    """A sheet of the least normal test pictures of one kind, by the model that was trained to remove marks."""
    run = open_run(outputs / f"anomaly_{SHOWN[0]}_{SHOWN[1]}_0")
    pictures = outputs / "defects" / SHOWN[0] / "test"
    detector = fit_run(run, 0.05)
    found = score_pictures(run, detector, pictures, "fused", 0.05)
    draw_anomalies(path, run, detector, found, pictures, 12)


def _defect_numbers(
    outputs: Path, folder: Path, kind: str, words: list[str], number: int, seed: int
) -> dict[str, float]:
    typed = [*words, *PLAIN, "dataset=image_folder", f"dataset.root={folder / kind}", "dataset.layout=mvtec"]
    typed += ["dataset.size=64", "dataset.channels=1", "dataset.validation=100", "protocol=anomaly", f"seed={seed}"]
    typed += ["trainer.evaluate_every_epochs=10"]
    test = aerun.train(*typed, out=outputs / f"anomaly_{kind}_{number}_{seed}", verbose=False).summary["test"]
    found = {name: test[f"anomaly/{name}_auroc"] for name in ("fused", "error_peak", "pca_peak")}
    for end in ("pixel_auroc", "pro"):
        found |= {f"{name}_{end}": test[f"anomaly/{name}_{end}"] for name in ("error", "ssim", "pca")}
    print(kind, number, seed, {name: round(value, 3) for name, value in found.items()}, flush=True)
    return found


def _rival_numbers(root: Path) -> list[str]:
    """Deviations of single pixels: image AUROC, pixel AUROC, PRO, in the columns of the table."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    from aerun.metrics.detection import pixel_numbers

    def read(folder: Path, end: str = "") -> np.ndarray:
        return np.stack([np.asarray(Image.open(path)) / 255 for path in sorted(folder.glob(f"*/*{end}.png"))])

    train, test, masks = read(root / "train"), read(root / "test"), read(root / "ground_truth", "_mask") > 0.5
    good = np.array([path.parent.name == "good" for path in sorted((root / "test").glob("*/*.png"))])
    deviations = abs(test - train.mean(0)) / train.std(0)
    maps = np.stack([gaussian_filter(each, 1.5, radius=5, mode="mirror") for each in deviations])
    peaks = maps.max((1, 2))
    truth = np.zeros(test.shape, bool)
    truth[~good] = masks
    pixels = pixel_numbers(list(maps), list(truth.astype(np.uint8)))
    shown = ["", auroc(peaks[good], peaks[~good]), "", pixels["pixel_auroc"], "", "", pixels["pro"], "", ""]
    return [value if isinstance(value, str) else f"{value:.3f}" for value in shown]
