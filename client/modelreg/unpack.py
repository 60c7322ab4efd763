"""A ZIP as files of a folder, safely, and all or nothing.

The registry has checked the archive; it is checked again, because what is written here is this machine's own. The
folder appears under its name only when it is whole and on disk. Modes, owners and times of the archive are ignored.
"""

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from modelreg.errors import Corrupt, InvalidArchive, LocalError

if TYPE_CHECKING:
    from modelreg.models import Manifest

MAX_ENTRIES = 10_000
MAX_INFLATED_BYTES = 100 * 1024**3
MAX_RATIO = 200
PIECE_BYTES = 1024**2
_RESERVED = frozenset("/\\%")


def path_component(text: str) -> str:
    """The text as one name in a folder: what could lead out of it, or be mistaken for such an escape, stands as %XX."""
    kept = "".join(
        "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        if character in _RESERVED or not character.isprintable() or (character == "." and at == 0)
        else character
        for at, character in enumerate(text)
    )
    return kept or "%"


def member_path(path: str) -> tuple[str, ...]:
    """The parts of a member's path, which stay inside any folder. Raises InvalidArchive."""
    parts = tuple(path.removesuffix("/").split("/"))
    if "\0" in path or "\\" in path or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise InvalidArchive(f"The archive has a path that leads out of its folder: {path!r}. Nothing was unpacked.")
    return parts


def unpack(archive: Path, folder: Path) -> None:
    """Every file of the ZIP in a new folder. Raises InvalidArchive, Corrupt or LocalError, and leaves no folder."""
    try:
        _unpack(archive, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unpack(archive: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            _check(members, archive.stat().st_size)
            for member in members:
                place = folder.joinpath(*member_path(member.orig_filename))
                if member.is_dir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source:
                    write_new(place, source)
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise Corrupt(f"The archive cannot be read: {exc}.") from exc
    except (NotImplementedError, RuntimeError) as exc:  # a compression that is not known here
        raise InvalidArchive(f"The archive cannot be unpacked here: {exc}.") from exc
    except OSError as exc:
        raise LocalError(f"{folder} cannot be written: {exc.strerror or exc}.") from exc


def write_new(place: Path, source: IO[bytes]) -> None:
    """A file that was not there, on disk when this returns."""
    with place.open("xb") as file:
        shutil.copyfileobj(source, file, PIECE_BYTES)
        file.flush()
        os.fsync(file.fileno())


def _check(members: Iterable[zipfile.ZipInfo], packed_bytes: int) -> None:
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    inflated_bytes = count = 0
    for member in members:
        count += 1
        inflated_bytes += member.file_size
        parts = member_path(member.orig_filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InvalidArchive(f"The archive has a link or device: {member.orig_filename!r}. Nothing was unpacked.")
        if member.flag_bits & 1:
            raise InvalidArchive("The archive is encrypted. Nothing was unpacked.")
        if parts in files:
            raise InvalidArchive(f"The archive has {member.orig_filename!r} twice. Nothing was unpacked.")
        (folders if member.is_dir() else files).add(parts)
        folders.update(parts[:length] for length in range(1, len(parts)))
    if files & folders:
        raise InvalidArchive("The archive has a file where it needs a folder. Nothing was unpacked.")
    if count > MAX_ENTRIES or inflated_bytes > min(MAX_INFLATED_BYTES, MAX_RATIO * packed_bytes):
        raise InvalidArchive("The archive would take more room than any archive may. Nothing was unpacked.")


def put_in_place(fresh: Path, folder: Path, old: Path) -> None:
    """The fresh folder under its name. What was there is whole under the name `old` until then, and is removed."""
    try:
        _remove(old)
        if folder.is_symlink() or folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        _remove(old)
    except OSError as exc:
        raise LocalError(f"{folder} cannot be replaced: {exc.strerror or exc}.") from exc


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def holds(folder: Path, manifest: "Manifest") -> bool:
    """Whether every file of the artifact is in the folder, with its size and content; others may be there too."""
    if not folder.is_dir() or not manifest.files:
        return False
    for file in manifest.files:
        place = folder.joinpath(*member_path(file.path))
        try:
            status = place.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
                return False
            if not _same_content(place, file.crc32, manifest.sha256 if manifest.file_count == 1 else None):
                return False
        except OSError:
            return False
    return True


def _same_content(place: Path, crc32: str | None, sha256: str | None) -> bool:
    import hashlib

    if crc32 is None and sha256 is None:
        return False
    crc, digest = 0, hashlib.sha256()
    with place.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            if crc32 is None:
                digest.update(piece)
            else:
                crc = zlib.crc32(piece, crc)
    return digest.hexdigest() == sha256 if crc32 is None else f"{crc:08x}" == crc32.lower()
