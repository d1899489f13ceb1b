"""The folder of the configuration files in the package."""

from pathlib import Path


def conf_dir() -> Path:
    """Return ``conf`` inside the installed package, or at the top of a checkout (for editable installs)."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if (inside / "train.yaml").is_file() else package.parent / "conf"
