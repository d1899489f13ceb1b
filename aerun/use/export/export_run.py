"""Trained runs for programs that know nothing of aerun: ONNX, torch.export, and weights with a card.

Each piece takes and gives the data's own units, in float32, for batches of any size: standardisation is inside, the
sparsity acts as in evaluation, and the code of a Gaussian latent is its mean.
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
from aerun.core.autoencoder import Autoencoder, Standardise, untie
from aerun.errors import AerunError, DataError
from aerun.runs.reopen import load
from aerun.use.export.export_formats import EXPORT_FOLDER, FORMATS, PIECES, SUFFIXES, check_export
from aerun.use.export.model_card import write_card, write_run
from aerun.use.opened_run import OpenedRun, open_run
from aerun.use.outputs import replacing_folder

RELATIVE_TOLERANCE = 1e-5  # of the largest output
EXPORT_ROWS, CHECKED_ROWS = 3, (1, 7)  # rows to export with (one would be taken for a constant), and to compare with
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What was written: ``differences`` are the largest between a file's outputs and PyTorch's, over the largest
    output; weights are compared bit for bit."""

    folder: Path
    differences: dict[str, float]


def export(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
    trusted_packages: Sequence[str] = (),
    overwrite: bool = False,
) -> Exported:
    """Write the trained model of a run folder as ``formats`` into an empty or new ``folder``, and check each file.

    ``onnx`` and ``torch`` are encoder, decoder and both, in files of their own; ``safetensors`` is a folder that
    ``aerun.load`` reads. Each has a README.md beside it. AerunError names the files whose outputs differ from PyTorch's
    by more than ``TOLERANCE``; then nothing is written. A folder that holds more than an older export, or without
    ``overwrite`` anything, is refused. The run computes on the CPU.
    """
    place = Path(folder).expanduser()
    check_export(Path(run).expanduser(), place, formats, overwrite)
    opened = open_run(run, "cpu", trusted_packages)
    with replacing_folder(place, EXPORT_FOLDER, overwrite) as building:
        found = write_graphs(opened.autoencoder, building, [name for name in formats if name != "safetensors"])
        if "safetensors" in formats:
            _write_weights(opened, building, trusted_packages)
        wrong = {name: value for name, value in found.items() if not value <= RELATIVE_TOLERANCE}
        if wrong:
            told = ", ".join(f"{name} by {value:.2g}" for name, value in wrong.items())
            raise AerunError(f"{place}: not equal to PyTorch: {told} of the largest output; nothing is written")
        write_card(opened, building, found)
    return Exported(place, found)


def write_graphs(autoencoder: Autoencoder, place: Path, formats: Sequence[str]) -> dict[str, float]:
    """Each of ``PIECES`` as ``onnx`` or ``torch``, or both: by file, how far it is from PyTorch (see ``Exported``)."""
    inputs, found = _random_inputs(autoencoder), {}
    with progress_bar("export", len(PIECES) * len(formats)) as bar:
        for piece in (ExportedModule(autoencoder, name) for name in PIECES) if formats else ():
            rows = [autoencoder.encode(batch) for batch in inputs] if piece.name == "decoder" else inputs
            program = piece.program(rows[0])
            for name in formats:
                path = place / f"{piece.name}{SUFFIXES[name]}"
                written = _write_onnx(piece, program, path) if name == "onnx" else _write_torch(program, path)
                found[path.name] = max(_relative_difference(piece(batch), written(batch)) for batch in rows[1:])
                log.info("%-20s differs from PyTorch by %.2g of the largest output", path.name, found[path.name])
                bar.update(1)
    return found


class ExportedModule(nn.Module):
    """One of ``PIECES`` with no more weights than it needs, tied ones as weights of their own."""

    def __init__(self, autoencoder: Autoencoder, name: str) -> None:
        super().__init__()
        self.name = name
        self.autoencoder = copy.deepcopy(autoencoder).eval()
        untie(self.autoencoder)
        if name == "encoder":
            self.autoencoder.decoder = nn.Identity()
        if name == "decoder":
            self.autoencoder.encoder = nn.Identity()
            self.autoencoder.standardise_input = Standardise()
        self.requires_grad_(False)

    def forward(self, batch: Tensor) -> Tensor:
        """As ``encode``, ``decode`` or ``reconstruct`` of an autoencoder, without their batches and checks."""
        code = batch if self.name == "decoder" else self.autoencoder._code(batch)
        return code if self.name == "encoder" else self.autoencoder._picture(code)

    @torch.no_grad()
    def program(self, rows: Tensor) -> torch.export.ExportedProgram:
        """The graph that these rows, any number of them, go through."""
        program = torch.export.export(self, (rows,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it names this machine's folders, and would be written out
        return program


def _random_inputs(autoencoder: Autoencoder) -> list[Tensor]:
    """Random images or vectors such as the run has seen, in the data's units: for the export and for each trial."""
    generator, standardise = torch.Generator().manual_seed(0), autoencoder.standardise_input
    batches = []
    for count in (EXPORT_ROWS, *CHECKED_ROWS):
        shape = (count, *autoencoder.input_shape)
        if standardise.mean is None:
            batches.append(torch.rand(shape, generator=generator))
        else:
            batches.append(standardise.inverse(torch.randn(shape, generator=generator)))
    return batches


def _write_onnx(piece: ExportedModule, program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the file; what onnxruntime computes with it."""
    import onnxruntime

    given, made = PIECES[piece.name]
    for talker in ("onnxscript", "onnx_ir"):
        logging.getLogger(talker).setLevel(logging.WARNING)
    exported = torch.onnx.export(
        program,
        input_names=[given],
        output_names=[made],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # where each came from, this machine's folders included
    exported.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run([made], {given: batch.numpy()})[0])


def _write_torch(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the file; what torch computes with it."""
    torch.export.save(program, str(path))
    module = torch.export.load(str(path)).module()
    return lambda batch: module(batch).detach()


def _relative_difference(expected: Tensor, found: Tensor) -> float:
    """The largest between two outputs, over the largest value expected; infinite for other shapes or no numbers."""
    if expected.shape != found.shape or not bool(found.isfinite().all()):
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-30))


def _write_weights(opened: OpenedRun, place: Path, trusted_packages: Sequence[str]) -> None:
    """A small run folder; DataError if what is read from it is not what was written."""
    write_run(opened, place)
    again: Mapping[str, Tensor] = load(place, "cpu", trusted_packages).state_dict()
    weights = opened.autoencoder.state_dict()
    if weights.keys() != again.keys() or not all(torch.equal(value, again[name]) for name, value in weights.items()):
        raise DataError(f"{opened.folder}: what was written and read again does not have its weights")
