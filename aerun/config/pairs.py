"""Options that are valid alone but not together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aerun.config.settings import SEVERAL, Settings
from aerun.errors import ConfigError


def check_pairs(settings: Settings) -> None:
    """Refuse options that are fine alone but not together, naming both."""
    name = settings.name

    def get(group: str, key: str) -> Any:
        return getattr(getattr(settings, group), key, None)

    gaussian = getattr(settings.latent, "parameters_per_code", 1) > 1
    constrained = getattr(settings.sparsity, "constrains_code", True)
    if gaussian and constrained:
        raise ConfigError(
            f"{name('latent')} and {name('sparsity')} both constrain the code: "
            "use sparsity=none or latent=deterministic"
            + (f" (brought by {name('model')})" if "vae" in name("model") else "")
        )
    code_size, k = get("model", "code_size"), get("sparsity", "k")
    if isinstance(code_size, int) and isinstance(k, int) and k > code_size:
        raise ConfigError(f"sparsity.k={k} is larger than the code size, model.code_size={code_size}")
    output, logits = get("model", "output_activation"), getattr(settings.loss, "takes_logits", False)
    if logits and output not in (None, "identity", "sigmoid"):
        raise ConfigError(
            f"model.output_activation={output} and {name('loss')}: this loss takes logits, so the output is their "
            "sigmoid; use model.output_activation=sigmoid or identity"
        )
    if get("dataset", "normalize") == "standardise":
        if logits or getattr(settings.loss, "needs_unit_range", False):
            raise ConfigError(f"dataset.normalize=standardise takes targets out of [0,1], which {name('loss')} needs")
        if output not in (None, "identity"):
            raise ConfigError(
                f"dataset.normalize=standardise and model.output_activation={output}: standardised targets leave its "
                "range; use model.output_activation=identity"
            )
    if get("latent", "samples") is not None and not getattr(settings.loss, "is_likelihood", False):
        raise ConfigError(f"{name('latent')} and {name('loss')}: this loss is no likelihood; use bce, mse or mae")
    stop, rate = get("scheduler", "stop_lr"), get("optimizer", "lr")
    if stop is not None and rate is not None and stop >= rate:
        raise ConfigError(f"scheduler.stop_lr={stop} is not below optimizer.lr={rate}: the run would end at once")
    for optimizer in settings.stage_optimizers:
        rate = getattr(optimizer, "lr", None)
        if stop is not None and rate is not None and stop >= rate:
            raise ConfigError(
                f"scheduler.stop_lr={stop} is not below trainer.stage_optimizer.lr={rate}: the stage would end at once"
            )
    if get("trainer", "untie_at") is not None and get("model", "tied") is False:
        raise ConfigError("trainer.untie_at=finetune and model.tied=false: there are no tied weights to untie")
    warmup, epochs = get("scheduler", "warmup_epochs"), get("trainer", "epochs")
    if warmup is not None and epochs and get("trainer", "steps") is None and warmup > epochs:
        raise ConfigError(f"scheduler.warmup_epochs={warmup} is longer than the run, trainer.epochs={epochs}")
    stages = get("trainer", "stage_epochs")
    shortest = min((count for count in (stages if isinstance(stages, list) else [stages]) if count), default=None)
    if warmup is not None and shortest is not None and warmup > shortest:
        raise ConfigError(f"scheduler.warmup_epochs={warmup} is longer than a stage, trainer.stage_epochs={stages}")


def check_unread(settings: Settings, overrides: Sequence[str]) -> None:
    """Refuse a key that the user typed where nothing would read it."""
    typed = {override.lstrip("+~").partition("=")[0] for override in overrides}
    gaussian = getattr(settings.latent, "parameters_per_code", 1) > 1
    sigmoid = getattr(settings.sparsity, "fixes_activation", False)
    unread = {
        "model.init_std": (getattr(settings.model, "init", "normal") != "normal", "model.init is not normal"),
        "model.code_activation": (
            gaussian or sigmoid,
            "the latent or the sparsity has the code's nonlinearity fixed",
        ),
        "sparsity.activation": (gaussian, "the Gaussian latent applies no nonlinearity to the code"),
        "trainer.epochs": (getattr(settings.trainer, "steps", None) is not None, "trainer.steps is given instead"),
        "trainer.min_delta": (getattr(settings.trainer, "patience", 1) is None, "trainer.patience is null"),
    }
    for key in sorted(key for key in typed if key.startswith(f"{SEVERAL}.")):
        name = key.split(".")[1]
        if name not in settings.protocol:
            chosen = ", ".join(settings.protocol) or "none"
            raise ConfigError(f"{key}: would not be read, since that protocol is not chosen; chosen: {chosen}")
    for key, (is_unread, reason) in unread.items():
        if is_unread and key in typed:
            raise ConfigError(f"{key}: would not be read, since {reason}")
