"""``python -m aerun COMMAND ...``: all commands under one name."""

from __future__ import annotations

import sys
from importlib import import_module

from aerun.base.program import MODULE, version_line
from aerun.errors import nearest

# Each is a module of aerun/cli, imported only when its name is given.
COMMANDS = {
    "train": "train an autoencoder, or a sweep of them",
    "evaluate": "recompute the test metrics and figures of a finished run; run more protocols",
    "compare": "compare runs and sweeps: tables, figures, a page",
    "status": "show what runs are doing: states, speed, time left, failures",
    "track": "send runs to trackers on a server: what they have not got",
    "tidy": "free the disk of what runs leave",
    "doctor": "diagnose runs: what is wrong, and what to try",
    "denoise": "clean image files with a run",
    "compress": "write pictures as small files, with a run of experiment=codec",
    "decompress": "read those files",
    "embed": "encode a folder of images into one file",
    "search": "find similar, cropped or duplicate images in a collection",
    "anomalies": "score pictures by how unusual they are, with a threshold",
    "organise": "cluster a collection",
    "generate": "sample, interpolate, traverse and add codes",
    "map": "draw maps of a run's codes",
    "export": "write a run as ONNX, torch.export or safetensors",
}


def main() -> int:
    """Run the command that ``sys.argv`` names. Returns its exit code; 1 for an unknown name."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(version_line())
        return 0
    if name not in COMMANDS:
        allowed = ", ".join(COMMANDS)
        print(f"aerun: {name}: unknown command.{nearest(name, COMMANDS)} Allowed: {allowed}", file=sys.stderr)
        return 1
    sys.argv = [f"{MODULE} {name}", *words]
    code: int = import_module(f"aerun.cli.{name}").main()
    return code


def usage() -> str:
    """All commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, about in COMMANDS.items()]
    return "\n".join([f"usage: {MODULE} COMMAND ...\n", *lines, f"\n{MODULE} COMMAND --help shows its options."])
