"""What is asked at the edges of MLflow's rules, in one order: each request stands on those before it."""

import re
from typing import Any

from tests.mlflow.pair import Ask

MODELS, VERSIONS = "registered-models", "model-versions"
S3 = "s3://bucket/model"
PROMPT = {"key": "mlflow.prompt.is_prompt", "value": "true"}


def get(path: str, **stated: Any) -> Ask:
    return Ask("GET", path, stated)


def post(path: str, /, **stated: Any) -> Ask:
    return Ask("POST", path, stated)


def patch(path: str, /, **stated: Any) -> Ask:
    return Ask("PATCH", path, stated)


def delete(path: str, /, **stated: Any) -> Ask:
    return Ask("DELETE", path, stated)


def tags(**of: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in of.items()]


NAMES = [
    *("plain", "with space", "détecteur", "日本語", "a.b", "a-b_c", "..a", "a..", "'", '"', "%", "UPPER", "upper"),
    *("", " ", "   ", "x" * 256, "a/b", "a:b", ".", "..", "/", "a/", "../a", "./a", " lead", "trail ", "\t", "\u3000"),
]
ALIASES = [
    *("champion", "é", "a-b", "_", "1", "V", "v", "v1", "V12", "v1a", "latest", "Latest", "a b", "a.b", "", "x" * 255),
    *("x" * 256, "a/b", "日本", "a\n", "v١"),
]
KEYS = [
    *("k", "a b", "a.b", "a/b", "a:b", "a-b", "é", "", "a*b", "a,b", "/a", "a/", "../a", ".", "..", "a//b", "a\n"),
    *("k" * 250, "k" * 251, "a'b", 'a"b'),
]
NUMBERS = [
    *(
        "1",
        "01",
        " 1 ",
        "+1",
        "1_0",
        "-1",
        "0",
        "2",
        "x",
        "",
        "1.0",
        "1e0",
        "٣",
        "9" * 11,
        "9" * 19,
        "9" * 30,
        "latest",
    ),
]
STAGES = ["None", "none", "NONE", "Staging", "STAGING", "production", "Archived", "archived", "Nope", "", " staging"]
WRONG: list[Any] = [5, 5.5, True, None, [], ["a"], {}, {"a": 1}, ""]
SOURCES = [
    *(
        "s3://bucket/model",
        "s3://bucket/a/../b",
        "s3://bucket/a/./b",
        "s3://bucket//a",
        "s3://bucket/a/",
        "s3://bucket",
    ),
    *("s3:/bucket/a", "S3://bucket/a", "gs://b/a", "s3://bucket/%2e%2e/a", "s3://bucket/%252e%252e/a", "s3://b/a%00"),
    *("s3://bucket/a%20b", "s3://bucket/a+b", "s3://bucket/a?b=c", "s3://bucket/a#b", "s3://bucket/a;b", "gs://b/.."),
    *(
        "/some/a",
        "a",
        "./a",
        "../a",
        "file:///some/a",
        "file:a",
        "file://localhost/a",
        "~/a",
        "dummy-source",
        "prompt-template",
    ),
    *("runs:/abc/model", "runs:/abc", "runs:/", "runs://host/abc/model", "runs:abc/model", "RUNS:/abc/model"),
    *("models:/m-abc", "models:/m-other", "models:/", "models:/a", "models://host/a/1", "models:a/1", "models:/a/b/c"),
    *(
        "models:/absent/1",
        "models:/plain/1",
        "models:/plain/2",
        "models:/plain/x",
        "models:/plain/latest",
        "models:/ /1",
    ),
    *("models:/plain@champion", "models:/plain@absent", "models:/plain@", "models:/plain/ ", "models:/plain@latest"),
    *(
        "models:/plain/LATEST",
        "models:/plain/01",
        "models:/plain/0",
        "models:/asks/1",
        "MODELS:/plain/1",
        "models:/plain/1/",
    ),
    *("mlflow-artifacts:/0/abc/artifacts", "mlflow-artifacts:/../a", "mlflow-artifacts:/a", "models:/plain@a b"),
    *("dbfs:/a", "dbfs:/a/../b", "wasbs://c@a.blob.core.windows.net/x", "s3://bucket/日本", "s3://bucket/a b", "s3:a"),
    *("unknown:/a", "unknown:a", "unknown://a", "unknown://h/a", "models:/plain/1?x", "models:/plain/1#x"),
]
# Where it makes a difference which run or logged model is named.
OWNED = [
    "s3://bucket/a",
    "s3://bucket/..",
    *(one for one in SOURCES if not re.match("s3:|gs:|dbfs:|wasbs:|unknown:", one)),
]
# What only one of the two accepts, each for a model of its own: numbers would differ from there on.
ELSEWHERE = [
    "https://h/a",
    "http://h/a/b?c=d",
    "ftp://h/a",
    "sftp://u:p@h/a",
    "hdfs://h:8020/a",
    "hdfs:/a",
    "abfss://c@h/x",
]
ODD = [
    "file://host/a",
    "c:/a",
    "C:\\a",
    "s3://[bucket/a",
    "models:/plain/Production",
    "models:/plain/9999999999999999999",
]

