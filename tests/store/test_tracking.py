"""Experiments, runs and logged models on DynamoDB in memory: what is kept, who sees it, and in what order."""

import math
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynamodb.connection import TableConnection

from chalicelib.registry import tracking_lists
from chalicelib.registry.errors import AlreadyExists, Forbidden, InvalidInput, NotFound, TooLarge
from chalicelib.registry.tracking import Dataset, Lifecycle, LoggedModelStatus, Metric, RunStatus
from chalicelib.registry.tracking_lists import Wanted
from chalicelib.store.tracking_items import ordered, place_of
from chalicelib.store.trees import DynamoTrees
from tests.conftest import ALICE, BOB
from tests.store.faults import nothing, watched_calls
from tests.store.tracking_stage import TrackingStage, items, limited, metric

VISION, AUDIO = limited("vision"), limited("audio")
EDGE, CLOUD = limited(prefixes=["edge-"]), limited(prefixes=["cloud-"])
SECOND = 1_000


@pytest.fixture
def stage(aws: None) -> TrackingStage:
    return TrackingStage()


# --- Changes and their events --------------------------------------------------------------------------------------


def test_each_change_has_its_event_and_no_measurement_has(stage: TrackingStage) -> None:
    experiment = stage.experiments.create("trial", {"a": "1"}, ALICE)
    run = stage.run(experiment.id, name="first")
    model = stage.logged(experiment.id)

    stage.tracking.log_batch(run.id, ALICE, [metric(0.5)], [("depth", "3")], [("note", "good")])
    stage.tracking.note_outputs(run.id, {model.id: 1}, ALICE)
    stage.tracking.tag_logged_model(model.id, {"a": "1"}, ALICE)
    stage.tracking.update_run(run.id, BOB, RunStatus.FINISHED, 5)
    stage.tracking.finalize(model.id, LoggedModelStatus.READY, BOB)
    stage.experiments.rename(experiment.id, "trials", BOB)

    subjects = (experiment.subject, run.subject, model.subject)
    assert [stage.actions(subject) for subject in subjects] == [
        ["experiment.created", "experiment.updated"],
        ["run.created", "run.updated"],
        ["logged_model.created", "logged_model.updated"],
    ]
    assert [line[0].value for line in stage.announced.lines] == [
        *("experiment.created", "run.created", "logged_model.created"),
        *("run.updated", "logged_model.updated", "experiment.updated"),
    ]
    for subject in subjects:
        events, head = stage.catalog.events(subject)[0], stage.store.find(subject)
        assert head
        assert events[1].prev == events[0].digest


def test_what_stays_as_it_is_has_no_event(stage: TrackingStage) -> None:
    run = stage.run()

    stage.tracking.update_run(run.id, ALICE, RunStatus.RUNNING)
    stage.tracking.restore_run(run.id, ALICE)

    assert stage.actions(run.subject) == ["run.created"]


def test_a_run_and_a_logged_model_have_a_tree_of_their_project(stage: TrackingStage) -> None:
    trees = DynamoTrees(stage.clock)

    roots = [trees.root(made.tree_id) for made in (stage.run(by=VISION), stage.logged(by=VISION))]

    assert [(root.project_id, root.project_name) for root in roots] == [(None, "vision")] * 2


def test_more_tags_than_a_transaction_has_items_are_all_kept(stage: TrackingStage) -> None:
    tags = {f"t{number}": "ü" * 8_000 for number in range(60)}

    run = stage.run(**tags)

    assert stage.tracking.whole_run(run.id, ALICE)[1].tags == {**tags, "mlflow.runName": run.name}


