"""Image files and arrays of all kinds, damaged, and too large."""

import io
import os
import resource
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data.image_file import FORMATS, MOST_PIXELS, read_images
from train.errors import DataError

GREY = np.zeros((8, 8, 1), np.uint8)
COLOUR = np.zeros((32, 32, 3), np.uint8)
POINT = np.zeros((1, 2, 1), np.float32)


def refused(path, like=GREY, largest=255):
    with pytest.raises(DataError) as error:
        read_images(path, like, largest)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("shape", "of", "done"),
    [
        ((8, 8), (8, 8, 1), "1 image, taken as they are"),
        ((8, 8, 1), (8, 8, 1), "1 image, taken as they are"),
        ((3, 8, 8), (8, 8, 1), "3 images, taken as they are"),
        ((2, 8, 8, 1), (8, 8, 1), "2 images, taken as they are"),
        ((2, 8, 9, 3), (8, 9, 3), "2 images, taken as they are"),
    ],
)
def test_an_array_is_an_image_or_several(tmp_path, rng, shape, of, done):
    given = rng.integers(0, 255, shape, np.uint8, endpoint=True)
    np.save(tmp_path / "a.npy", given)
    images, words = read_images(tmp_path / "a.npy", np.zeros(of, np.uint8), 255)
    assert words == done
    np.testing.assert_array_equal(images, given.reshape(-1, *of))


def test_the_shapes_that_an_array_may_have_are_said(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 9), np.uint8))
    said = "has shape [8, 9]; must be uint8 of shape [8, 8, 1] or [N, 8, 8, 1]"
    assert refused(tmp_path / "a.npy") == f"{tmp_path}/a.npy: {said} or [8, 8] or [N, 8, 8]"
    said = "has shape [8, 9]; must be uint8 of shape [32, 32, 3] or [N, 32, 32, 3]"
    assert refused(tmp_path / "a.npy", COLOUR) == f"{tmp_path}/a.npy: {said}"


