"""Load a data set by its name or path."""

import os

from train.data import dataset, decoded_cache, own, sources, tfds_reader
from train.data.dataset import Dataset
from train.data.hold_out import divided
from train.data.image_folder import parsed_size
from train.data.own import Options, check_unused
from train.data.sources import SOURCES
from train.flags.declaration import data_path


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    label: str | None = None,
    missing: str | None = None,
    test: float | None = None,
    image_size: str | None = None,
) -> Dataset:
    """Load a data set into memory.

    Prepared examples keep the order that they are stored in, except that those with an `id`
    (CIFAR-10) are sorted by it, which is the order of the original files. Examples of a file or
    folder of one's own are put into a random order, the same each time.

    Args:
        name: one of `sources.SOURCES`, or of the data sets prepared in `data_dir`; or the path of
            a .npz, .csv or .parquet file or of a folder of images, see `declaration.data_path`.
        data_dir: the folder of TFDS data sets; by default $TFDS_DATA_DIR, else
            ~/tensorflow_datasets. `digits` and `synth` need none.
        label: the column of the labels, of a .csv or .parquet file; by default the last.
        missing: "mean" to fill missing values of such a file.
        test: the share, below 1, or the number of examples that are held out to test on, of data
            without examples to test on; by default 0.2.
        image_size: the size that images are brought to, such as "32" or "32x48", of a folder, or of
            prepared data of several sizes.

    Returns:
        The inputs, the labels, and what is known about them.

    Raises:
        DataError: the name is unknown, or the data are missing, incomplete or damaged.
        ConfigError: an argument means nothing for these data, or other users can write to the
            folder that XDG_CACHE_HOME names, in which decoded data are kept.
    """
    options = Options(label, missing, test, image_size)
    path = data_path(name)
    if path is not None:
        return own.load(path, options)
    sources.check_name(name, sources.names(data_dir))
    if name in SOURCES and SOURCES[name].reader != "tfds":
        check_unused(options, ("label", "missing", "test", "image_size"), name)
        if name != "digits":
            return dataset.draw_synth()
        return decoded_cache.kept(dataset.load_digits, name, (), ())
    check_unused(options, ("label", "missing"), name)
    size = None if image_size is None else parsed_size(image_size)
    folder = sources.data_folder(data_dir)

    def decoded() -> Dataset:
        found = tfds_reader.read(name, folder, size)
        if found.test is None:
            return divided(name, found.description, found.train, found.classes, test)
        check_unused(options, ("test",), name)
        return dataset.sealed(name, found.description, found.train, found.test, found.classes)

    return decoded_cache.kept(decoded, name, tfds_reader.files(name, folder), (size, test))
