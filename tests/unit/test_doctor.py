"""The doctor's judgement of items that are handed to it: what is whole, what is nonsense, and what is missing."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynamodb.models import Model

from chalicelib import telemetry
from chalicelib.geti.states import Run
from chalicelib.registry.access import Access
from chalicelib.registry.audit import Action, Change, Event, Recorded
from chalicelib.registry.doctor import Finding, Kind, Order, Report, in_words
from chalicelib.registry.models import Draft, File, Head, ModelVersion, time_text
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.tokens import Token
from chalicelib.registry.uploads import StoredObject, Upload, expiry
from chalicelib.store import schema
from chalicelib.store.doctor.examining import JUDGES, judge_of
from chalicelib.store.doctor.objects import judge_object
from chalicelib.store.doctor.views import Diagnosis, Key, View, in_events, in_registry, is_same
from chalicelib.store.geti_items import DueItem, ModelItem, RunItem, due_row_key, model_row_key
from chalicelib.store.keys import (
    META,
    claim_key,
    due_key,
    exposed_name_key,
    model_key,
    name_key,
    project_digest,
    registered_model_key,
    token_key,
    upload_key,
)
from chalicelib.store.model_records import rows_of
from chalicelib.store.schema import (
    ClaimItem,
    EventItem,
    NameItem,
    PointerItem,
    TokenItem,
    UploadItem,
    VersionItem,
)
from chalicelib.store.version_rows import listed_rows, number_row
from tests.conftest import ALICE
from tests.log_lines import captured

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MAX_LOOKS = 6
Item = dict[str, Any]

DRAFT = Draft(id="model-number-one", name="cat", version="v1", project_id="p1", tags={"a": "1"})
FILE = File(
    key="artifacts/01/m.zip",
    file_name="m.zip",
    media_type="application/zip",
    size=3,
    sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    sha256_checked_by="registry",
)
VERSION = ModelVersion(
    **dict(DRAFT), rm_id="01CAT", number=1, revision=1, published_at=AT, updated_at=AT, artifact=FILE, aliases=("best",)
)
CAT = RegisteredModel(
    rm_id="01CAT",
    name="cat",
    project_id="p1",
    exposed_name="p1.cat",
    aliases={"best": 1},
    revision=1,
    created_at=AT,
    updated_at=AT,
)
UPLOAD = Upload(
    id="01UPLOAD",
    draft=Draft(id="model-number-two", name="cat", version="v2", project_id="p1"),
    rm_id="01CAT",
    key="artifacts/02/m.zip",
    file_name="m.zip",
    media_type="application/zip",
    size=3,
    sha256="0" * 64,
    opened_at=AT,
    expires_at=expiry(AT, AT),
)
TOKEN = Token(id="01TOKEN", name="ci", access=Access(), created_at=AT, created_by="alice")
DIGEST = project_digest("p1", None)


class World:
    """Items by their keys, and the doctor's way of looking at one of them with its counterparts."""

    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}
        version = self.happened("MODEL#model-number-one", Action.VERSION_REGISTERED, VERSION)
        self.put(VersionItem.of(VERSION, version))
        self.put(ClaimItem(claim_key("01CAT", VERSION), META, holder=VERSION.id))
        for row in (number_row(VERSION), *listed_rows(VERSION)):
            self.put(row)
        created = self.happened("RM#01CAT", Action.REGISTERED_MODEL_CREATED, CAT)
        self.put(NameItem.of(CAT, name_key(VERSION), 1, created))
        self.put(PointerItem("RM#01CAT", "NAME", target=name_key(VERSION)))
        for row in rows_of(CAT, name_key(VERSION)):
            self.put(row)
        self.put(ClaimItem(exposed_name_key("p1.cat"), META, holder="01CAT", target=name_key(VERSION)))
        opened = self.happened("MODEL#model-number-two", Action.UPLOAD_OPENED, UPLOAD)
        self.put(VersionItem.hold(UPLOAD, opened))
        self.put(ClaimItem(claim_key("01CAT", UPLOAD.draft), META, holder=UPLOAD.draft.id, upload=UPLOAD.id))
        self.put(UploadItem.of(UPLOAD))
        self.put(PointerItem("UPLOADS", due_key(UPLOAD), target=upload_key(UPLOAD.id)))
        self.put(
            VersionItem.tombstone(
                "model-number-3-gone", self.happened("MODEL#model-number-3-gone", Action.VERSION_DELETED, VERSION)
            )
        )
        self.put(TokenItem.of(TOKEN, "0" * 64, self.happened("TOKEN#01TOKEN", Action.TOKEN_CREATED, TOKEN)))
        self.put(PointerItem("TOKENS", "01TOKEN", target=token_key("01TOKEN")))

    def put(self, item: Model) -> None:
        raw = item.serialize()
        self.items[in_registry(raw["pk"]["S"], raw["sk"]["S"])] = raw

    def happened(self, subject: str, action: Action, state: Recorded) -> Event:
        event = Change.between(action, None, state, ALICE, AT, "01EVENT").after(subject, Head())
        self.items[in_events(subject, 1)] = EventItem.of(event).serialize()
        return event

    def judged(self, key: Key) -> list[Diagnosis]:
        judge = judge_of(key)
        wanted = {key}
        for _ in range(MAX_LOOKS):
            view = View({one: self.items.get(one) for one in wanted})
            diagnoses = judge(view, key) if judge else []
            if not view.wanted:
                return diagnoses
            wanted |= view.wanted
        raise AssertionError(f"{key} is not settled after {MAX_LOOKS} looks")

    def all_judged(self) -> list[Diagnosis]:
        return [one for key in list(self.items) if key.table == "registry" for one in self.judged(key)]


