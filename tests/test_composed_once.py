"""Hydra composes a run's configuration once: what it composes to learn ``hydra.mode`` is the run's, as it would be."""

from __future__ import annotations

from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf

from aerun.base.conf import conf_dir
from aerun.config.compose import guarded_files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], RunMode]]:
    """The compositions, by their words."""
    found: list[tuple[list[str], RunMode]] = []
    before = ConfigLoaderImpl._load_configuration_impl

    def counted(self: Any, config_name: Any, overrides: list[str], run_mode: RunMode, **named: Any) -> Any:
        found.append((list(overrides), run_mode))
        return before(self, config_name, overrides, run_mode, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    return found


def as_hydra_does(words: list[str]) -> Any:
    """The mode that Hydra learns, and the run's configuration as a container."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path

    GlobalHydra.instance().clear()
    setup_globals()
    try:
        hydra = Hydra.create_main_hydra2("train", create_config_search_path(str(conf_dir())))
        mode = hydra.get_mode("train", list(words))
        if mode is not None:
            return mode, None
        config = hydra.compose_config("train", [*words, "hydra.mode=RUN"], RunMode.RUN)
        return mode, OmegaConf.to_container(config, resolve=False)
    finally:
        GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    "words",
    [[], ["seed=3", "model=conv", "model.code_size=8"], ["sparsity=topk", "sparsity.k=4", "hydra.verbose=true"]],
)
def test_a_run_is_composed_once_and_as_always(words: list[str], calls: list[Any]) -> None:
    expected = as_hydra_does(words)
    assert len(calls) == 2
    calls.clear()
    with guarded_files():
        assert as_hydra_does(words) == expected
    assert [mode for _, mode in calls] == [RunMode.RUN]


def test_a_mode_that_is_set_is_learnt(calls: list[Any]) -> None:
    with guarded_files():
        assert as_hydra_does(["seed=0,1", "hydra.mode=MULTIRUN"]) == (RunMode.MULTIRUN, None)
        assert as_hydra_does(["seed=1", "hydra.mode=RUN"]) == (RunMode.RUN, None)


def test_an_error_is_that_of_the_run() -> None:
    with guarded_files(), pytest.raises(Exception, match="lrr"):
        as_hydra_does(["optimizer.lrr=1"])
