"""The built wheel, installed without a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from aerun.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel, which takes its dependencies from the running one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    # A path in a .pth file is searched for packages, but its own .pth files (the editable aerun) are not followed.
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (Path(purelib) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def start(installed: Path, cwd: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [installed / "venv" / "bin" / program, *words]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def aerun_train(installed: Path, cwd: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return start(installed, cwd, "aerun-train", *overrides)


def test_the_wheel_contains_configuration_data_and_licenses(installed: Path) -> None:
    [wheel] = installed.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "aerun/conf/__init__.py",
        "aerun/conf/train.yaml",
        "aerun/conf/model/fc.yaml",
        "aerun/conf/hydra/keys/dataset.yaml",
    } <= names
    assert "aerun/data/fashion_mnist_mini/train-images-idx3-ubyte.gz" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("fashion_mnist_mini/LICENSE") and "licenses" in name for name in names)
    assert {"aerun/py.typed", "aerun/__main__.py"} <= names


def test_the_console_command_trains_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = aerun_train(installed, tmp_path, "trainer.epochs=1", "trainer.threads=1")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs").glob("*/summary.json"))) == 1
    where = start(installed, tmp_path, "python", "-c", "import aerun; print(aerun.__file__)")
    assert str(installed) in where.stdout


def test_every_command_starts_and_shows_its_version(installed: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    asked = start(installed, tmp_path, "python", "-c", "import aerun; print(aerun.__version__)")
    assert asked.stdout == f"{version}\n"
    commands = sorted(path.name for path in (installed / "venv" / "bin").glob("aerun-*"))
    assert commands == sorted(f"aerun-{name}" for name in COMMANDS)
    for program, *words in (["python", "-m", "aerun"], *([command] for command in commands)):
        shown = start(installed, tmp_path, program, *words, "--version")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert re.fullmatch(rf"aerun {version} \(torch \d\S*, hydra 1\.3\S*\)\n", shown.stdout), program


def test_config_dir_adds_options_to_those_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "noise").mkdir(parents=True)
    (tmp_path / "mine" / "noise" / "heavy.yaml").write_text("_target_: aerun.noise.SaltPepper\nrate: 0.9\n")
    done = aerun_train(installed, tmp_path, "--config-dir", "mine", "noise=heavy", "--cfg", "job")
    assert "rate: 0.9" in done.stdout
    done = aerun_train(installed, tmp_path, "noise=heavy", "--cfg", "job")
    assert done.returncode == 1 and "noise=heavy: there is no such option" in done.stderr
