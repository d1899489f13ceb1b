"""Weights of small networks that are trained once and kept on this machine."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aerun.base.files import write_bytes
from aerun.errors import StorageError


def load_weights(path: Path, network: nn.Module) -> bool:
    """Load kept weights; False if there are none, or if they are damaged."""
    damages = (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damages), np.load(path) as stored:
        network.load_state_dict({name: torch.from_numpy(stored[name]) for name in network.state_dict()})
        return True
    return False


def save_weights(path: Path, network: nn.Module) -> None:
    """Keep the weights of a network; if the folder cannot be written, only time is lost."""
    content = io.BytesIO()
    np.savez(content, **{name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()})
    with contextlib.suppress(OSError, StorageError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.getvalue())
