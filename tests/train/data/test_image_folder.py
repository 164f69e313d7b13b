"""Folders of images by class."""

import os

import numpy as np
import pytest
from PIL import Image

from train.data import load
from train.errors import Refusal


def write(folder, size=(6, 5), mode="RGB", count=5, suffix="png"):
    """Images of `size` (height, width), the first channel of which is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.full((*size, 3), 9 * number, np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.{suffix}")


@pytest.fixture
def pets(tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / "pets" / name)
    return tmp_path / "pets"


def test_a_folder_for_each_class(pets):
    (pets / "README.txt").write_text("Beside the folders anything may lie.")
    (pets / "cat" / ".DS_Store").write_text("")
    dataset = load(f"{pets}/")
    assert dataset.name == "pets"
    assert dataset.classes == ("cat", "dog")
    assert dataset.x_train.shape == (8, 6, 5, 3)
    assert dataset.x_test.shape == (2, 6, 5, 3)
    assert dataset.x_train.dtype == np.uint8
    assert np.bincount(dataset.y_test).tolist() == [1, 1]
    values = np.concatenate([dataset.x_train, dataset.x_test])[:, 0, 0, 0]
    assert sorted(values) == sorted([9 * i for i in range(5)] * 2)
    assert "10 images of 6x5x3 in 2 classes, from the folder pets" in dataset.description


def test_parts_to_train_and_to_test_on(tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            write(tmp_path / "pets" / part / name, mode="L", count=count)
    dataset = load(str(tmp_path / "pets"))
    assert dataset.x_train.shape == (8, 6, 5, 1)
    assert dataset.x_test.shape == (4, 6, 5, 1)
    assert dataset.y_test.tolist() == [0, 0, 1, 1]
    assert dataset.y_train.tolist() != [0] * 4 + [1] * 4
    write(tmp_path / "pets" / "test" / "hen", mode="L", count=1)
    with pytest.raises(Refusal, match="holds the class hen, which is not among those to train on"):
        load(str(tmp_path / "pets"))


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "train"):
        write(tmp_path / "v" / name)
    assert load(str(tmp_path / "v")).classes == ("car", "train")


def test_images_of_several_sizes_are_brought_to_one(pets):
    write(pets / "dog", size=(12, 10), mode="L", suffix="jpg")
    with pytest.raises(Refusal) as error:
        load(str(pets))
    assert "has 12x10 pixels, other images 6x5" in str(error.value)
    assert "--image-size 6x5 brings all to one size" in str(error.value)
    dataset = load(str(pets), image_size="3x4")
    assert dataset.x_train.shape[1:] == (3, 4, 3)
    assert load(str(pets), image_size="7").x_train.shape[1:] == (7, 7, 3)


def test_a_turned_photo_has_the_size_that_it_shows(tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / name, suffix="jpg")
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.fromarray(np.zeros((5, 6, 3), np.uint8))
        image.save(tmp_path / name / "turned.jpg", exif=exif)
    assert load(str(tmp_path)).x_train.shape[1:] == (6, 5, 3)


def damaged(folder):
    path = folder / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:45])


def pipe(folder):
    os.mkfifo(folder / "dog" / "a.png")


def device(folder):
    (folder / "dog" / "a.png").symlink_to("/dev/zero")


def nested(folder):
    write(folder / "dog" / "poodle")


def text(folder):
    (folder / "dog" / "notes.txt").write_text("hello")


def empty(folder):
    (folder / "hen").mkdir()


def one(folder):
    write(folder / "hen", count=1)


FOLDERS = {
    damaged: "dog/3.png: is a damaged image",
    pipe: "dog/a.png: is a pipe, socket or device, not a file",
    device: "dog/a.png: is a pipe, socket or device, not a file",
    nested: "dog/poodle: is a folder in that of a class",
    text: "dog/notes.txt: is neither an image nor a .npy file; an image must be of PNG",
    empty: "hen: holds no images; remove this folder, or fill it",
    one: "class hen has one example only",
}


@pytest.mark.parametrize("change", FOLDERS)
def test_a_folder_that_cannot_be_taken_is_refused_in_one_line(pets, change):
    change(pets)
    with pytest.raises(Refusal) as error:
        load(str(pets))
    assert FOLDERS[change] in str(error.value)
    assert str(error.value).isprintable()


def test_folders_without_classes(tmp_path, pets):
    (tmp_path / "none").mkdir()
    for folder, words in (("none", "holds no folders"), ("pets/cat", "holds no folders")):
        with pytest.raises(Refusal, match=words):
            load(str(tmp_path / folder))


def test_a_folder_that_may_not_be_read_is_said(pets, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(Refusal, match=r"pets: cannot be read: Permission denied$"):
        load(str(pets))


def test_images_that_are_too_large_together(pets, monkeypatch):
    monkeypatch.setattr("train.data.image_folder.MOST_VALUES", 899)
    with pytest.raises(
        Refusal, match="pets/cat: 10 images of 6x5x3 have more than 899 values; a smaller"
    ):
        load(str(pets))
    assert load(str(pets), image_size="5").x_train.shape[1:] == (5, 5, 3)


def test_all_images_of_a_folder_are_read_to_predict(pets):
    schema = load(str(pets), image_size="4").schema
    inputs, done, names = schema.read(pets)
    assert names == [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(5)]
    assert inputs[:, 0, 0, 0].tolist() == [9 * i for i in range(5)] * 2
    assert done == "10 images, brought to 4x4"
    damaged(pets)
    with pytest.raises(Refusal, match=r"dog/3\.png: is a damaged image"):
        schema.read(pets)
