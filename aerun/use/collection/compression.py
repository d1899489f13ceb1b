"""Codes as compression: bytes per image and PSNR, compared with JPEG and WebP of as many bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.base.progress_bar import progress_bar
from aerun.errors import DataError
from aerun.use.collection.embedding import embed
from aerun.use.collection.packing import FORMS, Form
from aerun.use.image_files import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun, Run

EXACT_PSNR_DB = 100.0  # of an image without any error
QUALITY_RANGE = (1, 95)
SIZE_DIVISORS = (2, 4, 8)  # images are reduced by these if even the lowest quality takes more bytes than the codes

Coder = Callable[[np.ndarray, int], tuple[int, np.ndarray]]  # (image, quality) -> (bytes, decoded image)
Measured = dict[tuple[str, int], tuple[float, float, float]]  # (coder, quality) -> (bytes, PSNR, pooled PSNR)


@dataclass(frozen=True)
class CompressionRow:
    """One way to store the images.

    ``size``: bytes per image, without the ``shared`` bytes; ``psnr``: mean of the images' PSNRs in dB; ``pooled``: PSNR
    of all pixels together; ``note``: the quality, or why there are no numbers.
    """

    name: str
    size: float
    shared: int
    psnr: float
    pooled: float
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """For each format of the codes a row, followed by JPEG and WebP of at most as many bytes.

    ``decoder``: bytes of the decoder's weights.
    """

    images: int
    shape: tuple[int, ...]
    decoder: int
    rows: list[CompressionRow]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_compression(run: Run, images: Tensor, *, value_bits: int = 8, most: int = 1000) -> Comparison:
    """Compare on at most ``most`` images, evenly spaced, of images[N,C,H,W], uint8 or in [0,1].

    Reconstructions are rounded to bytes, like those of JPEG and WebP. These use one quality for all images: the best
    with a mean size not above that of the codes. If even the lowest quality is larger, the images are reduced to a
    half, a quarter or an eighth and enlarged again, whichever gives the best PSNR. Sizes of JPEG do not include its
    tables, which all images could share like the decoder. DataError if outputs and inputs differ in shape.
    """
    from torch import from_numpy

    from aerun.use.opened_run import as_opened

    run = as_opened(run)
    if tuple(images.shape[1:]) != run.autoencoder.output_shape:
        raise DataError(f"{run.folder}: its outputs have another shape than the images, so there is no error to report")
    images = images[np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))]
    pixels = to_uint8(images) if images.dtype.is_floating_point else images.numpy()
    fingerprints = embed(run, images)
    codes = fingerprints.codes
    forms: tuple[Form, ...] = FORMS if fingerprints.quantized is None else ("indices", *FORMS)
    rows = list[CompressionRow]()
    coders: list[tuple[str, Coder]] = [("JPEG", code_jpeg), ("WebP", code_webp)]
    with progress_bar("formats", len(forms) * (1 + len(coders))) as bar:
        measured: Measured = {}
        for form in forms:
            packed = fingerprints.pack(form, value_bits)
            name = _form_title(form, value_bits)
            size = packed.bytes_per_image
            if form == "bits" and size >= codes.shape[1]:
                share = float((codes == 0).mean())
                note = f"{size:.0f} bytes, no less than int8: {share:.0%} of the codes are zero"
                rows.append(CompressionRow(name, size, 0, math.nan, math.nan, note))
                continue
            decoded = from_numpy(packed.unpack()).unflatten(1, run.autoencoder.code_shape)
            rows.append(CompressionRow(name, size, packed.shared_bytes, *psnr(pixels, to_uint8(run.decode(decoded)))))
            bar.update()
            for title, coder in coders:
                rows.append(best_within_bytes(title, coder, pixels, size, measured))
                bar.update()
    return Comparison(len(pixels), tuple(pixels.shape[1:]), decoder_bytes(run), rows)


def best_within_bytes(title: str, coder: Coder, pixels: np.ndarray, size: float, measured: Measured) -> CompressionRow:
    """The best quality within ``size`` bytes per image, of reduced images where nothing else fits.

    If nothing fits at all, the row says so.
    """
    whole = best_quality_within_bytes(title, coder, pixels, size, measured)
    if whole.size <= size:
        return whole
    fitting: list[tuple[int, CompressionRow]] = []
    for divisor in (divisor for divisor in SIZE_DIVISORS if divisor <= min(pixels.shape[2:])):
        reduced = downscaled(coder, divisor)
        row = best_quality_within_bytes(f"{title} of 1/{divisor}", reduced, pixels, size, measured)
        fitting += [(divisor, row)] if row.size <= size else []
    if not fitting:
        return whole
    divisor, row = max(fitting, key=lambda item: item[1].psnr)
    return replace(row, name=title, note=f"1/{divisor} size, {row.note}")


def downscaled(coder: Coder, divisor: int) -> Coder:
    """The coder for images whose sides are divided first and enlarged after decoding, both bicubic."""

    def code(image: np.ndarray, quality: int) -> tuple[int, np.ndarray]:
        height, width = image.shape[1:]
        count, decoded = coder(_resize(image, round(width / divisor), round(height / divisor)), quality)
        return count, _resize(decoded, width, height)

    return code


def best_quality_within_bytes(
    title: str, coder: Coder, pixels: np.ndarray, size: float, measured: Measured
) -> CompressionRow:
    """The best quality with a mean size of at most ``size``, by bisection; the lowest quality if all are larger."""

    def measure(quality: int) -> tuple[float, float, float]:
        if (title, quality) not in measured:
            coded = [coder(image, quality) for image in pixels]
            decoded = np.stack([image for _, image in coded])
            measured[title, quality] = (float(np.mean([count for count, _ in coded])), *psnr(pixels, decoded))
        return measured[title, quality]

    low, high = QUALITY_RANGE
    count, mean, pooled = measure(low)
    if count > size:
        return CompressionRow(title, count, 0, mean, pooled, f"quality {low}, the lowest: larger than the codes")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(middle)[0] <= size else (low, middle - 1)
    count, mean, pooled = measure(low)
    return CompressionRow(title, count, 0, mean, pooled, f"quality {low}")


def code_jpeg(image: np.ndarray, quality: int) -> tuple[int, np.ndarray]:
    """uint8 [C,H,W] -> bytes without tables, and the decoded image."""
    abbreviated = _encode_image(image, "jpeg", quality=quality, streamtype=2)
    return len(abbreviated), _decode_image(_encode_image(image, "jpeg", quality=quality), len(image))


def code_webp(image: np.ndarray, quality: int) -> tuple[int, np.ndarray]:
    """uint8 [C,H,W] -> bytes, and the decoded image."""
    content = _encode_image(image, "webp", quality=quality)
    return len(content), _decode_image(content, len(image))


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [C,H,W] at another size."""
    from PIL import Image

    channels = [Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC) for channel in image]
    return np.stack([np.asarray(channel) for channel in channels])


