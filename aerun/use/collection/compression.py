"""What codes are worth as compression: bytes for an image and PSNR, beside JPEG and WebP in as many bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import DataError
from aerun.use.collection.embedding import embed
from aerun.use.collection.packing import FORMS, Form, pack
from aerun.use.image_files import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun, Run

EXACT_PSNR_DB = 100.0  # dB: of an image without any error, as everywhere here
QUALITY_RANGE = (1, 95)
SIZE_DIVISORS = (
    2,
    4,
    8,
)  # of a picture's sides, in which it is kept where its poorest quality is larger than the codes


@dataclass(frozen=True)
class CompressionRow:
    """A way to keep the images: ``size`` in bytes for each, ``shared`` bytes beside them; ``psnr`` in dB as the mean of
    the images' own, ``pooled`` of all their pixels together; ``note``: a quality, or why there is nothing."""

    name: str
    size: float
    shared: int
    psnr: float
    pooled: float
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """``rows`` of codes and, for each of them, of JPEG and WebP near its bytes; ``decoder``: bytes of its weights."""

    images: int
    shape: tuple[int, ...]
    decoder: int
    rows: list[CompressionRow]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_compression(run: Run, images: Tensor, *, value_bits: int = 8, most: int = 1000) -> Comparison:
    """images[N,C,H,W], uint8 or in [0,1], of which at most ``most``, evenly spaced, are looked at.

    Reconstructions are rounded to bytes, as JPEG's and WebP's are. Both are given in one quality for all images: the
    best whose mean size is no larger than the codes; where even the poorest is larger, of the pictures scaled down to a
    half, a quarter or an eighth and back up, the size with the best PSNR. JPEG's size is
    counted without its tables, which all images could share as they do the decoder.
    """
    from torch import from_numpy

    from aerun.use.opened_run import as_opened

    run = as_opened(run)
    if tuple(images.shape[1:]) != run.autoencoder.output_shape:
        raise DataError("the outputs of this run have another shape than its inputs: there is no error to compare")
    images = images[np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))]
    pixels = images.numpy() if images.dtype.is_floating_point is False else to_uint8(images)
    codes = embed(run, images).codes
    rows = list[CompressionRow]()
    coders: list[tuple[str, Coder]] = [("JPEG", code_jpeg), ("WebP", code_webp)]
    with progress_bar("forms", len(FORMS) * (1 + len(coders))) as bar:
        known: Measured = {}
        for form in FORMS:
            packed = pack(codes, form, value_bits)
            name = _form_title(form, value_bits)
            if form == "bits" and packed.bytes_per_image >= codes.shape[1]:
                share = float((codes == 0).mean())
                note = f"{packed.bytes_per_image:.0f} bytes, no less than int8: {share:.0%} of the codes are zero"
                rows.append(CompressionRow(name, packed.bytes_per_image, 0, float("nan"), float("nan"), note))
                continue
            back = from_numpy(packed.unpack()).unflatten(1, run.autoencoder.code_shape)
            quality = psnr(pixels, to_uint8(run.decode(back)))
            rows.append(CompressionRow(name, packed.bytes_per_image, packed.shared_bytes, *quality))
            bar.update()
            for title, coder in coders:
                row = best_within_bytes(title, coder, pixels, packed.bytes_per_image, known)
                rows.append(row)
                bar.update()
    return Comparison(len(pixels), tuple(pixels.shape[1:]), decoder_bytes(run), rows)


Coder = Callable[[np.ndarray, int], tuple[int, np.ndarray]]


Measured = dict[tuple[str, int], tuple[float, float, float]]  # of a coder and its quality: bytes, PSNR, pooled PSNR


def best_within_bytes(title: str, coder: Coder, pixels: np.ndarray, size: float, known: Measured) -> CompressionRow:
    """As ``nearest_below``; where nothing is as small as that, of smaller pictures the row with the best PSNR.

    If those are larger, too, the row says so.
    """
    whole = best_quality_within_bytes(title, coder, pixels, size, known)
    if whole.size <= size:
        return whole
    smaller = [
        (part, best_quality_within_bytes(f"{title} of 1/{part}", downscaled(coder, part), pixels, size, known))
        for part in SIZE_DIVISORS
        if part <= min(pixels.shape[2:])
    ]
    fitting = [(row.psnr, part, row) for part, row in smaller if row.size <= size]
    if not fitting:
        return whole
    _, part, row = max(fitting, key=lambda found: found[0])
    return replace(row, name=title, note=f"1/{part} size, {row.note}")