def test_what_dynamodb_leaves_out_of_a_batch_is_put_again(
    stage: TrackingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stage.run()
    original = TableConnection.batch_write_item

    def sparing(self: TableConnection, put_items: list[Any]) -> dict[str, Any]:
        original(self, put_items[:10])
        left_out = [{"PutRequest": {"Item": item}} for item in put_items[10:]]
        return {"UnprocessedItems": {self.table_name: left_out}} if left_out else {}

    monkeypatch.setattr(TableConnection, "batch_write_item", sparing)
    stage.tracking.log_batch(run.id, ALICE, [metric(value / 100) for value in range(100)], [], [])

    history = [item for item in items(run.subject) if item["sk"]["S"].startswith("H#")]
    assert len(history) == 100


# --- Names of experiments ------------------------------------------------------------------------------------------


def test_a_name_belongs_to_one_experiment_also_when_that_is_deleted_or_hidden(stage: TrackingStage) -> None:
    first = stage.experiments.create("trial", {}, VISION)
    stage.experiments.delete(first.id, VISION)

    for by, words in ((VISION, "exists.$"), (AUDIO, "It is not for you to see: take another name")):
        with pytest.raises(AlreadyExists, match=words):
            stage.experiments.create("trial", {}, by)
    with pytest.raises(NotFound):
        stage.experiments.named("trial", AUDIO)


def test_a_name_is_free_when_its_experiment_has_another_one(stage: TrackingStage) -> None:
    first = stage.experiments.create("trial", {}, ALICE)
    stage.experiments.rename(first.id, "old", ALICE)
    second = stage.experiments.create("trial", {}, ALICE)

    assert [stage.experiments.named(name, ALICE).id for name in ("old", "trial")] == [first.id, second.id]
    with pytest.raises(AlreadyExists):
        stage.experiments.rename(first.id, "trial", ALICE)


def test_default_is_everybodys_and_stays_as_it_is(stage: TrackingStage) -> None:
    with pytest.raises(AlreadyExists):
        stage.experiments.create("Default", {}, ALICE)
    for change in (
        lambda: stage.experiments.rename("0", "mine", ALICE),
        lambda: stage.experiments.delete("0", ALICE),
    ):
        with pytest.raises(InvalidInput, match="everybody's"):
            change()
    with pytest.raises(Forbidden):
        stage.experiments.tag("0", "secret", "of vision", VISION)

    stage.experiments.tag("0", "note", "for all", ALICE)

    assert stage.experiments.tags_of(stage.experiments.one("0", AUDIO)) == {"note": "for all"}
    assert items("EXPERIMENTS") == []


# --- Who sees what -------------------------------------------------------------------------------------------------


def test_what_is_made_in_default_is_seen_by_who_has_the_project_of_its_maker(stage: TrackingStage) -> None:
    run, model = stage.run(by=VISION, name="seen"), stage.logged(by=VISION)
    stage.run(by=AUDIO, name="other")
    stage.run(name="of nobody")

    assert stage.tracking.run(run.id, VISION) == run
    assert stage.tracking.logged_model(model.id, VISION) == model
    for ask in (
        lambda: stage.tracking.run(run.id, AUDIO),
        lambda: stage.tracking.whole_run(run.id, AUDIO),
        lambda: stage.tracking.logged_model(model.id, AUDIO),
        lambda: stage.tracking.whole_logged_model(model.id, AUDIO),
        lambda: stage.tracking.log_metric(run.id, metric(1), AUDIO),
        lambda: stage.tracking.delete_run(run.id, AUDIO),
        lambda: stage.tracking.history(run.id, "loss", 1, None, AUDIO),
    ):
        with pytest.raises(NotFound):
            ask()
    assert [stage.names(by) for by in (VISION, AUDIO)] == [["seen"], ["other"]]
    assert set(stage.names()) == {"seen", "other", "of nobody"}


def test_what_is_in_an_experiment_has_its_project(stage: TrackingStage) -> None:
    stated = stage.experiments.create("stated", {"registry.project": "vision"}, ALICE)
    run = stage.run(stated.id, name="by all")

    assert (run.project_id, run.project_name) == (None, "vision")
    assert stage.names(VISION, stated.id) == ["by all"]
    assert stage.names(AUDIO, stated.id) == []
    with pytest.raises(NotFound):
        stage.run(stated.id, by=AUDIO)


def test_who_is_limited_to_several_projects_states_one(stage: TrackingStage) -> None:
    access = VISION.access.model_copy(update={"projects": (*VISION.access.projects, *AUDIO.access.projects)})
    both = VISION.model_copy(update={"access": access})

    for make in (lambda: stage.run(by=both), lambda: stage.experiments.create("trial", {}, both)):
        with pytest.raises(Forbidden, match=r"state the tag registry\.project, as vision or audio"):
            make()
    with pytest.raises(Forbidden):
        stage.run(by=both, **{"registry.project": "other"})

    made = stage.run(by=both, name="made", **{"registry.project": "audio"})

    assert made.project_name == "audio"
    assert [stage.names(by) for by in (both, AUDIO, VISION)] == [["made"], ["made"], []]


def test_limits_of_names_apply_to_the_names_of_experiments(stage: TrackingStage) -> None:
    with pytest.raises(Forbidden, match='begins with "edge-"'):
        stage.experiments.create("trial", {}, EDGE)
    mine = stage.experiments.create("edge-trial", {}, EDGE)
    run = stage.run(mine.id, by=EDGE, name="mine")
    alone = stage.run(by=EDGE, name="in default")
    with pytest.raises(Forbidden, match='begins with "edge-"'):
        stage.experiments.rename(mine.id, "cloud-trial", EDGE)

    assert stage.names(EDGE, mine.id) == ["mine"]
    assert stage.names(EDGE) == ["in default"]
    for made in (run, alone):
        assert stage.tracking.run(made.id, EDGE) == made
        with pytest.raises(NotFound):
            stage.tracking.run(made.id, CLOUD)
    assert stage.names(CLOUD) == []
    with pytest.raises(Forbidden, match="use an experiment whose name begins with"):
        stage.run(by=limited(prefixes=["edge-", "cloud-"]))


def test_a_project_is_no_text_of_any_length(stage: TrackingStage) -> None:
    with pytest.raises(InvalidInput, match="no name of a project"):
        stage.experiments.create("trial", {"registry.project": "x" * 10_000}, ALICE)


# --- Lists ---------------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_over_all_experiments_and_pages_miss_nothing(stage: TrackingStage) -> None:
    second = stage.experiments.create("second", {}, ALICE)
    for number in range(7):
        stage.run("0" if number % 2 else second.id, name=f"r{number}", start_ms=number * SECOND)

    assert stage.names(ALICE, "0", second.id, "0", "nothing") == [f"r{number}" for number in reversed(range(7))]
    before, told = None, []
    while before or not told:
        page, before = stage.lists.runs(("0", second.id), Wanted(limit=2, before=before), ALICE)
        told.append([run.name for run, _ in page])
    assert told == [["r6", "r5"], ["r4", "r3"], ["r2", "r1"], ["r0"]]


def test_runs_of_one_moment_are_all_listed(stage: TrackingStage) -> None:
    for number in range(5):
        stage.run(name=f"r{number}", start_ms=SECOND)

    assert sorted([*chain(*stage.pages())]) == [f"r{number}" for number in range(5)]


@pytest.mark.parametrize("start_ms", [-(2**63), -1, 0, 2**63 - 1])
def test_a_run_may_begin_at_any_time(stage: TrackingStage, start_ms: int) -> None:
    stage.run(start_ms=start_ms, name="odd")

    assert stage.names() == ["odd"]


def test_filters_and_views_leave_out_and_the_page_goes_on(stage: TrackingStage) -> None:
    for number in range(40):
        stage.run(name=f"r{number}", start_ms=number * SECOND, team="b" if number in (3, 31) else "a")
    deleted = stage.run(name="deleted", start_ms=20 * SECOND)
    stage.tracking.delete_run(deleted.id, ALICE)

    assert stage.pages(filter="tags.team = 'b'", limit=1) == [["r31"], ["r3"]]
    assert stage.names(lifecycles=(Lifecycle.DELETED,)) == ["deleted"]
    with pytest.raises(InvalidInput, match="What can be compared here"):
        stage.names(filter="run_name = 'x' OR run_name = 'y'")


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request reads 32, for the AWS in memory takes a long time to hold hundreds."""
    monkeypatch.setattr(tracking_lists, "MAX_READ", 32)


@pytest.mark.usefixtures("few_at_once")
def test_a_request_reads_so_many_and_announces_that_more_may_follow(stage: TrackingStage) -> None:
    for number in range(40):
        stage.run(by=CLOUD, start_ms=(number + 10) * SECOND, name=f"r{number}")
    stage.run(by=EDGE, start_ms=SECOND, name="mine")

    first, after = stage.lists.runs(("0",), Wanted(limit=5), EDGE)
    assert (first, after is not None) == ([], True)
    hidden = {item["sk"]["S"].rpartition("#")[2] for item in items("EXP#0")}
    assert not any(run_id in (after or "") for run_id in hidden)
    assert [*chain(*stage.pages(EDGE))] == ["mine"]


@pytest.mark.usefixtures("few_at_once")
def test_hidden_runs_of_one_moment_do_not_end_a_list(stage: TrackingStage) -> None:
    for number in range(40):
        stage.run(by=CLOUD, start_ms=SECOND, name=f"r{number}")
    stage.run(by=EDGE, start_ms=0, name="mine")

    assert [*chain(*stage.pages(EDGE))] == ["mine"]


def test_experiments_are_listed_newest_first_and_default_last(stage: TrackingStage) -> None:
    for name in ("a", "b", "c"):
        stage.experiments.create(name, {"of": name}, VISION if name == "b" else ALICE)

    def listed(by: object, **wanted: object) -> list[list[str]]:
        pages, before = [], None
        while before or not pages:
            page, before = stage.lists.experiments(Wanted(before=before, **wanted), by)  # type: ignore[arg-type]
            pages.append([experiment.name for experiment, _ in page])
        return pages

    assert listed(ALICE) == [["c", "b", "a", "Default"]]
    assert listed(ALICE, limit=2) == [["c", "b"], ["a", "Default"]]
    assert listed(ALICE, limit=3) == [["c", "b", "a"], ["Default"]]
    assert listed(ALICE, limit=4) == [["c", "b", "a", "Default"]]
    assert listed(VISION) == [["b", "Default"]]
    assert listed(AUDIO) == [["Default"]]
    assert listed(ALICE, filter="tags.of != 'c' AND name LIKE '_'") == [["b", "a"]]


def test_logged_models_are_listed_without_those_that_are_deleted(stage: TrackingStage) -> None:
    models = [stage.logged(name=f"m{number}") for number in range(3)]
    stage.tracking.delete_logged_model(models[1].id, ALICE)

    page, after = stage.lists.logged_models(("0",), Wanted(), ALICE)

    assert ([model.name for model, _ in page], after) == (["m2", "m0"], None)
    with pytest.raises(NotFound):
        stage.tracking.logged_model(models[1].id, ALICE)
    assert stage.tracking.whole_logged_model(models[1].id, ALICE, allow_deleted=True)[0].id == models[1].id


# --- Measurements --------------------------------------------------------------------------------------------------


def test_the_latest_value_is_that_of_the_highest_step_then_time_then_value(stage: TrackingStage) -> None:
    run = stage.run()
    values = [metric(5, 1, 1), metric(1, 2, 1), metric(2, 2, 0), metric(0.5, 2, 1), metric(9, -3, 9), metric(1, 2, 1)]

    for value in values:
        stage.tracking.log_metric(run.id, value, ALICE)

    assert stage.tracking.whole_run(run.id, ALICE)[1].metrics == [metric(1, 2, 1)]
    history, after = stage.tracking.history(run.id, "loss", 10, None, ALICE)
    assert [(one.timestamp, one.step, one.value) for one in history] == sorted(
        {(one.timestamp, one.step, one.value) for one in values}
    )
    assert after is None


def test_a_history_is_read_in_pages_and_no_other_metric_is_in_it(stage: TrackingStage) -> None:
    run = stage.run()
    stage.tracking.log_batch(run.id, ALICE, [metric(n, n, n) for n in range(7)] + [metric(1, key="loss2")])

    for limit in (1, 2, 3, 6, 7, 8):
        found, after, pages = [], None, 0
        while after or not pages:
            page, after = stage.tracking.history(run.id, "loss", limit, after, ALICE)
            found += [one.value for one in page]
            pages += 1
        assert (found, pages) == ([float(n) for n in range(7)], -(-7 // limit))


def test_values_that_are_no_numbers_come_back_as_they_were(stage: TrackingStage) -> None:
    run = stage.run()
    odd = {"inf": math.inf, "minus": -math.inf, "nan": math.nan, "zero": -0.0, "tiny": 5e-324, "large": 1.7e308}

    stage.tracking.log_batch(run.id, ALICE, [metric(value, key=key) for key, value in odd.items()])

    found = {one.key: one.value for one in stage.tracking.whole_run(run.id, ALICE)[1].metrics}
    assert {key: str(value) for key, value in found.items()} == {key: str(value) for key, value in odd.items()}


def test_a_value_that_is_no_number_gives_way_to_one_that_is(stage: TrackingStage) -> None:
    run = stage.run()
    for value in (math.nan, -math.inf, math.nan):
        stage.tracking.log_metric(run.id, metric(value), ALICE)

    assert stage.tracking.whole_run(run.id, ALICE)[1].metrics == [metric(-math.inf)]


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1), st.floats(allow_nan=False))))
def test_places_sort_as_values_do(values: list[tuple[int, int, float]]) -> None:
    metrics = [Metric(key="k", step=step, timestamp=at, value=value) for step, at, value in values]

    in_order = sorted(metrics, key=place_of)

    assert [(m.step, m.timestamp, m.value) for m in in_order] == sorted((m.step, m.timestamp, m.value) for m in metrics)


def test_numbers_of_any_size_sort_as_text() -> None:
    numbers = [-(2**63), -1, 0, 1, 2**63 - 1]

    assert sorted(map(ordered, numbers)) == [ordered(number) for number in numbers]
    assert {len(ordered(number)) for number in numbers} == {20}


def test_a_whole_batch_is_kept(stage: TrackingStage) -> None:
    run = stage.run()
    metrics = [metric(n, key=f"m{n}") for n in range(800)]
    params, tags = [(f"p{n}", "ü" * 6_000) for n in range(100)], [(f"t{n}", "x") for n in range(100)]

    stage.tracking.log_batch(run.id, ALICE, metrics, params, tags)

    data = stage.tracking.whole_run(run.id, ALICE)[1]
    assert (len(data.metrics), len(data.params), len(data.tags)) == (800, 100, 101)


def test_parameters_never_change_and_a_batch_with_one_that_would_is_not_kept(stage: TrackingStage) -> None:
    run = stage.run()
    stage.tracking.log_batch(run.id, ALICE, params=[("a", "1"), ("b", "2")])
    stage.tracking.log_param(run.id, "a", "1", ALICE)

    with pytest.raises(InvalidInput, match=r"Param with key='a' was already logged with value='1'"):
        stage.tracking.log_param(run.id, "a", "2", ALICE)
    with pytest.raises(InvalidInput, match=r"'key': 'a', 'old_value': '1', 'new_value': '2'.*'key': 'b'"):
        stage.tracking.log_batch(run.id, ALICE, [metric(1)], [("a", "2"), ("b", "1"), ("c", "3")], [("t", "1")])

    data = stage.tracking.whole_run(run.id, ALICE)[1]
    assert (data.params, data.metrics, data.tags) == ({"a": "1", "b": "2"}, [], {"mlflow.runName": run.name})


def test_what_is_measured_of_a_model_that_is_not_there_is_refused_before_anything_is_kept(stage: TrackingStage) -> None:
    run, other = stage.run(by=VISION), stage.logged(by=AUDIO)

    for model_id in ("m-nobody", other.id, "m#x"):
        with pytest.raises((NotFound, InvalidInput), match="Logged model with ID"):
            stage.tracking.log_batch(run.id, VISION, [metric(1, model_id=model_id)], [("a", "1")])

    data = stage.tracking.whole_run(run.id, VISION)[1]
    assert (data.params, data.metrics) == ({}, [])


def test_metrics_of_a_model_are_told_of_both_the_run_and_the_model(stage: TrackingStage) -> None:
    run, model = stage.run(), stage.logged()
    told = {"model_id": model.id, "dataset_name": "iris", "dataset_digest": "d1"}

    stage.tracking.log_batch(
        run.id, ALICE, [metric(1, 1, **told), metric(2, 2, **told), metric(3, 1, model_id=model.id)]
    )

    assert stage.tracking.whole_run(run.id, ALICE)[1].metrics == [metric(2, 2)]
    metrics = sorted(stage.tracking.whole_logged_model(model.id, ALICE)[1].metrics, key=lambda one: one.value)
    assert metrics == [metric(2, 2, run_id=run.id, **told), metric(3, 1, run_id=run.id, model_id=model.id)]


def test_inputs_and_outputs_of_a_run_are_kept_once_each(stage: TrackingStage) -> None:
    run = stage.run()
    dataset = Dataset(name="iris", digest="d1", source="s" * 60_000, data_schema="[]", tags={"context": "training"})

    for step in (1, 2):
        stage.tracking.note_inputs(run.id, [dataset, dataset], ["m-1", "m-1"], ALICE)
        stage.tracking.note_outputs(run.id, {"m-2": step}, ALICE)

    data = stage.tracking.whole_run(run.id, ALICE)[1]
    assert (data.datasets, data.inputs, data.outputs) == ([dataset], ["m-1"], {"m-2": 2})


def test_a_description_that_is_too_long_is_refused(stage: TrackingStage) -> None:
    run = stage.run()
    profile = "".join(f"{number * 2654435761 % 2**32:x}" for number in range(100_000))

    with pytest.raises(TooLarge, match="profile it less"):
        stage.tracking.note_inputs(run.id, [Dataset(name="x", digest="d", profile=profile)], [], ALICE)


def test_the_name_of_a_run_is_a_tag_too(stage: TrackingStage) -> None:
    run = stage.run(name="first")

    for name, rename in (
        ("second", lambda: stage.tracking.update_run(run.id, ALICE, name="second")),
        ("third", lambda: stage.tracking.tag_run(run.id, "mlflow.runName", "third", ALICE)),
        ("fourth", lambda: stage.tracking.log_batch(run.id, ALICE, tags=[("mlflow.runName", "fourth")])),
    ):
        rename()
        found, data = stage.tracking.whole_run(run.id, ALICE)
        assert (found.name, data.tags["mlflow.runName"]) == (name, name)


def test_a_deleted_run_takes_nothing_until_it_is_restored(stage: TrackingStage) -> None:
    run = stage.run()
    stage.tracking.delete_run(run.id, ALICE)

    for change in (
        lambda: stage.tracking.log_batch(run.id, ALICE, [metric(1)]),
        lambda: stage.tracking.log_param(run.id, "a", "1", ALICE),
        lambda: stage.tracking.tag_run(run.id, "a", "1", ALICE),
        lambda: stage.tracking.untag_run(run.id, "mlflow.runName", ALICE),
        lambda: stage.tracking.update_run(run.id, ALICE, RunStatus.FINISHED),
        lambda: stage.tracking.note_inputs(run.id, [], ["m-1"], ALICE),
        lambda: stage.tracking.note_outputs(run.id, {"m-1": 0}, ALICE),
        lambda: stage.tracking.note_model(run.id, {}, ALICE),
    ):
        with pytest.raises(InvalidInput, match="must be in the 'active' state"):
            change()
    stage.tracking.restore_run(run.id, ALICE)
    stage.tracking.log_param(run.id, "a", "1", ALICE)

    assert stage.tracking.whole_run(run.id, ALICE)[1].params == {"a": "1"}


def test_the_list_of_models_of_old_clients_keeps_the_newest_that_fit(stage: TrackingStage) -> None:
    run = stage.run()
    for number in range(5):
        stage.tracking.note_model(run.id, {"run_id": run.id, "number": number, "flavors": "x" * 3_000}, ALICE)

    text = stage.tracking.whole_run(run.id, ALICE)[1].tags["mlflow.log-model.history"]

    assert len(text) < 8_000
    assert text.count('"number"') == 2
    assert '"number": 4' in text


def test_more_than_an_answer_can_tell_of_is_said_to_be_so(stage: TrackingStage) -> None:
    run = stage.run()
    for number in range(0, 600, 100):
        stage.tracking.log_batch(run.id, ALICE, params=[(f"p{number + n}", "x" * 6_000) for n in range(100)])

    with pytest.raises(TooLarge, match=f"More was logged for {run.id}"):
        stage.tracking.whole_run(run.id, ALICE)
    assert stage.tracking.run(run.id, ALICE) == run


# --- What it costs -------------------------------------------------------------------------------------------------


def test_what_requests_cost(stage: TrackingStage) -> None:
    experiment = stage.experiments.create("trial", {"a": "1"}, ALICE)
    run, model = stage.run(experiment.id), stage.logged(experiment.id)
    budget = {
        "create an experiment": (1, lambda: stage.experiments.create("other", {"a": "1"}, ALICE)),
        "find one by its name": (2, lambda: stage.experiments.named("trial", ALICE)),
        "create a run": (2, lambda: stage.run(experiment.id)),
        "create a run in Default": (1, lambda: stage.run()),
        "read a run": (1, lambda: stage.tracking.whole_run(run.id, ALICE)),
        "log a parameter": (2, lambda: stage.tracking.log_param(run.id, "a", "1", ALICE)),
        "log a metric": (3, lambda: stage.tracking.log_metric(run.id, metric(1), ALICE)),
        "log a batch": (5, lambda: stage.tracking.log_batch(run.id, ALICE, [metric(2)], [("b", "1")], [("t", "1")])),
        "finish a run": (3, lambda: stage.tracking.update_run(run.id, ALICE, RunStatus.FINISHED)),
        "finalize a model": (3, lambda: stage.tracking.finalize(model.id, LoggedModelStatus.READY, ALICE)),
    }

    for what, (calls_allowed, operation) in budget.items():
        with watched_calls(nothing, nothing) as calls:
            operation()
        assert (what, len(calls)) == (what, calls_allowed), calls
