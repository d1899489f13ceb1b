"""Baselines of denoising: PSNR and SSIM of a run, of three tuned filters, and of doing nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aerun.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

RUN, INPUT = "the run", "input as it is"  # also keys of the JSON
MISSING_SKIMAGE = "--clean needs scikit-image: pip install 'aerun[denoise]'"
SSIM_WINDOW_PIXELS = 11
MIN_SQUARED_ERROR = 1e-10  # an exact image has 100 dB


@dataclass(frozen=True)
class Score:
    """One image: ``psnr`` in dB for a peak of 1, ``ssim`` (NaN for images smaller than its window of 11 pixels)."""

    psnr: float
    ssim: float


@dataclass
class Scores:
    """Scores of each method, for each of its settings and each image: ``of[method][setting][image]``."""

    of: dict[str, dict[str, dict[str, Score]]] = field(default_factory=dict)

    def add(self, method: str, setting: str, name: str, score: Score) -> None:
        """Add the score of one image."""
        self.of.setdefault(method, {}).setdefault(setting, {})[name] = score

    def best(self, method: str) -> tuple[str, dict[str, Score]]:
        """The setting with the highest mean PSNR, and its scores by image."""
        return max(self.of[method].items(), key=lambda item: finite_mean(score.psnr for score in item[1].values()))

    def means(self, method: str) -> Score:
        """Means over the images, for the best setting."""
        found = self.best(method)[1].values()
        return Score(finite_mean(score.psnr for score in found), finite_mean(score.ssim for score in found))

    def verdict(self) -> str:
        """Whether the run beats the other methods, in one or two sentences."""
        run = self.means(RUN)
        others = {method: self.means(method) for method in self.of if method != RUN}
        better = {method: score for method, score in others.items() if not run.psnr > score.psnr}
        if better:
            text = ", ".join(f"{method} ({score.psnr:.2f} dB)" for method, score in better.items())
            return f"The run does not beat {text}; it reaches {run.psnr:.2f} dB. Do not use it on such images."
        method, score = max(others.items(), key=lambda item: item[1].psnr)
        text = f"The run beats all other methods in PSNR: {run.psnr - score.psnr:+.2f} dB over the next, {method}"
        higher_ssim = [method for method, score in others.items() if score.ssim > run.ssim]
        return text + (f"; in SSIM it does not beat {', '.join(higher_ssim)}." if higher_ssim else ", and in SSIM.")

    def table(self) -> str:
        """One row per method: means over the images, and the best setting."""
        lines = [f"{'mean over images':<28}{'PSNR (dB)':>10}{'SSIM':>9}   setting"]
        for method in self.of:
            score, (setting, _) = self.means(method), self.best(method)
            lines.append(f"{method:<28}{score.psnr:>10.2f}{score.ssim:>9.4f}   {setting}".rstrip())
        return "\n".join(lines)

    def by_image(self) -> str:
        """One row per image: PSNR and SSIM of each method with its best setting."""
        best = {method: self.best(method)[1] for method in self.of}
        names = list(best[RUN])
        width = max(map(len, [*names, "image"])) + 2
        lines = ["image".ljust(width) + "".join(f"{method:>26}" for method in best)]
        for name in names:
            cells = (f"{best[method][name].psnr:.2f} dB {best[method][name].ssim:.4f}" for method in best)
            lines.append(name.ljust(width) + "".join(f"{cell:>26}" for cell in cells))
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Plain values; None for NaN."""
        found: dict[str, Any] = {}
        for method in self.of:
            setting, scores = self.best(method)
            images = {name: _json_numbers(score) for name, score in scores.items()}
            found[method] = {"setting": setting, **_json_numbers(self.means(method)), "pictures": images}
        return {"means": found, "verdict": self.verdict()}


def _json_numbers(score: Score) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in vars(score).items()}


def finite_mean(values: Iterable[float]) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.fmean(numbers) if numbers else math.nan


def score_image(image: np.ndarray, clean: np.ndarray) -> Score:
    """Two [C,H,W] in [0,1] -> score.

    SSIM as in Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": a Gaussian
    window of deviation 1.5, 11 pixels wide.
    """
    import numpy as np
    from skimage.metrics import structural_similarity

    error = float(np.square(image.astype(np.float64) - clean).mean())
    psnr = -10 * math.log10(max(error, MIN_SQUARED_ERROR))
    if min(image.shape[1:]) < SSIM_WINDOW_PIXELS:
        return Score(psnr, math.nan)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    found = structural_similarity(clean, image, data_range=1.0, channel_axis=0, **options)
    return Score(psnr, float(found))


def require_skimage() -> None:
    """ConfigError if scikit-image is not installed."""
    from importlib.util import find_spec

    if find_spec("skimage") is None:
        raise ConfigError(MISSING_SKIMAGE)


def make_filters() -> dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]]:
    """Filters of [C,H,W] in [0,1], by name and setting; the best setting of each small grid counts."""
    import numpy as np
    from scipy.ndimage import median_filter
    from skimage.restoration import denoise_bilateral, denoise_nl_means

    def per_image(function: Callable[..., np.ndarray], image: np.ndarray, **options: float) -> np.ndarray:
        if len(image) == 1:
            return function(image[0], channel_axis=None, **options)[None]
        return function(np.ascontiguousarray(image.transpose(1, 2, 0)), channel_axis=-1, **options).transpose(2, 0, 1)

    def median(size: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: median_filter(image, (1, size, size), mode="reflect")

    def bilateral(color: float, space: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: per_image(denoise_bilateral, image, sigma_color=color, sigma_spatial=space)

    def nonlocal_means(strength: float) -> Callable[[np.ndarray], np.ndarray]:
        options = {"patch_size": 5, "patch_distance": 6, "h": strength, "fast_mode": True}
        return lambda image: per_image(denoise_nl_means, image, **options)

    return {
        "median filter": {f"{size}x{size}": median(size) for size in (3, 5, 7)},
        "bilateral filter": {
            f"color {color:g}, space {space:g}": bilateral(color, space)
            for color in (0.05, 0.1, 0.2, 0.4)
            for space in (1.0, 2.0)
        },
        "non-local means": {f"strength {strength:g}": nonlocal_means(strength) for strength in (0.02, 0.05, 0.1, 0.2)},
    }


def score_all(
    scores: Scores, name: str, dirty: np.ndarray, cleaned: np.ndarray, clean: np.ndarray, filters: Mapping[str, Any]
) -> None:
    """Add the scores of the run, of the filters and of the unchanged input on one image, all [C,H,W] in [0,1]."""
    scores.add(RUN, "", name, score_image(cleaned, clean))
    scores.add(INPUT, "", name, score_image(dirty, clean))
    for method, settings in filters.items():
        for setting, function in settings.items():
            scores.add(method, setting, name, score_image(function(dirty).clip(0, 1), clean))


def match_channels(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """[C,H,W] of one or three channels -> all with three channels if any has three. Writable, as filters need."""
    import numpy as np

    most = max(len(image) for image in images)
    return [np.array(np.broadcast_to(image, (most, *image.shape[1:])), order="C") for image in images]