CREATED = [
    *(post(f"{MODELS}/create", name=name) for name in NAMES),
    *(post(f"{MODELS}/create", name=name) for name in WRONG),
    post(f"{MODELS}/create"),
    post(f"{MODELS}/create", name="plain"),
    post(f"{MODELS}/create", name="described", description="what it is", tags=tags(b="2", a="1")),
    post(f"{MODELS}/create", name="not described", description=""),
    post(f"{MODELS}/create", name="twice tagged", tags=[{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]),
    post(f"{MODELS}/create", name="tag without a value", tags=[{"key": "a"}]),
    post(f"{MODELS}/create", name="tag without a key", tags=[{"value": "a"}]),
    post(f"{MODELS}/create", name="an unknown field", unknown={"a": [1]}),
    post(f"{MODELS}/create", name="a field by its other name", deploymentJobId="1"),
    *(post(f"{MODELS}/create", name=f"description {at}", description=value) for at, value in enumerate(WRONG)),
    *(post(f"{MODELS}/create", name=f"tags {at}", tags=value) for at, value in enumerate(WRONG)),
    post(f"{MODELS}/create", name="asks", tags=[PROMPT]),
    post(f"{MODELS}/create", name="asks", tags=[PROMPT]),
    post(f"{MODELS}/create", name="asks"),
    post(f"{MODELS}/create", name="plain", tags=[PROMPT]),
    *(get(f"{MODELS}/get", name=name) for name in [*NAMES, "absent", "described", "asks"]),
    get(f"{MODELS}/get"),
    get(f"{MODELS}/get", name=["plain", "absent"]),
    get(f"{MODELS}/get", name="plain", unknown="x"),
]
BODIES = [
    Ask("POST", f"{MODELS}/create", raw=raw)
    for raw in (
        *(
            "",
            "{}",
            "null",
            "[]",
            "5",
            '"text"',
            "{",
            "nonsense",
            '{"name": "raw"',
            '{"name": "raw",}',
            '[{"name": "a"}]',
        ),
        *('{"name": "raw"}', '{"name": "a", "name": "twice named"}', '{"name": NaN}', '{"name": "lone \\ud800"}'),
        *('{"name": "raw2", "tags": null}', '{"name": "raw3", "description": null}'),
    )
]
VERSIONED = [
    post(f"{VERSIONS}/create", name="plain", source=S3),
    post(f"{VERSIONS}/create", name="plain", source=S3, description="what it is", tags=tags(b="2", a="1")),
    post(f"{VERSIONS}/create", name="plain", source=S3, run_id="", run_link="", description="", model_id=""),
    post(f"{VERSIONS}/create", name="plain", source=S3, run_id="some-run", run_link="https://h/run"),
    post(f"{VERSIONS}/create", name="plain"),
    post(f"{VERSIONS}/create", source=S3),
    post(f"{VERSIONS}/create", name="absent", source=S3),
    post(f"{VERSIONS}/create", name="a/b", source=S3),
    post(f"{VERSIONS}/create", name="plain", source=S3, tags=[{"key": "a*b", "value": "1"}]),
    post(f"{VERSIONS}/create", name="plain", source=S3, tags=[{"key": "a"}]),
    *(post(f"{VERSIONS}/create", name="plain", source=value) for value in WRONG),
    *(post(f"{VERSIONS}/create", name="plain", source=S3, run_id=value) for value in WRONG),
    post(f"{MODELS}/alias", name="plain", alias="champion", version="1"),
    post(f"{VERSIONS}/create", name="asks", source="dummy-source", tags=[PROMPT]),
    post(f"{VERSIONS}/create", name="asks", source="s3://bucket/a", tags=[PROMPT]),
    post(f"{VERSIONS}/create", name="asks", source="prompt-template", tags=[PROMPT]),
    *(post(f"{VERSIONS}/create", name="sourced", source=source) for source in SOURCES[:3]),
    post(f"{MODELS}/create", name="sourced"),
    *(post(f"{VERSIONS}/create", name="sourced", source=source) for source in SOURCES),
    *(get(f"{VERSIONS}/get", name="plain", version=number) for number in NUMBERS),
    *(get(f"{VERSIONS}/get", name=name, version="1") for name in ("absent", "a/b", "", "with space")),
    get(f"{VERSIONS}/get", name="plain"),
    get(f"{VERSIONS}/get", version="1"),
    *(get(f"{VERSIONS}/get-download-uri", name="plain", version=number) for number in NUMBERS),
    get(f"{VERSIONS}/get-download-uri", name="plain"),
    get(f"{VERSIONS}/get-download-uri"),
    *(patch(f"{VERSIONS}/update", name="plain", version=value, description="x") for value in WRONG),
    patch(f"{VERSIONS}/update", name="plain", version="1", description="a first"),
    patch(f"{VERSIONS}/update", name="plain", version="1", description=""),
    patch(f"{VERSIONS}/update", name="plain", version="2"),
    patch(f"{VERSIONS}/update", name="plain", version="9", description="x"),
    get(f"{MODELS}/get", name="plain"),
]
STAGED = [
    *(post(f"{VERSIONS}/transition-stage", name="plain", version="1", stage=stage) for stage in STAGES),
    *(
        post(f"{VERSIONS}/transition-stage", name="plain", version="1", stage=stage, archive_existing_versions=archive)
        for stage in STAGES
        for archive in (True, False)
    ),
    *(
        post(
            f"{VERSIONS}/transition-stage", name="plain", version="1", stage="Staging", archive_existing_versions=value
        )
        for value in [*WRONG, "true"]
    ),
    post(f"{VERSIONS}/transition-stage", name="plain", version="1", stage="Staging"),
    post(f"{VERSIONS}/transition-stage", name="plain", version="2", stage="Staging"),
    post(f"{VERSIONS}/transition-stage", name="plain", version="4", stage="Production"),
    get(f"{MODELS}/get", name="plain"),
    post(f"{VERSIONS}/transition-stage", name="plain", version="3", stage="staging", archive_existing_versions=True),
    get(f"{MODELS}/get", name="plain"),
    post(f"{VERSIONS}/transition-stage", name="plain", version="3", stage="staging", archive_existing_versions=True),
    post(f"{VERSIONS}/transition-stage", name="plain", version="99", stage="Staging", archive_existing_versions=True),
    post(f"{VERSIONS}/transition-stage", name="absent", version="1", stage="Staging"),
    post(f"{VERSIONS}/transition-stage", name="plain", stage="Staging"),
    post(f"{VERSIONS}/transition-stage", name="plain", version="1"),
    post(f"{VERSIONS}/transition-stage", name="plain", version="x", stage="Staging"),
    *(post(f"{MODELS}/get-latest-versions", name="plain", stages=[stage]) for stage in STAGES),
    *(get(f"{MODELS}/get-latest-versions", name="plain", stages=stage) for stage in STAGES),
    *(post(f"{MODELS}/get-latest-versions", name="plain", stages=value) for value in WRONG),
    get(f"{MODELS}/get-latest-versions", name="plain", stages=["Staging", "Archived", "staging"]),
    get(f"{MODELS}/get-latest-versions", name="plain"),
    post(f"{MODELS}/get-latest-versions", name="plain"),
    post(f"{MODELS}/get-latest-versions", name="absent"),
    post(f"{MODELS}/get-latest-versions", name="with space"),
    post(f"{MODELS}/get-latest-versions"),
]
ALIASED = [
    *(post(f"{MODELS}/alias", name="plain", alias=alias, version="1") for alias in ALIASES),
    *(get(f"{MODELS}/alias", name="plain", alias=alias) for alias in ALIASES),
    *(delete(f"{MODELS}/alias", name="plain", alias=alias) for alias in ALIASES[2:]),
    *(post(f"{MODELS}/alias", name="plain", alias="numbered", version=number) for number in NUMBERS),
    *(post(f"{MODELS}/alias", name="plain", alias=value, version="1") for value in WRONG),
    *(post(f"{MODELS}/alias", name="plain", alias="numbered", version=value) for value in WRONG),
    post(f"{MODELS}/alias", name="absent", alias="champion", version="1"),
    post(f"{MODELS}/alias", name="a/b", alias="champion", version="1"),
    get(f"{MODELS}/alias", name="absent", alias="champion"),
    get(f"{MODELS}/alias", name="plain", alias="nope"),
    get(f"{MODELS}/alias", name="with space", alias="latest"),
    get(f"{MODELS}/alias", name="absent", alias="latest"),
    get(f"{MODELS}/alias", name="plain"),
    get(f"{MODELS}/alias", alias="champion"),
    delete(f"{MODELS}/alias", name="absent", alias="champion"),
    delete(f"{MODELS}/alias", name="plain"),
    get(f"{MODELS}/get", name="plain"),
    get(f"{VERSIONS}/get", name="plain", version="1"),
    delete(f"{MODELS}/alias", name="plain", alias="é"),
]
TAGGED = [
    *(post(f"{MODELS}/set-tag", name="plain", key=key, value="1") for key in KEYS),
    *(post(f"{VERSIONS}/set-tag", name="plain", version="2", key=key, value="1") for key in KEYS),
    *(
        post(f"{MODELS}/set-tag", name="plain", key="k", value=value)
        for value in [*WRONG, "x" * 100_000, "x" * 100_001]
    ),
    *(
        post(f"{VERSIONS}/set-tag", name="plain", version="2", key="k", value=value)
        for value in [*WRONG, "x" * 100_001]
    ),
    *(post(f"{MODELS}/set-tag", name="plain", key=value, value="1") for value in WRONG),
    post(f"{MODELS}/set-tag", name="plain", key="k"),
    post(f"{VERSIONS}/set-tag", name="plain", version="2", key="k"),
    post(f"{MODELS}/set-tag", name="absent", key="k", value="1"),
    post(f"{VERSIONS}/set-tag", name="plain", version="99", key="k", value="1"),
    post(f"{VERSIONS}/set-tag", name="absent", version="1", key="k", value="1"),
    get(f"{MODELS}/get", name="plain"),
    get(f"{VERSIONS}/get", name="plain", version="2"),
    *(delete(f"{MODELS}/delete-tag", name="plain", key=key) for key in KEYS),
    *(delete(f"{VERSIONS}/delete-tag", name="plain", version="2", key=key) for key in KEYS),
    delete(f"{MODELS}/delete-tag", name="plain", key="absent"),
    delete(f"{MODELS}/delete-tag", name="absent", key="k"),
    delete(f"{VERSIONS}/delete-tag", name="plain", version="2", key="absent"),
    delete(f"{VERSIONS}/delete-tag", name="plain", version="99", key="absent"),
    get(f"{MODELS}/get", name="plain"),
]
COUNTS: list[Any] = [
    *("", "5", "True", "x", 1, 0, -1, 2, 1000, 1001, 200_000, 200_001, "5.0", 5.0, "1e1", 2**63 - 1, 2**63, 2**70),
]
TOKENS = ("", "x", "eyJvZmZzZXQiOiAxfQ==", "===", "a b", "é")
OF_PLAIN = "name = 'plain'"
MODEL_FILTERS = [
    *(
        OF_PLAIN,
        "name LIKE 'p%'",
        "name ILIKE 'UPP%'",
        "name = 'a' OR name = 'b'",
        "x",
        "tags.a = '1'",
        "tags.a != '1'",
    ),
    *("name = 5", " ", "tags.`mlflow.prompt.is_prompt` = 'true'"),
    "tag.`mlflow.prompt.is_prompt` != 'true' AND name = 'plain'",
]
VERSION_FILTERS = [
    *(
        OF_PLAIN,
        "run_id = 'some-run'",
        "version_number > 1 AND name = 'plain'",
        "version_number = '2' AND name = 'plain'",
    ),
    *("source_path = 's3://bucket/model' AND name = 'plain'", "status = 'READY'", "current_stage = 'None'"),
    *("run_id IN ('some-run', 'x')", "name = 'asks'"),
]
MODEL_ORDERS = ["name", ["name DESC"], ["timestamp", "name"], "creation_timestamp", "", "x"]
VERSION_ORDERS = ["version_number", ["name", "version_number DESC"], "status", ""]
SEARCHED = [
    get(f"{MODELS}/search"),
    *(get(f"{MODELS}/search", max_results=value) for value in COUNTS),
    *(get(f"{VERSIONS}/search", filter=OF_PLAIN, max_results=value) for value in COUNTS),
    *(get(f"{MODELS}/search", filter=OF_PLAIN, page_token=token) for token in TOKENS),
    *(get(f"{VERSIONS}/search", filter=OF_PLAIN, page_token=token) for token in TOKENS),
    *(get(f"{MODELS}/search", order_by=order) for order in MODEL_ORDERS),
    *(get(f"{VERSIONS}/search", filter=OF_PLAIN, order_by=order) for order in VERSION_ORDERS),
    *(get(f"{MODELS}/search", filter=value) for value in MODEL_FILTERS),
    *(get(f"{VERSIONS}/search", filter=value) for value in VERSION_FILTERS),
]
ENDED = [
    *(patch(f"{MODELS}/update", name="plain", description=value) for value in [*WRONG, "a better one"]),
    patch(f"{MODELS}/update", name="absent", description="x"),
    patch(f"{MODELS}/update", name="plain"),
    patch(f"{MODELS}/update"),
    get(f"{MODELS}/get", name="plain"),
    *(post(f"{MODELS}/rename", name="described", new_name=name) for name in [*NAMES[13:], *WRONG]),
    post(f"{MODELS}/rename", name="described", new_name="plain"),
    post(f"{MODELS}/rename", name="described"),
    post(f"{MODELS}/rename", new_name="x"),
    post(f"{MODELS}/rename", name="absent", new_name="x"),
    post(f"{MODELS}/rename", name="described", new_name="described"),
    post(f"{MODELS}/rename", name="plain", new_name="renamed"),
    get(f"{MODELS}/get", name="plain"),
    get(f"{MODELS}/get", name="renamed"),
    get(f"{VERSIONS}/get", name="plain", version="1"),
    get(f"{VERSIONS}/get", name="renamed", version="1"),
    get(f"{MODELS}/alias", name="renamed", alias="champion"),
    delete(f"{VERSIONS}/delete", name="renamed", version="1"),
    get(f"{MODELS}/alias", name="renamed", alias="champion"),
    delete(f"{VERSIONS}/delete", name="renamed", version="1"),
    get(f"{VERSIONS}/get", name="renamed", version="1"),
    *(delete(f"{VERSIONS}/delete", name="renamed", version=number) for number in ("x", "99", "", "-1")),
    delete(f"{VERSIONS}/delete", name="absent", version="1"),
    get(f"{MODELS}/get", name="renamed"),
    post(f"{MODELS}/create", name="gap"),
    post(f"{VERSIONS}/create", name="gap", source=S3),
    delete(f"{VERSIONS}/delete", name="gap", version="1"),
    post(f"{VERSIONS}/create", name="gap", source=S3),
    delete(f"{MODELS}/delete", name="gap"),
    delete(f"{MODELS}/delete", name="gap"),
    get(f"{VERSIONS}/get", name="gap", version="2"),
    post(f"{MODELS}/create", name="gap"),
    post(f"{VERSIONS}/create", name="gap", source=S3),
    delete(f"{MODELS}/delete"),
    delete(f"{MODELS}/delete", name="a/b"),
    *(Ask(method, f"{MODELS}/get", {"name": "plain"}) for method in ("POST", "PUT", "DELETE", "PATCH")),
    get(f"{MODELS}/list"),
    get("nothing/here"),
]  # fmt: skip
LAST = [  # What one of the two accepts and the other refuses: nothing after it can be compared.
    post(f"{MODELS}/create", name="plain"),
    post(f"{VERSIONS}/create", name="plain", source=S3),
    post(f"{MODELS}/alias", name="plain", alias="champion", version="1"),
    *(post(f"{VERSIONS}/create", name="sourced", source=source, run_id="abc") for source in OWNED),
    post(f"{MODELS}/create", name="modelled"),
    *(post(f"{VERSIONS}/create", name="modelled", source=source, model_id="m-abc") for source in OWNED),
    *(post(f"{MODELS}/create", name=f"elsewhere {at}") for at in range(len(ELSEWHERE))),
    *(post(f"{VERSIONS}/create", name=f"elsewhere {at}", source=source) for at, source in enumerate(ELSEWHERE)),
    *(post(f"{MODELS}/create", name=f"odd {at}") for at in range(len(ODD))),
    *(post(f"{VERSIONS}/create", name=f"odd {at}", source=source) for at, source in enumerate(ODD)),
    *(post(f"{MODELS}/create", name=name) for name in ("a\x01b", "x" * 257)),
    *(post(f"{MODELS}/create", name=f"tag {at}", tags=[value]) for at, value in enumerate(WRONG)),
    *(
        post(f"{MODELS}/create", name=f"key {at}", tags=[{"key": value, "value": "x"}])
        for at, value in enumerate(WRONG)
    ),
    *(post(f"{MODELS}/create", name=f"value {at}", tags=[{"key": "x", "value": v}]) for at, v in enumerate(WRONG)),
    post(f"{MODELS}/set-tag", name="renamed", key=" ", value="1"),
    post(f"{VERSIONS}/set-tag", name="renamed", version="2", key=" ", value="1"),
    post(f"{MODELS}/create", name="both names", deploymentJobId="1", deployment_job_id="1"),
    Ask("POST", f"{MODELS}/create", raw='"{\\"name\\": \\"double\\"}"'),
]
EDGES = {
    "registered models are created": CREATED,
    "bodies": BODIES,
    "versions": VERSIONED,
    "stages": STAGED,
    "aliases": ALIASED,
    "tags": TAGGED,
    "searches": SEARCHED,
    "changes and ends": ENDED,
    "what is not the same": LAST,
}
