"""What inspect_archive accepts, finds and says."""

import io
import zipfile

import pytest

from chalicelib.registry.archives import inspect_archive
from chalicelib.registry.errors import InvalidArchive


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return file


def test_an_ordinary_archive_is_reported_with_its_files():
    report = inspect_archive(zipped({"model/": b"", "model/weights.dat": b"abc", "readme.md": b"# hi"}))

    assert [(e.path, e.size_bytes) for e in report.entries] == [("model/weights.dat", 3), ("readme.md", 4)]
    assert report.size_bytes == 7
    assert report.format is None


def test_a_file_that_is_no_zip_is_refused():
    with pytest.raises(InvalidArchive, match="not a whole ZIP archive"):
        inspect_archive(io.BytesIO(b"plain text"))
