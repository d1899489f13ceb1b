"""Exported runs: files compute what PyTorch computes, load again, and contain nothing about the machine."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import aerun
from aerun.base.conf import conf_dir
from aerun.cli.export import main
from aerun.config.parse import parse
from aerun.errors import AerunError, ConfigError, DataError
from aerun.runs.reopen import build_for_shapes
from aerun.use.export import export_formats, export_run
from aerun.use.export.model_card import without_paths, write_card, write_run
from aerun.use.opened_run import OpenedRun, open_run

Trained = Callable[..., Path]
Compose = Callable[[Sequence[str]], dict[str, Any]]
ROOT = Path(__file__).resolve().parent.parent.parent
HERE = all(importlib.util.find_spec(name) for name in export_formats.NEEDED_PACKAGES["onnx"])
needs_onnx = pytest.mark.skipif(not HERE, reason="needs onnx, onnxscript and onnxruntime: pip install -e '.[export]'")
GRAPHS = ["torch", *(["onnx"] if HERE else [])]
TOPK = ("sparsity=topk", "sparsity.k=8")


def model_of(config: dict[str, Any], shape: list[int]) -> aerun.core.autoencoder.Autoencoder:
    """An untrained model with nonzero biases, like a trained one."""
    torch.manual_seed(0)
    autoencoder = build_for_shapes(parse(config), {"input_shape": shape, "output_shape": shape})
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return autoencoder.eval()


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "out"
    aerun.export(trained(*TOPK), folder, [*GRAPHS, "safetensors"])
    return folder


def test_exports_equal_pytorch_for_any_number_of_images(exported: Path, trained: Trained) -> None:
    """The run's own evaluation is the reference; the files are read without aerun."""
    run = aerun.load(trained(*TOPK))
    for count in (1, 2, 50):
        images = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(count))
        expected = {"encoder": run.encode(images), "autoencoder": run.reconstruct(images)}
        assert int((expected["encoder"] != 0).sum(1).max()) == 8
        expected["decoder"] = run.decode(expected["encoder"])
        for name, wanted in expected.items():
            given = expected["encoder"] if name == "decoder" else images
            found = [torch.export.load(exported / f"{name}.pt2").module()(given).detach()]
            if HERE:
                import onnxruntime

                session = onnxruntime.InferenceSession(exported / f"{name}.onnx", providers=["CPUExecutionProvider"])
                assert session.get_inputs()[0].shape[0] == session.get_outputs()[0].shape[0] == "batch"
                found.append(torch.from_numpy(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]))
            for output in found:
                assert (output - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_exported_weights_load_as_a_run(exported: Path, trained: Trained) -> None:
    images = torch.rand(9, 1, 28, 28)
    assert torch.equal(aerun.load(exported).encode(images), aerun.load(trained(*TOPK)).encode(images))
    again, run = open_run(exported), open_run(trained(*TOPK))
    assert again.fingerprint == run.fingerprint and again.summary is not None and run.summary is not None
    assert again.summary["test"] == run.summary["test"]
    content = (exported / "model.safetensors").read_bytes()
    (exported / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="checksum does not match"):
        aerun.load(exported)
    (exported / "model.safetensors").write_bytes(content)


def test_the_doctor_examines_an_exported_run_like_the_run(exported: Path, trained: Trained) -> None:
    ours, theirs = (aerun.diagnose(folder).examination for folder in (exported, trained(*TOPK)))
    assert ours.fit == theirs.fit and ours.layers == theirs.layers


def test_the_model_card_describes_the_run(exported: Path, trained: Trained) -> None:
    card = (exported / "README.md").read_text()
    summary = open_run(trained(*TOPK)).summary
    assert summary is not None
    assert "encoder: Flatten, Linear 784-64" in card and "TopK (k=8, activation=leaky_relu)" in card
    assert "1x28x28, 512 train, 1,000 validation, 2,000 test" in card and summary["dataset_checksum"] in card
    for value in (summary["test"]["mse"], summary["baselines"]["pca/mse"], summary["baselines"]["mean_image/mse"]):
        assert f"| {value:.6f} |" in card
    assert 'aerun.load("FOLDER")' in card and "`encoder.pt2` | " in card


def test_exports_contain_nothing_about_the_machine(exported: Path, trained: Trained, tmp_path: Path) -> None:
    host = platform.node()
    for path in exported.iterdir():
        content = path.read_bytes()
        for private in (str(ROOT), str(trained(*TOPK)), str(exported), "site-packages", sys.prefix):
            assert private.encode() not in content, path.name
        assert path.suffix not in (".json", ".yaml", ".md") or len(host) < 4 or host not in path.read_text()

    run = open_run(trained(*TOPK))
    secret = {"_target_": "aerun.dataset.ImageFolder", "root": "/home/somebody/art", "size": 28}
    moved = OpenedRun(run.folder, run.autoencoder, run.config | {"dataset": secret, "init_from": "/home/somebody/run"})
    write_run(moved, tmp_path)
    write_card(moved, tmp_path, {})
    assert not [path for path in tmp_path.iterdir() if b"somebody" in path.read_bytes()]
    assert without_paths({"a": ["~/x/y", "C:\\me\\z", "relu", 3, None]}) == {"a": ["y", "z", "relu", 3, None]}


def test_a_wrong_export_is_an_error_and_not_written(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = export_run._write_torch

    def wrong(program: Any, path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        module = right(program, path)
        return lambda batch: module(batch) * (1 + 3e-5 * (path.stem == "decoder"))

    monkeypatch.setattr(export_run, "_write_torch", wrong)
    with pytest.raises(AerunError, match=r"PyTorch's: decoder\.pt2 by 3e-05 of the largest output; nothing"):
        export_run.export(trained(*TOPK), tmp_path / "out", ["torch"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ("model=conv", "model.tied=true", "model.hidden=[4,6]", "sparsity=topk", "sparsity.k=3"),
        ("model=fc_vae", "model.hidden=[30]", "loss=bce", "dataset.shape=[20]", "dataset.normalize=none"),
    ],
)
def test_feature_maps_tied_weights_vectors_and_gaussian_codes_are_exported(
    compose: Compose, options: tuple[str, ...], tmp_path: Path
) -> None:
    config = compose(["dataset=random", *options])
    found = export_run.write_graphs(model_of(config, config["dataset"]["shape"]), tmp_path, ["torch"])
    assert len(found) == 3 and max(found.values()) <= export_run.RELATIVE_TOLERANCE


def test_exports_contain_the_standardization(compose: Compose, tmp_path: Path) -> None:
    config = compose(["dataset=random", "dataset.shape=[20]", "dataset.normalize=standardise", "model.code_size=5"])
    autoencoder = model_of(config, [20])
    for part in (autoencoder.standardise_input, autoencoder.standardise_target):
        assert part.mean is not None and part.deviation is not None
        part.mean.fill_(1000.0)
        part.deviation.fill_(3.0)
    assert max(export_run.write_graphs(autoencoder, tmp_path, ["torch"]).values()) <= export_run.RELATIVE_TOLERANCE
    rows = 1000 + 3 * torch.randn(4, 20)
    found = torch.export.load(tmp_path / "autoencoder.pt2").module()(rows)
    assert torch.allclose(found, autoencoder.reconstruct(rows)) and float(found.mean()) > 900


MODELS = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml") if path.stem != "modules")
SPARSITIES = sorted(path.stem for path in (conf_dir() / "sparsity").glob("*.yaml"))
CODES = [("deterministic", name) for name in SPARSITIES] + [("gaussian", "none"), ("importance_weighted", "none")]


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("latent", "sparsity"), CODES)
def test_every_model_is_exported_with_every_sparsity_and_latent(
    compose: Compose, model: str, latent: str, sparsity: str, tmp_path: Path
) -> None:
    k = ["sparsity.k=2"] if "topk" in sparsity else []
    config = compose(["dataset=random", f"model={model}", f"latent={latent}", f"sparsity={sparsity}", *k])
    shape = [3, 32, 32] if model == "conv_deep" else [1, 28, 28]
    found = export_run.write_graphs(model_of(config, shape), tmp_path, ["torch", "onnx"])
    assert len(found) == 6 and max(found.values()) <= export_run.RELATIVE_TOLERANCE, found


@needs_onnx
def test_the_example_encodes_images_without_torch(exported: Path, trained: Trained, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)
    for name, pixels in zip("ab", images, strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    words = ["encode_onnx.py", str(exported / "encoder.onnx"), "a.png", "b.png"]
    code = (
        f"import runpy, sys; sys.argv = {words!r}; runpy.run_path({str(ROOT / 'docs/examples/encode_onnx.py')!r}, "
        "run_name='__main__'); assert not {'torch', 'aerun'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    expected = aerun.load(trained(*TOPK)).encode(torch.from_numpy(images).float().div(255).unsqueeze(1)).numpy()
    assert [line[0] for line in lines] == ["a.png", "b.png"]
    found = np.array([[float(value) for value in line[1:]] for line in lines])
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_invalid_exports_are_one_line(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(*TOPK)

    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["aerun-export", *words])
        assert main() == 1
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    assert "is not a run folder" in said(str(tmp_path), str(tmp_path / "out"), "--format", "torch")
    assert "is the run itself; name another folder" in said(str(run), str(run), "--format", "torch")
    assert "not written by aerun-export" in said(str(run), str(run / "figures"), "--format", "torch")
    assert "invalid choice: 'tflite'" in said(str(run), str(tmp_path / "out"), "--format", "tflite")
    with pytest.raises(ConfigError, match=r"format tflite: unknown format\. Allowed: onnx, torch, safetensors"):
        aerun.export(run, tmp_path / "out", ["tflite"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'aerun[export]', or use --format torch safetensors" in said(str(run), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
