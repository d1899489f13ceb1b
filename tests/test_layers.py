"""Who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from aerun.config.settings import GROUPS
from aerun.contracts import REQUIRED

ROOT = Path(__file__).resolve().parent.parent
MODULES = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "aerun").rglob("*.py"))}
PARTS = ("noise", "sparsity", "latent", "regularizer", "schedule", "loss", "optimizer", "scheduler", "model")
SHARED = ("aerun.base.", "aerun.config.deferred", "aerun.contracts", "aerun.errors")


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, those for type checkers included."""
    found: set[str] = set()
    for node in ast.walk(MODULES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def importers(package: str) -> set[str]:
    return {
        path.relative_to(ROOT / "aerun").as_posix()
        for path in MODULES
        if any(name == package or name.startswith(f"{package}.") for name in imports(path))
    }


# From the top down: a room imports only what stands below it. Choices of one floor do not know each other.
ROOMS = (
    ("__init__", "python", "sklearn"),
    ("cli",),
    ("ranks",),
    ("sweep",),
    ("use", "compare"),
    ("runs",),
    ("doctor",),
    ("training",),
    ("protocol",),
    ("metrics",),
    ("core",),
    (
        "dataset",
        "noise",
        "model",
        "sparsity",
        "latent",
        "regularizer",
        "schedule",
        "loss",
        "optimizer",
        "scheduler",
        "trainer",
        "callback",
        "tracker",
    ),
    ("config",),
    ("base", "figures"),
    ("contracts", "errors"),
)


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        (
            "hydra",
            {
                *("cli/evaluate.py", "cli/train.py", "config/compose.py", "config/explain.py"),
                *(
                    "sweep/composer.py",
                    "sweep/composition.py",
                    "sweep/in_process.py",
                    "sweep/plugin.py",
                    "sweep/points.py",
                ),
            },
        ),
        (
            "omegaconf",
            {
                *("cli/train.py", "config/compose.py", "config/explain.py"),
                *("sweep/composer.py", "sweep/composition.py", "sweep/plugin.py"),
            },
        ),
        (
            "matplotlib",
            {f"figures/{name}.py" for name in ("__init__", "canvas", "code_plots", "montage")}
            | {f"figures/{name}.py" for name in ("front_chart", "parallel_chart", "run_charts")}
            | {"sweep/optuna_study.py"},
        ),
        ("torch.utils.tensorboard", {"tracker/tensorboard.py"}),
        ("mlflow", {"tracker/servers.py"}),
        ("wandb", {"tracker/servers.py"}),
        ("trackio", {"tracker/servers.py"}),
        ("safetensors", {"training/checkpoint.py", "sweep/point_check.py", "dataset/shared.py"}),
        ("optuna", {"sweep/optuna_study.py"}),
        ("joblib", {"sweep/launcher/joblib.py"}),
        ("submitit", {"sweep/launcher/slurm.py"}),
        ("ray", {"sweep/launcher/ray.py"}),
        ("onnxruntime", {"use/export/export_run.py"}),
        ("tqdm", {"base/progress_bar.py", "runs/epoch_bar.py"}),
    ],
)
def test_a_package_is_imported_only_by_its_owner(package: str, owners: set[str]) -> None:
    assert importers(package) == owners


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_no_other_part(part: str) -> None:
    files = [
        path for path in MODULES if path.relative_to(ROOT / "aerun").as_posix().startswith((f"{part}.", f"{part}/"))
    ]
    assert files
    for path in files:
        ours = {name for name in imports(path) if name.startswith("aerun")}
        assert all(name.startswith((*SHARED, f"aerun.{part}")) for name in ours), path


def test_comparisons_work_from_files_alone() -> None:
    """Nothing that runs is imported, and matplotlib only through the modules that ask for pictures."""
    files = [path for path in MODULES if path.parent.name == "compare"]
    allowed = {
        *(
            "aerun.base.archive",
            "aerun.base.arguments",
            "aerun.base.files",
            "aerun.base.lock",
            "aerun.compare",
            "aerun.config.explain",
        ),
        *("aerun.config.schema", "aerun.config.settings", "aerun.errors"),
        *("aerun.metrics.declared", "aerun.runs.folder"),
    }
    for path in files:
        ours = {name for name in imports(path) if name.startswith("aerun.")}
        figures = {"aerun.figures"} if path.name.endswith("_pictures.py") else set()
        assert all(name.startswith((*allowed, *figures)) for name in ours), path


@pytest.mark.parametrize(
    "module",
    [
        "aerun",
        "aerun.cli.train",
        "aerun.compare",
        "aerun.cli.compare",
        "aerun.python.train",
        "aerun.python.sweep",
        "aerun.sweep.plugin",
        "aerun.sweep.job_runner",
        "aerun.sweep.launcher.slurm",
        "aerun.config.settings",
        "aerun.metrics.declared",
        "aerun.dataset",
        "aerun.model",
        "aerun.trainer",
        *(f"aerun.cli.{path.stem}" for path in MODULES if path.parent.name == "cli"),
    ],
)
def test_importing_what_answers_first_does_not_import_torch(module: str) -> None:
    heavy = "torch torchvision numpy matplotlib sklearn scipy PIL tensorboard"
    code = f"import sys, {module}; print(*[name for name in '{heavy}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_what_is_read_of_a_part_is_in_its_contract(group: str) -> None:
    """Of one of somebody else's nothing else is there."""
    import re

    from aerun.contracts import CONTRACTS

    contract = CONTRACTS[group]
    offered = {name for base in contract.__mro__ for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    offered |= set(REQUIRED.get(group, ()))
    read = {name for path in MODULES for name in re.findall(rf"settings\.{group}\.(\w+)", path.read_text())}
    assert read <= offered, read - offered


def test_a_class_that_is_no_trainer_is_rejected() -> None:
    from aerun.config.parse import build_part
    from aerun.errors import ConfigError

    with pytest.raises(ConfigError, match=r"lacks epochs, batch_size, which every trainer has"):
        build_part("trainer", {"_target_": "collections.OrderedDict"})


def test_what_the_package_offers_is_there_and_has_a_docstring() -> None:
    import aerun

    assert set(aerun.FUNCTIONS) == {name for name in aerun.__all__ if name.islower()} <= set(dir(aerun))
    for name in aerun.__all__:
        assert getattr(aerun, name).__doc__, name


def test_the_house_keeps_to_its_budget() -> None:
    """``python scripts/house.py`` prints the figures and what is behind them. Rooms and arrows are held where they are;
    the goal is 30 and 160."""
    from scripts.house import BATCH, GOALS, measure

    figures = measure(ROOT, batch=False).figures
    most = {**GOALS, "rooms (aerun/, scripts/, benchmarks/)": 34, "arrows between rooms": 172}
    most["frequent offenders, in words"] = 0
    del most[BATCH]
    assert {name: figures[name] for name in most if figures[name] > most[name]} == {}


def test_a_batch_passes_through_few_files() -> None:
    """Seen by running the default command for three steps."""
    from scripts.house import BATCH, GOALS, follow_batch

    house = follow_batch(ROOT)
    assert house.figures[BATCH] <= GOALS[BATCH], house.names
