"""Write a trained run for programs without aerun: ONNX, torch.export, and weights with a model card.

Every exported module takes and returns the data's own units, in float32, for any batch size: it contains the
standardization, applies the sparsity as in evaluation, and encodes to the mean of a Gaussian latent.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aerun.base.progress_bar import progress_bar
from aerun.core.autoencoder import Autoencoder, Standardize, untie
from aerun.errors import AerunError, DataError
from aerun.runs.reopen import load
from aerun.use.export.export_formats import EXPORT_FOLDER, FORMATS, PIECES, SUFFIXES, check_export
from aerun.use.export.model_card import write_card, write_run
from aerun.use.opened_run import OpenedRun, open_run
from aerun.use.outputs import replacing_folder

RELATIVE_TOLERANCE = 1e-5  # of the largest output
EXPORT_ROWS = 3  # torch.export would take a single row for a constant
CHECKED_ROWS = (1, 7)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What was written. ``differences``: for each file the largest difference from PyTorch, over the largest output."""

    folder: Path
    differences: dict[str, float]


def export(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
    trusted_packages: Sequence[str] = (),
    overwrite: bool = False,
) -> Exported:
    """Write the trained model of a run folder into an empty or new ``folder``, and check each file. Runs on the CPU.

    ``onnx`` and ``torch`` write encoder, decoder and autoencoder as files of their own; ``safetensors`` makes the
    folder readable by ``aerun.load``. A README.md is the model card. AerunError, and no files, if outputs differ from
    PyTorch's by more than 1e-5 of the largest. ConfigError if the folder is not empty, or if with ``overwrite`` it
    contains more than an earlier export.
    """
    target = Path(folder).expanduser()
    check_export(Path(run).expanduser(), target, formats, overwrite)
    opened = open_run(run, "cpu", trusted_packages, conditional=True)
    graphs = [name for name in formats if name != "safetensors"]
    if opened.classes is not None and graphs:
        raise DataError(
            f"{run}: its model is conditional, and {' and '.join(graphs)} files take no labels; use safetensors alone"
        )
    with replacing_folder(target, EXPORT_FOLDER, overwrite) as building:
        differences = write_graphs(opened.autoencoder, building, graphs)
        if "safetensors" in formats:
            _write_weights(opened, building, trusted_packages)
        wrong = {name: value for name, value in differences.items() if not value <= RELATIVE_TOLERANCE}
        if wrong:
            text = ", ".join(f"{name} by {value:.2g}" for name, value in wrong.items())
            raise AerunError(f"{target}: outputs differ from PyTorch's: {text} of the largest output; nothing written")
        write_card(opened, building, differences)
    return Exported(target, differences)


def write_graphs(autoencoder: Autoencoder, folder: Path, formats: Sequence[str]) -> dict[str, float]:
    """Write each of ``PIECES`` as ``onnx``, ``torch`` or both. Returns the ``differences`` of ``Exported``."""
    inputs, differences = _random_inputs(autoencoder), {}
    with progress_bar("export", len(PIECES) * len(formats)) as bar:
        for piece in (ExportedModule(autoencoder, name) for name in PIECES) if formats else ():
            batches = [autoencoder.encode(batch) for batch in inputs] if piece.name == "decoder" else inputs
            program = piece.program(batches[0])
            for name in formats:
                path = folder / f"{piece.name}{SUFFIXES[name]}"
                written = _write_onnx(piece, program, path) if name == "onnx" else _write_torch(program, path)
                difference = max(_relative_difference(piece(batch), written(batch)) for batch in batches[1:])
                log.info("%-20s differs from PyTorch by %.2g of the largest output", path.name, difference)
                differences[path.name] = difference
                bar.update(1)
    return differences


class ExportedModule(nn.Module):
    """One of ``PIECES`` with only the weights that it needs; tied weights become separate ones."""

    def __init__(self, autoencoder: Autoencoder, name: str) -> None:
        super().__init__()
        self.name = name
        self.autoencoder = copy.deepcopy(autoencoder).eval()
        untie(self.autoencoder)
        if name == "encoder":
            self.autoencoder.decoder = nn.Identity()
        if name == "decoder":
            self.autoencoder.encoder = nn.Identity()
            self.autoencoder.standardise_input = Standardize()
        self.requires_grad_(False)

    def forward(self, batch: Tensor) -> Tensor:
        """``encode``, ``decode`` or ``reconstruct`` of the autoencoder, without batching and checks."""
        code = batch if self.name == "decoder" else self.autoencoder.encode_batch(batch)
        return code if self.name == "encoder" else self.autoencoder.decode_batch(code)

    @torch.no_grad()
    def program(self, batch: Tensor) -> torch.export.ExportedProgram:
        """The graph of this module, for any number of rows like those of the batch."""
        program = torch.export.export(self, (batch,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # would be exported, with this machine's folders
        return program


def _random_inputs(autoencoder: Autoencoder) -> list[Tensor]:
    """Random batches in the data's units: one to export with, the others to check."""
    generator, standardise = torch.Generator().manual_seed(0), autoencoder.standardise_input
    batches = []
    for rows in (EXPORT_ROWS, *CHECKED_ROWS):
        shape = (rows, *autoencoder.input_shape)
        if standardise.mean is None:
            batches.append(torch.rand(shape, generator=generator))
        else:
            batches.append(standardise.inverse(torch.randn(shape, generator=generator)))
    return batches


def _write_onnx(piece: ExportedModule, program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the file. Returns onnxruntime's function of it."""
    import onnxruntime

    input_name, output_name = PIECES[piece.name]
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)
    exported = torch.onnx.export(
        program,
        input_names=[input_name],
        output_names=[output_name],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # contain this machine's folders
    # Neither library opens a path whose name has bytes that are not UTF-8.
    path.write_bytes(exported.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run([output_name], {input_name: batch.numpy()})[0])


def _write_torch(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the file. Returns torch's function of it."""
    with path.open("wb") as file:
        torch.export.save(program, file)
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda batch: module(batch).detach()


def _relative_difference(expected: Tensor, found: Tensor) -> float:
    """The largest difference over the largest expected value; infinite if shapes differ or values are not finite."""
    if expected.shape != found.shape or not bool(found.isfinite().all()):
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-30))


def _write_weights(opened: OpenedRun, folder: Path, trusted_packages: Sequence[str]) -> None:
    """Write a small run folder. DataError if reading it does not give the same weights."""
    write_run(opened, folder)
    again: Mapping[str, Tensor] = load(folder, "cpu", trusted_packages).state_dict()
    weights = opened.autoencoder.state_dict()
    if weights.keys() != again.keys() or not all(torch.equal(value, again[name]) for name, value in weights.items()):
        raise DataError(f"{opened.folder}: the written weights differ from the run's when read again")
