"""The registry's functions that no token opens, called with AWS credentials: Lambda's Invoke.

Needs boto3, which `modelreg[admin]` brings; it is imported when a function is called, not before. What goes wrong on
the way becomes one of our errors, so that such a command ends as every other one does.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from modelreg.errors import (
    ConnectionFailed,
    Forbidden,
    InvalidInput,
    LocalError,
    NotARegistry,
    NotFound,
    RegistryError,
    Throttled,
    Unauthorized,
    Unavailable,
)
from modelreg.retry import Attempts, Patience

T = TypeVar("T")
CALL_ATTEMPTS = 3
OUTCOME_UNKNOWN = "outcome_unknown"
CONNECT_SECONDS, ANSWER_SECONDS = 10, 75  # no function of the registry that is called takes longer than a minute
CREDENTIALS_HINT = (
    "Sign in to the AWS account of the registry, or set AWS_PROFILE; for the embedded emulator set AWS_ACCESS_KEY_ID"
    " and AWS_SECRET_ACCESS_KEY to test."
)
_REFUSED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_NOT_SIGNED_IN = (
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSignatureException",
    "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "UnrecognizedClientException",
    "IncompleteSignature", "MissingAuthenticationToken",
)  # fmt: skip
_BUSY = ("Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded")
_NO_STACK = "ValidationError"  # so CloudFormation says that there is none of this name


class Place(NamedTuple):
    """Where a function is: its name, or the stack that says it; where AWS is, if not as AWS itself is set up."""

    stack: str | None = None
    function: str | None = None
    endpoint_url: str | None = None
    region: str | None = None


class Function:
    """A function of the registry, found and ready to be called."""

    def __init__(self, client: Any, name: str, patience: Patience) -> None:
        self._client = client
        self._patience = patience
        self.name = name

    def call(self, kind: type[T], payload: Mapping[str, Any]) -> T:
        """Its answer, typed. A call whose answer was lost is repeated: what is called must bear it.

        An error has the code `outcome_unknown` if the function may have done what it was asked for.
        """
        attempts = Attempts(self._patience, CALL_ATTEMPTS)
        may_be_done: RegistryError | None = None
        while True:
            try:
                return self._parsed(kind, self._called(payload))
            except RegistryError as exc:
                if exc.code == OUTCOME_UNKNOWN:
                    may_be_done = exc
                if not isinstance(exc, ConnectionFailed | Unavailable):
                    raise may_be_done or exc from None
                attempts.failed(may_be_done or exc)

    def _called(self, payload: Mapping[str, Any]) -> bytes:
        with _aws_errors():
            response = self._client.invoke(FunctionName=self.name, Payload=json.dumps(payload).encode())
            content: bytes = response["Payload"].read()
        if response.get("FunctionError"):
            raise RegistryError(
                f"{self.name} failed: {_reason_in(content)}.",
                code="function_failed",
                hint=f"Its log says why: /aws/lambda/{self.name} in CloudWatch Logs.",
            )
        return content

    def _parsed(self, kind: type[T], content: bytes) -> T:
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(kind).validate_json(content)
        except ValidationError:
            raise NotARegistry(
                f"{self.name} did not answer as a model registry's function does.",
                hint="Check --stack, --function and --endpoint-url, and that the registry is as new as this command.",
            ) from None


def find_function(place: Place, output_key: str, patience: Patience | None = None) -> Function:
    """The function that was named, or that the stack has under this key of its outputs."""
    with _aws_errors():
        session = _session(place)
        name = place.function or _output_of(session, place, output_key)
        return Function(_client(session, place, "lambda"), name, patience or Patience())


def _session(place: Place) -> Any:
    import boto3

    return boto3.Session(region_name=place.region)


def _client(session: Any, place: Place, service: str) -> Any:
    from botocore.config import Config

    # Not repeated by boto3, which would not tell that an earlier try may have got through.
    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 1})
    return session.client(service, endpoint_url=place.endpoint_url, config=config)


def _output_of(session: Any, place: Place, key: str) -> str:
    stacks = _client(session, place, "cloudformation").describe_stacks(StackName=place.stack)["Stacks"]
    values = {output["OutputKey"]: output.get("OutputValue") for output in stacks[0].get("Outputs", [])}
    if not values.get(key):
        raise NotFound(
            f"The stack {place.stack} has no output {key}.",
            hint="Is it the stack of a model registry? If it is, deploy it anew: an older one had no such function.",
        )
    return str(values[key])


@contextmanager
def _aws_errors() -> Iterator[None]:
    """What boto3 raises, as one of our errors. Raises LocalError if there is no boto3."""
    try:
        import boto3  # noqa: F401 (botocore alone is not enough)
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
    except ModuleNotFoundError:
        raise LocalError(
            "This needs boto3, the AWS SDK for Python, which is not installed.",
            hint="Type `pip install boto3` where modelreg is installed; its extra `admin` does the same.",
        ) from None
    try:
        yield
    except ClientError as exc:
        raise _refusal(exc) from None
    except (ResponseParserError, LookupError):
        # The latter is how botocore stumbles over a page that happens to be XML.
        hint = "Check --endpoint-url: it is that of AWS, not the URL of the registry."
        raise NotARegistry("What answered is not AWS.", hint=hint) from None
    except (BotoCoreError, ValueError) as exc:
        raise _not_asked(exc) from None


def _not_asked(exc: Exception) -> RegistryError:
    """AWS gave no answer."""
    from botocore import exceptions as aws

    match exc:
        case aws.NoRegionError():
            return InvalidInput("It is not said in which AWS region.", hint="Use --region, or set AWS_DEFAULT_REGION.")
        case aws.ProfileNotFound() | aws.ConfigParseError():
            return InvalidInput(f"AWS is not set up here: {exc}", hint="Look at AWS_PROFILE and ~/.aws/config.")
        case aws.NoCredentialsError() | aws.PartialCredentialsError() | aws.CredentialRetrievalError():
            return Unauthorized("There are no usable AWS credentials here.", hint=CREDENTIALS_HINT)
        case aws.ParamValidationError() | aws.ValidationError() | ValueError():
            hint = "Check --stack, --function, --endpoint-url and --region."
            return InvalidInput(f"AWS cannot be asked like this: {exc}", hint=hint)
        case aws.ConnectionError():
            hint = "Check the network, and --endpoint-url if it is given; then try again."
            return ConnectionFailed(f"AWS cannot be reached ({type(exc).__name__}).", hint=hint)
        case aws.HTTPClientError() | aws.IncompleteReadError():
            return Unavailable(f"The answer of AWS was lost ({type(exc).__name__}).", code=OUTCOME_UNKNOWN)
    return Unauthorized(f"AWS cannot be asked: {exc}", hint=CREDENTIALS_HINT)


def _refusal(exc: Any) -> RegistryError:
    """AWS answered, with no."""
    code, status = str(exc.response["Error"].get("Code", "")), exc.response["ResponseMetadata"]["HTTPStatusCode"]
    said = f"AWS refuses {exc.operation_name}: {exc.response['Error'].get('Message') or code}"
    if code in _REFUSED:
        return Forbidden(said, hint="Use AWS credentials that may call the functions of the registry's stack.")
    if code in _NOT_SIGNED_IN:
        return Unauthorized(said, hint=f"{CREDENTIALS_HINT} If they are right, check this machine's clock.")
    if code == "ResourceNotFoundException" or (code == _NO_STACK and exc.operation_name == "DescribeStacks"):
        return NotFound(said, hint="Check the name, the region and the AWS account.")
    if code in _BUSY:
        return Throttled(said)
    if status >= 500:
        return Unavailable(said, code=OUTCOME_UNKNOWN)
    return NotARegistry(said, hint="Check --stack, --function and --endpoint-url.")


def _reason_in(content: bytes) -> str:
    """What a function that failed says of it, without the traceback."""
    try:
        told = json.loads(content)
        return f"{told.get('errorType', 'error')}: {told.get('errorMessage', '')}".rstrip(": ").rstrip(".")
    except (ValueError, AttributeError):
        return "it does not say why"
