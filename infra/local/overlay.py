"""What only the embedded emulator needs, added to the packaged template.

Pure: a template and the deployment's own values in, a template out. Nothing here may be needed on AWS.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.package import STAGE

Template = dict[str, Any]

# What stands for the id of the API in the base URL; the emulator gives each new definition another id.
API_ALIAS = "registry"
SYNC_SCHEDULE = "rate(15 minutes)"
# Policies that refuse everything but TLS; the emulator speaks plain HTTP, and enforces them.
_TLS_POLICIES = ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy")


@dataclass(frozen=True)
class Local:
    """Where the emulator listens, and what the operator set."""

    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    # Functions inherit them from the emulator's process: in a template they would be on disk, several times.
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    sync_schedule: str = SYNC_SCHEDULE

    @property
    def endpoint(self) -> str:
        """Where AWS clients, and so presigned URLs, reach the emulator.

        Never the host of `base_url`: clients repeat their Authorization header to the same host and
        port when they follow a redirect, and S3 refuses a presigned URL with it.
        """
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"http://localhost:{self.port}/restapis/{API_ALIAS}/{STAGE}/_user_request_"

    @property
    def needs_tokens(self) -> bool:
        return self.environment["ACCESS"] == "token"

    @property
    def environment(self) -> dict[str, str]:
        """What every function sees besides the variables of the template."""
        return {
            # Only who is on this machine reaches it; the first model should need no token.
            "ACCESS": "open",
            **self.settings,
            "PUBLIC_URL": self.base_url,
            "S3_PUBLIC_ENDPOINT": self.endpoint,
            "POWERTOOLS_TRACE_DISABLED": "true",
        }

    @property
    def imports_at_once(self) -> int:
        """As on AWS, where two is the least. A number: the emulator does not compute with a parameter's text."""
        return max(2, int(self.settings.get("GETI_CONCURRENCY", "2")))


def overlaid(template: Template, local: Local) -> Template:
    """The template as the emulator needs it; the one given stays as it is."""
    result = copy.deepcopy(template)
    result["Resources"] = {
        name: resource for name, resource in result["Resources"].items() if _has_a_place_here(resource)
    }
    for resource in result["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            _adapt_function(resource["Properties"], local)
        elif resource["Type"] == "AWS::Serverless::Api":
            resource["Properties"].update(_api_properties(resource["Properties"]["DefinitionBody"]))
    # Without it the emulator's SAM translator writes OpenAPI 3 that its import does not read.
    result.setdefault("Globals", {}).setdefault("Api", {})["OpenApiVersion"] = "2.0"
    return result


def _adapt_function(function: Template, local: Local) -> None:
    variables = function.setdefault("Environment", {}).setdefault("Variables", {})
    variables.update(local.environment)
    for name in local.secrets:
        # One that the template sets, be it to nothing, would hide the one that is inherited.
        variables.pop(name, None)
    for event in function.get("Events", {}).values():
        if event["Type"] == "SQS":
            event["Properties"]["ScalingConfig"] = {"MaximumConcurrency": local.imports_at_once}
        elif "State" in event["Properties"]:
            state = "ENABLED" if "GETI_HOST" in local.settings else "DISABLED"
            event["Properties"].update(Schedule=local.sync_schedule, State=state)


def _has_a_place_here(resource: Template) -> bool:
    if resource["Type"] in _TLS_POLICIES:
        return False
    if resource["Type"] == "AWS::CloudWatch::Dashboard":
        # It names alarms that are left out.
        return False
    # The emulator refuses alarms on metric math, and with them the whole stack.
    return resource["Type"] != "AWS::CloudWatch::Alarm" or "Metrics" not in resource["Properties"]


def _api_properties(definition: Template) -> dict[str, Any]:
    # What the app declares as binary, said again outside of the definition, where the emulator does not
    # read it. SAM's own spelling of the slash, "~1", would make it mangle bodies.
    return {"BinaryMediaTypes": definition.get("x-amazon-apigateway-binary-media-types", [])}
