"""Fixtures for the tests of sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.plugins import Plugins
from hydra.types import RunMode

from aerun.base.conf import conf_dir
from aerun.sweep.composer import Composer

MakeComposer = Callable[[Sequence[str]], Composer]


@pytest.fixture(scope="session")
def make_composer() -> MakeComposer:
    """A function from overrides that are not swept to a composer, as Hydra's -m would set it up."""

    def make(words: Sequence[str] = ()) -> Composer:
        from aerun.sweep.plugin import register

        Plugins.instance()
        register()
        search_path = create_automatic_config_search_path(None, None, str(conf_dir()))
        loader = ConfigLoaderImpl(search_path)
        master = loader.load_configuration("train", list(words), run_mode=RunMode.MULTIRUN)
        return Composer(loader, master)

    return make


@pytest.fixture(scope="session")
def composer(make_composer: MakeComposer) -> Composer:
    """A composer without other overrides."""
    return make_composer(())