def _encode_image(image: np.ndarray, format: str, **options: int) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(content, format, **options)
    return content.getvalue()


def _decode_image(content: bytes, channels: int) -> np.ndarray:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def psnr(pixels: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Two uint8 [N,C,H,W] -> the mean of the images' PSNRs in dB (exact images count 100), and that of all pixels."""
    error = np.array([np.square(a.astype(np.float64) - b).mean() for a, b in zip(pixels, others, strict=True)]) / 255**2
    floor = 10 ** (-EXACT_PSNR_DB / 10)
    return float((-10 * np.log10(error.clip(floor))).mean()), float(-10 * np.log10(error.mean().clip(floor)))


def decoder_bytes(run: OpenedRun) -> int:
    """Bytes of the parameters and buffers that turn codes into images, each counted once."""
    model = run.autoencoder
    tensors = [*model.decoder.state_dict().values(), *model.standardise_target.state_dict().values()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _form_title(form: Form, value_bits: int) -> str:
    return f"codes, {form}" + (f" ({value_bits} per value)" if form == "bits" else "")


def format_table(comparison: Comparison) -> str:
    """The comparison as text."""
    shape = "x".join(map(str, comparison.shape))
    lines = [f"{'':<26}{'bytes per image':>15}{'PSNR (dB)':>11}{'pooled':>9}   {comparison.images} images, {shape}"]
    codes_psnr = 0.0
    for row in comparison.rows:
        name, note = row.name, row.note
        if name.startswith("codes"):
            codes_psnr = row.psnr
        else:
            name = f"  {name}"
            if row.psnr > codes_psnr and "larger" not in note:
                note += "; better than the codes in no more bytes"
        numbers = f"{'—':>11}{'—':>9}" if math.isnan(row.psnr) else f"{row.psnr:>11.2f}{row.pooled:>9.2f}"
        lines.append(f"{name:<26}{row.size:>15.1f}{numbers}   {note}".rstrip())
    raw, shared = math.prod(comparison.shape), max(row.shared for row in comparison.rows)
    lines.append(f"{'pixels':<26}{raw:>15}{'exact':>11}")
    lines.append(
        f"once for all images: the decoder, {comparison.decoder:,} bytes (the pixels of "
        f"{comparison.decoder / raw:,.0f} images); offsets and scales, {shared:,} bytes"
    )
    return "\n".join(lines)
