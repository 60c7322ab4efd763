"""Roles and limits: what a caller sees, where their models go, and the words of a refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chalicelib.registry.access import EVERYWHERE, Access, Actor, Deed, Project, Role, decision_on
from chalicelib.registry.errors import Forbidden, InvalidInput, NotFound
from chalicelib.registry.models import QualifiedName
from tests.conftest import draft

VISION = Project(name="vision")
GETI = Project(id="65dc", name="vision")
LIMITED = Access(role=Role.PUBLISHER, projects=(VISION,), name_prefixes=("edge-",))


PARTS = st.sampled_from([None, "a", "b"])


def name(name: str = "edge-cat", project_name: str | None = "vision", project_id: str | None = None) -> QualifiedName:
    return QualifiedName(name=name, project_name=project_name, project_id=project_id)


@pytest.mark.parametrize("held", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_may_do_what_the_ones_before_it_may(held: Role, needed: Role) -> None:
    rank = {Role.VIEWER: 0, Role.PUBLISHER: 1, Role.ADMIN: 2}

    assert held.covers(needed) == (rank[held] >= rank[needed])


def test_a_missing_role_is_named() -> None:
    with pytest.raises(Forbidden, match="needs a token of role admin; yours is of role viewer"):
        Access(role=Role.VIEWER).require(Role.ADMIN)


@pytest.mark.parametrize(
    ("seen", "limits"),
    [
        (True, LIMITED),
        (True, EVERYWHERE),
        (True, Access(projects=(GETI, VISION))),
        (False, Access(projects=(GETI,))),
        (False, Access(projects=(Project(id="vision"),))),
        (False, Access(projects=(Project(name="Vision"),))),
        (False, Access(name_prefixes=("Edge-",))),
        (True, Access(name_prefixes=("x", "edge-cat"))),
    ],
)
def test_a_project_is_seen_exactly_as_its_models_state_it(limits: Access, seen: bool) -> None:
    assert limits.sees(name()) is seen


def test_no_project_is_not_a_project() -> None:
    assert not LIMITED.sees(name(project_name=None))
    with pytest.raises(ValidationError, match="give the name of the project"):
        Project()


def test_empty_text_is_no_project_wherever_it_is_stated() -> None:
    assert Project(id="", name="vision") == VISION
    assert draft(project_id="", project_name="vision").qualified_name == name("detector")


def test_what_is_said_twice_counts_once() -> None:
    assert Access(projects=(VISION, VISION), name_prefixes=("a", "a")) == Access(
        projects=(VISION,), name_prefixes=("a",)
    )


def test_a_model_that_is_too_large_with_its_project_is_refused_before_anything_is_sent() -> None:
    large = draft(description="x" * 65_000)
    large.check_limits()

    with pytest.raises(InvalidInput, match="may have 65536 bytes"):
        Access(projects=(Project(id="i" * 256, name="n" * 256),)).placed(large)


def test_an_empty_limit_is_refused_and_not_taken_for_none() -> None:
    for limits in ({"projects": ()}, {"name_prefixes": ()}):
        with pytest.raises(ValidationError):
            Access(**limits)


def test_what_is_not_seen_is_said_not_to_be_there() -> None:
    with pytest.raises(NotFound, match=r"^Model not found\.$"):
        LIMITED.require_seen(name(project_name="other"))


def test_a_model_without_a_project_goes_into_the_only_one() -> None:
    placed = Access(projects=(GETI,)).placed(draft())

    assert (placed.project_id, placed.project_name) == ("65dc", "vision")


def test_a_part_of_a_project_is_completed_if_only_one_is_meant() -> None:
    two = Access(projects=(GETI, Project(id="77", name="audio")))

    placed = two.placed(draft(project_name="audio"))

    assert (placed.project_id, placed.project_name) == ("77", "audio")


@pytest.mark.parametrize("stated", [{}, {"project_name": "other"}, {"project_id": "1", "project_name": "vision"}])
def test_a_model_outside_is_refused_with_what_to_state(stated: dict[str, str]) -> None:
    right = "state project_name=audio and no project_id or project_id=65dc and project_name=vision"

    with pytest.raises(Forbidden, match=right):
        Access(projects=(Project(name="audio"), GETI)).placed(draft(**stated))


def test_a_name_outside_is_refused_with_the_beginnings_that_are_right() -> None:
    right = 'state project_name=vision and no project_id, and a name that begins with "edge-"'

    with pytest.raises(Forbidden, match=right):
        LIMITED.placed(draft("cat"))


def test_who_sees_everything_registers_as_stated() -> None:
    stated = draft(project_name="any")

    assert EVERYWHERE.placed(stated) is stated


@given(
    project_id=PARTS,
    project_name=PARTS,
    projects=st.lists(
        st.tuples(PARTS, PARTS).filter(any).map(lambda pair: Project(id=pair[0], name=pair[1])),
        min_size=1,
        max_size=3,
    ),
)
def test_nothing_goes_where_its_publisher_does_not_see_it(
    project_id: str | None, project_name: str | None, projects: list[Project]
) -> None:
    limits = Access(projects=tuple(projects))
    stated = QualifiedName(project_id=project_id, project_name=project_name, name="x")

    meant = {
        (project.id, project.name)
        for project in projects
        if project_id in (None, project.id) and project_name in (None, project.name)
    }

    if len(meant) == 1:
        home = limits.home_of(stated)
        assert (home.project_id, home.project_name) in meant
    elif (project_id, project_name) in meant:
        assert limits.home_of(stated) == stated
    else:
        with pytest.raises(Forbidden):
            limits.home_of(stated)


@pytest.mark.parametrize(
    ("access", "deed", "about", "rule"),
    [
        (EVERYWHERE, Deed.DELETE, name(), "delete needs the role admin, and it is of role admin; it is not limited"),
        (LIMITED, Deed.UPDATE, name(), "the model is within its limits: project_name=vision and no project_id"),
        (LIMITED, Deed.REGISTER, name(project_name=None), "the model is within its limits"),
        (LIMITED, Deed.READ, None, "within its limits"),
        (EVERYWHERE, Deed.TOKENS, None, "tokens needs an admin without limits"),
    ],
)
def test_the_rule_that_allows_is_told(access: Access, deed: Deed, about: QualifiedName | None, rule: str) -> None:
    decision = decision_on(access, deed, lambda: about)

    assert (decision.allowed, decision.status) == (True, 200)
    assert rule in decision.rule


@pytest.mark.parametrize(
    ("access", "deed", "about", "status", "rule"),
    [
        (LIMITED, Deed.DELETE, name(), 403, "role admin"),
        (LIMITED, Deed.READ, name(project_name="x"), 404, "does not see this model"),
        (LIMITED, Deed.REGISTER, name(project_name="x"), 403, "state project_name=vision and no project_id"),
        (Access(projects=(VISION,)), Deed.TOKENS, None, 403, "without limits"),
        (Access(projects=(VISION,)), Deed.SYNC, None, 403, "without limits"),
    ],
)
def test_the_rule_that_refuses_is_told(
    access: Access, deed: Deed, about: QualifiedName | None, status: int, rule: str
) -> None:
    decision = decision_on(access, deed, lambda: about)

    assert (decision.allowed, decision.status) == (False, status)
    assert rule in decision.rule


def test_who_lacks_the_role_is_told_so_whether_or_not_there_is_such_a_model() -> None:
    def missing() -> QualifiedName:
        raise NotFound("There is none.")

    assert decision_on(Access(role=Role.VIEWER), Deed.DELETE, missing).status == 403
    assert decision_on(EVERYWHERE, Deed.DELETE, missing).status == 404


def test_what_is_kept_of_an_actor_says_nothing_of_what_it_may_and_is_as_before_without_a_token() -> None:
    assert set(Actor(name="x").model_dump()) == {"kind", "name", "request_id", "source_ip", "user_agent"}
    assert "access" not in Actor(kind="token", token_id="1", role=Role.ADMIN).model_dump()
