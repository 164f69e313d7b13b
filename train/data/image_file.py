"""Image files, brought to the size and colours that a network takes."""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from train.errors import DataError, reason

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# More than the 51 million of CIFAR-10's training images, or of most photos; 256 MB as colours.
MOST_PIXELS = 64_000_000

# Decoded by libraries alone: Pillow would let another program run an EPS file.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def read_images(path: Path, like: np.ndarray, largest: int) -> tuple[np.ndarray, str]:
    """Read an image file or an array.

    An image file is made grey or coloured, resized (not cropped: its sides may change their ratio)
    and brought to the range of the pixels. An array must be as the images of the data set are.

    Args:
        path: a file; a .npy file is an array [H, W, C], [N, H, W, C] or, of grey images, [H, W]
            or [N, H, W];
            any other is an image file of `FORMATS`.
        like: an image of the data set, [H, W, C]; uint8, but for data that are no images.
        largest: the value of a white pixel in the data set.

    Returns:
        [N, H, W, C] of the dtype of the data set, and what was done to them, in words.

    Raises:
        DataError: the file is missing, is neither, or holds what cannot be used.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():  # Nor a pipe or a device, which could block or never end.
        raise DataError(f"{path}: is not a file")
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What matters of them is checked here.
        start = file.read(6)
        if path.suffix.lower() == ".npz" or start.startswith(b"PK\3\4"):
            raise DataError(
                f"{path}: is a .npz or zip file, which may hold several arrays; save one "
                f"of them with numpy.save, as .npy"
            )
        if path.suffix.lower() == ".npy" or start == b"\x93NUMPY":
            return _array(path, like, largest)
        if like.dtype != np.uint8:
            raise DataError(f"{path}: must be a .npy file; the data are no images")
        with quiet():
            return picture(path, file, like.shape, largest)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
        raise DataError(
            f"{path}: has {pixels} pixels; must have at most {MOST_PIXELS}, so make it smaller"
        )


def _array(path: Path, like: np.ndarray, largest: int) -> tuple[np.ndarray, str]:
    shape = like.shape
    try:
        # Only its header is read, so that no size that it claims is allocated; and no pickle is.
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises whatever its parser of headers stumbles over.
        raise DataError(f"{path}: is not a .npy file of numbers: {reason(error)}") from error
    several = [str(list(shape)), f"[N, {', '.join(map(str, shape))}]"]
    if shape[-1] == 1:
        several += [str(list(shape[:-1])), f"[N, {', '.join(map(str, shape[:-1]))}]"]
    wanted = f"must be {like.dtype} of shape {' or '.join(several)}"
    if array.dtype != like.dtype:
        raise DataError(f"{path}: is {reason(array.dtype)}; {wanted}")
    images = {
        shape: lambda: array[None],
        shape[:-1]: lambda: array[None, ..., None] if shape[-1] == 1 else None,
        (len(array) if array.ndim else 0, *shape[:-1]): lambda: (
            array[..., None] if shape[-1] == 1 else None
        ),
        (len(array) if array.ndim else 0, *shape): lambda: array,
    }.get(array.shape, lambda: None)()
    if images is None or not len(images):
        raise DataError(f"{path}: has shape {list(array.shape)}; {wanted}")
    _check_pixels(path, images.size // shape[-1])
    images = np.array(images)  # Out of the file.
    if not np.isfinite(images).all():
        raise DataError(f"{path}: holds NaN or infinity; must be finite numbers")
    if images.dtype == np.uint8 and images.max() > largest:
        raise DataError(
            f"{path}: has pixels up to {images.max()}; must be from 0 to {largest}, as in the data"
        )
    return images, f"{len(images)} image{'s' * (len(images) > 1)}, taken as they are"


def picture(
    path: Path, file: IO[bytes], shape: tuple[int, ...], largest: int
) -> tuple[np.ndarray, str]:
    """Return the image of an open file, uint8 [1, H, W, C], and what was done to it, in words.

    Args:
        path: what it is called in an error.
        file: the file.
        shape: what it is brought to, [H, W, C].
        largest: the value of a white pixel.

    Raises:
        DataError: it is no image, damaged, or too large.
    """
    with _opened(path, file) as image:
        return _brought(path, image, shape, largest)


def size_of(path: Path, file: IO[bytes]) -> tuple[int, int, bool]:
    """Return the height and width of the image of an open file, and whether it is grey.

    Raises:
        DataError: it is no image, or too large.
    """
    with _opened(path, file) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # A camera held upright.
        height, width = (image.width, image.height) if turned else (image.height, image.width)
        return height, width, image.mode in ("1", "L", "LA")


@contextlib.contextmanager
def _opened(path: Path, file: IO[bytes]) -> Iterator["ImageFile"]:
    """Open an image; a `DataError` says in one line what is wrong with it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=FORMATS) as opened:
            _check_pixels(path, opened.width * opened.height)  # Before they are decoded.
            yield opened
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: is neither an image nor a .npy file; an image must be of {', '.join(FORMATS)}"
        ) from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, twice as large.
        raise DataError(
            f"{path}: {reason(error)}; must have at most {MOST_PIXELS} pixels"
        ) from error
    except Exception as error:  # Pillow raises whatever a plugin stumbles over.
        raise DataError(f"{path}: is a damaged image: {reason(error)}") from error


def _brought(
    path: Path, opened: "ImageFile", shape: tuple[int, ...], largest: int
) -> tuple[np.ndarray, str]:
    """Bring an image to the form of the data."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    if channels not in (1, 3):
        raise DataError(f"{path}: is an image, and the data have {channels} channels; save a .npy")
    mode, colours = {1: ("L", "grey"), 3: ("RGB", "colour")}[channels]
    # Of 16 bits Pillow has a mode for grey alone; it would cut those of other colours to 8.
    if opened.mode.startswith(("I", "F")) or re.search(";16[BLN]", str(opened.tile)):
        raise DataError(f"{path}: has more than 8 bits per colour; convert it to 8")
    if opened.mode in ("LAB", "HSV"):
        raise DataError(f"{path}: has colours as {opened.mode}; convert it to RGB")
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
