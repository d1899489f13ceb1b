"""The command line, in processes of its own: errors, help, flags, versions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("model=fcc", ["model=fcc", "Did you mean 'fc'?", "conv_fc"]),
        ("optimizer.lrr=1", ["optimizer.lrr", "Did you mean 'optimizer.lr'?"]),
        ("+optimizer.lrr=1", ["optimizer.lrr", "Did you mean 'lr'?"]),
        ("++optimizer.lrr=1", ["optimizer.lrr", "Did you mean 'lr'?"]),
        ("sedd=1", ["sedd", "Did you mean 'seed'?"]),
        ("modle=fc", ["modle", "Did you mean 'model'?"]),
        ("model@model2=conv", ["model@model2", "write model="]),
        ("model={a:1}", ["model: takes the name of one option", "fc_deep"]),
        ("optimizer.betas={a:1}", ["optimizer.betas={a:1}", "[0.9, 0.999]"]),
        ("optimizer.lr=abc", ["optimizer.lr=abc", "a number"]),
        ("optimizer.lr=-1", ["optimizer.lr=-1", "above 0"]),
        ("optimizer.lr=nan", ["optimizer.lr=nan", "above 0"]),
        ("sparsity=topk sparsity.k=0", ["sparsity.k=0", "at least 1"]),
        ("sparsity=topk sparsity.k=96", ["sparsity.k=96", "model.code_size=32"]),
        ("noise=masking noise.rate=1.5", ["noise.rate=1.5", "at most 1"]),
        ("model.code_size=0", ["model.code_size=0", "at least 1"]),
        ("model.hidden=5", ["model.hidden=5", "a list"]),
        ("model.activation=rleu", ["model.activation=rleu", "Did you mean 'relu'?"]),
        ("sparsity=kl sparsity.activation=relu", ["sparsity.activation=relu", "sigmoid"]),
        ("model=conv_fc model.tied=true", ["model.tied=true", "conv_fc"]),
        ("dataset=mnist dataset.root=/does/not/exist", ["dataset.root=/does/not/exist", "no such"]),
        ("dataset=image_folder", ["dataset.root", "a value is needed"]),
        ("trainer.device=gpu", ["trainer.device=gpu", "auto, cpu, cuda"]),
        ("seed=-1", ["seed=-1", "at least 0"]),
        ("noise=0.3", ["noise=0.3", "salt_pepper"]),
        ("sparsity.k=8", ["sparsity.k", "sparsity=topk"]),
        ("lr=0.1", ["Did you mean 'optimizer.lr'?"]),
        ("--epochs 5", ["--epochs", "trainer.epochs="]),
        ("trainer.epochs= 5", ["5", "key=value"]),
        ("dataset=image_folder dataset.root=~/does/not/exist", [f"dataset.root={Path.home()}/does/not/exist"]),
        ("-m seed=0,1 --cfg job", ["--multirun"]),
        ("seed=${nowhere}", ["nowhere"]),
        ("seed", ["seed", "key=value"]),
        ("latent=gaussian sparsity=l1", ["latent=gaussian", "sparsity=l1"]),
        ("--config-dir=/does/not/exist", ["/does/not/exist"]),
        ("hydra.run.dir=/proc/nowhere", ["/proc/nowhere"]),
    ],
)
def test_bad_input_is_at_most_two_lines_and_leaves_nothing(
    train: Train, tmp_path: Path, overrides: str, says: list[str]
) -> None:
    done = train(*overrides.split())
    lines = done.stderr.strip().splitlines()
    assert done.returncode in (1, 2)
    assert all(text in lines[-1] for text in says), done.stderr
    assert len(lines) <= 2 and "Traceback" not in done.stderr
    assert list((tmp_path / "outputs").glob("*")) == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("trainer.device=cuda:63", ["trainer.device=cuda:63", "this machine has"]),
        ("dataset.train_limit=20000", ["dataset.train_limit=20000", "9000"]),
        ("model=conv sparsity=topk", ["model=conv", "sparsity=topk", "9 positions"]),
        ("resume=/does/not/exist", ["resume=/does/not/exist", "no such run folder"]),
    ],
)
def test_errors_found_by_torch_or_the_data_are_as_short(
    train: Train, tmp_path: Path, overrides: str, says: list[str]
) -> None:
    done = train(*overrides.split())
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert all(text in lines[-1] for text in says), done.stderr
    assert len(lines) <= 2
    assert list((tmp_path / "outputs").glob("*")) == []


def test_full_error_shows_the_traceback(train: Train) -> None:
    done = train("seed=-1", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ConfigError" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["seed=-1"], ["model=fcc"]])
def test_help_and_errors_do_not_import_torch(train: Train, arguments: list[str]) -> None:
    done = train(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert "hydra" in done.stderr
    assert not any(line.split("|")[-1].strip() in ("torch", "numpy") for line in done.stderr.splitlines())


def test_help_lists_groups_options_and_keys(train: Train) -> None:
    done = train("--help")
    assert done.returncode == 0
    for group in ("dataset", "latent", "loss", "model", "noise", "optimizer", "scheduler", "sparsity", "trainer"):
        assert f"{group}:" in done.stdout
    assert ", ".join(sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))) in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("model=f", {"model=fc", "model=fc_deep", "model=fc_vae"}),
        ("optimizer.l", {"optimizer.lr="}),
        ("sparsity=topk spars", {"sparsity="}),
    ],
)
def test_bash_completion(typed: str, offered: set[str]) -> None:
    line = f"python scripts/train.py {typed}"
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "scripts/train.py", "-sc", "query=bash"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert offered <= set(done.stdout.split())


def test_config_dir_adds_options(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "wide.yaml").write_text("defaults: [fc, _self_]\ncode_size: 99\n")
    done = train("--config-dir=mine", "model=wide", "--cfg", "job")
    assert "code_size: 99" in done.stdout


def test_a_grid_runs_each_job_in_its_own_folder(train: Train, tmp_path: Path) -> None:
    tiny = ["dataset=random", "dataset.images=50", "trainer.epochs=1", "trainer.pictures=0"]
    done = train("-m", "model=fc,fc_deep", "seed=0,1", *tiny)
    assert done.returncode == 0, done.stderr
    [sweep] = (tmp_path / "outputs").glob("sweep_*")
    assert len(list(sweep.glob("*/summary.json"))) == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("seed=1 --config-dir /my/conf model=mine", "--config-dir /my/conf seed=1 model=mine"),
        ("-m seed=1,2 -cd=/my/conf model=mine", "-m -cd=/my/conf seed=1,2 model=mine"),
        ("model=conv --cfg job seed=1", "--cfg job model=conv seed=1"),
        ("model=conv --info seed=1", "--info model=conv seed=1"),
        ("model=conv --info defaults", "--info defaults model=conv"),
        ("~noise seed=1", "~noise seed=1"),
    ],
)
def test_flags_may_be_anywhere(words: str, expected: str) -> None:
    from aerun.cli.hydra_flags import flags_first

    assert flags_first(words.split()) == expected.split()


def test_a_flag_may_be_between_overrides(train: Train, tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("defaults: [fc, _self_]\ncode_size: 7\n")
    done = train("seed=3", "--config-dir", str(tmp_path / "conf"), "model=mine", "--cfg", "job", "noise=masking")
    assert done.returncode == 0, done.stderr
    assert "code_size: 7" in done.stdout and "seed: 3" in done.stdout


def aerun(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aerun", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **extra}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_python_m_aerun_lists_all_commands() -> None:
    from aerun.cli.main import COMMANDS

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {f"aerun-{name}": f"aerun.cli.{name}:main" for name in COMMANDS} == project["scripts"]
    listed = aerun().stdout
    assert listed == aerun("--help").stdout
    for name, about in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(about)}$", listed, re.MULTILINE)


def test_an_unknown_command_lists_the_valid_ones() -> None:
    done = aerun("serch", "RUN")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("aerun: serch: unknown command. Did you mean 'search'? Allowed: train, evaluate, ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["evaluate", "compare", "status", "tidy", "doctor", "denoise", "embed", "search", "organise", "map"]
)
def test_a_command_imports_only_its_own_module_and_shows_how_it_was_started(name: str) -> None:
    done = aerun(name, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and f"usage: python -m aerun {name} " in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert {module for module in imported if module.startswith("aerun.cli.")} <= {
        *("aerun.cli.main", "aerun.cli.command", "aerun.cli.run_report", f"aerun.cli.{name}")
    }
    assert not imported & {"torch", "numpy"}


def test_python_m_aerun_train(tmp_path: Path) -> None:
    tiny = ["dataset=random", "dataset.images=50", "trainer.epochs=1", "trainer.pictures=0"]
    done = aerun("train", *tiny, f"hydra.run.dir={tmp_path / 'run'}", "trainer.device=cpu")
    assert done.returncode == 0 and (tmp_path / "run" / "summary.json").exists(), done.stderr
    typed = json.loads((tmp_path / "run" / "environment.json").read_text())["command"]
    assert typed[:2] == ["python -m aerun train", "dataset=random"]


def test_version_is_aeruns_and_does_not_import_torch(train: Train) -> None:
    from importlib.metadata import version

    import aerun as package

    done = train("--version", PYTHONPROFILEIMPORTTIME="1")
    expected = f"aerun {package.__version__} (torch {version('torch')}, hydra {version('hydra-core')})\n"
    assert (done.returncode, done.stdout) == (0, expected) and package.__version__ == version("aerun")
    assert not any(line.split("|")[-1].strip() == "torch" for line in done.stderr.splitlines())
    assert aerun("--version").stdout == aerun("embed", "--version").stdout == expected
    assert "__version__" in dir(package)


def test_words_that_start_a_command_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aerun.base.program import sibling_words, start_words

    program = tmp_path / "aerun-train"
    program.touch(0o755)
    assert start_words(str(program)) == [str(program)]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert start_words("scripts/train.py") == [str(tmp_path / "python3"), "scripts/train.py"]
    assert start_words("python -m aerun train") == [str(tmp_path / "python3"), "-m", "aerun", "train"]
    assert sibling_words(str(program), "compare") == ["aerun-compare"]
    assert sibling_words("scripts/train.py", "compare") == ["python", "-m", "aerun", "compare"]
