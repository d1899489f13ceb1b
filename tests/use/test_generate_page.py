"""Every command for new images and maps that a page shows, typed."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from aerun.cli import generate, map
from tests.use.test_generate import PLANE

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = {"aerun-generate": generate.main, "aerun-map": map.main}
TRAINED = Callable[..., Path]
QUANTIZED = ("model.code_size=8", "latent=vq", "latent.entries=16", "latent.dimension=4", "dataset.train_limit=64")
CONDITIONAL = ("model=fc_vae", "model.hidden=[32]", "model.code_size=3", "loss=bce", "model.condition=label")


def shown_commands() -> list[str]:
    """The lines of the pages, without comments; the gallery's are run by what writes it."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [re.split(r"\s#", line)[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.partition(" ")[0] in COMMANDS))


def test_pages_show_the_commands() -> None:
    assert len(shown_commands()) >= 12


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_a_page_shows_works(
    line: str, trained: TRAINED, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    options = QUANTIZED if "frequencies" in words else CONDITIONAL if "--label" in words else PLANE
    if "umap" in line and importlib.util.find_spec("umap") is None:
        words = [word.replace(",umap", "") for word in words]
    for name in ("cat.png", "dog.png"):
        Image.open(drawings / "2.png").save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (drawings / "broken.png").unlink()
    places = {"outputs/RUN_FOLDER": str(trained(*options)), "RUN": str(trained(*options)), "AE_RUN": str(trained())}
    places |= {"VAE_RUN": str(trained(*PLANE)), "drawings/": str(drawings)}
    monkeypatch.setattr(sys, "argv", [places.get(word, word) for word in words])
    assert COMMANDS[words[0]]() == 0
