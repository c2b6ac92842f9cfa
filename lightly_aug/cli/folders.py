"""The files and folders that commands write to."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

__all__ = ["prepare_out", "remove_unused"]

_new = list[Path]()
"""Folders that were not there before the command, the innermost first."""


def prepare_out(out: Path, *, folder: bool = False) -> None:
    """Check that a file can be written before the work begins, so that no work is lost.

    Nothing is made: the command makes the folder of the file when it writes, and `remove_unused` removes it if the
    command fails before.

    Args:
        out: The option `--out`.
        folder: Whether it is a folder to write files to.

    Raises:
        ValueError: It cannot be written.
    """
    place = out if folder else out.parent
    try:
        if not folder and out.is_dir():
            raise IsADirectoryError("it is a folder")
        missing = [each for each in (place, *place.parents) if not each.exists()]
        above = place.parents[len(missing) - 1] if missing else place
        if not above.is_dir():
            raise NotADirectoryError(f"{above} is a file")
        TemporaryFile(dir=above).close()
    except OSError as error:
        kind = "folder to write to" if folder else "file that can be written"
        raise ValueError(f"--out must be a {kind}, got {out}: {error.strerror or error}") from None
    _new.extend(missing)


def remove_unused() -> None:
    """Remove folders that a command made and wrote nothing into."""
    for folder in _new:
        for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                inner.rmdir()
        with suppress(OSError):
            folder.rmdir()
    _new.clear()
