"""What data of one's own may be: which files are opened, and how large they are."""

import os
import stat
from pathlib import Path

from train.errors import DataError

# Values of all examples together: 4 GB as float32. What a file claims is held to it before memory
# is taken for it.
MOST_VALUES = 2**30

MOST_CLASSES = 1000


def regular_file(path: Path) -> None:
    """Raise a `DataError` unless a path is that of a file, or of a link to one.

    A pipe or a device is not opened: it could block, or never end.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        what = "is a link that leads nowhere" if path.is_symlink() else "is not there"
        raise DataError(f"{path}: {what}; name a file or folder") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise DataError(f"{path}: is {what}, not a file")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: may not be read; change its permissions")
