"""What simpler means reach where a run cleans pictures: PSNR and SSIM of it, and of three filters, tuned for them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aerun.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

RUN, INPUT = "the run", "input as it is"
MISSING_SKIMAGE = "--clean needs scikit-image: pip install 'aerun[denoise]'"


@dataclass(frozen=True)
class Score:
    """Of one picture: ``psnr`` in dB against a peak of 1 (an exact one counts as 100), ``ssim`` (NaN where a side is
    below its window's 11 pixels)."""

    psnr: float
    ssim: float


@dataclass
class Scores:
    """What each way of cleaning reached, picture by picture: ``of[way][setting][name]``."""

    of: dict[str, dict[str, dict[str, Score]]] = field(default_factory=dict)

    def add(self, way: str, setting: str, name: str, score: Score) -> None:
        """One more."""
        self.of.setdefault(way, {}).setdefault(setting, {})[name] = score

    def best(self, way: str) -> tuple[str, dict[str, Score]]:
        """The setting of the highest mean PSNR over all pictures, and what it reached on each."""
        return max(self.of[way].items(), key=lambda item: finite_mean(score.psnr for score in item[1].values()))

    def means(self, way: str) -> Score:
        """Over the pictures, by the best setting."""
        found = self.best(way)[1].values()
        return Score(
            finite_mean(score.psnr for score in found),
            finite_mean(score.ssim for score in found),
        )

    def verdict(self) -> str:
        """In words, whether the run is worth its trouble."""
        ours = self.means(RUN)
        others = {way: self.means(way) for way in self.of if way != RUN}
        better = {way: score for way, score in others.items() if not ours.psnr > score.psnr}
        if better:
            told = ", ".join(f"{way} ({score.psnr:.2f} dB)" for way, score in better.items())
            return f"The run does not beat {told}: its own {ours.psnr:.2f} dB are no reason to use it on such pictures."
        way, score = max(others.items(), key=lambda item: item[1].psnr)
        text = f"The run beats all of them in PSNR: {ours.psnr - score.psnr:+.2f} dB over the next, {way}"
        structural = [way for way, score in others.items() if score.ssim > ours.ssim]
        return text + (f"; in SSIM it does not beat {', '.join(structural)}." if structural else ", and in SSIM.")

    def table(self) -> str:
        """A row a way, the means over pictures and the setting that was best."""
        lines = [f"{'mean over pictures':<28}{'PSNR (dB)':>10}{'SSIM':>9}   setting"]
        for way in self.of:
            score, (setting, _) = self.means(way), self.best(way)
            lines.append(f"{way:<28}{score.psnr:>10.2f}{score.ssim:>9.4f}   {setting}".rstrip())
        return "\n".join(lines)

    def by_picture(self) -> str:
        """A row a picture: PSNR and SSIM of each way, by its setting that was best over all."""
        best = {way: self.best(way)[1] for way in self.of}
        names = list(best[RUN])
        width = max(map(len, [*names, "picture"])) + 2
        lines = ["picture".ljust(width) + "".join(f"{way:>26}" for way in best)]
        for name in names:
            cells = (f"{best[way][name].psnr:.2f} dB {best[way][name].ssim:.4f}" for way in best)
            lines.append(name.ljust(width) + "".join(f"{cell:>26}" for cell in cells))
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """For JSON, which has no NaN."""
        found: dict[str, Any] = {}
        for way in self.of:
            setting, scores = self.best(way)
            pictures = {name: _json_numbers(score) for name, score in scores.items()}
            found[way] = {"setting": setting, **_json_numbers(self.means(way)), "pictures": pictures}
        return {"means": found, "verdict": self.verdict()}


def _json_numbers(score: Score) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in vars(score).items()}


def finite_mean(values: Any) -> float:
    """Of those that are numbers; NaN of none."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.fmean(numbers) if numbers else math.nan


def score_image(image: np.ndarray, clean: np.ndarray) -> Score:
    """Of [C,H,W] in [0,1]. SSIM as Wang et al. 2004 have it: a Gaussian window of deviation 1.5, 11 pixels wide."""
    import numpy as np
    from skimage.metrics import structural_similarity

    error = float(np.square(image.astype(np.float64) - clean).mean())
    psnr = -10 * math.log10(max(error, 1e-10))
    if min(image.shape[1:]) < 11:
        return Score(psnr, math.nan)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    found = structural_similarity(clean, image, data_range=1.0, channel_axis=0, **options)
    return Score(psnr, float(found))


def require_skimage() -> None:
    """ConfigError where what the filters come from is not installed."""
    from importlib.util import find_spec

    if find_spec("skimage") is None:
        raise ConfigError(MISSING_SKIMAGE)


def make_filters() -> dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]]:
    """Filters of [C,H,W] in [0,1], by name and setting: a small grid of each, of which the best counts."""
    import numpy as np
    from scipy.ndimage import median_filter
    from skimage.restoration import denoise_bilateral, denoise_nl_means

    def last(image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image.transpose(1, 2, 0))

    def median(size: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: median_filter(image, (1, size, size), mode="reflect")

    def bilateral(colour: float, space: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: denoise_bilateral(
            last(image), sigma_color=colour, sigma_spatial=space, channel_axis=-1
        ).transpose(2, 0, 1)

    def means(strength: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: denoise_nl_means(
            last(image), patch_size=5, patch_distance=6, h=strength, fast_mode=True, channel_axis=-1
        ).transpose(2, 0, 1)

    return {
        "median filter": {f"{size}x{size}": median(size) for size in (3, 5, 7)},
        "bilateral filter": {
            f"colour {colour:g}, space {space:g}": bilateral(colour, space)
            for colour in (0.05, 0.1, 0.2, 0.4)
            for space in (1.0, 2.0)
        },
        "non-local means": {f"strength {strength:g}": means(strength) for strength in (0.02, 0.05, 0.1, 0.2)},
    }


def score_all(
    scores: Scores, name: str, dirty: np.ndarray, cleaned: np.ndarray, clean: np.ndarray, ways: Mapping[str, Any]
) -> None:
    """What the run, the filters ``ways`` and doing nothing reach on one picture, all [C,H,W] in [0,1]."""
    scores.add(RUN, "", name, score_image(cleaned, clean))
    scores.add(INPUT, "", name, score_image(dirty, clean))
    for way, settings in ways.items():
        for setting, function in settings.items():
            scores.add(way, setting, name, score_image(function(dirty).clip(0, 1), clean))


def match_channels(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """[C,H,W] of one channel or three, all of three where one is."""
    import numpy as np

    most = max(len(image) for image in images)
    return [np.ascontiguousarray(np.broadcast_to(image, (most, *image.shape[1:]))) for image in images]
