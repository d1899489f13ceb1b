"""Features of images for distances between sets of them: from a classifier of the data's labels, or from Inception.

The classifier is trained once for each data set, and kept in ``classifiers`` below $AERUN_DATA or ~/.cache/aerun.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from aerun.base.seeding import Randomness, restored_generator, seeded
from aerun.core.kept_weights import load_weights, save_weights
from aerun.dataset.data import as_float
from aerun.dataset.paths import data_root
from aerun.errors import DataError

if TYPE_CHECKING:
    from aerun.dataset.data import Data, Split

VERSION = 1  # of everything below that changes the classifier
WIDTH = 64  # features
EPOCHS, BATCH, RATE = 4, 128, 1e-3
MAX_IMAGES = 20_000  # that it is trained on
CHUNK = 250  # images
Extract = Callable[[Tensor], np.ndarray]  # images[N,...] in the data's units -> features [N,D]
log = logging.getLogger(__name__)


def classifier_features(data: Data) -> tuple[Extract, float]:
    """The last hidden layer of the data's classifier, and its error on the test images in percent.

    DataError for data without labels.
    """
    train, test = data.train, data.test
    if train.labels is None or test.labels is None:
        raise DataError("features=classifier: needs labels; these data have none")
    with restored_generator(), seeded(0):
        net = build_classifier(data.output_shape, int(train.labels.max()) + 1)
    path = data_root() / "classifiers" / f"{_key(data)}.npz"
    if not load_weights(path, net):
        log.info("training the classifier whose features compare images; kept in %s", path)
        _train(net, train)
        save_weights(path, net)
    net.eval()

    def extract(images: Tensor) -> np.ndarray:
        with torch.no_grad():
            chunks = [net[:-1](as_float(chunk.cpu())) for chunk in images.split(CHUNK)]
        return torch.cat(chunks).double().numpy()

    with torch.no_grad():
        found = torch.cat([net(as_float(chunk.cpu())).argmax(1) for chunk in test.targets.split(CHUNK)])
    return extract, 100 * float((found != test.labels.cpu()).double().mean())


def build_classifier(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Two convolutions of stride 2 for images, one linear layer for vectors, then WIDTH ReLU units and the classes."""
    if len(shape) == 3:
        size = 64 * -(-shape[1] // 4) * -(-shape[2] // 4)
        first: list[nn.Module] = [nn.Conv2d(shape[0], 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1)]
    else:
        size, first = 256, [nn.Linear(shape[0], 256)]
    return nn.Sequential(*first, nn.ReLU(), nn.Flatten(), nn.Linear(size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))


def inception_features() -> Extract:
    """The 2,048 features of the Inception network that FID and KID are defined by, from torch-fidelity, which downloads
    its weights on first use. DataError if the package or the weights cannot be had."""
    try:
        from torch_fidelity.utils import create_feature_extractor
    except ImportError as error:
        raise DataError("features=inception: needs torch-fidelity; pip install torch-fidelity") from error
    try:
        extractor = create_feature_extractor("inception-v3-compat", ["2048"], cuda=False)
    except Exception as error:  # of the download
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"features=inception: its weights cannot be downloaded ({reason})") from error

    def extract(images: Tensor) -> np.ndarray:
        found = []
        for chunk in images.split(CHUNK):
            pixels = (255 * as_float(chunk.cpu()).clamp(0, 1)).round().to(torch.uint8)
            with torch.no_grad():
                found.append(extractor(pixels.expand(-1, 3, -1, -1))[0])
        return torch.cat(found).double().numpy()

    return extract


def _key(data: Data) -> str:
    """What the classifier depends on, as 32 hexadecimal digits."""
    labels = b"" if data.train.labels is None else data.train.labels.cpu().numpy().tobytes()
    key = f"{VERSION} {data.checksum} {len(data.train)} {data.output_shape} {hashlib.sha256(labels).hexdigest()}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _train(net: nn.Sequential, part: Split) -> None:
    """Adam on the cross-entropy of at most MAX_IMAGES images, in an order drawn by the epoch."""
    assert part.labels is not None
    random = Randomness(0, torch.device("cpu"))
    rows = torch.randperm(len(part), generator=random.at("classifier images", 0))[:MAX_IMAGES].sort().values
    targets = part.targets
    images = (targets.cpu()[rows] if isinstance(targets, Tensor) else targets.select(rows)[:]).cpu()
    labels = part.labels.cpu()[rows]
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=random.at("classifier order", epoch))
        for batch in order.split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(as_float(images[batch])), labels[batch]).backward()
            optimizer.step()
