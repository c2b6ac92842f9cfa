"""Files that are written as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE
from uuid import uuid4

__all__ = ["replace_file"]


@contextmanager
def replace_file(file: str | os.PathLike[str]) -> Iterator[Path]:
    """Replace a file at the end of this context: whoever reads it finds the old or the new one, never a part.

    If the context raises, the old file stays. The new one is on the disk before it takes the name, so that a power
    failure leaves one of the two. Its mode is that of any new file, by the umask.

    Args:
        file: The file; its folder is made.

    Yields:
        The path to write to in the meantime, in the same folder and with the same suffix.

    Raises:
        OSError: The folder cannot be made or written to; raised before the context begins.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "numbers.txt")
        >>> with replace_file(file) as new:
        ...     _ = new.write_text("1 2 3")
        >>> file.read_text()
        '1 2 3'
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{uuid4().hex}.{file.name}")
    try:
        with new.open("xb") as empty:
            mode = S_IMODE(os.fstat(empty.fileno()).st_mode)
        yield new
        new.chmod(mode)  # some writers, such as that of safetensors, replace the file by one that only the owner reads
        with new.open("r+b") as written:
            os.fsync(written.fileno())
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