def downscaled(coder: Coder, part: int) -> Coder:
    """The coder of a picture whose sides are divided by ``part``; what comes back is scaled up (both bicubic)."""

    def code(picture: np.ndarray, quality: int) -> tuple[int, np.ndarray]:
        height, width = picture.shape[1:]
        count, back = coder(_resize(picture, round(width / part), round(height / part)), quality)
        return count, _resize(back, width, height)

    return code


def best_quality_within_bytes(
    title: str, coder: Coder, pixels: np.ndarray, size: float, known: Measured
) -> CompressionRow:
    """The best quality whose mean size is at most ``size``, by bisection; the poorest if that is larger."""

    def at(quality: int) -> tuple[float, float, float]:
        if (title, quality) not in known:
            coded = [coder(picture, quality) for picture in pixels]
            back = np.stack([picture for _, picture in coded])
            known[title, quality] = (float(np.mean([count for count, _ in coded])), *psnr(pixels, back))
        return known[title, quality]

    low, high = QUALITY_RANGE
    if at(low)[0] > size:
        return CompressionRow(
            title, at(low)[0], 0, *at(low)[1:], f"quality {low}, the smallest there is: larger than the codes"
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if at(middle)[0] <= size else (low, middle - 1)
    return CompressionRow(title, at(low)[0], 0, *at(low)[1:], f"quality {low}")


def code_jpeg(picture: np.ndarray, quality: int) -> tuple[int, np.ndarray]:
    """uint8 [C,H,W] -> bytes without the tables, and the picture that comes back."""
    return len(_encode_image(picture, "jpeg", quality=quality, streamtype=2)), _decode_image(
        _encode_image(picture, "jpeg", quality=quality), len(picture)
    )


def code_webp(picture: np.ndarray, quality: int) -> tuple[int, np.ndarray]:
    """uint8 [C,H,W] -> bytes, and the picture that comes back."""
    content = _encode_image(picture, "webp", quality=quality)
    return len(content), _decode_image(content, len(picture))


def _resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [C,H,W] in another size."""
    from PIL import Image

    channels = [Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC) for channel in picture]
    return np.stack([np.asarray(channel) for channel in channels])


def _encode_image(picture: np.ndarray, format: str, **keys: int) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)).save(content, format, **keys)
    return content.getvalue()


def _decode_image(content: bytes, channels: int) -> np.ndarray:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def psnr(pixels: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """uint8 [N,C,H,W] both -> the mean of the images' PSNRs, exact ones counting as 100 dB, and that of all pixels."""
    error = np.array([np.square(a.astype(np.float64) - b).mean() for a, b in zip(pixels, others, strict=True)]) / 255**2
    floor = 10 ** (-EXACT_PSNR_DB / 10)
    return float((-10 * np.log10(error.clip(floor))).mean()), float(-10 * np.log10(error.mean().clip(floor)))


def decoder_bytes(run: OpenedRun) -> int:
    """Of what turns codes into images: parameters and buffers, each stored once."""
    model = run.autoencoder
    tensors = [*model.decoder.state_dict().values(), *model.standardise_target.state_dict().values()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _form_title(form: Form, value_bits: int) -> str:
    return f"codes, {form}" + (f" ({value_bits} a value)" if form == "bits" else "")


def format_table(comparison: Comparison) -> str:
    """As it is printed."""
    shape = "x".join(map(str, comparison.shape))
    lines = [f"{'':<26}{'bytes an image':>15}{'PSNR (dB)':>11}{'pooled':>9}   {comparison.images} images, {shape}"]
    codes = 0.0
    for row in comparison.rows:
        name, note = row.name, row.note
        if name.startswith("codes"):
            codes = row.psnr
        else:
            name = f"  {name}"
            if row.psnr > codes and "larger" not in note:
                note += "; better than the codes in no more bytes"
        numbers = f"{row.psnr:>11.2f}{row.pooled:>9.2f}" if row.psnr == row.psnr else f"{'—':>11}{'—':>9}"
        lines.append(f"{name:<26}{row.size:>15.1f}{numbers}   {note}".rstrip())
    raw, shared = int(np.prod(comparison.shape)), max(row.shared for row in comparison.rows)
    lines.append(f"{'pixels':<26}{raw:>15}{'exact':>11}")
    lines.append(
        f"once for all images: the decoder, {comparison.decoder:,} bytes, as many as the pixels of "
        f"{comparison.decoder / raw:,.0f} images; offsets and scales, {shared:,} bytes"
    )
    return "\n".join(lines)
