"""Files that are there whole or not at all, and one sentence where a disk takes no more.

Promises: a draft lies in the folder of the file it becomes, so that it also gets there where that folder is a link or a
mounted volume; a draft that can't be finished is taken away, and what was there before stays as it was. An archive is
read in the memory that it takes on the disk, and nothing that may have no end is read.
Refuses to know: what the files say.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from secirls.input_error import InputError


class UnwritableError(InputError):
    """A place takes no file: full, read-only, not a folder. No mistake of a fit's, which can go on afterwards."""


@contextmanager
def writing(place: Path, what: str = "file") -> Iterator[None]:
    """Turn what the system says against writing into one sentence that names the place."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise UnwritableError(f"{what} {str(place)!r}: can't be written ({why})") from None


def write_whole(path: Path, data: bytes, *, like: Path | None = None) -> None:
    """Write a file that is there whole or not at all, even where the machine stops. Raises `UnwritableError`.

    Each has a draft of its own: of two that write the same file at once, the last one's is there. What is made of a
    site's own data is read by nobody who can't read these: no more is permitted than ``like`` them.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    with writing(path), becoming(path, draft), new_file(draft, _permitted(like)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def becoming(path: Path, draft: Path) -> Iterator[None]:
    """A draft that is written inside takes the file's place at the end, or is taken away. Raises `OSError`."""
    try:
        yield
        draft.replace(path)
    except BaseException:
        remove(draft)
        raise


def read_file(path: Path) -> bytes:
    """What a regular file holds. Raises `OSError` for a pipe, which may never send anything, and for a device.

    Who else may write in the folder could have put one there, or a link to one.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()


def stored(data: bytes) -> bytes:
    """An archive as NumPy writes it: nothing in it is compressed, so what is read of it is no larger than it.

    Raises `ValueError` for another.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = archive.infolist()
    if any(part.compress_type for part in parts) or sum(part.file_size for part in parts) > len(data):
        raise ValueError("compressed")
    return data


def _permitted(like: Path | None) -> int:
    """What whoever may do with a file that is made of another, or a folder of them. Raises `OSError`."""
    return 0o666 if like is None else like.stat().st_mode & 0o666


def new_file(path: Path, mode: int = 0o666) -> BinaryIO:
    """A file for writing that is new, with these permissions: what was there, such as a draft that a crash left, goes.

    Who else may write in the folder could have put a link there, and have another file overwritten by it.
    """
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


def settle(place: Path) -> None:
    """Have a file on the disk, or a folder's entries, so that one made or replaced there is found after a crash."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a file system that does so by itself, or never
            raise
    finally:
        os.close(descriptor)


@contextmanager
def whole_folder(folder: Path, *, like: Path | None = None) -> Iterator[Path]:
    """A folder for drafts, whose files all move into ``folder`` at the end, or none. Raises `UnwritableError`.

    They are on the disk by then, so that what they were made from may go. Whatever writes them, no more is permitted
    than ``like`` the data that they are made of; nobody else enters before.
    """
    with writing(folder, "folder"):
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".draft-{secrets.token_hex(4)}"
        try:
            draft.mkdir(0o777 if like is None else 0o700)
            yield draft
            files = sorted(draft.iterdir())
            for file in files:
                if (found := stat.S_IMODE(file.stat().st_mode)) & ~_permitted(like):  # some disks know no permissions
                    file.chmod(found & _permitted(like))
                settle(file)
            for file in files:
                file.replace(folder / file.name)
            settle(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            if made:
                remove(folder)
            raise
        shutil.rmtree(draft, ignore_errors=True)


def remove(path: Path) -> None:
    """Take a file, or a folder without files, away if that can be done."""
    try:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    except OSError:
        return
