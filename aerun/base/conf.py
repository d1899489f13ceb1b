"""Where the shipped configuration lies."""

from pathlib import Path


def conf_dir() -> Path:
    """``conf`` inside the installed package, or at the top of a checkout (where editable installs keep it)."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if (inside / "train.yaml").is_file() else package.parent / "conf"
