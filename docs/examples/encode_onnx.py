"""Codes of pictures by an exported encoder, without torch: ``python encode_onnx.py encoder.onnx PICTURE...``.

Needs onnxruntime, NumPy and Pillow. The file is made by ``aerun-export RUN OUT --format onnx``.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def read(path: str, channels: int, height: int, width: int) -> np.ndarray:
    """A picture as the encoder takes it: [C,H,W], float32 in [0,1], transparency over white, its middle cut out."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("L" if channels == 1 else "RGB")
    scale = max(height / picture.height, width / picture.width)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    pixels = np.asarray(picture.crop((left, top, left + width, top + height)), np.float32) / 255
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def main() -> None:
    encoder = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    _, channels, height, width = encoder.get_inputs()[0].shape
    images = np.stack([read(path, channels, height, width) for path in sys.argv[2:]])
    [codes] = encoder.run(["codes"], {"images": images})
    for path, code in zip(sys.argv[2:], codes, strict=True):
        print(path, *(f"{value:.6g}" for value in code.ravel()))


if __name__ == "__main__":
    main()
