"""Images of one's own, as a network takes them that was trained on others."""

from pathlib import Path

import numpy as np

from train.allowed import Refusal


class ImageError(Refusal):
    """One line: the file, and why no image comes out of it."""


def read_images(path: Path, like: np.ndarray, largest: int) -> tuple[np.ndarray, str]:
    """Read an image file or an array.

    An image file is made grey or coloured, resized (not cropped: its sides may change their ratio)
    and brought to the range of the pixels. An array must be as the images of the data set are.

    Args:
        path: a file; a .npy file is an array [H, W, C], [N, H, W, C] or, of grey images, [H, W];
            any other is an image file that Pillow can read.
        like: an image of the data set, [H, W, C]; uint8, but for data that are no images.
        largest: the value of a white pixel in the data set.

    Returns:
        [N, H, W, C] of the dtype of the data set, and what was done to them, in words.

    Raises:
        ImageError: the file is missing, is neither, or holds what cannot be used.
    """
    if not path.is_file():
        raise ImageError(f"--predict {path}: is not a file")
    if path.suffix == ".npy":
        return _array(path, like, largest)
    if like.dtype != np.uint8:
        raise ImageError(f"--predict {path}: must be a .npy file; the data are no images")
    return _picture(path, like.shape, largest)


def _array(path: Path, like: np.ndarray, largest: int) -> tuple[np.ndarray, str]:
    shape = like.shape
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ImageError(f"--predict {path}: is not a .npy file of numbers: {error}") from error
    several = [str(list(shape)), f"[N, {', '.join(map(str, shape))}]"]
    if shape[-1] == 1:
        several.append(str(list(shape[:-1])))
    wanted = f"must be {like.dtype} of shape {' or '.join(several)}"
    if array.dtype != like.dtype:
        raise ImageError(f"--predict {path}: is {array.dtype}; {wanted}")
    images = {
        shape: lambda: array[None],
        shape[:-1]: lambda: array[None, ..., None] if shape[-1] == 1 else None,
        (len(array) if array.ndim else 0, *shape): lambda: array,
    }.get(array.shape, lambda: None)()
    if images is None or not len(images):
        raise ImageError(f"--predict {path}: has shape {list(array.shape)}; {wanted}")
    if images.dtype == np.uint8 and images.max() > largest:
        raise ImageError(
            f"--predict {path}: has pixels up to {images.max()}; must be from 0 to {largest}, as "
            f"in the data"
        )
    return images, f"{len(images)} image{'s' * (len(images) > 1)}, taken as they are"


def _picture(path: Path, shape: tuple[int, ...], largest: int) -> tuple[np.ndarray, str]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    height, width, channels = shape
    mode, colours = {1: ("L", "grey"), 3: ("RGB", "colour")}[channels]
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise ImageError(f"--predict {path}: is neither an image nor a .npy file") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"--predict {path}: is a damaged image: {error}") from error
    if image.mode.startswith(("I", "F")):
        raise ImageError(f"--predict {path}: has more than 8 bits per colour; convert it to 8")
    done = [f"{image.width}x{image.height} pixels"]
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
