"""A trained run to hand on: its weights, what is needed to build it again, and a card that says what it is.

Nothing of the machine that trained it goes along: no host, command, user or path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from torch import nn

from aerun.base.files import write_text
from aerun.errors import DataError
from aerun.model.modules import Activate
from aerun.runs.folder import CONFIG, ENVIRONMENT, OVERRIDES, SUMMARY, WEIGHTS
from aerun.training.checkpoint import save
from aerun.training.progress import Progress
from aerun.use.export.export_formats import CARD_FILE, CARD_HEAD
from aerun.use.opened_run import OpenedRun

USAGE = {
    "safetensors": (
        "import aerun\n\n"
        'model = aerun.load("FOLDER")  # this folder\n'
        "codes = model.encode(images)  # {input}\noutput = model.decode(codes)"
    ),
    "torch": 'import torch\n\nencode = torch.export.load("encoder.pt2").module()\ncodes = encode(images)  # {input}',
    "onnx": (
        "import onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("encoder.onnx")\n'
        '[codes] = session.run(["codes"], {{"images": images}})  # {input}'
    ),
}


def write_run(opened: OpenedRun, folder: Path) -> None:
    """Weights, configuration, shapes and numbers of a run, as ``aerun.load`` and other tools read them."""
    config = without_paths({**opened.config, "resume": None, "init_from": None})
    save(folder / WEIGHTS, opened.autoencoder, None, Progress())
    write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    told = {"overrides": [], "choices": without_paths(opened.choices)}
    write_text(folder / OVERRIDES, yaml.safe_dump(told, sort_keys=False))
    write_text(folder / ENVIRONMENT, json.dumps(_public_environment(opened), indent=2) + "\n")
    if opened.summary is not None:
        summary = {key: value for key, value in opened.summary.items() if key != "unanswered"}
        write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def without_paths(value: Any) -> Any:
    """The same values, absolute paths in them shortened to their last name."""
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("/", "~")):
        return PurePosixPath(value).name
    return PureWindowsPath(value).name if PureWindowsPath(value).is_absolute() else value


def _public_environment(opened: OpenedRun) -> dict[str, Any]:
    """Of what a run notes of its surroundings: versions, and the data's shapes, counts and checksum."""
    path = opened.folder / ENVIRONMENT
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    keys = ("checksum", "images", "input_shape", "output_shape")
    dataset = {key: noted["dataset"][key] for key in keys if key in noted["dataset"]}
    return {"versions": noted.get("versions", {}), "dataset": dataset}


def write_card(opened: OpenedRun, folder: Path, differences: Mapping[str, float]) -> None:
    """README.md: what the model is, what it learned from, how good it is, how to load it, and its limits."""
    sections = [
        _head_section(opened),
        _data_section(opened),
        _numbers_section(opened),
        _usage_section(opened, folder, differences),
        _limits_section(opened),
    ]
    write_text(folder / CARD_FILE, "\n\n".join(sections) + "\n")


def _head_section(opened: OpenedRun) -> str:
    autoencoder, config = opened.autoencoder, opened.config
    parameters = sum(parameter.numel() for parameter in autoencoder.parameters())
    model = _option_name(opened, "model")
    others = ("sparsity", "latent", "noise", "loss", "optimizer")
    told = ", ".join(f"{group} {_option_name(opened, group)}{_format_keys(opened, group)}" for group in others)
    lines = [
        f"{CARD_HEAD}tags: [autoencoder, pytorch]\n---\n",
        f"# {model}, code of {format_shape(autoencoder.code_shape)}\n",
        f"An autoencoder of {parameters:,} parameters, trained with aerun: model {model}, {told}; "
        f"seed {config.get('seed')}.\n",
        f"- encoder: {format_layers(autoencoder.encoder)}\n- decoder: {format_layers(autoencoder.decoder)}",
    ]
    return "\n".join(lines)


def _option_name(opened: OpenedRun, group: str) -> str:
    """An option's name, or its class where that is not known."""
    known = opened.choices.get(group)
    return known or str(opened.config[group].get("_target_", "")).rpartition(".")[2]


