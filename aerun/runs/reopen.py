"""A run folder -> its trained model, its parts, or a repeated evaluation."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aerun.base.archive import is_file, names_in
from aerun.base.device import choose_device
from aerun.base.files import make_folder, write_json
from aerun.base.seeding import restored_generator
from aerun.config.parse import parse
from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Data, Split, statistics
from aerun.errors import ConfigError, DataError, StorageError, nearest
from aerun.protocol.runner import check_protocols, run_protocols
from aerun.runs.folder import CHECKPOINTS, CONFIG, FIGURES, WEIGHTS, read_config, read_data_facts, read_summary
from aerun.runs.pictures import draw_final
from aerun.runs.summary import draw_curves, draw_stages, subject_of, summarize
from aerun.runs.tracking import FolderLog
from aerun.training.build import build_autoencoder, build_parts, prepare
from aerun.training.checkpoint import load_model, read_callback_state
from aerun.training.checkpoint_files import LAST, REMOVED
from aerun.training.observers import Observers, own_callbacks
from aerun.training.parts import Parts
from aerun.training.progress import Progress
from aerun.training.regime import regime_of

log = logging.getLogger(__name__)


def weights_of(folder: Path, name: str = "best") -> Path:
    """The file with the trained weights of a run folder or of an exported one, whether or not it exists."""
    exported = folder / WEIGHTS
    return exported if name == "best" and is_file(exported) else folder / CHECKPOINTS / f"{name}.safetensors"


def existing_weights(folder: Path, name: str = "best") -> Path:
    """As ``weights_of``. DataError if a run folder does not have the file."""
    path = weights_of(folder, name)
    if is_file(path) or not is_file(folder / CONFIG):
        return path
    if name == "best":
        raise DataError(f"{folder}: has no trained weights yet ({path.relative_to(folder)})")
    available = sorted(Path(file).stem for file in names_in(folder / CHECKPOINTS) if file.endswith(".safetensors"))
    note = "; a finished run keeps these by checkpoint.keep" if f"{name}.safetensors" in REMOVED["weights"] else ""
    raise DataError(
        f"{folder}: has no weights={name}.{nearest(name, available)} Available: {', '.join(available) or 'none'}{note}"
    )


def load(
    folder: str | os.PathLike[str],
    device: str = "cpu",
    trusted_packages: Sequence[str] = (),
    *,
    weights: str = "best",
) -> Autoencoder:
    """The trained model of a run folder in evaluation mode.

    ``weights``: its best weights, or others that the run saved by name, such as ``last``, or ``ema`` (callback=ema).
    The data set is not needed: the folder contains its shapes. Classes of packages other than aerun, torch and
    torchvision are used only if ``trusted_packages`` names their package. DataError if the folder is not that of a run
    or lacks these weights, ConfigError for a class that is not trusted.
    """
    folder = Path(folder)
    path = existing_weights(folder, weights)
    settings = parse(read_config(folder) | {"trusted_packages": list(trusted_packages)})
    autoencoder = build_for_shapes(settings, read_data_facts(folder))
    load_weights(path, autoencoder)
    return autoencoder.to(choose_device(device, "device")).eval()


def load_weights(path: Path, autoencoder: Autoencoder) -> Progress:
    """Load trained weights. DataError if they are damaged, of another model, or not finite."""
    progress = load_model(path, autoencoder)
    for name, parameter in autoencoder.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise DataError(f"{path}: its weights are not finite ({name})")
    return progress


def build_for_shapes(settings: Settings, shapes: Mapping[str, Any]) -> Autoencoder:
    """The model for images of ``input_shape`` and targets of ``output_shape``, with new weights, without the data
    set. Torch's global generator is left as it was.

    ``in_unit_range``: whether it expects images in [0,1]; folders of older versions do not say so.
    """
    with restored_generator():
        autoencoder = build_autoencoder(settings, _shape_only(settings, shapes))
    autoencoder.expects_unit_range = len(autoencoder.input_shape) == 3 and bool(shapes.get("in_unit_range", True))
    return autoencoder


def load_data(folder: Path, trusted_packages: Sequence[str] = ()) -> Data:
    """The data that a run was trained on, on the CPU. DataError if they do not exist or have changed."""
    settings = parse(read_config(folder) | {"trusted_packages": list(trusted_packages)})
    return _load_unchanged(settings, folder, torch.device("cpu"), read_data_facts(folder)["checksum"])


def _checksum(folder: Path, summary: Mapping[str, Any]) -> str:
    """The checksum of a finished run's data."""
    return str(summary.get("dataset_checksum") or read_data_facts(folder)["checksum"])


def _load_unchanged(settings: Settings, folder: Path, device: torch.device, checksum: str) -> Data:
    data: Data = settings.dataset.load(device)
    if data.checksum != checksum:
        raise DataError(f"{folder}: its data have changed: checksum {checksum} then, {data.checksum} now")
    return data


def _shape_only(settings: Settings, shapes: Mapping[str, Any]) -> Data:
    """Data of the right shape, without images. The weights contain the statistics, if the run uses them."""
    inputs, targets = (torch.zeros(1).expand(1, *shapes[name]) for name in ("input_shape", "output_shape"))
    if shapes["input_shape"] == shapes["output_shape"]:
        targets = inputs
    classes = shapes.get("classes")
    split = Split(inputs, targets, None if classes is None else torch.tensor([classes - 1]))
    is_standardized = settings.dataset.normalize == "standardise"
    both = (statistics(inputs), statistics(targets)) if is_standardized else (None, None)
    return Data(split, None, split, None, "", *both)


