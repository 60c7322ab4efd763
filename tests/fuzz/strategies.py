"""What is sent: mostly almost right, for what is all wrong gets no further than the first check."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from chalicelib.paging import page_token
from chalicelib.registry.models import PRECISIONS, Filters
from chalicelib.registry.tokens import new_token_text
from chalicelib.surfaces.registered_models import RegisteredModelsQuery
from tests.conftest import ARCHIVE

KNOWN_ID, KNOWN_UPLOAD = "model-detector-v1", "01K9ZZB2M3N4P5Q6R7S8T9V0WX"
# What has a meaning somewhere on the way: to a parser, a log, a key, a header, a path, a template.
AWKWARD = [
    *("", " ", "\0", "\n", "\r\n", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ud800", "\udfff", "🤖"),
    *("null", "true", "NaN", "Infinity", "1e999", "-0", "0x10", "1_000", "٣", "１", "9" * 400, "-1", "0", "1"),
    *("{", "}", "{}", "[]", "[[]]", '"', "'", "\\", "%", "%00", "%s", "{0}", "${x}", "{{x}}", "../..", "/", "//"),
    *("a" * 300, "#", "MODEL#x", "RM#", "META", "CATALOG#0", "x" * 2_100, "<script>", "__proto__", "constructor"),
    *("2026-01-01", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
    *("ı", "İ", "ß", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+99:99", "1767225600"),
]  # fmt: skip

Strings = st.SearchStrategy[str]


def mostly(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Three times of four the one, else the other."""
    return st.sampled_from([right, right, right, wrong]).flatmap(lambda chosen: chosen)


awkward = st.sampled_from(AWKWARD)
texts: Strings = awkward | st.text(max_size=40) | st.tuples(awkward, awkward).map("".join)
words: Strings = st.sampled_from(["detector", "Détecteur", "模型", "v1", "v2", "vision", "a b"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
ids: Strings = st.sampled_from([KNOWN_ID, KNOWN_UPLOAD, "no-such-model-0000", "x" * 16, "x" * 129]) | texts
json_texts: Strings = json_values.map(json.dumps) | texts
objects: Strings = st.dictionaries(words, words, max_size=3).map(json.dumps)

# Values by field, most of which pass, so that what is checked later is reached too.
FIELDS: Mapping[str, Strings] = {
    **dict.fromkeys(("name", "version", "project_id", "project_name", "category", "format"), mostly(words, texts)),
    **dict.fromkeys(("target_device", "target_device_type", "architecture", "origin"), mostly(words, texts)),
    **dict.fromkeys(("created_date", "description", "file"), texts),
    **dict.fromkeys(("overview", "optimization_capabilities", "tags"), mostly(objects, json_texts)),
    "id": ids,
    "precision": mostly(st.sampled_from([*PRECISIONS, "FP16", "fp16,int8", "['int8']"]), texts),
    "score": mostly(st.sampled_from(["0.5", "-0", "1e300"]), texts | st.sampled_from(["nan", "1e400"])),
    "labels": mostly(
        st.lists(words, max_size=3).map(json.dumps),
        json_texts | st.sampled_from(["['a']", "[{1: 2}]", "('a',)", "[" * 500]),
    ),
    "sha256": st.sampled_from(["0" * 64, "0" * 63]) | texts,
}


@st.composite
def mutated(draw: st.DrawFn, valid: Mapping[str, Any]) -> dict[str, Any]:
    """The valid one with a few fields replaced, left out or added."""
    result = dict(valid)
    for _ in range(draw(st.integers(0, 3))):
        name = draw(mostly(st.sampled_from(sorted(valid)), texts))
        if draw(st.booleans()):
            result[name] = draw(mostly(words, json_values))
        else:
            result.pop(name, None)
    return result


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """As it is, more often than not; or with a piece cut out, put in, or overwritten."""
    at = draw(st.integers(0, len(body)))
    match draw(mostly(st.just(""), st.sampled_from(["cut", "insert", "overwrite", "truncate"]))):
        case "cut":
            return body[:at] + body[at + draw(st.integers(1, 20)) :]
        case "insert":
            piece = draw(st.binary(max_size=8) | st.sampled_from([b"\r\n", b"--", b"\0", b"\n\n"]))
            return body[:at] + piece + body[at:]
        case "overwrite":
            piece = draw(st.binary(min_size=1, max_size=4))
            return body[:at] + piece + body[at + len(piece) :]
        case "truncate":
            return body[:at]
    return body


# --- Forms -------------------------------------------------------------------------------------------------------

named_fields = st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), FIELDS[name]))
form_fields = st.lists(mostly(named_fields, st.tuples(texts, texts)), max_size=3)
required_fields = mostly(st.just([("name", "detector"), ("version", "v1")]), st.just([]))