def _format_keys(opened: OpenedRun, group: str) -> str:
    """What an option was told, in brackets."""
    keys = {key: value for key, value in opened.config[group].items() if key != "_target_"}
    told = ", ".join(f"{key}={value}" for key, value in keys.items() if isinstance(value, int | float | str))
    return f" ({told})" if told else ""


def format_shape(sizes: tuple[int, ...]) -> str:
    """``64x3x3``."""
    return "x".join(map(str, sizes))


def format_layers(module: nn.Module) -> str:
    """A net in a line: its layers in order."""
    told = []
    for layer in (leaf for leaf in module.modules() if not any(leaf.children())):
        sizes = [getattr(layer, key, None) for key in ("in_features", "out_features")]
        channels = [getattr(layer, key, None) for key in ("in_channels", "out_channels")]
        name = layer.name if isinstance(layer, Activate) else type(layer).__name__
        if None not in sizes:
            name += f" {sizes[0]}-{sizes[1]}"
        elif None not in channels:
            kernel = format_shape(getattr(layer, "kernel_size", ()))
            name += f" {channels[0]}-{channels[1]} {kernel}"
        told.append(name)
    return ", ".join(told) or "nothing"


def _data_section(opened: OpenedRun) -> str:
    data = _public_environment(opened)["dataset"]
    counts = ", ".join(f"{count:,} {part}" for part, count in data.get("images", {}).items() if count)
    text = f"## Data\n\n{_option_name(opened, 'dataset')}: {format_shape(tuple(data['input_shape']))}, {counts}."
    return f"{text} Checksum `{data.get('checksum')}`."


def _numbers_section(opened: OpenedRun) -> str:
    summary = opened.summary
    if summary is None:
        return "## Numbers\n\nThe run has no summary: nothing was measured on test data."
    noisy = _option_name(opened, "noise") not in ("none", "NoNoise")
    how = ", its inputs corrupted as in training" if noisy else ""
    rows = ["## Numbers\n", f"On the test part, which training never saw{how}:\n"]
    rows += ["| | MSE per value | PSNR (dB) |", "|---|---:|---:|"]
    found: list[tuple[str, dict[str, Any]]] = [("this model", summary["test"])]
    size = math.prod(opened.autoencoder.code_shape)
    for key, text in {
        "mean_image": "mean image",
        "pca": f"PCA, {size} components",
        "linear": "best linear map",
    }.items():
        values = {name.partition("/")[2]: v for name, v in summary["baselines"].items() if name.startswith(f"{key}/")}
        found += [(text, values)] if values else []
    for text, values in found:
        psnr = f"{values['psnr']:.2f}" if "psnr" in values else ""
        rows.append(f"| {text} | {values['mse']:.6f} | {psnr} |")
    rows.append(f"\nBest epoch {summary.get('best_epoch')} of {summary['epochs']}, {summary['steps']:,} updates.")
    return "\n".join(rows)


def _usage_section(opened: OpenedRun, folder: Path, differences: Mapping[str, float]) -> str:
    unit = "in [0,1]" if opened.is_image else "in the units of the data"
    given = f"[N,{','.join(map(str, opened.shape))}], float32, {unit}"
    there = {
        "safetensors": (folder / WEIGHTS).exists(),
        "torch": "encoder.pt2" in differences,
        "onnx": "encoder.onnx" in differences,
    }
    parts = ["## Use\n"]
    for name in (name for name, is_there in there.items() if is_there):
        parts.append(f"```python\n{USAGE[name].format(input=given)}\n```\n")
    if differences:
        parts += ["| file | largest difference from PyTorch, of the largest output |", "|---|---:|"]
        parts += [f"| `{name}` | {value:.1e} |" for name, value in differences.items()]
    return "\n".join(parts).rstrip()


def _limits_section(opened: OpenedRun) -> str:
    fixed = format_shape(opened.shape)
    lines = [
        f"- Inputs have the shape {fixed}, no other; images of another kind than the data above come out worse.",
        "- Numbers hold for the test part of the same data set.",
        "- The licence of weights and data is for whoever hands them on to say; none is given here.",
    ]
    if opened.is_gaussian:
        lines.insert(0, "- The code is the posterior's mean; nothing is sampled.")
    return "## Limits\n\n" + "\n".join(lines)
