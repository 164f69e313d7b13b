"""Images of one's own, as a network takes them that was trained on others."""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from train.errors import Refusal, reason

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# More than the 51 million of CIFAR-10's training images, or of most photos; 256 MB as colours.
MOST_PIXELS = 64_000_000

# Decoded by libraries alone: Pillow would let another program run an EPS file.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


class ImageError(Refusal):
    """One line: the file, and why no image comes out of it."""


def read_images(path: Path, like: np.ndarray, largest: int) -> tuple[np.ndarray, str]:
    """Read an image file or an array.

    An image file is made grey or coloured, resized (not cropped: its sides may change their ratio)
    and brought to the range of the pixels. An array must be as the images of the data set are.

    Args:
        path: a file; a .npy file is an array [H, W, C], [N, H, W, C] or, of grey images, [H, W];
            any other is an image file of `FORMATS`.
        like: an image of the data set, [H, W, C]; uint8, but for data that are no images.
        largest: the value of a white pixel in the data set.

    Returns:
        [N, H, W, C] of the dtype of the data set, and what was done to them, in words.

    Raises:
        ImageError: the file is missing, is neither, or holds what cannot be used.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():  # Nor a pipe or a device, which could block or never end.
        raise ImageError(f"--predict {path}: is not a file")
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What matters of them is checked here.
        start = file.read(6)
        if path.suffix.lower() == ".npz" or start.startswith(b"PK\3\4"):
            raise ImageError(
                f"--predict {path}: is a .npz or zip file, which may hold several arrays; save one "
                f"of them with numpy.save, as .npy"
            )
        if path.suffix.lower() == ".npy" or start == b"\x93NUMPY":
            return _array(path, like, largest)
        if like.dtype != np.uint8:
            raise ImageError(f"--predict {path}: must be a .npy file; the data are no images")
        file.seek(0)
        with _quiet():
            return _picture(path, file, like.shape, largest)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence libtiff, which writes to stderr itself what Pillow raises as well."""
    if sys.stderr is None:  # Then the descriptor 2 may be that of any file.
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_pixels(path: Path, pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise ImageError(
            f"--predict {path}: has {pixels} pixels; must have at most {MOST_PIXELS}, so make it "
            f"smaller"
        )


def _array(path: Path, like: np.ndarray, largest: int) -> tuple[np.ndarray, str]:
    shape = like.shape
    try:
        # Only its header is read, so that no size that it claims is allocated; and no pickle is.
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises whatever its parser of headers stumbles over.
        raise ImageError(
            f"--predict {path}: is not a .npy file of numbers: {reason(error)}"
        ) from error
    several = [str(list(shape)), f"[N, {', '.join(map(str, shape))}]"]
    if shape[-1] == 1:
        several.append(str(list(shape[:-1])))
    wanted = f"must be {like.dtype} of shape {' or '.join(several)}"
    if array.dtype != like.dtype:
        raise ImageError(f"--predict {path}: is {reason(array.dtype)}; {wanted}")
    images = {
        shape: lambda: array[None],
        shape[:-1]: lambda: array[None, ..., None] if shape[-1] == 1 else None,
        (len(array) if array.ndim else 0, *shape): lambda: array,
    }.get(array.shape, lambda: None)()
    if images is None or not len(images):
        raise ImageError(f"--predict {path}: has shape {list(array.shape)}; {wanted}")
    _check_pixels(path, images.size // shape[-1])
    images = np.array(images)  # Out of the file.
    if not np.isfinite(images).all():
        raise ImageError(f"--predict {path}: holds NaN or infinity; must be finite numbers")
    if images.dtype == np.uint8 and images.max() > largest:
        raise ImageError(
            f"--predict {path}: has pixels up to {images.max()}; must be from 0 to {largest}, as "
            f"in the data"
        )
    return images, f"{len(images)} image{'s' * (len(images) > 1)}, taken as they are"


def _picture(
    path: Path, file: IO[bytes], shape: tuple[int, ...], largest: int
) -> tuple[np.ndarray, str]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=FORMATS) as opened:
            _check_pixels(path, opened.width * opened.height)  # Before they are decoded.
            return _brought(path, opened, shape, largest)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"--predict {path}: is neither an image nor a .npy file; an image must be of "
            f"{', '.join(FORMATS)}"
        ) from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, twice as large.
        raise ImageError(
            f"--predict {path}: {reason(error)}; must have at most {MOST_PIXELS} pixels"
        ) from error
    except Exception as error:  # Pillow raises whatever a plugin stumbles over.
        raise ImageError(f"--predict {path}: is a damaged image: {reason(error)}") from error


def _brought(
    path: Path, opened: "ImageFile", shape: tuple[int, ...], largest: int
) -> tuple[np.ndarray, str]:
    """Bring an image to the form of the data."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    mode, colours = {1: ("L", "grey"), 3: ("RGB", "colour")}[channels]
    # Of 16 bits Pillow has a mode for grey alone; it would cut those of other colours to 8.
    if opened.mode.startswith(("I", "F")) or re.search(";16[BLN]", str(opened.tile)):
        raise ImageError(f"--predict {path}: has more than 8 bits per colour; convert it to 8")
    if opened.mode in ("LAB", "HSV"):
        raise ImageError(f"--predict {path}: has colours as {opened.mode}; convert it to RGB")
    several = getattr(opened, "is_animated", False)
    image = ImageOps.exif_transpose(opened)
    done = [f"{image.width}x{image.height} pixels"]
    if several:
        done.append("the first of several images")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
        done.append("on white where it was transparent")
    if image.mode != mode:
        # A grey image may be stored with three equal colours: then nothing is lost or added.
        image = image.convert(mode)
        done.append(f"made {colours}")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        done.append(f"resized to {width}x{height}")
    pixels = np.asarray(image, np.uint8).reshape(1, *shape)
    if largest != 255:
        pixels = np.round(pixels * (largest / 255)).astype(np.uint8)
        done.append(f"pixels from 0 to 255 scaled to 0 to {largest}")
    return pixels, ", ".join(done)