@st.composite
def part_headers(draw: st.DrawFn, name: str, value: str) -> str:
    plain = f'Content-Disposition: form-data; name="{name}"'
    strange = [
        f'Content-Disposition: form-data; name="file"; filename="{value}"\r\nContent-Type: {name}',
        f'{plain}; filename="m.zip"\r\nContent-Type: application/zip',
        f"Content-Disposition: form-data; name*=UTF-8''{quote(name, errors='replace')}",
        f"Content-Disposition: {name}",
        f"{name}: {value}",
    ]
    return draw(mostly(mostly(st.just(plain), st.just(plain)), st.sampled_from(strange)))


@st.composite
def multipart_bodies(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body and its Content-Type: a form of a few fields, sometimes damaged."""
    boundary = draw(mostly(st.sampled_from(["b", "----WebKitFormBoundary7", "x" * 70]), st.text("a'b-", min_size=1)))
    delimiter = f"--{boundary}".encode()
    body = b""
    for name, value in [*draw(required_fields), *draw(form_fields)]:
        headers = draw(part_headers(name, value)).encode(errors="surrogatepass")
        content = value.encode(errors="replace")
        content = draw(mostly(st.just(content), st.sampled_from([ARCHIVE, b"", b"\xff\xfe", b"\r\n" + delimiter])))
        body += delimiter + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"
    stated = f'multipart/form-data; boundary="{boundary}"'
    wrong = ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=é"]
    return draw(damaged(body + delimiter + b"--\r\n")), draw(mostly(st.just(stated), st.sampled_from(wrong)))


@st.composite
def urlencoded_bodies(draw: st.DrawFn) -> tuple[bytes, str]:
    fields = [*draw(required_fields), *draw(form_fields)]
    pairs = (f"{quote(name, errors='replace')}={quote(value, errors='replace')}" for name, value in fields)
    right = "application/x-www-form-urlencoded"
    wrong = [f"{right}; charset=utf-16", "text/plain", ""]
    return draw(damaged("&".join(pairs).encode())), draw(mostly(st.just(right), st.sampled_from(wrong)))


form_bodies = mostly(
    multipart_bodies() | urlencoded_bodies(),
    st.tuples(st.binary(max_size=60), st.sampled_from(["multipart/form-data; boundary=b"]) | texts),
)

# --- JSON --------------------------------------------------------------------------------------------------------

UPLOAD = {
    "name": "large", "version": "v1", "file_name": "model.zip", "size": 1000, "sha256": "0" * 64,
    "media_type": "application/zip", "precision": ["fp16"], "tags": {"team": "vision"}, "labels": ["cat"], "score": 0.5,
}  # fmt: skip
TOKEN = {
    "name": "ci", "role": "publisher", "projects": [{"name": "vision"}], "name_prefixes": ["det"],
    "expires_at": "2099-01-01T00:00:00Z",
}  # fmt: skip
CHANGE = {"name": "detector", "description": "x", "tags": {"team": None}, "aliases": {"champion": 1, "old": None}}
DIGEST = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
PARTS = {"digests": {"1": DIGEST}}
WANTED = {"models": [{"id": "65dc00000000000000000001", "group_id": "65dc00000000000000000002"}]}
SYNC = {"dry_run": True, "full": False}
COMPLETION = {"parts": [{"number": 1, "etag": "e", "digest": DIGEST}], "sha256": "0" * 64}
# What the calls of MLflow's clients state, all together: a call leaves alone what it does not know.
TAGS = [{"key": "team", "value": "vision"}]
MLFLOW = {
    "name": "detector", "new_name": "segmenter", "version": "1", "source": "s3://bucket/model", "description": "x",
    "tags": TAGS, "key": "team", "value": "1", "alias": "champion", "stage": "Staging", "stages": ["None"],
    "filter": "name LIKE 'det%' AND tags.team = 'vision'", "order_by": ["name DESC"], "max_results": 10,
    "experiment_id": "0", "experiment_ids": ["0"], "experiment_name": "Default", "run_id": "0" * 32, "params": TAGS,
    "metrics": [{"key": "loss", "value": 0.5, "timestamp": 1, "step": 0}], "timestamp": 1, "metric_key": "loss",
    "models": [{"model_id": "m-0", "step": 0}], "path": "model/MLmodel", "size": 3, "num_parts": 1,
}  # fmt: skip


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def json_bodies(valid: Mapping[str, Any]) -> st.SearchStrategy[tuple[bytes, str]]:
    bodies = mutated(valid).map(as_json)
    types = st.sampled_from(["application/json; charset=latin-1", "application/x+json", "text/plain", ""])
    wrong = bodies.flatmap(damaged) | json_values.map(as_json) | st.binary(max_size=60)
    return st.tuples(mostly(bodies, wrong), mostly(st.just("application/json"), types))


# --- Headers and queries -----------------------------------------------------------------------------------------

GOOD_TOKEN = new_token_text(KNOWN_UPLOAD)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode(errors='replace')).decode()}"


tokens: Strings = (
    st.just(GOOD_TOKEN)
    | st.sampled_from([GOOD_TOKEN[:-1], f"{GOOD_TOKEN}x", GOOD_TOKEN.lower(), new_token_text("0" * 26)])
    | st.tuples(st.integers(0, len(GOOD_TOKEN)), texts).map(lambda cut: GOOD_TOKEN[: cut[0]] + cut[1])
    | texts
)
authorizations: Strings = mostly(
    tokens.map(lambda token: f"Bearer {token}") | tokens.map(lambda token: basic(f"user:{token}")) | tokens.map(basic),
    st.tuples(st.sampled_from(["bearer", "BASIC", "Bearer  ", "Digest", "Basic\t", ""]), texts).map(" ".join) | texts,
)
etags: Strings = st.sampled_from(['"1"', '"99"', "*", "1", 'W/"1"', '"1", "2"', f'"{"9" * 30}"', '"-1"', '"٣"']) | texts
idempotency_keys: Strings = mostly(
    st.text("abcdef0123{}%", min_size=1, max_size=255),
    st.sampled_from(["k" * 256, "a b", "ключ", "\t"]) | texts,
)
link_headers: Strings = (
    st.tuples(texts, texts).map(lambda parts: f'<https://x/models?{parts[0]}={parts[1]}>; rel="next"')
    | st.sampled_from(["<>; rel=next", "<x", '<?a=1&a=2&=>;rel="next prev"', ";;;,,,", "<?%>", '<?a>;rel="'])
    | st.tuples(texts, texts).map(lambda parts: f"<{parts[0]}>; {parts[1]}")
    | texts
)


def queries(known: list[str]) -> st.SearchStrategy[dict[str, list[str]]]:
    names = mostly(st.sampled_from([*known, "tag.a"]), texts)
    values = st.lists(mostly(words | st.sampled_from(["1", "5", "fp16"]), texts), min_size=1, max_size=1)
    return st.dictionaries(names, mostly(values, st.lists(texts, max_size=3)), max_size=4)


SEARCHES = [Filters(), Filters(name="x"), RegisteredModelsQuery()]


@st.composite
def page_tokens(draw: st.DrawFn) -> str:
    """What somebody may make of a token: another position, another search, another form."""
    position = draw(mostly(st.sampled_from(["2026-01-01T00:00:00.000000Z#0123456789abcdef", "1", "a#b"]), texts))
    made = page_token(position, draw(st.sampled_from(SEARCHES)))
    content = base64.urlsafe_b64decode(made + "=" * (-len(made) % 4))
    remade = [
        base64.urlsafe_b64encode(draw(damaged(content))).decode(),
        base64.urlsafe_b64encode(draw(json_values.map(as_json))).decode(),
        f"{made}=",
        made.replace("A", "+"),
    ]
    return draw(mostly(st.just(made), st.sampled_from(remade) | texts))