@pytest.fixture
def world() -> World:
    return World()


KEYS = [key for key in World().items if key.table == "registry"]


def test_nothing_is_wrong_with_what_is_whole(world: World):
    assert world.all_judged() == []


# Of a tombstone only its events tell that it is gone.
@pytest.mark.parametrize("key", [key for key in KEYS if key.pk != "MODEL#model-number-3-gone"], ids=str)
def test_whatever_is_gone_is_missed(world: World, key: Key):
    del world.items[key]

    assert world.all_judged()


@pytest.mark.parametrize("key", [key for key in KEYS if judge_of(key)], ids=str)
def test_every_look_is_small(world: World, key: Key):
    judge = judge_of(key)
    assert judge
    first = View({key: world.items[key]})
    judge(first, key)

    # A version, its event and the place of the next, claim, number, rows, registered model and where that is.
    assert len(first.wanted) <= 12


NONSENSE: dict[str, Item | None] = {
    "gone": None,
    "a negative number": {"N": "-1"},
    "a fraction": {"N": "1.5"},
    "a huge number": {"N": "9" * 38},
    "no number": {"N": "NaN"},
    "a flag": {"BOOL": False},
    "nothing": {"NULL": True},
    "a map": {"M": {"S": {"S": "b"}}},
    "a list": {"L": [{"N": "1"}]},
    "bytes": {"B": b"\xff\x00"},
    "a set": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1"]},
    "an empty text": {"S": ""},
    "no JSON": {"S": "{"},
    "another JSON": {"S": '{"id": [], "key-hidden": "mr_hidden", "name": "hidden"}'},
    "a JSON list": {"S": "[]"},
    "a JSON text": {"S": '"x"'},
    "deep JSON": {"S": "[" * 100_000},
    "long": {"S": "x" * 300_000},
    "unprintable": {"S": "\u202e\x00\n"},
    "emoji": {"S": "\U0001f600" * 2_000},
}
# Which nothing else depends on.
FREE = {"last_used_at", "ttl"}


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_anywhere_is_found_and_told_without_repeating_it(world: World, key: Key, nonsense: str):
    whole, value = world.items[key], NONSENSE[nonsense]
    for name in set(whole) - {"pk", "sk"} - FREE:
        kept = {one: content for one, content in whole.items() if one != name}
        world.items[key] = kept if value is None else {**kept, name: value}

        diagnoses = world.all_judged()

        is_allowed = name == "secret_digest" and value is not None and "S" in value
        assert diagnoses or is_allowed, name
        assert name != "record" or "hidden" not in repr([(one.subject, one.what) for one in diagnoses])
        assert all(len(one.what) < 1_500 and one.what.isprintable() for one in diagnoses)
        # No record is ever rewritten, but for a hold and a counter, which say nothing of a model.
        repaired = {one.repair.key for one in diagnoses if one.repair}
        records = {"MODEL#", "UPLOAD#", "TOKEN#", "NAME#"}
        rewritten = {one for one in repaired if one.pk.startswith(tuple(records))}
        assert all(
            one.kind in (Kind.STRAY_HOLD, Kind.COUNTER)
            for one in diagnoses
            if one.repair and one.repair.key in rewritten
        )


def geti_world() -> World:
    """A Geti server with one run that has ended, and a model that is due."""
    world, run = World(), Run(id="01RUN", started_at=AT)
    item = RunItem.begun("geti.test:443", run, AT, None)
    ended = world.happened("GETI#geti.test:443", Action.SYNC_FINISHED, run)
    item.seq, item.digest = ended.seq, ended.digest
    world.put(item)
    due = {"attempts": 1, "due_at": time_text(AT), "state": "failed"}
    where = {"project_id": "p1", "group_id": "g1", "base_model_id": "b1", "model_id": "m1"}
    world.put(ModelItem("GETI#geti.test:443", model_row_key("p1", "m1"), **where, **due))
    world.put(DueItem("GETI#geti.test:443", due_row_key(AT, "p1", "m1")))
    return world


