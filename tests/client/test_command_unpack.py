"""Archives that are unpacked, and those that must not be."""

import stat
import zipfile
from pathlib import Path

import pytest
from modelreg import Corrupt, InvalidArchive, LocalError, Manifest, ManifestFile, unpack
from modelreg.unpack import holds, member_path, path_component, put_in_place


def archive_of(path: Path, *entries: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # after __init__, which would cut it at NUL
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "a//x", "./x", "C:/x", "C:x", "a\\x", "..\\x", "", "a/.", "/"]
)
def test_a_path_that_could_lead_out_is_refused(name, tmp_path):
    archive = archive_of(tmp_path / "a.zip", ("good", b"1", 0), (name, b"1", 0))

    with pytest.raises(InvalidArchive):
        unpack.unpack(archive, tmp_path / "out")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_a_nul_in_a_path_is_refused():
    with pytest.raises(InvalidArchive):
        member_path("a\0b")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644])
def test_links_and_devices_are_refused(mode, tmp_path):
    archive = archive_of(tmp_path / "a.zip", ("link", b"/etc/passwd", mode))

    with pytest.raises(InvalidArchive, match="link or device"):
        unpack.unpack(archive, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/", "a")])
def test_a_path_that_is_there_twice_is_refused(names, tmp_path):
    archive = archive_of(tmp_path / "a.zip", *((name, b"" if name.endswith("/") else b"1", 0) for name in names))

    with pytest.raises(InvalidArchive):
        unpack.unpack(archive, tmp_path / "out")


def test_an_archive_that_inflates_too_much_is_refused(tmp_path):
    archive = archive_of(tmp_path / "a.zip", ("zeros", bytes(1_000_000), 0))

    with pytest.raises(InvalidArchive, match="room"):
        unpack.unpack(archive, tmp_path / "out")


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_ENTRIES", 1)
    archive = archive_of(tmp_path / "a.zip", ("a", b"1", 0), ("b", b"1", 0))

    with pytest.raises(InvalidArchive):
        unpack.unpack(archive, tmp_path / "out")


def test_an_encrypted_archive_is_refused(tmp_path):
    archive = archive_of(tmp_path / "a.zip", ("a", b"1", 0))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)

    with pytest.raises(InvalidArchive, match="encrypted"):
        unpack.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06"])
def test_what_is_no_archive_is_corrupt(content, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)

    with pytest.raises(Corrupt):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "out")


def test_files_and_folders_are_unpacked_without_the_modes_of_the_archive(tmp_path):
    archive = archive_of(
        tmp_path / "a.zip", ("a/", b"", stat.S_IFDIR | 0o755), ("a/run", b"1", stat.S_IFREG | 0o4777), ("é", b"2", 0)
    )

    unpack.unpack(archive, tmp_path / "out")

    assert (tmp_path / "out/a/run").read_bytes() + (tmp_path / "out/é").read_bytes() == b"12"
    assert stat.S_IMODE((tmp_path / "out/a/run").stat().st_mode) & 0o7111 == 0


def test_a_folder_that_is_there_is_not_written_into(tmp_path):
    (tmp_path / "out").mkdir()
    archive = archive_of(tmp_path / "a.zip", ("a", b"1", 0))

    with pytest.raises(LocalError):
        unpack.unpack(archive, tmp_path / "out")


def test_a_link_in_the_place_of_a_folder_is_replaced_and_not_followed(tmp_path):
    elsewhere, fresh = tmp_path / "elsewhere", tmp_path / ".fresh"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    fresh.mkdir()
    (tmp_path / "v1").symlink_to(elsewhere)

    put_in_place(fresh, tmp_path / "v1", tmp_path / ".old")

    assert (elsewhere / "kept").exists()
    assert not (tmp_path / "v1").is_symlink()


@pytest.mark.parametrize(
    ("text", "component"),
    [("detector", "detector"), ("..", "%2E."), ("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"), ("", "%"), ("\x1bé", "%1Bé")],
)
def test_any_text_is_one_name_in_a_folder(text, component):
    assert path_component(text) == component
    assert Path(path_component(text)).name == component


def test_a_link_to_the_right_content_is_not_the_right_file(tmp_path):
    (tmp_path / "real").write_bytes(b"1")
    (tmp_path / "file").symlink_to("real")
    manifest = Manifest(
        id="x", file_name="a.zip", media_type="application/zip", size=1, file_count=1, inflated_size=1,
        files=[ManifestFile(path="file", size=1, crc32="83dcefb7")],
    )  # fmt: skip

    assert not holds(tmp_path, manifest)


def test_a_hostile_manifest_looks_at_no_file_outside(tmp_path):
    manifest = Manifest(
        id="x", file_name="a.zip", media_type="application/zip", size=1, file_count=1, inflated_size=1,
        files=[ManifestFile(path="../../etc/passwd", size=1)],
    )  # fmt: skip

    with pytest.raises(InvalidArchive):
        holds(tmp_path, manifest)
