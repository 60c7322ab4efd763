"""From what Geti says of a model to a draft, and from a package to one without the sample image."""

import io
import string
import zipfile
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.geti.packages import Found, draft_of, is_of
from chalicelib.geti.records import ModelDetails, Project, ServerInfo, Task
from chalicelib.geti.repacking import has_sample_image, is_sample_image, repacked
from chalicelib.registry.archives import inspect_archive
from chalicelib.registry.errors import InvalidInput, UnsupportedPrecision
from chalicelib.registry.models import MAX_METADATA_BYTES, Draft
from tests.geti_stage import DETECTION, PACKAGE, group, model_id, openvino, package, trained

INFO = ServerInfo(major=2, version="2.13.1", organization_id="o1", workspace_id="w1")
CLASSIFICATION = Task(id="t2", title="Classification", kind="classification")


def found(
    *, project: Project | None = None, details: dict[str, Any] | None = None, of_group: Any = None, **model: Any
) -> Found:
    one = openvino(model_id(1), **model)
    the_group = group("64b0000000000000000c0ffe", "YOLOX-S", trained("b1", one, is_active=True), **(of_group or {}))
    base = the_group.models[0]
    assert base.optimized
    return Found(
        server_id="geti.test:443",
        info=INFO,
        project=project or Project(id="p1", name="Bottle caps", tasks=(DETECTION,)),
        group=the_group,
        base=base,
        details=ModelDetails(
            **{
                "base_model_id": "b1",
                "name": "YOLOX-S",
                "architecture": "YOLOX-S",
                "version": 1,
                "group_id": the_group.id,
                "training_framework": "otx 2.4.1",
                "labels": ("cap", "no cap"),
                **(details or {}),
            }
        ),
        model=base.optimized[0],
    )


def drafted(**fields: Any) -> Draft:
    one = found(**fields)
    return draft_of(one, one.name)


def test_all_that_geti_says_is_in_the_draft() -> None:
    draft = drafted(
        version=3,
        precision=("FP16",),
        score=0.81,
        created_at=datetime(2024, 2, 28, 16, 39, 7, 54000, timezone(timedelta(hours=1))),
        target_device="GPU",
        target_device_type="dGPU",
        optimization_type="MO",
        has_xai_head=True,
    )

    assert draft == Draft(
        id=model_id(1),
        name="YOLOX-S OpenVINO FP16",
        version="3",
        project_id="p1",
        project_name="Bottle caps",
        precision=("fp16",),
        format="OpenVINO",
        target_device="GPU",
        target_device_type="dGPU",
        category="detection",
        architecture="YOLOX-S",
        score=0.81,
        overview={"training_framework": "otx 2.4.1"},
        labels=("cap", "no cap"),
        origin="Geti",
        created_date="2024-02-28 15:39:07.054000 UTC",
        tags={
            "geti.key": f"geti:geti.test:443:o1:w1:p1:{model_id(1)}",
            "geti.project_id": "p1",
            "geti.group_id": "64b0000000000000000c0ffe",
            "geti.group_name": "YOLOX-S",
            "geti.base_model_id": "b1",
            "geti.optimization_type": "MO",
            "geti.has_xai_head": "true",
            "geti.version": "2.13.1",
            "geti.active": "true",
        },
    )


def test_what_geti_does_not_say_is_unknown() -> None:
    draft = drafted(details={"training_framework": None, "labels": ()})

    assert (draft.score, draft.created_date, draft.target_device_type) == (None, None, None)
    assert (draft.labels, draft.overview, draft.optimization_capabilities) == (None, None, None)
    assert draft.target_device == "CPU"
    assert "geti.optimization_type" not in draft.tags
    assert draft.tags["geti.has_xai_head"] == "false"


def test_a_score_of_nothing_is_one() -> None:
    assert drafted(score=0.0).score == 0.0
    assert drafted(score=float("nan")).score is None


@pytest.mark.parametrize(
    ("task_id", "category"), [("t2", "classification"), (None, "detection > classification")], ids=["told", "not told"]
)
def test_of_a_task_chain_the_category_is_that_of_the_groups_task(task_id: str | None, category: str) -> None:
    chain = Project(id="p1", name="Bottle caps", tasks=(DETECTION, CLASSIFICATION))

    draft = drafted(project=chain, of_group={"task_id": task_id})

    assert draft.category == category
    assert draft.tags["geti.task_chain"] == "detection > classification"


