"""The loaded model as an object of Python's: copies, pickles, precisions, and the forms in which images are given."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from aerun.base.conf import conf_dir
from aerun.config.parse import parse
from aerun.core.autoencoder import Autoencoder, objective
from aerun.dataset.data import Data, Split
from aerun.loss import MSE
from aerun.training.build import build_autoencoder
from tests.keys import needed

Build = Callable[..., Autoencoder]
# Every model, sparsity, latent and activation; tied weights.
OPTIONS = [
    *((f"model={path.stem}", *needed(path.stem)) for path in sorted(Path(conf_dir(), "model").glob("*.yaml"))),
    *((f"sparsity={path.stem}",) for path in sorted(Path(conf_dir(), "sparsity").glob("*.yaml"))),
    *((f"latent={path.stem}", "sparsity=none") for path in sorted(Path(conf_dir(), "latent").glob("*.yaml"))),
    *((f"model.activation={name}",) for name in ("relu", "elu", "selu", "gelu", "silu", "softplus", "tanh", "sigmoid")),
    ("model.tied=true",),
    ("model=conv", "model.tied=true", "sparsity=topk", "sparsity.k=4"),
    ("dataset.normalize=standardise",),
]
LOSSES = [path.stem for path in sorted(Path(conf_dir(), "loss").glob("*.yaml"))]
options = pytest.mark.parametrize(
    "words", OPTIONS, ids=lambda words: " ".join(word for word in words if "_target_" not in word)
)


@pytest.fixture(scope="module")
def build(compose: Any) -> Build:
    def built(*words: str, shape: tuple[int, ...] = (1, 28, 28)) -> Autoencoder:
        settings = parse(compose(words))
        images = torch.zeros(1, *shape)
        split = Split(images, images, None)
        statistics = [(torch.full((1, 1, 1), 0.3), torch.full((1, 1, 1), 0.2))] * 2
        own = statistics if settings.dataset.normalize != "none" else []
        torch.manual_seed(0)
        return build_autoencoder(settings, Data(split, None, split, None, "", *own)).eval()

    return built


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def through_torch(model: Autoencoder) -> Autoencoder:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: Autoencoder = torch.load(file, weights_only=False)
    return loaded


class Singles(TorchDispatchMode):
    """Notes the operations whose result has less than 64 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keys: Any = None) -> Any:
        result = function(*arguments, **(keys or {}))
        for value in result if isinstance(result, tuple) else [result]:
            if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64:
                self.seen.append(str(function))
        return result


@options
def test_a_copy_is_the_same_model_and_shares_nothing(build: Build, words: tuple[str, ...]) -> None:
    model, images = build(*words), uniform(5, 1, 28, 28)
    wanted = model.encode(images), model.reconstruct(images)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), through_torch(model)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for each in copies:
        assert not each.training
        assert torch.equal(each.encode(images), wanted[0]) and torch.equal(each.reconstruct(images), wanted[1])
        assert [name for name, _ in each.named_parameters()] == [name for name, _ in model.named_parameters()]
        with torch.no_grad():  # tied weights are the copy's own
            for parameter in each.parameters():
                parameter.zero_()
        assert not torch.equal(each.reconstruct(images), wanted[1])


@options
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_computes_in_half_precision(build: Build, words: tuple[str, ...], dtype: torch.dtype) -> None:
    model, images = build(*words), uniform(5, 1, 28, 28)
    wanted, codes = model.reconstruct(images), model.encode(images)
    half = model.to(dtype)
    assert half.encode(images).dtype == half.reconstruct(images).dtype == half.decode(codes).dtype == dtype
    # Selections may differ where features nearly tie, so the decoder and what nothing selects are compared.
    close = {"rtol": 0.0, "atol": float(wanted.abs().max()) * (0.01 if dtype == torch.float16 else 0.08)}
    torch.testing.assert_close(half.decode(codes).float(), wanted, **close)
    if "topk" not in " ".join(words):
        torch.testing.assert_close(half.reconstruct(images).float(), wanted, **close)
    bytes_ = (images * 255).round().to(torch.uint8)
    torch.testing.assert_close(half.encode(bytes_), half.encode(bytes_ / 255), rtol=0.1, atol=0.02)


