"""A trained run to share: its weights, what is needed to build it again, and a model card.

Nothing about the machine that trained it is included: no host, command, user or path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from torch import nn

from aerun.base.files import write_json, write_text
from aerun.core.nested import activation_name
from aerun.runs.folder import CONFIG, ENVIRONMENT, OVERRIDES, SUMMARY, WEIGHTS, read_data_facts, read_environment
from aerun.training.checkpoint import save
from aerun.training.progress import Progress
from aerun.use.export.export_formats import CARD_FILE, CARD_HEAD
from aerun.use.opened_run import OpenedRun

USAGE = {
    "safetensors": (
        "import aerun\n\n"
        'model = aerun.load("FOLDER"{trust})  # this folder\n'
        "codes = model.encode(images{labels})  # {input}\noutput = model.decode(codes{labels})"
    ),
    "torch": 'import torch\n\nencode = torch.export.load("encoder.pt2").module()\ncodes = encode(images)  # {input}',
    "onnx": (
        "import onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("encoder.onnx")\n'
        '[codes] = session.run(["codes"], {{"images": images}})  # {input}'
    ),
}


def write_run(opened: OpenedRun, folder: Path) -> None:
    """Weights, configuration, shapes and numbers of a run, in the files that ``aerun.load`` reads."""
    config = without_paths({**opened.config, "resume": None, "init_from": None})
    save(folder / WEIGHTS, opened.autoencoder, None, Progress())
    write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    options = {"overrides": [], "choices": without_paths(opened.choices)}
    write_text(folder / OVERRIDES, yaml.safe_dump(options, sort_keys=False))
    write_json(folder / ENVIRONMENT, _public_environment(opened))
    if opened.summary is not None:
        summary = {key: value for key, value in opened.summary.items() if key != "unanswered"}
        write_json(folder / SUMMARY, summary)


def without_paths(value: Any) -> Any:
    """The same values, with absolute paths shortened to their last part."""
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
    """Versions, and the data's shapes, counts and checksum, from the run's environment.json."""
    recorded = read_environment(opened.folder)
    keys = ("checksum", "images", "input_shape", "output_shape", "in_unit_range", "classes")
    facts = read_data_facts(opened.folder)
    dataset = {key: facts[key] for key in keys if key in facts}
    return {"versions": recorded.get("versions", {}), "dataset": dataset}


def write_card(opened: OpenedRun, folder: Path, differences: Mapping[str, float]) -> None:
    """Write README.md: what the model is, its data, its numbers, how to load it, its limits."""
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
    groups = ("sparsity", "latent", "noise", "loss", "optimizer")
    options = ", ".join(f"{group} {_option_name(opened, group)}{_format_keys(opened, group)}" for group in groups)
    lines = [
        f"{CARD_HEAD}tags: [autoencoder, pytorch]\n---\n",
        f"# {model}, code of {format_shape(autoencoder.code_shape)}\n",
        f"An autoencoder of {parameters:,} parameters, trained with aerun: model {model}, {options}; "
        f"seed {config.get('seed')}.\n",
        f"- encoder: {format_layers(autoencoder.encoder)}\n- decoder: {format_layers(autoencoder.decoder)}",
    ]
    return "\n".join(lines)


def _option_name(opened: OpenedRun, group: str) -> str:
    """The name of the chosen option; its class if the name is not recorded."""
    known = opened.choices.get(group)
    return known or str(opened.config[group].get("_target_", "")).rpartition(".")[2]


def _format_keys(opened: OpenedRun, group: str) -> str:
    """The option's keys, in parentheses."""
    keys = {key: value for key, value in opened.config[group].items() if key != "_target_"}
    text = ", ".join(f"{key}={value}" for key, value in keys.items() if isinstance(value, int | float | str))
    return f" ({text})" if text else ""


def format_shape(sizes: tuple[int, ...]) -> str:
    """``64x3x3``."""
    return "x".join(map(str, sizes))


def format_layers(module: nn.Module) -> str:
    """The layers of a network in order, on one line."""
    layers = [_format_layer(layer) for layer in module.modules() if not any(layer.children())]
    return ", ".join(layers) or "nothing"


