"""A run folder -> its verdicts, from its model and data, or from its files alone."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.archive import is_file
from aerun.doctor.examination import Examination
from aerun.doctor.file_evidence import examine_files
from aerun.doctor.judge import judge
from aerun.doctor.verdict import Verdict
from aerun.errors import DataError
from aerun.runs.folder import read_config, read_environment, read_status, read_summary, read_typed
from aerun.runs.folder_metrics import read_metrics

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aerun.core.image_inputs import Images, Labels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diagnosis:
    """The verdicts on a run or a model, and their evidence."""

    verdicts: tuple[Verdict, ...]
    examination: Examination

    @property
    def healthy(self) -> bool:
        """Whether no problem was found."""
        return not self.verdicts

    def as_json(self) -> dict[str, Any]:
        """The diagnosis as JSON values; numbers that are not finite become text."""
        verdicts = [{**dataclasses.asdict(v), "explains": None} for v in self.verdicts]
        for verdict in verdicts:
            del verdict["explains"]
        examination = dataclasses.asdict(self.examination)
        del examination["options"]["config"], examination["options"]["typed"]
        plain = {"verdicts": verdicts, "examination": examination}
        return json.loads(json.dumps(plain, default=str), parse_constant=str)


def diagnose(
    folder: str | os.PathLike[str], *, data: bool = True, trusted_packages: Sequence[str] = (), device: str = "auto"
) -> Diagnosis:
    """The verdicts on a run, finished or not.

    Its validation images are loaded as the run loaded them. If ``data`` is false, only its files are examined, and the
    diagnosis lists what was not examined. ``device``: where to compute, independent of the run's own device; by default
    the fastest one. ConfigError for a device that does not exist. DataError if the folder is not that of a run, or if
    its data have changed.
    """
    folder = Path(folder)
    config = read_config(folder) | {"trusted_packages": list(trusted_packages)}
    summary, lines, status = read_summary(folder), read_metrics(folder), read_status(folder) or {}
    if data and _has_weights(folder):
        examination = _examine_with_data(folder, config, lines, summary, device)
    else:
        examination = examine_files(config, lines, summary, *_read_declared(folder), read_typed(folder)[1])
        reason = "not requested" if not data else "the run has no trained weights"
        examination = dataclasses.replace(examination, missing=(f"model and images: {reason}", *examination.missing))
    examination = dataclasses.replace(examination, state=status.get("state"), error=status.get("error"))
    return Diagnosis(tuple(judge(examination)), examination)


def diagnose_model(
    model: nn.Module,
    inputs: Images,
    targets: Images | None = None,
    *,
    labels: Labels | None = None,
    loss: Any = None,
    metrics: Sequence[Mapping[str, Any]] = (),
) -> Diagnosis:
    """The verdicts on a model, an Autoencoder or any module from images to images.

    inputs[N,...] as the model sees them and targets[N,...] (by default the inputs) should be some hundred images that
    the model was not trained on; the first few hundred are examined. An Autoencoder takes images as its ``encode``
    does, other modules take floating-point tensors and arrays. ``labels``: of a conditional model's images. ``loss``:
    the function that it was trained with, ``loss(outputs, targets)``. ``metrics``: the lines of a metrics.jsonl.
    ValueError if outputs and targets differ in shape, and for images whose units are not known. The model stays in its
    mode.
    """
    import torch

    from aerun.core.autoencoder import Autoencoder
    from aerun.core.image_inputs import as_labels
    from aerun.doctor.evidence import examine
    from aerun.doctor.image_evidence import count_images

    weights = next(model.parameters(), torch.zeros(()))
    given = [
        None if images is None else _as_float(images, model, side) for side, images in enumerate((inputs, targets))
    ]
    shown, wanted = (
        None if images is None else images[: count_images(tuple(images.shape[1:]))].to(weights) for images in given
    )
    assert shown is not None
    if wanted is not None and len(wanted) != len(shown):
        raise ValueError(f"{len(shown)} inputs of {list(shown.shape[1:])} do not match the number of targets")
    known = as_labels(labels, len(inputs), model.classes) if isinstance(model, Autoencoder) else None  # type: ignore[arg-type]
    was_training = model.training
    model.eval()
    try:
        some = None if known is None else known[: len(shown)].to(shown.device)
        examination = examine(model, shown, wanted, labels=(some, None), loss=loss, lines=metrics)
    finally:
        model.train(was_training)
    return Diagnosis(tuple(judge(examination)), examination)


def _as_float(images: Images, model: nn.Module, side: int) -> Tensor:
    """Inputs (``side`` 0) or targets (1) of a model as floating-point numbers. ValueError for others."""
    from aerun.core.autoencoder import Autoencoder
    from aerun.core.image_inputs import as_batch, as_tensor, require_units
    from aerun.dataset.data import as_float

    if isinstance(model, Autoencoder):
        return as_float(as_batch(images, model.output_shape) if side else model.as_inputs(images))
    return require_units(as_tensor(images), is_image=False)


def _read_declared(folder: Path) -> tuple[dict[str, Any] | None, dict[str, int]]:
    """What the parts of a run declared, None in folders of older versions, which did not save it; and the number of
    images in each part of its data."""
    try:
        environment = read_environment(folder)
    except DataError as error:
        log.warning("%s", error)
        return None, {}
    return environment.get("declared"), (environment.get("dataset") or {}).get("images") or {}


def _has_weights(folder: Path) -> bool:
    from aerun.runs.reopen import weights_of

    return is_file(weights_of(folder))


def _examine_with_data(
    folder: Path,
    config: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    device: str,
) -> Examination:
    from aerun.doctor.evidence import examine_run
    from aerun.runs.reopen import reopen

    return examine_run(reopen(folder, config, summary, device), lines, summary, config, read_typed(folder)[1])