def for_evaluation(settings: Settings, device: str | None = None) -> Settings:
    """The settings without what only training needs, which this machine may lack; on ``device``, if given.

    By default on the run's own device, or the fastest one if this machine lacks that.
    """
    if device is None:
        try:
            place = str(choose_device(settings.trainer.device))
        except ConfigError as error:
            place = str(choose_device("auto"))
            log.warning("%s; computing on %s, where last digits may differ", error, place)
    else:
        place = str(choose_device(device, "device"))
    trainer = copy.copy(settings.trainer)
    for key, value in {"device": place, "graph": "auto", "precision": "float32", "processes": 1}.items():
        object.__setattr__(trainer, key, value)
    return dataclasses.replace(settings, trainer=trainer)


def reopen(folder: Path, config: Mapping[str, Any], summary: Mapping[str, Any] | None, device: str = "auto") -> Parts:
    """The parts of a run with its best weights and its data loaded again, on ``device``, which may differ from the
    run's.

    ConfigError for a device that does not exist, DataError if the data have changed since ``summary``.
    """
    settings = for_evaluation(parse(config), device)
    place = prepare(settings)
    if summary is None:
        data = settings.dataset.load(place)
    else:
        data = _load_unchanged(settings, folder, place, _checksum(folder, summary))
    parts = build_parts(settings, data, place)
    load_weights(existing_weights(folder), parts.autoencoder)
    return parts


@contextlib.contextmanager
def _written_to(folder: Path, output: Path | None) -> Iterator[Path]:
    """Where to write: ``output``, or the run folder. If that may not be written to, a temporary folder, with a warning.

    ConfigError if ``output`` is another run's folder.
    """
    if output is not None:
        if (output / CONFIG).exists():
            raise ConfigError(f"output={output}: is a run folder; name another folder")
        make_folder(output)
    place = output or folder
    places = [path for path in (place, place / FIGURES) if path.exists()]  # a run in an archive has none
    if places and all(os.access(path, os.W_OK | os.X_OK) for path in places):
        yield place
        return
    if output is not None:
        raise StorageError(f"output={output}: may not be written to; name another folder")
    log.warning("%s: may not be written to, so there are no new figures; output=FOLDER writes them elsewhere", folder)
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def reevaluate(
    folder: Path,
    trusted_packages: Sequence[str] = (),
    protocols: Mapping[str, Any] | None = None,
    *,
    device: str | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Repeat the test metrics, baselines and figures of a finished run from its weights and data.

    ``protocols``: configurations of protocols to run instead of the run's own; their numbers are separate, in
    ``further``. ``device``: where to compute, by default as the run did. ``output``: a folder for figures and
    evaluation.json instead of the run folder, which need not be writable. DataError if the run has not finished, or if
    its data have changed.
    """
    config = read_config(folder) | {"trusted_packages": list(trusted_packages)}
    settings = parse(config if protocols is None else config | {"protocol": dict(protocols)})
    settings = for_evaluation(settings, device)
    further, settings = settings.protocol, dataclasses.replace(settings, protocol={}) if protocols else settings
    before = read_summary(folder)
    if before is None:
        raise DataError(f"{folder}: has not finished; continue it with {shlex.quote(f'resume={folder}')}")
    computing = prepare(settings)
    data = _load_unchanged(settings, folder, computing, _checksum(folder, before))
    parts = build_parts(settings, data, computing)
    check_protocols(further or settings.protocol, data, parts.autoencoder)
    regime = regime_of(settings, parts)
    progress = load_weights(existing_weights(folder), parts.autoencoder)
    observers = _restored_observers(settings, folder / CHECKPOINTS / LAST, before.get("measured", ()))
    final = before["steps"] + 1
    with _written_to(folder, output) as place:
        with FolderLog(place) as tracker:
            after = summarize(
                settings,
                parts,
                progress,
                lambda tag, pixels: tracker.picture(tag, pixels, final),
                None if observers is None else observers.measure,
            )
            answers = run_protocols(further if protocols else {}, subject_of(settings, parts))
            for tag, pixels in answers.pictures.items():
                tracker.picture(tag, pixels, final)
            draw_final(parts, tracker, final, settings.trainer.tsne)
            draw_curves(folder, tracker, final, after)
            draw_stages(regime, folder, tracker, final)
        result = {
            "test": after["test"],
            "baselines": after["baselines"],
            "further": answers.numbers,
            "differs_from_summary": _changed_numbers(before, after, skipped=protocols is not None),
        }
        write_json(place / "evaluation.json", result)
    return {**after, **result, "unanswered": after["unanswered"] | answers.unanswered}


def _restored_observers(settings: Settings, last: Path, measured: Sequence[str]) -> Observers | None:
    """The run's callbacks with their state from its last checkpoint.

    None if that does not exist, with a warning if the run ``measured`` numbers by them.
    """
    if is_file(last):
        observers = Observers(own_callbacks(settings))
        observers.restore(read_callback_state(last))
        return observers
    if measured:
        names = ", ".join(f"test/{name}" for name in measured)
        log.warning("%s: does not exist, so the callbacks have no state; not computed again: %s", last, names)
    return None


def _changed_numbers(before: Mapping[str, Any], after: Mapping[str, Any], skipped: bool) -> list[str]:
    """Names of numbers that have changed. ``skipped``: the run's own protocols were not run again."""
    excluded = {name for names in before.get("protocols", {}).values() for name in names} if skipped else set()
    # The numbers of callbacks that are missing here: exports have no state of callbacks, and objects are not in files.
    excluded |= set(before.get("measured", ())) - set(after["measured"])
    return [
        f"{kind}/{name}"
        for kind in ("test", "baselines")
        for name in before[kind]
        if before[kind][name] != after[kind].get(name) and not (kind == "test" and name in excluded)
    ]