# Which nothing else depends on; and which may be any text, or absent.
GETI_FREE = {"has_looked", "progress_at"}
GETI_TEXTS = {"group_id", "base_model_id"}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_in_what_is_kept_of_geti_is_found_or_harmless(nonsense: str):
    world, value = geti_world(), NONSENSE[nonsense]
    assert world.all_judged() == []
    for key in [key for key in world.items if key.pk.startswith("GETI#") and key.table == "registry"]:
        whole = world.items[key]
        for name in set(whole) - {"pk", "sk"} - GETI_FREE:
            kept = {one: content for one, content in whole.items() if one != name}
            world.items[key] = kept if value is None else {**kept, name: value}

            diagnoses = world.all_judged()

            is_allowed = name == "due_at" if value is None else name in GETI_TEXTS and "S" in value
            assert diagnoses or is_allowed, name
            assert "hidden" not in repr([(one.subject, one.what) for one in diagnoses])
            assert all(one.what.isprintable() and one.kind != Kind.UNJUDGED for one in diagnoses)
            assert all(one.repair is None or one.repair.key.sk.startswith("DUE#") for one in diagnoses)
        world.items[key] = whole


@given(
    key=st.sampled_from(KEYS),
    items=st.dictionaries(
        st.sampled_from(
            [
                "record",
                "target",
                "holder",
                "upload",
                "upload_key",
                "seq",
                "digest",
                "event_id",
                "deleted",
                "state",
                "expires_at",
                "rm_id",
                "counter",
                "name",
                "secret_digest",
            ]
        ),
        st.one_of(
            st.fixed_dictionaries({"S": st.text(max_size=50)}),
            st.fixed_dictionaries({"N": st.integers().map(str)}),
            st.fixed_dictionaries(
                {
                    "S": st.sampled_from(
                        [
                            VERSION.model_dump_json(),
                            CAT.model_dump_json(),
                            UPLOAD.model_dump_json(),
                            TOKEN.model_dump_json(),
                            name_key(VERSION),
                            VERSION.id,
                            "01CAT",
                            "01UPLOAD",
                            "OPEN",
                        ]
                    )
                }
            ),
            st.fixed_dictionaries({"BOOL": st.booleans()}),
        ),
    ),
)
@settings(max_examples=300, deadline=None)
def test_random_items_never_break_the_judgement(key: Key, items: Item):
    world = World()
    world.items[key] = {"pk": {"S": key.pk}, "sk": {"S": key.sk}, **items}

    world.all_judged()


@pytest.mark.parametrize(
    ("stored", "kinds"),
    [
        (
            StoredObject(
                size=3, digest="ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", version_id="1", model_id=VERSION.id
            ),
            [],
        ),
        (StoredObject(size=3, digest=None, version_id="1", model_id=None), []),
        (None, [Kind.OBJECT_MISSING]),
        (StoredObject(size=4, digest=None, version_id="1", model_id=VERSION.id), [Kind.OBJECT_SIZE]),
        (StoredObject(size=3, digest="AAAA", version_id="1", model_id=VERSION.id), [Kind.OBJECT_CHECKSUM]),
        (StoredObject(size=3, digest=None, version_id="1", model_id="model-number-two"), [Kind.OBJECT_MARK]),
    ],
)
def test_an_object_is_judged_by_what_s3_says_of_it(stored: StoredObject | None, kinds: list[Kind]):
    assert [one.kind for one in judge_object(VERSION, FILE, stored)] == kinds


@pytest.mark.parametrize(
    ("update", "digest", "is_right"),
    [
        ({"sha256_checked_by": "publisher", "s3_digest": "abc-2"}, "abc-2", True),
        ({"sha256_checked_by": "publisher", "s3_digest": "abc-2"}, "abd-2", False),
        ({"sha256": None, "sha256_checked_by": None, "s3_digest": "abc-2"}, "abd-2", False),
        ({"sha256_checked_by": "publisher"}, "whatever", True),
        ({"sha256_checked_by": "s3"}, "whatever", False),
        (
            {"sha256": FILE.sha256.upper() if FILE.sha256 else None},
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            True,
        ),
        ({"sha256": "no hexadecimal"}, "whatever", False),
    ],
)
def test_a_checksum_is_compared_with_what_s3_can_know(update: dict[str, Any], digest: str, is_right: bool):
    version = VERSION.model_copy(update={"artifact": FILE.model_copy(update=update)})
    stored = StoredObject(size=3, digest=digest, version_id="1", model_id=VERSION.id)

    assert (judge_object(version, version.file, stored) == []) is is_right


