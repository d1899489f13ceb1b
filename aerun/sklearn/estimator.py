"""An autoencoder as a transformer of scikit-learn."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aerun.config.explain import compose_explained
from aerun.config.parse import parse
from aerun.config.settings import Settings
from aerun.dataset.in_memory import in_memory_config
from aerun.errors import ConfigError

if TYPE_CHECKING:
    from aerun.core.autoencoder import Autoencoder as Model

Option = str | Mapping[str, Any]
log = logging.getLogger(__name__)
GROUPS = ("model", "latent", "sparsity", "noise", "loss", "optimizer", "scheduler")


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An autoencoder, trained as by ``aerun-train``: same configuration, loop and step.

    Parameters have the names of the command line. An option of ``model``, ``latent``, ``sparsity``, ``noise``,
    ``loss``, ``optimizer`` or ``scheduler`` is its name, or a mapping of its name and keys, ``{"name": "topk", "k":
    8}``; None is the option's default. ``overrides`` are further words of the command line,
    ``["trainer.clip_norm=1"]``. Only ``epochs`` and ``batch_size`` have other defaults than the command line, because
    data sets are often small here, and its batches of 128 would give few updates per epoch.

    X is [N,F], in any units. With ``image_shape`` (H,W) or (C,H,W), each row is a flattened image, in [0,1] if the
    model ends in a sigmoid; a warning names other ranges that look like unscaled pixels, or that the images of ``fit``
    did not have. ``y`` is ignored. ``validation``: the share or number of rows that are held out to choose
    the best epoch; 0: the training loss chooses it. Codes are [N,units], float32; feature maps are flattened.
    ``random_state``: a number is the run's seed, and equal seeds give equal results. ``verbose`` prints one line per
    epoch. ``run_folder``: where to write a run folder, which ``aerun.load`` reads; by default no files are written.

    After ``fit``: ``autoencoder_`` (the torch model), ``history_`` (the numbers of each epoch), ``best_epoch_``,
    ``n_iter_`` (epochs), ``n_features_in_``, ``config_`` (the resolved configuration), ``mean_``. ValueError for
    invalid settings, DivergedError for a loss that is not finite.
    """

    def __init__(
        self,
        model: Option = "fc",
        *,
        code_size: int | None = None,
        hidden: Sequence[int] | None = None,
        activation: str | None = None,
        sparsity: Option = "none",
        latent: Option | None = None,
        noise: Option = "none",
        loss: Option = "mse",
        optimizer: Option = "adam",
        lr: float | None = None,
        scheduler: Option = "none",
        epochs: int = 100,
        batch_size: int = 32,
        patience: int | None = None,
        validation: float = 0.1,
        image_shape: Sequence[int] | None = None,
        overrides: Sequence[str] = (),
        random_state: Any = None,
        device: str = "auto",
        threads: int | None = None,
        verbose: bool = False,
        run_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.code_size = code_size
        self.hidden = hidden
        self.activation = activation
        self.sparsity = sparsity
        self.latent = latent
        self.noise = noise
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.scheduler = scheduler
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation = validation
        self.image_shape = image_shape
        self.overrides = overrides
        self.random_state = random_state
        self.device = device
        self.threads = threads
        self.verbose = verbose
        self.run_folder = run_folder

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on X [N,F]. Results of an earlier fit are discarded."""
        rows = validate_data(self, X, dtype=np.float32)
        shape = self._shape(rows.shape[1])
        seed = self.random_state
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
            seed = check_random_state(seed).randint(2**31 - 1)
        config, settings, words = self._settings(int(seed))
        from aerun.runs.fit import fit

        # torch shares the memory of the array, which must be writable and contiguous.
        images = np.require(rows, requirements=["C", "W"]).reshape(-1, *shape)
        folder = None if self.run_folder is None else Path(self.run_folder).expanduser()
        try:
            on_epoch = self._print_epoch if self.verbose else lambda line: None
            fitted = fit(settings, config, images, overrides=words, folder=folder, on_epoch=on_epoch)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        fitted.autoencoder.expects_unit_range = self._is_in_unit_range(images)
        self.config_, self.shape_ = config, shape
        self.in_unit_range_ = fitted.autoencoder.expects_unit_range
        self.autoencoder_, self.history_ = fitted.autoencoder, fitted.history
        self.n_iter_, self.best_epoch_ = fitted.progress.epoch, fitted.progress.best_epoch
        self.mean_ = rows.mean(0, dtype=np.float64)
        self._n_features_out = math.prod(fitted.autoencoder.code_shape)
        return self

    def _is_in_unit_range(self, images: np.ndarray) -> bool:
        """Whether these are images in [0,1]; a warning for those that look like pixels that were not scaled."""
        if self.image_shape is None:
            return False
        low, high = float(images.min()), float(images.max())
        if low >= 0 and high > 1:
            log.warning("X: images from %.4g to %.4g, not in [0,1]: divide by the value of white", low, high)
        return low >= 0 and high <= 1

    def transform(self, X: Any) -> np.ndarray:
        """Rows [N,F] -> codes [N,units], as in evaluation: no noise, the mean of a Gaussian latent."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        return self._apply(self.autoencoder_.encode, rows.reshape(-1, *self.shape_))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Codes [N,units] -> rows [N,F], in the units of the training data."""
        check_is_fitted(self)
        codes = check_array(X, dtype=np.float32)
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"X has {codes.shape[1]} columns, but the codes have {self._n_features_out} units")
        return self._apply(self.autoencoder_.decode, codes.reshape(-1, *self.autoencoder_.code_shape))

    def score(self, X: Any, y: Any = None) -> float:
        """The share of X's squared distance from the training mean that the reconstruction explains.

        1 - sum (x - reconstruction)^2 / sum (x - mean)^2: 1 for an exact reconstruction, 0 for the mean row;
        higher is better, as GridSearchCV requires.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        output = self.inverse_transform(self._apply(self.autoencoder_.encode, rows.reshape(-1, *self.shape_)))
        error = np.square(rows - output, dtype=np.float64).sum()
        variation = np.square(rows - self.mean_).sum()
        return float(1 - error / variation) if variation else float(error == 0)

    def _apply(self, function: Any, batch: np.ndarray) -> np.ndarray:
        """Apply ``function`` in blocks of one size, so that the result for a row does not depend on other rows."""
        import torch

        from aerun.use.opened_run import apply_in_blocks

        flat: np.ndarray = apply_in_blocks(function, torch.tensor(batch)).flatten(1).numpy()
        return flat

    def _shape(self, features: int) -> tuple[int, ...]:
        """The shape of one row for the model. ValueError if ``image_shape`` has another size."""
        if self.image_shape is None:
            return (features,)
        shape = tuple(int(size) for size in self.image_shape)
        shape = (1, *shape) if len(shape) == 2 else shape
        if len(shape) != 3 or math.prod(shape) != features:
            raise ValueError(f"image_shape={self.image_shape}: is not (H,W) or (C,H,W) of X's {features} columns")
        return shape

    def _settings(self, seed: int) -> tuple[dict[str, Any], Settings, list[str]]:
        """The configuration, the typed settings, and the words that they are composed of. ValueError for invalid
        ones."""
        words = [*self._words(), *map(str, self.overrides)]
        try:
            plain, choices = _composed(tuple(words))
            config = {**plain, "seed": seed, "dataset": in_memory_config(plain["dataset"])}
            # ``epochs`` is always among the words; trainer.steps, if typed, replaces it.
            typed = [word for word in words if not word.startswith("trainer.epochs=")]
            settings = parse(config, choices | {"dataset": "given"}, typed)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if settings.protocol or settings.resume:
            raise ValueError(
                "overrides: protocol and resume are not available, because they need a run folder and a test set"
            )
        return config, settings, [f"seed={seed}", *words]

    def _words(self) -> list[str]:
        """The parameters as words of the command line, options before keys."""
        options: list[str] = ["dataset=random"]  # for the keys that all data sets have
        keys: dict[str, Any] = {}
        for group in GROUPS:
            value = vars(self)[group]
            if isinstance(value, Mapping):
                if "name" not in value:
                    raise ValueError(f"{group}={dict(value)}: an option is a name, or {{'name': NAME, KEY: value}}")
                keys |= {f"{group}.{key}": item for key, item in value.items() if key != "name"}
                value = value["name"]
            if value is not None:
                options.append(f"{group}={value}")
        single = {
            "model.code_size": self.code_size,
            "model.hidden": None if self.hidden is None else list(self.hidden),
            "model.activation": self.activation,
            "optimizer.lr": self.lr,
            "trainer.epochs": self.epochs,
            "trainer.batch_size": self.batch_size,
            "trainer.patience": self.patience,
            "trainer.device": self.device,
            "trainer.threads": self.threads,
            "dataset.validation": self.validation,
        }
        keys |= {key: value for key, value in single.items() if value is not None}
        return options + [f"{key}={json.dumps(value, default=_plain)}" for key, value in keys.items()]

    def _print_epoch(self, line: Mapping[str, Any]) -> None:
        losses = (f"{name} {line[f'{name}/loss']:.5g}" for name in ("train", "validation") if f"{name}/loss" in line)
        print(f"epoch {line['epoch']}/{self.epochs}: {', '.join(losses)}")

    def __getstate__(self) -> dict[str, Any]:
        """Pickle weights as arrays, so that a machine without the training device can read them."""
        state = dict(super().__getstate__())
        model: Model | None = state.pop("autoencoder_", None)
        if model is not None:
            state["_weights"] = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights = state.pop("_weights", None) if "_weights" in (state := dict(state)) else None
        super().__setstate__(state)
        if weights is not None:
            self.autoencoder_ = _rebuild(self.config_, self.shape_, weights, self.device)
            self.autoencoder_.expects_unit_range = self.__dict__.get("in_unit_range_", False)  # none in older pickles

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


@functools.lru_cache(maxsize=64)
def _composed(words: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """What Hydra makes of these words: a search fits the same ones again and again. ConfigError for bad ones."""
    return compose_explained(words)


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays, which parameter grids often contain, as Python values."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise ValueError(f"{value!r}: is not a valid value of a setting")


def _rebuild(config: Mapping[str, Any], shape: Sequence[int], weights: Mapping[str, np.ndarray], device: str) -> Model:
    """The model of a pickle, on its device if that is available."""
    import torch

    from aerun.base.device import choose_device
    from aerun.base.seeding import restored_generator
    from aerun.runs.reopen import build_for_shapes

    with restored_generator():
        model = build_for_shapes(parse(config), {"input_shape": shape, "output_shape": shape})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    try:
        place = choose_device(device)
    except ConfigError:
        place = torch.device("cpu")
    return model.to(place).eval()
