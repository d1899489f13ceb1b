"""A run folder -> its verdicts: from its model and data, or, where the data are not wanted, from its files alone."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.doctor.examination import Examination
from aerun.doctor.file_evidence import examine_files
from aerun.doctor.judge import judge
from aerun.doctor.verdict import Verdict
from aerun.runs.folder import ENVIRONMENT, read_config, read_metrics, read_status, read_summary

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


@dataclass(frozen=True)
class Diagnosis:
    """What was found of a run or a model, and on what evidence."""

    verdicts: tuple[Verdict, ...]
    examination: Examination

    @property
    def healthy(self) -> bool:
        return not self.verdicts

    def as_json(self) -> dict[str, Any]:
        """Plain values; a number that is not finite is text."""
        verdicts = [{**dataclasses.asdict(v), "explains": None} for v in self.verdicts]
        for verdict in verdicts:
            del verdict["explains"]
        plain = {"verdicts": verdicts, "examination": dataclasses.asdict(self.examination)}
        return json.loads(json.dumps(plain, default=str), parse_constant=str)


def diagnose(
    folder: str | os.PathLike[str], *, data: bool = True, trusted_packages: Sequence[str] = (), device: str = "auto"
) -> Diagnosis:
    """The verdicts on a run, finished or not. Its validation images are loaded as the run did, unless ``data`` is
    false: then its files alone are examined, and the diagnosis says what was not.
    ``device``: where, whatever the run was trained on; the fastest there is by default.

    ConfigError for a device that is not there. DataError if the folder is not that of a run, or its data have changed.
    """
    folder = Path(folder)
    config = read_config(folder) | {"trusted_packages": list(trusted_packages)}
    summary, lines, status = read_summary(folder), read_metrics(folder), read_status(folder) or {}
    if data and _has_weights(folder):
        examination = _with_data(folder, config, lines, summary, device)
    else:
        examination = examine_files(config, lines, summary, _declared(folder))
        why = "not asked for" if not data else "no weights were saved"
        examination = dataclasses.replace(examination, missing=(f"model and images: {why}", *examination.missing))
    examination = dataclasses.replace(examination, state=status.get("state"), error=status.get("error"))
    return Diagnosis(tuple(judge(examination)), examination)


def diagnose_model(
    model: nn.Module,
    inputs: Tensor | np.ndarray,
    targets: Tensor | np.ndarray | None = None,
    *,
    loss: Any = None,
    metrics: Sequence[Mapping[str, Any]] = (),
) -> Diagnosis:
    """The verdicts on a model, an Autoencoder or any module from images to images, from inputs[N,...] as it sees them
    and what they should become, targets[N,...] (the inputs, if none are given): some hundred that were not trained on,
    of which the first few hundred are looked at.

    ``loss``: what it was trained by, ``loss(outputs, targets)``; ``metrics``: the lines of a metrics.jsonl.
    ValueError where outputs have not the targets' shape. The model is left in the mode in which it was.
    """
    import torch

    from aerun.doctor.evidence import examine
    from aerun.doctor.image_evidence import count_images

    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    shown, wanted = (
        None if images is None else torch.as_tensor(images)[: count_images(tuple(images.shape[1:]))].to(place)
        for images in (inputs, targets)
    )
    assert shown is not None
    if wanted is not None and len(wanted) != len(shown):
        raise ValueError(f"{len(inputs)} inputs of {list(inputs.shape[1:])}, which are not as many as the targets")
    was_training = model.training
    model.eval()
    try:
        examination = examine(model, shown, wanted, loss=loss, lines=metrics)
    finally:
        model.train(was_training)
    return Diagnosis(tuple(judge(examination)), examination)


def _declared(folder: Path) -> dict[str, Any] | None:
    """What the parts of a run declared; None in folders of versions that did not keep it."""
    try:
        found = json.loads((folder / ENVIRONMENT).read_text()).get("declared")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None


def _has_weights(folder: Path) -> bool:
    from aerun.runs.reopen import weights_of

    return weights_of(folder).exists()


def _with_data(
    folder: Path,
    config: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    device: str,
) -> Examination:
    from aerun.doctor.evidence import examine_run
    from aerun.runs.reopen import reopened

    return examine_run(reopened(folder, config, summary, device), lines, summary)