def test_sets_have_no_order():
    one = {"tags": {"SS": ["a", "b"]}, "name": {"S": "x"}}

    assert is_same(one, {"name": {"S": "x"}, "tags": {"SS": ["b", "a"]}})
    assert not is_same(one, {"name": {"S": "x"}, "tags": {"SS": ["b"]}})
    assert not is_same(one, {"name": {"S": "x"}, "tags": {"L": [{"S": "a"}, {"S": "b"}]}})
    assert not is_same(None, one)


def test_an_open_upload_that_lives_on_may_have_its_row_at_either_end(world: World):
    later = UPLOAD.model_copy(update={"expires_at": UPLOAD.expires_at + timedelta(hours=5)})
    item = world.items[in_registry(upload_key(UPLOAD.id))]
    item["expires_at"] = UploadItem.of(later).serialize()["expires_at"]
    assert world.all_judged() == []

    del world.items[in_registry("UPLOADS", due_key(UPLOAD))]
    world.put(PointerItem("UPLOADS", due_key(later), target=upload_key(UPLOAD.id)))

    assert world.all_judged() == []


def test_a_registered_model_is_found_by_its_trail_when_its_pointer_is_gone(world: World):
    del world.items[in_registry(registered_model_key("01CAT"), "NAME")]

    assert [one.kind for one in world.all_judged()] == [Kind.NAME_POINTER]


def test_what_stands_where_no_item_can_is_not_asked_for():
    view = View({})

    assert view.item(in_registry("", META)) is None
    assert view.item(in_registry("x" * 2_049, META)) is None
    assert view.item(in_registry("x", "y" * 1_025)) is None
    assert view.item(in_registry("é" * 1_025, META)) is None
    assert view.wanted == set()


def test_every_kind_says_what_it_means_and_what_becomes_of_it():
    for kind in Kind:
        assert kind == kind.value
        assert kind.meaning.endswith(".")
        assert kind.outcome.split(maxsplit=1)[0].rstrip(":,.") in ("Stays", "Put", "Removed", "Freed", "Raised")


def test_every_item_that_the_tables_have_is_judged_or_right_whatever_it_holds():
    rows = [line for line in (schema.__doc__ or "").splitlines() if line.startswith("| ") and "`" in line]
    places = [line.split("|")[2].split("`")[1::2][:2] for line in rows]
    for pk, *sk in places:
        key = in_registry(pk.replace("{sha256}", "0").replace("{0..3}", "0"), sk[0] if sk else "")
        assert any(key.pk.startswith(known.rstrip("#")) for known, *_ in JUDGES), f"{pk} is not known to the doctor"
        assert judge_of(key).__name__ != "judge_unknown" if judge_of(key) else True, f"{pk} / {sk}"

    assert len(places) > 12


@pytest.mark.parametrize("order", [{"repair": "yes"}, {"repair": 1}, {"after": 3}, {"more": True}])
def test_an_order_is_what_it_says(order: dict[str, Any]):
    with pytest.raises(ValueError):
        Order.model_validate(order)


def test_a_finding_is_plain_json():
    finding = Finding(kind=Kind.CLAIM, subject="MODEL#1", what="It is gone.", repaired=False, safe=True)

    assert json.loads(finding.model_dump_json()) == {
        "kind": "claim",
        "subject": "MODEL#1",
        "what": "It is gone.",
        "repaired": False,
        "safe": True,
    }


def test_a_step_has_a_line_for_each_finding_and_one_with_metrics_for_all_of_it():
    finding = Finding(kind=Kind.CLAIM, subject="MODEL#1", what="It is gone.\u202e", repaired=True, safe=True)
    report = Report(findings=(finding, finding.model_copy(update={"repaired": False})), counts={"items": 3}, after="x")

    with captured() as lines:
        telemetry.doctor_lines(report, [ValueError("x")])

    messages = [line.get("message") for line in lines]
    assert messages == ["unexpected_error", "doctor_finding", "doctor_finding", "doctor", None]
    told = {name: lines[1][name] for name in ("level", "kind", "subject", "is_safe", "is_repaired")}
    assert told == {"level": "WARNING", "kind": "claim", "subject": "MODEL#1", "is_safe": True, "is_repaired": True}
    assert (lines[3]["counts"], lines[3]["findings"], lines[3]["repaired"]) == ({"items": 3}, 2, 1)
    assert lines[3]["is_finished"] is False
    assert (lines[4]["Findings"], lines[4]["Repaired"]) == ([2.0], [1.0])


def test_foreign_text_is_told_short_and_printable():
    assert in_words("a\x00b\u202ec") == "a?b?c"
    assert in_words("x" * 301) == "x" * 300 + "..."
    assert in_words(model_key("m" * 128)) == model_key("m" * 128)