@options
def test_double_is_double_everywhere(build: Build, words: tuple[str, ...]) -> None:
    """Not one operation on the way gives less than 64 bits, penalties and their gradients included."""
    model, images = build(*words).double(), uniform(5, 1, 28, 28).double()
    with Singles() as singles:
        model.reconstruct(images)
        model.encode(images.numpy())
        result = model.train()(images)
        objective(result, images, model, MSE("mean"))["loss"].backward()
    assert singles.seen == []


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_double_for_double(compose: Any, name: str) -> None:
    loss = parse(compose([f"loss={name}"])).loss
    prediction, target = uniform(4, 1, 28, 28).double().requires_grad_(), uniform(4, 1, 28, 28).double()
    with Singles() as singles:
        value = loss(prediction, target)
        value.backward()
    assert value.dtype == torch.float64 and singles.seen == []


def test_double_is_what_numpy_computes_in_64_bits(build: Build) -> None:
    model = build("model=fc", "model.hidden=[30]", "sparsity=topk", "sparsity.k=3")
    images = np.random.default_rng(0).random((6, 784))
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def leaky(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, 0.01 * x)

    def layer(side: str, number: int, x: np.ndarray) -> np.ndarray:
        return x @ weights[f"{side}.{number}.weight"].T + weights[f"{side}.{number}.bias"]

    layers = {
        side: sorted({int(n.split(".")[1]) for n in weights if n.startswith(side)}) for side in ("encoder", "decoder")
    }
    features = layer("encoder", layers["encoder"][1], leaky(layer("encoder", layers["encoder"][0], images)))
    code = leaky(features)
    code[code < np.sort(code, 1)[:, -3:-2]] = 0
    wanted = layer("decoder", layers["decoder"][1], leaky(layer("decoder", layers["decoder"][0], code)))

    model.double()
    given = images.reshape(6, 1, 28, 28)
    np.testing.assert_allclose(model.encode(given).numpy(), code, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(model.reconstruct(given).flatten(1).numpy(), wanted, rtol=1e-12, atol=1e-14)


def gray_forms(pixels: np.ndarray) -> Iterator[Any]:
    """pixels[N,H,W] uint8 in every form that a model of one channel takes."""
    yield pixels
    yield pixels[..., None]
    yield pixels[:, None]
    yield torch.from_numpy(pixels[:, None].copy())
    yield [Image.fromarray(image) for image in pixels]
    yield tuple(Image.fromarray(np.stack([image] * 3, -1)) for image in pixels)
    yield [Image.merge("RGBA", [Image.fromarray(image)] * 3 + [Image.new("L", image.T.shape, 255)]) for image in pixels]
    yield pixels[:, ::-1][:, ::-1]


def color_forms(pixels: np.ndarray) -> Iterator[Any]:
    """pixels[N,H,W,3] uint8 in every form that a model of three channels takes."""
    yield pixels
    yield pixels.transpose(0, 3, 1, 2)
    yield torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    yield [Image.fromarray(image) for image in pixels]


def test_all_forms_of_the_same_images_give_the_same_codes(build: Build) -> None:
    generator = np.random.default_rng(0)
    gray = generator.integers(0, 256, (3, 28, 20), np.uint8)
    color = generator.integers(0, 256, (3, 16, 24, 3), np.uint8)
    for model, pixels, forms in (
        (build("model=conv", shape=(1, 28, 20)), gray, gray_forms(gray)),
        (build("model=conv", shape=(3, 16, 24)), color, color_forms(color)),
    ):
        floats = pixels.reshape(*pixels.shape[:3], -1).transpose(0, 3, 1, 2) / np.float32(255)
        wanted = model.encode(floats), model.reconstruct(floats)
        for form in forms:
            assert torch.equal(model.encode(form), wanted[0]) and torch.equal(model.reconstruct(form), wanted[1])
        # One image alone: another size of batch sums in another order.
        singles = [pixels[0], Image.fromarray(pixels[0]), *([pixels[0][..., None]] if pixels.ndim == 3 else [])]
        for single in singles:
            torch.testing.assert_close(model.encode(single), wanted[0][:1])


def test_floats_are_taken_as_they_are(build: Build) -> None:
    model, images = build(), uniform(4, 1, 28, 28) * 7 - 3  # corrupted inputs, say
    wanted = model.encode(images)
    frozen = images.numpy().copy()
    frozen.flags.writeable = False
    for form in (images.numpy(), frozen, images.numpy().astype(">f4"), images.numpy()[::-1][::-1], images.double()):
        assert torch.equal(model.encode(form), wanted)


def test_pictures_are_upright_and_on_white(build: Build) -> None:
    model = build("model=conv", shape=(1, 16, 24))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24), np.uint8)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = 6  # turned by 90 degrees
    Image.fromarray(np.rot90(pixels)).save(file, "PNG", exif=exif)
    assert torch.equal(model.encode(Image.open(file)), model.encode(pixels))
    clear = Image.new("RGBA", (24, 16), (0, 0, 0, 0))
    assert torch.equal(model.encode(clear), model.encode(np.full((16, 24), 255, np.uint8)))
    deep = Image.fromarray(pixels.astype(np.uint16) * 257)
    assert torch.equal(model.encode(deep), model.encode(pixels))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((2, 28, 28, 3), np.uint8),
            r"\[2, 28, 28, 3\]: the model takes \[N,1,28,28\]; .*\[N, 28, 28, 1\].*\[28, 28\]",
        ),
        (np.zeros((28, 29), np.uint8), r"images of shape \[28, 29\]: the model takes \[N,1,28,28\]"),
        (np.zeros((2, 28, 28, 1), np.float32), r"put the channels first: images\.transpose\(0, 3, 1, 2\)"),
        (np.zeros((2, 1, 28, 28), np.uint16), r"uint16; images are uint8 \(0 to 255\) or floating-point in \[0,1\]"),
        (np.zeros((2, 1, 28, 28), np.int64), r"int64; .*divide by the value of white"),
        (torch.zeros(28, 28, dtype=torch.uint8), r"images of shape \[28, 28\]: the model takes \[N,1,28,28\]"),
        (Image.new("L", (40, 30)), r"PIL image 0 is 40 x 30 pixels, the model takes 28 x 28; .*ImageOps\.fit"),
        (Image.new("F", (28, 28)), r"PIL image 0, of mode F: .*unknown range"),
        ("picture.png", r"expected numbers or PIL images, got an array of <U11"),
        ([], r"images of shape \[0\]: the model takes \[N,1,28,28\]"),
    ],
)
def test_what_is_not_certain_is_refused_in_a_line(build: Build, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        build().reconstruct(given)
    assert "\n" not in str(raised.value)


def test_layouts_that_look_alike_are_refused(build: Build) -> None:
    small = build("model.code_size=4", shape=(3, 3, 3))
    with pytest.raises(ValueError, match=r"may be \[N,C,H,W\] or \[N,H,W,C\]: pass a tensor"):
        small.encode(np.zeros((2, 3, 3, 3), np.uint8))
    assert small.encode(torch.zeros(2, 3, 3, 3, dtype=torch.uint8)).shape == (2, 4)
    vectors = build(shape=(10,))
    with pytest.raises(ValueError, match=r"uint8; vectors are floating-point, in the units that the model"):
        vectors.encode(np.zeros((2, 10), np.uint8))
    with pytest.raises(ValueError, match=r"PIL image; the model takes inputs of shape \[10\]"):
        vectors.encode(Image.new("L", (5, 2)))
