"""The configuration of aerun, also as the package ``aerun.conf`` for ``hydra.initialize_config_module``."""
