"""Images as tensors, arrays or PIL images -> batches for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aerun.contracts import Shape
from aerun.dataset.decoder import Decoder, apply_orientation, flatten
from aerun.model.conditional import NEEDS_LABELS

if TYPE_CHECKING:
    from PIL import Image

    Images = Tensor | np.ndarray | Image.Image | Sequence[Image.Image]
    Labels = Tensor | np.ndarray | Sequence[int] | int

GRAY_BANDS = (("1",), ("L",))


def as_batch(images: Images, shape: Shape, taker: str = "the model") -> Tensor:
    """Images for ``taker``, a model of ``input_shape`` [C,H,W] or [F] -> a batch [N,*shape].

    - floating-point tensors and arrays [N,*shape], in the units of the data, unchanged;
    - uint8, 0 to 255: tensors [N,C,H,W]; arrays [N,C,H,W], [N,H,W,C] or one image [H,W,C], and for one channel also
      [N,H,W] and [H,W];
    - a PIL image of the model's size, in any mode, or a list of them: converted to gray or color, transparent pixels
      blended with white.

    The result is uint8 if the images are. ValueError for anything else, with what was given and what is expected.
    """
    from PIL import Image

    if isinstance(images, Image.Image):
        return _from_pictures([images], shape)
    if isinstance(images, Sequence) and images and all(isinstance(image, Image.Image) for image in images):
        return _from_pictures(images, shape)
    if isinstance(images, Tensor) or len(shape) != 3:
        return _checked(as_tensor(images), shape, taker)
    array = np.asarray(images)
    if array.dtype == np.uint8:
        array = _channels_first(array, shape)
    return _checked(as_tensor(array), shape, taker)


def as_pictures(pictures: Sequence[Image.Image]) -> np.ndarray:
    """PIL images of one size -> uint8 [N,H,W] if all are gray, otherwise [N,H,W,3]; transparent pixels are blended with
    white. ValueError for pictures of different sizes, or of values that have no known range."""
    upright = [_readable(picture, number) for number, picture in enumerate(pictures)]
    sizes = {picture.size for picture in upright}
    if len(sizes) > 1:
        given = " and ".join(f"{width} x {height}" for width, height in sorted(sizes)[:2])
        raise ValueError(f"PIL images of different sizes, {given} pixels: crop or resize them, PIL.ImageOps.fit")
    mode = "L" if all(picture.getbands() in GRAY_BANDS for picture in upright) else "RGB"
    return np.stack([np.asarray(picture.convert(mode)) for picture in upright])


def as_codes(codes: Any, shape: Shape, taker: str = "the model") -> Tensor:
    """Floating-point codes [N,*shape] as a tensor. ValueError for anything else."""
    tensor = as_tensor(codes)
    if tensor.dim() == 0 or tuple(tensor.shape[1:]) != shape:
        raise ValueError(_wrong_shape("codes", tensor, shape, taker))
    if not tensor.is_floating_point():
        raise ValueError(f"expected floating-point codes, got {tensor.dtype}")
    return tensor


def as_labels(labels: Any, count: int, classes: int | None) -> Tensor | None:
    """The labels of ``count`` images for a model that takes labels below ``classes``, [count]; one label is that of
    all. None for a model without labels, ``classes=None``. ValueError for anything else."""
    if classes is None:
        if labels is not None:
            raise ValueError("labels: the model is not conditional (model.condition=none) and takes none")
        return None
    if labels is None:
        raise ValueError(NEEDS_LABELS)
    found = as_tensor(labels)
    if found.is_floating_point() or found.dtype == torch.bool or found.dim() > 1:
        raise ValueError(f"labels: got {found.dtype} of shape {list(found.shape)}; must be whole numbers [N], or one")
    found = found.long().expand(count) if found.dim() == 0 else found.long()
    if len(found) != count:
        raise ValueError(f"labels: {len(found)} labels for {count} images; there must be one for each image")
    wrong = found[(found < 0) | (found >= classes)]
    if len(wrong):
        raise ValueError(f"labels: {int(wrong[0])} is not a label of this model. Allowed: 0 to {classes - 1}")
    return found


def as_tensor(data: Any) -> Tensor:
    """Anything that NumPy reads as numbers, as a tensor; without a copy if torch can share the memory."""
    if isinstance(data, Tensor):
        return data
    array = np.asarray(data)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise ValueError(f"expected numbers or PIL images, got an array of {array.dtype}")
    # torch rejects foreign byte orders and negative strides, and warns of read-only memory.
    native = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
    return torch.from_numpy(native)


def name_range(images: Tensor) -> str:
    """What is said of floating-point images outside [0,1]; empty if there are none."""
    if not images.is_floating_point() or not images.numel():
        return ""
    low, high = float(images.detach().min()), float(images.detach().max())
    if low >= 0 and high <= 1:
        return ""
    return (
        f"images from {low:.4g} to {high:.4g}, but floating-point images are in [0,1]: unless noise was added, divide "
        "by the value of white, 255 or 65535"
    )


def require_units(images: Tensor, *, is_image: bool) -> Tensor:
    """The same images, or vectors. ValueError for numbers whose units are not known: those that are neither
    floating-point nor, for images, uint8."""
    if images.is_floating_point() or (is_image and images.dtype == torch.uint8):
        return images
    if is_image:
        expected = "images are uint8 (0 to 255) or floating-point in [0,1]: divide by the value of white, 255 or 65535"
    else:
        expected = "vectors are floating-point, in the units that the model was trained on: images.astype('float32')"
    raise ValueError(f"got {images.dtype}; {expected}")


def _checked(images: Tensor, shape: Shape, taker: str) -> Tensor:
    """Images [N,*shape]. ValueError for another shape, and for numbers in unknown units."""
    is_image = len(shape) == 3
    if images.dim() == 0 or tuple(images.shape[1:]) != shape:
        hint = ""
        if is_image and images.dtype == torch.uint8:
            hint = f"; NumPy arrays of uint8 may also be {_layouts(shape)}"
        elif is_image and tuple(images.shape[1:]) == (*shape[1:], shape[0]):
            hint = "; put the channels first: images.transpose(0, 3, 1, 2) of an array, .permute of a tensor"
        elif images.dim() == len(shape) and tuple(images.shape) == shape:
            hint = "; a batch of one is images[None]"
        raise ValueError(_wrong_shape("images", images, shape, taker) + hint)
    return require_units(images, is_image=is_image)


def _wrong_shape(what: str, data: Tensor, shape: Shape, taker: str) -> str:
    return f"{what} of shape {list(data.shape)}: {taker} takes [{','.join(map(str, ('N', *shape)))}]"


def _layouts(shape: Shape) -> str:
    """The layouts of uint8 arrays with the channels last, for a message."""
    channels, height, width = shape
    text = f"[N, {height}, {width}, {channels}] or [{height}, {width}, {channels}]"
    return f"{text}, [N, {height}, {width}] or [{height}, {width}]" if channels == 1 else text


def _channels_first(array: np.ndarray, shape: Shape) -> np.ndarray:
    """A uint8 array as [N,C,H,W]; unchanged if its shape matches no layout. ValueError if it matches two."""
    channels, height, width = shape
    first, last = (channels, height, width), (height, width, channels)
    if array.ndim == 4 and array.shape[1:] == first == last and channels > 1:
        raise ValueError(
            f"an array of shape {list(array.shape)} may be [N,C,H,W] or [N,H,W,C]: pass a tensor, which is [N,C,H,W]"
        )
    if array.ndim == 4 and array.shape[1:] == last:
        return array.transpose(0, 3, 1, 2)
    if array.shape == last:
        return array.transpose(2, 0, 1)[None]
    if channels == 1 and array.ndim == 3 and array.shape[1:] == (height, width):
        return array[:, None]
    return array[None, None] if channels == 1 and array.shape == (height, width) else array


def _from_pictures(pictures: Sequence[Any], shape: Shape) -> Tensor:
    """PIL images of one size as uint8 [N,C,H,W], read as ``dataset=image_folder`` reads files."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"got a PIL image; the model takes inputs of shape {list(shape)}, not gray or color images")
    channels, height, width = shape
    decoder = Decoder((channels, height, width), "stretch")
    batch = np.empty((len(pictures), channels, height, width), np.uint8)
    for number, picture in enumerate(pictures):
        upright = _readable(picture, number)
        if upright.size != (width, height):
            raise ValueError(
                f"PIL image {number} is {upright.width} x {upright.height} pixels, the model takes {width} x {height}; "
                f"crop or resize it: PIL.ImageOps.fit(image, ({width}, {height}))"
            )
        batch[number] = decoder.fit_picture(upright)
    return torch.from_numpy(batch)


def _readable(picture: Image.Image, number: int) -> Image.Image:
    """The picture upright and on white. ValueError if the range of its values is not known."""
    try:
        return flatten(apply_orientation(picture))
    except ValueError as error:
        raise ValueError(f"PIL image {number}, of mode {picture.mode}: {error}") from error