def test_a_project_without_a_task_has_no_category() -> None:
    assert drafted(project=Project(id="p1", name="Bottle caps")).category is None


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("", model_id(1)),
        (" \n\u200b\u3000", model_id(1)),
        ("caps\r\n\x00\x9fand corks", "capsand corks"),
        ("x" * 300, "x" * 256),
        ("Flaschenverschlüsse 🍾 ../../", "Flaschenverschlüsse 🍾 ../../"),
        ("half \ud83d", "half ?"),
    ],
    ids=["empty", "blank", "control characters", "long", "odd", "half a character"],
)
def test_names_are_made_to_fit(name: str, kept: str) -> None:
    assert drafted(name=name).name == kept


@given(st.text(), st.text(), st.text(), st.text())
def test_no_name_of_geti_is_too_much_for_a_draft(name: str, project: str, group_name: str, other: str) -> None:
    one = found(
        name=name,
        project=Project(id="p1", name=project, tasks=(Task(id="t1", title=other, kind=other),)),
        details={"architecture": other},
        target_device=other,
    )

    for draft in (draft_of(one, one.name), draft_of(one, one.other_name)):
        assert draft.model_dump_json()
        assert draft.project_name


def test_the_name_that_another_group_has_gets_the_end_of_the_groups_id() -> None:
    assert found().other_name == "YOLOX-S OpenVINO FP16 (0c0ffe)"
    assert found(name="x" * 300).other_name == "x" * 247 + " (0c0ffe)"


