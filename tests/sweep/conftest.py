"""What the tests of sweeps share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.plugins import Plugins
from hydra.types import RunMode

from aerun.base.conf import conf_dir
from aerun.sweep.plan import Composer

MakeComposer = Callable[[Sequence[str]], Composer]


@pytest.fixture(scope="session")
def make_composer() -> MakeComposer:
    """Words typed beside the swept ones -> a composer, as Hydra's -m would give it to a sweeper."""

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
    """One for points without anything else typed."""
    return make_composer(())
