"""The folder of the configuration files in the package."""

from pathlib import Path


def conf_dir() -> Path:
    """Return ``conf`` inside the installed package, in a checkout a link to ``conf`` at its top."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside.resolve() if (inside / "train.yaml").is_file() else package.parent / "conf"