def _format_layer(layer: nn.Module) -> str:
    """``Linear 784-64``, ``Conv2d 16-32 3x3``, ``relu``."""
    attributes = vars(layer)
    name = activation_name(layer) or type(layer).__name__
    if "in_features" in attributes and "out_features" in attributes:
        return f"{name} {attributes['in_features']}-{attributes['out_features']}"
    if "in_channels" in attributes and "out_channels" in attributes:
        kernel = format_shape(attributes.get("kernel_size", ()))
        return f"{name} {attributes['in_channels']}-{attributes['out_channels']} {kernel}"
    return name


def _data_section(opened: OpenedRun) -> str:
    data = _public_environment(opened)["dataset"]
    counts = ", ".join(f"{count:,} {part}" for part, count in data.get("images", {}).items() if count)
    shape = format_shape(tuple(data["input_shape"]))
    return f"## Data\n\n{_option_name(opened, 'dataset')}: {shape}, {counts}. Checksum `{data.get('checksum')}`."


def _numbers_section(opened: OpenedRun) -> str:
    summary = opened.summary
    if summary is None:
        return "## Numbers\n\nThe run has no summary: nothing was measured on test data."
    is_noisy = _option_name(opened, "noise") not in ("none", "NoNoise")
    inputs = ", with inputs corrupted as in training" if is_noisy else ""
    rows = ["## Numbers\n", f"On the test split, which was not used in training{inputs}:\n"]
    rows += ["| | MSE per value | PSNR (dB) |", "|---|---:|---:|"]
    found: list[tuple[str, dict[str, Any]]] = [("this model", summary["test"])]
    size = math.prod(opened.autoencoder.code_shape)
    titles = {"mean_image": "mean image", "pca": f"PCA, {size} components", "linear": "best linear map"}
    for key, title in titles.items():
        values = {name.partition("/")[2]: v for name, v in summary["baselines"].items() if name.startswith(f"{key}/")}
        found += [(title, values)] if "mse" in values else []
    for title, values in found:
        psnr = f"{values['psnr']:.2f}" if "psnr" in values else ""
        rows.append(f"| {title} | {values['mse']:.6f} | {psnr} |")
    rows.append(f"\nBest epoch {summary.get('best_epoch')} of {summary['epochs']}, {summary['steps']:,} updates.")
    return "\n".join(rows)


def _usage_section(opened: OpenedRun, folder: Path, differences: Mapping[str, float]) -> str:
    unit = "in [0,1]" if opened.is_image else "in the units of the data"
    images = f"[N,{','.join(map(str, opened.shape))}], float32, {unit}"
    labels = "" if opened.classes is None else ", labels"
    images += "" if opened.classes is None else f"; labels [N], whole numbers from 0 to {opened.classes - 1}"
    is_written = {
        "safetensors": (folder / WEIGHTS).exists(),
        "torch": "encoder.pt2" in differences,
        "onnx": "encoder.onnx" in differences,
    }
    packages = ", ".join(f'"{package}"' for package in opened.trusted_packages)
    trust = f", trusted_packages=[{packages}]" if packages else ""
    parts = ["## Use\n"]
    for name in (name for name, written in is_written.items() if written):
        parts.append(f"```python\n{USAGE[name].format(input=images, trust=trust, labels=labels)}\n```\n")
    if differences:
        parts += ["| file | largest difference from PyTorch, relative to the largest output |", "|---|---:|"]
        parts += [f"| `{name}` | {value:.1e} |" for name, value in differences.items()]
    return "\n".join(parts).rstrip()


def _limits_section(opened: OpenedRun) -> str:
    lines = [
        f"- Inputs must have the shape {format_shape(opened.shape)}. Images unlike the data above come out worse.",
        "- The numbers hold for the test split of the same data set.",
        "- No license is given here: add one for the weights and the data before you share them.",
    ]
    if opened.is_gaussian:
        lines.insert(0, "- The code is the mean of the posterior; nothing is sampled.")
    return "## Limits\n\n" + "\n".join(lines)
