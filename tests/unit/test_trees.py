"""Trees of files: paths from outside, what they name, what is sealed, what an artifact of them is."""

import pytest

from chalicelib.registry.errors import InvalidInput, NotFound
from chalicelib.registry.marks import FileMark, ModelMark, PackMark, mark_of
from chalicelib.registry.trees import (
    MAX_FILES,
    Root,
    TreeFile,
    TreePlace,
    VersionPlace,
    artifact_of,
    checked_path,
    place_of,
    relative,
    sealing,
)

MODEL = "m-0123456789abcdef0123456789abcdef"
RUN = "0123456789abcdef0123456789abcdef"


def file(path: str, key: str = "artifacts/1/x", size: int = 1) -> TreeFile:
    return TreeFile(path=path, key=key, size=size)


@pytest.mark.parametrize(
    "path", ["", "MLmodel", "a/b/c/d.txt", "ä ö/日本語", "a.b/..c/d..", "with space/x", "100%", "a?b=c"]
)
def test_a_path_of_any_depth_and_any_letters_is_one(path: str) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "a//b", "a/", "..", "a/../b", "./a", "a/.", "a\\b", "a\\..\\b", "a#b", "a\x00b", "a\nb"),
        *("%2e%2e/a", "a/%2e%2e/b", "a/%252e%252e/b", "a%2f..%2fb", "%2e", "a%5cb", "\ud800", "\u202eexe.a"),
        *("x" * 256, "/".join(["d"] * 33), "/".join(["ä" * 100] * 6)),
    ],
)
def test_a_hostile_path_is_none(path: str) -> None:
    with pytest.raises(InvalidInput, match=r"^Invalid path"):
        checked_path(path)


@pytest.mark.parametrize(
    ("stated", "place"),
    [
        (f"1/models/{MODEL}/artifacts", TreePlace(MODEL, "")),
        (f"1/models/{MODEL}/artifacts/", TreePlace(MODEL, "")),
        (f"1/models/{MODEL}/artifacts/a/b", TreePlace(MODEL, "a/b")),
        (f"12/{RUN}/artifacts/model/MLmodel", TreePlace(RUN, "model/MLmodel")),
        (f"1/{RUN}/artifacts/artifacts/artifacts", TreePlace(RUN, "artifacts/artifacts")),
        ("versions/model-detector-v1/artifacts/x", VersionPlace("model-detector-v1", "x")),
        ("versions/models/artifacts/x", None),
        (f"versions/models/{MODEL}/artifacts/x", TreePlace(MODEL, "x")),
    ],
)
def test_a_place_is_what_artifact_uris_say(stated: str, place: TreePlace | VersionPlace | None) -> None:
    if place is None:
        with pytest.raises(NotFound):
            place_of(stated)
    else:
        assert place_of(stated) == place


@pytest.mark.parametrize(
    "stated",
    [
        "",
        "1",
        f"1/{RUN}",
        f"1/{RUN}/other/x",
        "artifacts",
        f"1/models/{MODEL}",
        f"1/{RUN}/",
        "1/files-0123/artifacts/x",
        "1/a b/artifacts/x",
        f"1/{'x' * 65}/artifacts",
        "ä/run/artifacts/x",
    ],
)
def test_there_is_nothing_outside_of_a_tree(stated: str) -> None:
    with pytest.raises(NotFound, match="No such artifact"):
        place_of(stated)


@pytest.mark.parametrize("stated", [f"1/{RUN}/artifacts/../../x", f"../1/{RUN}/artifacts/x", f"1/{RUN}/artifacts//x"])
def test_nobody_climbs_out_of_a_tree(stated: str) -> None:
    with pytest.raises((InvalidInput, NotFound)):
        place_of(stated)


def test_a_path_is_sealed_by_each_directory_above_it_and_by_itself() -> None:
    assert sealing("") == ["/"]
    assert sealing("a/b.txt") == ["/", "a/", "a/b.txt/"]


@pytest.mark.parametrize(
    ("sealed", "path", "is_sealed"),
    [
        ("/", "a", True),
        ("a/", "a/b", True),
        ("a/", "a", True),
        ("a/", "ab", False),
        ("a/b/", "a/c", False),
        ("a/b/", "a", False),
    ],
)
def test_what_is_sealed_is_told_by_whole_names(sealed: str, path: str, is_sealed: bool) -> None:
    assert Root(tree_id="t", sealed=frozenset({sealed})).is_sealed(path) is is_sealed


@pytest.mark.parametrize(("path", "holds"), [("", True), ("a", True), ("a/b", True), ("a/c", False), ("ab", False)])
def test_a_directory_knows_of_what_is_sealed_in_it(path: str, holds: bool) -> None:
    assert Root(tree_id="t", sealed=frozenset({"a/b/"})).holds_sealed(path) is holds


def test_a_path_is_called_by_what_is_behind_the_prefix() -> None:
    assert (relative("a/b/c", "a"), relative("a/b", "a/b"), relative("a/b", "")) == ("b/c", "b", "a/b")


def test_the_same_files_have_the_same_digest_wherever_they_stand() -> None:
    here = artifact_of("t", "a", [file("a/x", "k1"), file("a/y", "k2")])
    there = artifact_of("u", "", [file("x", "k1"), file("y", "k2")])

    assert here
    assert there
    assert here.digest == there.digest
    assert (here.file_count, here.size, here.prefix) == (2, 2, "a")


@pytest.mark.parametrize(
    "files",
    [
        [file("x", "k1")],
        [file("x", "k1"), file("y", "k3")],
        [file("x", "k1"), file("z", "k2")],
        [file("x", "k2"), file("y", "k1")],
    ],
)
def test_other_files_have_another_digest(files: list[TreeFile]) -> None:
    first = artifact_of("t", "", [file("x", "k1"), file("y", "k2")])
    other = artifact_of("t", "", files)

    assert first
    assert other
    assert first.digest != other.digest


@pytest.mark.parametrize("paths", [["a", "a/b"], ["a", "a b", "a/b/c"], ["p/a", "p/a/b"]])
def test_what_is_a_file_and_a_directory_can_be_registered_by_nobody(paths: list[str]) -> None:
    with pytest.raises(InvalidInput, match="remove one of them"):
        artifact_of("t", "", [file(path) for path in paths])


def test_no_files_are_no_artifact_and_too_many_neither() -> None:
    assert artifact_of("t", "", []) is None
    with pytest.raises(InvalidInput, match="more than"):
        artifact_of("t", "", (file(str(number)) for number in range(MAX_FILES + 1)))


@pytest.mark.parametrize(
    "mark",
    [
        FileMark(RUN, "a/b"),
        FileMark(MODEL, "ä ö/日本.bin"),
        FileMark("files-0123", "MLmodel"),
        PackMark("0" * 64),
        ModelMark("model-detector-v1"),
    ],
)
def test_a_mark_says_for_whom_an_object_was_written(mark: FileMark | PackMark | ModelMark) -> None:
    assert str(mark).isascii()
    assert mark_of(str(mark)) == mark


@pytest.mark.parametrize(
    "text", ["tree/x", "tree/x/a", "tree/x/gA==", "other/x", "zip/a/b", "tree/files-1/YQ==", "files/t/YQ=="]
)
def test_what_is_no_mark_of_ours_is_none(text: str) -> None:
    assert mark_of(text) is None