@pytest.mark.parametrize("count", [MAX_METADATA_BYTES // 13 - 100, MAX_METADATA_BYTES], ids=["nearly", "far"])
def test_labels_that_leave_no_room_are_left_out(count: int) -> None:
    labels = tuple(f"label-{number:04}" for number in range(count))

    assert drafted(details={"labels": labels}).labels is None
    assert drafted(details={"labels": labels[:4000]}).labels == labels[:4000]


def test_labels_too_deep_to_be_read_back_are_left_out() -> None:
    deep: Any = "label"
    for _ in range(40):
        deep = {"in": deep}

    assert drafted(details={"labels": (deep,)}).labels is None


def test_a_precision_that_is_not_known_here_is_refused() -> None:
    with pytest.raises(UnsupportedPrecision, match="FP4 is not"):
        drafted(precision=("FP4",))


def test_an_id_that_cannot_be_one_here_is_refused() -> None:
    one = found()

    with pytest.raises(InvalidInput, match="m1 cannot be"):
        draft_of(Found(**{**vars(one), "model": one.model.model_copy(update={"id": "m1"})}), "m1")


def test_where_a_version_is_from_is_told_by_its_key() -> None:
    tags = drafted().tags

    assert is_of(tags, "geti.test:443", "p1", model_id(1))
    assert not is_of(tags, "geti.test", "p1", model_id(1))
    assert not is_of(tags, "geti.test:443", "p2", model_id(1))
    assert not is_of(tags, "geti.test:443", "p1", model_id(2))
    for key in ("", ":", "mine", f"geti:geti.test:443:p1:{model_id(1)}"):
        assert not is_of({"geti.key": key}, "geti.test:443", "p1", model_id(1))
    assert not is_of({}, "geti.test:443", "p1", model_id(1))


# The sample image.


def without_image(content: bytes) -> bytes:
    return b"".join(repacked(io.BytesIO(content)))


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "path", ["sample_image.jpg", "sample_image.png", "deployment/sample_image.JPG", "image.jpg", "image.tar.gz"]
)
def test_what_a_sample_image_is(path: str) -> None:
    assert is_sample_image(path)
    assert has_sample_image(["README.md", path])


@pytest.mark.parametrize(
    "path",
    ["model/image.jpg", "images/one.jpg", "sample_images.py", "image", "image.xml", "sample_image.bin", "my_image.jpg"],
)
def test_what_is_no_sample_image(path: str) -> None:
    assert not is_sample_image(path)


def test_all_but_the_sample_image_stays_as_it_was_and_in_order() -> None:
    without = without_image(PACKAGE)

    kept = {name: content for name, content in entries(PACKAGE).items() if name != "sample_image.jpg"}
    assert list(entries(without).items()) == list(kept.items())
    assert inspect_archive(io.BytesIO(without), declared_format="OpenVINO").format == "OpenVINO"
    assert b"pixels" not in without


def test_dates_and_comments_do_not_matter() -> None:
    def archive(date: tuple[int, ...], comment: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as writer:
            info = zipfile.ZipInfo("model.xml", date)  # type: ignore[arg-type]
            info.comment, info.extra = comment, b"\x55\x54\x01\x00\x00" if comment else b""
            writer.writestr(info, b"<net/>")
            writer.comment = comment
        return buffer.getvalue()

    one, other = archive((2026, 1, 2, 3, 4, 6), b"of Geti"), archive((1999, 9, 9, 9, 9, 8), b"")

    assert without_image(one) == without_image(other)
    assert entries(without_image(one)) == {"model.xml": b"<net/>"}


NAMES = st.text(string.ascii_letters + "äß🍾/. ", min_size=1, max_size=12).filter(
    lambda name: all(part.strip(" .") for part in name.split("/"))
)


@given(
    files=st.dictionaries(NAMES, st.tuples(st.binary(max_size=300), st.booleans()), min_size=1, max_size=6),
    is_streamed=st.booleans(),
)
def test_any_archive_is_repacked_to_the_same_files(files: dict[str, tuple[bytes, bool]], is_streamed: bool) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(Unseekable(buffer) if is_streamed else buffer, "w") as archive:  # type: ignore[call-overload]
        for name, (content, is_deflated) in [*files.items(), ("sample_image.jpg", (b"pixels", True))]:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if is_deflated else zipfile.ZIP_STORED)

    without = without_image(buffer.getvalue())

    assert entries(without) == {name: content for name, (content, _) in files.items() if not is_sample_image(name)}
    assert without_image(without) == without


class Unseekable(io.RawIOBase):
    """What a server that streams an archive writes to: sizes then follow the bytes of each entry."""

    def __init__(self, target: io.BytesIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._target.write(data)


@pytest.mark.parametrize("wide_from", [0, 100, 600])
def test_what_is_too_wide_for_the_old_format_is_in_zip64(monkeypatch: pytest.MonkeyPatch, wide_from: int) -> None:
    monkeypatch.setattr("chalicelib.geti.repacking.WIDE_FROM", wide_from)
    original = package(weights=bytes(range(256)) * 4)

    without = without_image(original)

    kept = {name: content for name, content in entries(original).items() if name != "sample_image.jpg"}
    assert entries(without) == kept
    assert b"PK\6\6" in without
    assert inspect_archive(io.BytesIO(without), declared_format="OpenVINO").format == "OpenVINO"


def test_modes_stay_and_folders_are_folders() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.mkdir("model")
        script = zipfile.ZipInfo("run.sh")
        script.external_attr = 0o100755 << 16
        archive.writestr(script, "echo")
        plain = zipfile.ZipInfo("plain.txt")
        plain.external_attr, plain.create_system = 0x20, 0  # as DOS has it
        archive.writestr(plain, "text")

    with zipfile.ZipFile(io.BytesIO(without_image(buffer.getvalue()))) as archive:
        modes = {info.filename: oct(info.external_attr >> 16) for info in archive.infolist()}

    assert modes == {"model/": "0o40777", "run.sh": "0o100755", "plain.txt": "0o100644"}


def test_a_large_entry_is_read_in_large_pieces_and_never_whole() -> None:
    class Counted(io.BytesIO):
        reads: list[int] = []

        def read(self, count: int | None = -1) -> bytes:
            content = super().read(count)
            self.reads.append(len(content))
            return content

    weights = bytes(20 * 1024**2)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.bin", weights)
        archive.writestr("sample_image.jpg", b"pixels")

    sizes = [len(chunk) for chunk in repacked(Counted(buffer.getvalue()))]

    assert max(sizes) == max(Counted.reads) == 8 * 1024**2
    assert len(Counted.reads) <= 6
