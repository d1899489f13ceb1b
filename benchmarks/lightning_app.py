"""The usual way, for benchmarks/sweep.py: a Hydra application around a Lightning trainer and a DataLoader.

The network, batches, optimizer, epochs and validation part are those of aerun's model=fc. The images come from
torchvision's own FashionMNIST with ToTensor, as in the tutorials, or with ``decoded=true`` from floats that lie in
memory, which the DataLoader only has to collate.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import hydra
import lightning
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor


class Autoencoder(lightning.LightningModule):
    """784-64-784, as aerun's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.LeakyReLU())
        self.decoder = nn.Linear(64, 784)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Mean squared error, logged."""
        loss = nn.functional.mse_loss(self.decoder(self.encoder(batch[0])), batch[0].flatten(1))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """The same, on the validation part."""
        self.log("validation/loss", nn.functional.mse_loss(self.decoder(self.encoder(batch[0])), batch[0].flatten(1)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


@hydra.main(config_path=None, config_name="app", version_base="1.3")
def main(config: DictConfig) -> None:
    """One run."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    lightning.seed_everything(config.seed)
    images: Dataset[Any] = FashionMNIST(config.root, transform=ToTensor())
    if config.decoded:
        images = TensorDataset(torch.stack([image for image, _ in images]))  # type: ignore[attr-defined]
    held_out = len(images) // 10  # type: ignore[arg-type]
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=50,
        default_root_dir=HydraConfig.get().runtime.output_dir,
        logger=lightning.pytorch.loggers.TensorBoardLogger(HydraConfig.get().runtime.output_dir),
    )
    count = len(images)  # type: ignore[arg-type]
    trainer.fit(
        Autoencoder(),
        DataLoader(Subset(images, range(held_out, count)), batch_size=config.batch_size, shuffle=True),
        DataLoader(Subset(images, range(held_out)), batch_size=1000),
    )


ConfigStore.instance().store("app", {"seed": 0, "epochs": 30, "batch_size": 128, "root": MISSING, "decoded": False})

if __name__ == "__main__":
    main()
