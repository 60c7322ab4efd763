"""The calls of MLflow's registry beside MLflow's own server, in the same run, with as many registered models in both.

Ours goes through the emulator's gateway, Lambda and DynamoDB, all of which are simulated on the same machine; a
function that does nothing, behind the same gateway, tells what of it is theirs.
"""

import io
import statistics
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import requests

from infra.local.deploy import REGION
from tests.stack import Stack

SIZES = (100, 1_000, 10_000)
ROUNDS, WARM_UP = 100, 5
CLIENTS, REQUESTS_A_CLIENT = 8, 25
TAGGED = 10  # registered models with one value of a tag
LISTED = 100
IDLE_FUNCTION = """
import sys

def handler(event, context):
    print("request", file=sys.stderr, flush=True)  # the emulator takes five times as long if nothing is logged
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{}"}
"""


class Operation(NamedTuple):
    """A call: its method, path, and what it states for the n-th registered model. `ratio` is the target of rates."""

    title: str
    method: str
    path: str
    stated: Callable[[int], dict[str, Any]]
    ratio: float


def name_of(number: int) -> str:
    return f"model-{number:05d}"


OPERATIONS = (
    Operation(
        *("create a version", "POST", "model-versions/create"),
        lambda number: {"name": name_of(number), "source": "s3://bucket/model"},
        2,
    ),
    Operation("get by name", "GET", "registered-models/get", lambda number: {"name": name_of(number)}, 2),
    Operation(
        *("get by alias", "GET", "registered-models/alias"),
        lambda number: {"name": name_of(number), "alias": "champion"},
        2,
    ),
    Operation(
        *("search by tag", "GET", "registered-models/search"),
        lambda number: {"filter": f"tags.batch = 'b{number // TAGGED}'", "max_results": LISTED},
        4,
    ),
    Operation(
        *("search LIKE, beginning", "GET", "registered-models/search"),
        lambda number: {"filter": f"name LIKE 'model-{number // LISTED:03d}%'", "max_results": LISTED},
        4,
    ),
    Operation(
        *("search LIKE, anywhere", "GET", "registered-models/search"),
        lambda number: {"filter": f"name LIKE '%{number % LISTED:02d}'", "max_results": LISTED},
        4,
    ),
    Operation("list of 100", "GET", "registered-models/search", lambda _: {"max_results": LISTED}, 4),
)


@dataclass(frozen=True)
class Rates:
    """Of an operation at a size: seconds of each request of one client, and requests per second of eight."""

    operation: Operation
    size: int
    theirs: list[float]
    ours: list[float]
    idle: list[float]
    their_rate: float
    our_rate: float

    @property
    def is_quick(self) -> bool:
        return statistics.median(self.ours) <= statistics.median(self.theirs) + statistics.median(self.idle)

    @property
    def ratio(self) -> float:
        return self.our_rate / self.their_rate


class Server:
    """One that speaks MLflow's API. Each thread has connections of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._own = threading.local()

    def ask(self, method: str, path: str, stated: dict[str, Any]) -> Any:
        options = {"params": stated} if method == "GET" else {"json": stated}
        answer = self._session.request(method, f"{self._url}/api/2.0/mlflow/{path}", timeout=60, **options)
        answer.raise_for_status()
        return answer.json()

    def look(self, path: str) -> None:
        self._session.get(f"{self._url}/{path}", timeout=60).raise_for_status()

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        session: requests.Session = self._own.session
        return session


def compare_rates(stack: Stack, mlflow_url: str, say: Callable[[str], None]) -> list[Rates]:
    """Every operation at every size."""
    theirs, ours, idle = Server(mlflow_url), Server(stack.url), Server(_idle_url(stack))
    found: list[Rates] = []
    for before, size in zip((0, *SIZES), SIZES, strict=False):
        say(f"Filling both with {size:,} registered models ...")
        for server in (theirs, ours):
            _in_threads(lambda number, server=server: _fill(server, number), range(before, size))
        say(f"Comparing at {size:,} ...")
        found += [_rates(operation, size, theirs, ours, idle) for operation in OPERATIONS]
    return found


def _fill(server: Server, number: int) -> None:
    name = name_of(number)
    tags = [{"key": "batch", "value": f"b{number // TAGGED}"}, {"key": "task", "value": "detection"}]
    server.ask("POST", "registered-models/create", {"name": name, "tags": tags, "description": "finds bottle caps"})
    server.ask("POST", "model-versions/create", {"name": name, "source": "s3://bucket/model"})
    server.ask("POST", "registered-models/alias", {"name": name, "alias": "champion", "version": "1"})


def _rates(operation: Operation, size: int, theirs: Server, ours: Server, idle: Server) -> Rates:
    def ask(server: Server, number: int) -> Any:
        return server.ask(operation.method, operation.path, operation.stated(number * 37 % size))

    for number in range(WARM_UP):
        one, other = ask(theirs, number), ask(ours, number)
        idle.look("idle")
        assert _shape(one) == _shape(other), f"They do not answer the same: {one} {other}"
    rounds = [
        (
            _seconds(lambda number=number: ask(theirs, number)),
            _seconds(lambda number=number: ask(ours, number)),
            _seconds(lambda: idle.look("idle")),
        )
        for number in range(ROUNDS)
    ]
    rates = [
        CLIENTS
        * REQUESTS_A_CLIENT
        / _seconds(
            lambda server=server: _in_threads(lambda number: ask(server, number), range(CLIENTS * REQUESTS_A_CLIENT))
        )
        for server in (theirs, ours)
    ]
    return Rates(operation, size, *(list(column) for column in zip(*rounds, strict=True)), *rates)


def _shape(answer: dict[str, Any]) -> dict[str, int]:
    """What an answer has, and how many of each."""
    return {key: len(value) for key, value in answer.items() if isinstance(value, list)}


def _in_threads(work: Callable[[int], Any], numbers: Sequence[int]) -> None:
    with ThreadPoolExecutor(CLIENTS) as threads:
        for _ in threads.map(work, numbers):
            pass


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _idle_url(stack: Stack) -> str:
    """A function that does nothing, behind the gateway."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("idle.py", IDLE_FUNCTION)
    functions = stack.aws("lambda")
    ours = functions.get_function_configuration(FunctionName=stack.function("APIHandler"))
    function = functions.create_function(
        FunctionName="idle",
        Runtime=ours["Runtime"],
        Handler="idle.handler",
        Role=ours["Role"],
        MemorySize=ours["MemorySize"],
        Code={"ZipFile": archive.getvalue()},
    )["FunctionArn"]
    gateway = stack.aws("apigateway")
    api = gateway.create_rest_api(name="idle")["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    place = {
        "restApiId": api,
        "resourceId": gateway.create_resource(restApiId=api, parentId=root, pathPart="idle")["id"],
        "httpMethod": "GET",
    }
    gateway.put_method(**place, authorizationType="NONE")
    uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}/invocations"
    gateway.put_integration(**place, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    gateway.create_deployment(restApiId=api, stageName="api")
    return f"{stack.s3_endpoint}/restapis/{api}/api/_user_request_"