# --- image files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 7, 8, 128, 247, 248, 255])
def test_grey_levels_are_rounded(tmp_path, value):
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / "a.png")
    images, _ = read_images(tmp_path / "a.png", GREY, 16)
    # In whole numbers: 16 v / 255, with a half or more going up.
    np.testing.assert_array_equal(images, (2 * 16 * value + 255) // (2 * 255))


@pytest.mark.parametrize(
    ("mode", "suffix", "done"),
    [
        ("1", "png", "20x10 pixels, made colour, resized to 32x32"),
        ("LA", "png", "20x10 pixels, on white where it was transparent, made colour, resized"),
        ("PA", "tiff", "20x10 pixels, on white where it was transparent, made colour, resized"),
        ("CMYK", "jpg", "20x10 pixels, made colour, resized to 32x32"),
        ("YCbCr", "jpg", "20x10 pixels, resized to 32x32"),
        ("RGB", "webp", "20x10 pixels, resized to 32x32"),
        ("RGB", "bmp", "20x10 pixels, resized to 32x32"),
        ("RGB", "ppm", "20x10 pixels, resized to 32x32"),
        ("RGB", "tiff", "20x10 pixels, resized to 32x32"),
    ],
)
def test_an_image_of_another_kind_is_brought_to_the_form_of_the_data(tmp_path, mode, suffix, done):
    half = np.zeros((10, 20), np.uint8)
    half[:, 10:] = 255  # Black on the left, white on the right.
    image = Image.fromarray(half)
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    images, words = read_images(tmp_path / f"a.{suffix}", COLOUR, 255)
    assert words.startswith(done)
    assert images.shape == (1, 32, 32, 3)
    assert images[0, :, :12].max() < 20
    assert images[0, :, 20:].min() > 235


def test_a_palette_with_a_transparent_colour_is_put_on_white(tmp_path):
    image = Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P")
    image.save(tmp_path / "a.png", transparency=0)
    images, words = read_images(tmp_path / "a.png", GREY, 255)
    assert words == "8x8 pixels, on white where it was transparent, made grey"
    np.testing.assert_array_equal(images, 255)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_the_first_of_several_images_is_taken(tmp_path, suffix):
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (255, 0, 128)]
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    images, words = read_images(path, GREY, 255)
    assert words.startswith("8x8 pixels, the first of several images")
    np.testing.assert_array_equal(images, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_camera_was(tmp_path, orientation):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    images, words = read_images(tmp_path / "a.png", GREY, 255)
    # The side of the picture where the first row lies, and the one where the first column lies.
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].T,
        8: np.rot90(pixels),
    }[orientation]
    assert words == "8x8 pixels"
    np.testing.assert_array_equal(images[0, ..., 0], turned)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, color=0, data=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def saved(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def lab():
    return saved(Image.new("LAB", (8, 8)), "tiff")


IMAGES = {
    "12000x12000": (lambda: png(12_000, 12_000), "has 144000000 pixels; must have at most 64"),
    "just too large": (lambda: png(8001, 8000), "has 64008000 pixels; must have at most 64000000"),
    "a line too long": (lambda: png(2**26, 1), "has 67108864 pixels; must have at most 64000000"),
    "10^9 pixels": (lambda: png(100_000, 10_000), "1000000000 pixels"),
    "a header alone": (lambda: png(8000, 8000), "is a damaged image: "),
    "BMP of 12000x12000": (
        lambda: saved(Image.new("1", (8, 8)), "bmp")[:18] + struct.pack("<ii", 12_000, 12_000)
        + saved(Image.new("1", (8, 8)), "bmp")[26:],
        "has 144000000 pixels",
    ),
    "LAB": (lab, "has colours as LAB; convert it to RGB"),
    "16 bits, grey": (lambda: png(8, 8, 16, 0, bytes(8 * 17)), "more than 8 bits per colour"),
    "16 bits, colour": (lambda: png(8, 8, 16, 2, bytes(8 * 49)), "more than 8 bits per colour"),
    "16 bits, transparent": (lambda: png(8, 8, 16, 6, bytes(8 * 65)), "more than 8 bits per colo"),
    "real numbers": (lambda: saved(Image.new("F", (8, 8)), "tiff"), "more than 8 bits per colour"),
    "32 bits": (lambda: saved(Image.new("I", (8, 8)), "tiff"), "more than 8 bits per colour"),
    "EPS": (lambda: saved(Image.new("L", (8, 8)), "eps"), "is neither an image nor a .npy file"),
    "PDF": (lambda: b"%PDF-1.4\n", f"an image must be of {', '.join(FORMATS)}"),
    "empty": (lambda: b"", "is neither an image nor a .npy file"),
    "text": (lambda: b"hello\n" * 100, "is neither an image nor a .npy file"),
    "a signature alone": (lambda: b"\x89PNG\r\n\x1a\n", "is neither an image nor a .npy file"),
    "arrays": (lambda: b"PK\3\4" + bytes(99), "is a .npz or zip file, which may hold several"),
}  # fmt: skip


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_cannot_be_taken_is_refused_in_one_line(tmp_path, kind, capfd):
    make, message = IMAGES[kind]
    (tmp_path / "a").write_bytes(make())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message in refused(tmp_path / "a")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB
    assert capfd.readouterr() == ("", "")


def test_no_program_is_run_for_an_image(tmp_path, monkeypatch):
    """Pillow hands an EPS file, which is a program, to Ghostscript."""

    def run(*arguments, **options):
        raise AssertionError("a program is run")

    monkeypatch.setattr(subprocess, "Popen", run)
    monkeypatch.setattr(subprocess, "check_call", run)
    Image.new("L", (8, 8)).save(tmp_path / "a.eps")
    for name in ("a.eps", "a.png"):
        (tmp_path / "a.eps").rename(tmp_path / name)
        assert "is neither an image nor a .npy file" in refused(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "a.eps")


def test_what_is_not_a_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.npy").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name in ("pipe.png", "zeros.npy", "folder.png", "loop.png", "missing.png", "a\nb.png"):
        with pytest.raises(DataError, match=r"^[^\n]*: is not a file$"):
            read_images(tmp_path / name, GREY, 16)


def test_a_file_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    assert read_images(Path("~/a.npy"), GREY, 16)[0].shape == (1, 8, 8, 1)
    with pytest.raises(DataError, match=r"~nobody-at-all/a\.npy: is not a file"):
        read_images(Path("~nobody-at-all/a.npy"), GREY, 16)


# --- arrays --------------------------------------------------------------------------------------


def npy(header, version=1, data=bytes(64)):
    """A .npy file with a header of one's own."""
    text = header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def header(shape="(8, 8)", descr="'|u1'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("fortran", [False, True])
def test_an_array_of_each_version_and_order(tmp_path, version, fortran):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    data = (pixels.T if fortran else pixels).tobytes()
    (tmp_path / "a.npy").write_bytes(npy(header(fortran=str(fortran)), version, data))
    images, words = read_images(tmp_path / "a.npy", GREY, 255)
    np.testing.assert_array_equal(images, pixels[None, ..., None])
    assert type(images) is np.ndarray
    assert words == "1 image, taken as they are"
    # By its content, whatever its name.
    (tmp_path / "a.npy").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_images(tmp_path / "a.png", GREY, 255)[0], images)


def test_arrays_of_as_many_pixels_as_may_be(tmp_path):
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (MOST_PIXELS // 64 + 1, 8, 8, 1))
    message = refused(tmp_path / "a.npy")
    assert message.endswith("has 64000064 pixels; must have at most 64000000, so make it smaller")
    # All training images of CIFAR-10 are fewer.
    assert MOST_PIXELS > 50_000 * 32 * 32


NUMBERS = "is not a .npy file of numbers: "
ARRAYS = {
    "10^12 images": (npy(header("(1000000000000, 8, 8, 1)")), NUMBERS),
    "2^64 images": (npy(header(f"({2**64}, 8, 8, 1)")), NUMBERS),
    "-1 images": (npy(header("(-1, 8, 8, 1)")), NUMBERS),
    "a shape of words": (npy(header("('a', 8)")), NUMBERS),
    "too few numbers": (npy(header("(8, 9)")), NUMBERS),
    "a header of 4 GB": (b"\x93NUMPY\2\0" + b"\xff" * 4 + bytes(99), NUMBERS),
    "a header too long": (npy(header() + " " * 60_000), NUMBERS),
    "a header nested": (npy("(" * 9000), NUMBERS),
    "a header with strange escapes": (npy(header(descr="'\\d'")), NUMBERS),
    "a header that is no text": (b"\x93NUMPY\3\0\4\0\0\0\xff\xff\xff\xff", NUMBERS),
    "a key that is a list": (npy("{[]: 1}"), NUMBERS),
    "version 9": (b"\x93NUMPY\x09\0" + bytes(99), NUMBERS),
    "cut in the header": (npy(header())[:30], NUMBERS),
    "empty": (b"", NUMBERS),
    "text": (b"hello", NUMBERS),
    "objects": (npy(header(descr="'|O'")), NUMBERS),
    "a pickle": (b"\x80\x04K\x01.", NUMBERS),
    "a structure": (npy(header("(8,)", "[('a\\n', '<f4'), ('b', '<i4')]")), "is [("),
    "a long structure": (
        npy(header("(2,)", str([(f"field{i}", "<f4") for i in range(300)])), data=bytes(2400)),
        "...; must be uint8 of shape",
    ),
    "complex numbers": (npy(header("(2, 2)", "'<c16'")), "is complex128; must be uint8 of shape"),
    "truth": (npy(header(descr="'|b1'")), "is bool; must be uint8 of shape"),
    "texts": (npy(header("(2, 2)", "'<U4'")), "is <U4; must be uint8 of shape"),
    "a single number": (npy(header("()")), "has shape []; must be uint8 of shape [8, 8, 1] or"),
    "no images": (npy(header("(0, 8, 8, 1)"), data=b""), "has shape [0, 8, 8, 1]; must be"),
    "images without width": (npy(header("(1, 8, 0, 1)"), data=b""), "has shape [1, 8, 0, 1]"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_that_cannot_be_taken_is_refused_in_one_line(tmp_path, kind, capfd):
    content, message = ARRAYS[kind]
    (tmp_path / "a.npy").write_bytes(content)
    assert message in refused(tmp_path / "a.npy")
    assert len(refused(tmp_path / "a.npy")) < len(str(tmp_path)) + 500
    assert capfd.readouterr() == ("", "")


def test_a_pickle_is_not_read(tmp_path):
    class Marks:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    np.save(tmp_path / "a.npy", np.array([Marks()], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.array([Marks()], object), allow_pickle=True)
    for name in ("a.npy", "a.npz"):
        refused(tmp_path / name)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(tmp_path, value):
    points = np.zeros((3, 1, 2, 1), np.float32)
    np.save(tmp_path / "a.npy", points)
    assert read_images(tmp_path / "a.npy", POINT, 1)[0].shape == points.shape
    points[1, 0, 1] = value
    np.save(tmp_path / "a.npy", points)
    assert "holds NaN or infinity; must be finite numbers" in refused(tmp_path / "a.npy", POINT, 1)


def test_libtiff_says_nothing_itself(tmp_path, capfd):
    content = bytearray(saved(Image.new("L", (99, 99)), "tiff", compression="tiff_deflate"))
    content[8:12] = b"none"  # Where the pixels begin.
    (tmp_path / "a.tiff").write_bytes(content)
    assert "is a damaged image: " in refused(tmp_path / "a.tiff")
    os.write(2, b"stderr is as it was")
    assert capfd.readouterr() == ("", "stderr is as it was")


def test_points_are_no_pictures(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert "must be a .npy file; the data are no images" in refused(tmp_path / "a.png", POINT, 1)


# --- files changed at random ---------------------------------------------------------------------


def seeds():
    """Whole files of many kinds."""
    random = np.random.default_rng(0)
    pixels = random.integers(256, size=(12, 11, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    transparent = image.convert("RGBA")
    transparent.putalpha(100)
    yield "png", saved(image, "png")
    yield "png", saved(image.convert("L"), "png", exif=exif)
    yield "png", saved(transparent, "png")
    yield "png", saved(image.quantize(9), "png", transparency=3)
    yield "png", saved(image, "png", **frames)
    yield "png", png(8, 8, 16, 2, bytes(8 * 49))
    yield "jpg", saved(image, "jpeg", exif=exif)
    yield "jpg", saved(image.convert("L"), "jpeg", progressive=True)
    yield "jpg", saved(image.convert("CMYK"), "jpeg")
    yield "gif", saved(image, "gif", **frames)
    yield "gif", saved(image.quantize(9), "gif", transparency=3)
    yield "bmp", saved(image, "bmp")
    yield "bmp", saved(image.quantize(9), "bmp")
    for compression in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield "tiff", saved(image, "tiff", compression=compression)
    yield "tiff", saved(image, "tiff", **frames)
    yield "tiff", saved(image.convert("1"), "tiff", compression="group4")
    yield "tiff", lab()
    yield "webp", saved(image, "webp", exif=exif)
    yield "webp", saved(transparent, "webp", lossless=True)
    yield "webp", saved(image, "webp", **frames)
    yield "ppm", saved(image, "ppm")
    for array in (
        pixels[:8, :8, :1],
        pixels[None, :8, :8, :1],
        np.asfortranarray(pixels[:8, :8, 0]),
    ):
        file = io.BytesIO()
        np.save(file, array)
        yield "npy", file.getvalue()
    yield "npy", npy(header(), 3)
    file = io.BytesIO()
    np.savez(file, pixels)
    yield "npz", file.getvalue()


def mutated(content, other, random):
    """Flips bits, cuts, takes out, puts in, writes over, or begins as another file does."""
    changed = bytearray(content)
    # Half of the changes hit the beginning, where the headers are.
    at = int(random.integers(len(changed) if random.random() < 0.5 else min(len(changed), 100)))
    length = int(random.integers(1, 40))
    kind = random.integers(7)
    if kind == 0:
        for place in random.integers(at, len(changed), size=random.integers(1, 10)):
            changed[place] ^= 1 << int(random.integers(8))
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        del changed[at : at + length]
    elif kind == 3:
        changed[at:at] = random.bytes(length)
    elif kind == 4:
        changed[at : at + length] = random.bytes(length)
    elif kind == 5:
        changed[at : at + 4] = random.choice(
            [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]
        )
    else:
        changed[:length] = other[:length]
    return bytes(changed)


def test_files_changed_at_random_are_images_or_refused_in_one_line(tmp_path, capfd):
    random = np.random.default_rng(0)
    files = list(seeds())
    taken = refusals = 0
    memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for number in range(1500):
        suffix, content = files[number % len(files)]
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(mutated(content, files[random.integers(len(files))][1], random))
        like, largest = [(GREY, 16), (GREY, 255), (COLOUR, 255)][number % 3]
        try:
            images, words = read_images(path, like, largest)
        except DataError as error:
            refusals += 1
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017
            assert len(str(error)) < 1000  # noqa: PT017
        else:
            taken += 1
            assert images.dtype == np.uint8
            assert images.shape[1:] == like.shape
            assert images.max() <= largest
            assert words.isprintable()
        path.unlink()
    assert taken > 200
    assert refusals > 500
    assert time.process_time() - began < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 1_000_000  # kB
    assert capfd.readouterr() == ("", "")
