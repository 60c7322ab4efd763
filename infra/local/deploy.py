"""Deploy the packaged template to the emulator, as it would be deployed to AWS.

Deploys only when something changed since the last deployment to the same data: sources, tools or the overlay.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local import STACK
from infra.local.overlay import Local, Template, overlaid
from infra.package import TEMPLATE

REGION = "us-east-1"
CODE_BUCKET = "model-registry-deployment"
_DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


class DeploymentError(Exception):
    """The template could not be deployed; the text says why, in the words of the tool that refused."""


def client(service: str, local: Local, config: Config | None = None) -> Any:
    """A boto3 client of the emulator; the operator's own AWS account is never touched."""
    return boto3.client(
        service,
        endpoint_url=local.endpoint,
        region_name=REGION,
        config=config,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the emulator's fixed credentials
    )


def deployment_digest(package: Path, local: Local) -> str:
    """A hash of all that decides what a deployment leaves behind."""
    template = overlaid(json.loads((package / TEMPLATE).read_text()), local)
    inputs = [package.name, version("ministack"), Path(__file__).read_text(), template]
    return sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def is_deployed(local: Local) -> bool:
    """Whether the emulator holds the stack, whole. It may not, after a crash in the first deployment."""
    try:
        stacks = client("cloudformation", local).describe_stacks(StackName=STACK)["Stacks"]
    except ClientError:
        return False
    return bool(stacks) and stacks[0]["StackStatus"] in _DONE


def deploy(package: Path, local: Local, workspace: Path, process_group: int) -> None:
    """Bring the stack to what the package says; the data in it stays. Raises DeploymentError.

    The commands join the process group, the emulator's, and so end with it however it ends: one left over
    would wait for the next emulator on the port, and deploy there what was wanted here.
    """
    try:
        _deploy(package, local, workspace, process_group)
    except (ClientError, BotoCoreError) as exc:
        raise DeploymentError(f"The emulator refused the deployment: {exc}") from exc


def _deploy(package: Path, local: Local, workspace: Path, process_group: int) -> None:
    aws = partial(_aws, local, process_group)
    template = overlaid(json.loads((package / TEMPLATE).read_text()), local)
    # Beside the archives, because the template names them relative to itself.
    source, target = package / f"local-{local.port}.json", workspace / "deployed-template.json"
    source.write_text(json.dumps(template))
    try:
        _create_code_bucket(local)
        code = ("--s3-bucket", CODE_BUCKET)
        aws("package", "--template-file", source, "--output-template-file", target, *code)
    finally:
        source.unlink()
    capabilities = ("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
    stack = ("--stack-name", STACK, "--no-fail-on-empty-changeset")
    aws("deploy", "--template-file", target, *stack, *code, *capabilities)
    _apply_what_the_emulator_ignores(template, local)


def _create_code_bucket(local: Local) -> None:
    s3 = client("s3", local)
    # An interrupted deployment may have left it.
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=CODE_BUCKET)


def _aws(local: Local, process_group: int, command: str, *arguments: str | Path) -> None:
    aws = [sys.executable, "-m", "awscli", "cloudformation", command]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "AWS_ENDPOINT_URL": local.endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        # A profile of the operator must not redirect any of this.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONWARNINGS": "ignore",
    }
    whole = [*aws, *map(str, arguments)]
    run = subprocess.run(whole, env=environment, process_group=process_group, capture_output=True, text=True)
    if run.returncode != 0:
        reasons = _failures(local) or [run.stderr.strip() or run.stdout.strip()]
        raise DeploymentError(f"aws cloudformation {command} failed: {'; '.join(reasons)}")


def _failures(local: Local) -> list[str]:
    """What the stack says went wrong, last things first; the command itself does not tell."""
    try:
        events = client("cloudformation", local).describe_stack_events(StackName=STACK)["StackEvents"]
    except ClientError:
        return []
    return [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', event['ResourceStatus'])}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]


def _apply_what_the_emulator_ignores(template: Template, local: Local) -> None:
    """Time to live of tables, life cycles and locks of buckets, which its CloudFormation accepts and forgets."""
    names = physical_names(local)
    parameters = {name: spec.get("Default") for name, spec in template.get("Parameters", {}).items()}
    for name, resource in template["Resources"].items():
        apply = _FORGOTTEN.get(resource["Type"])
        if apply and name in names:
            apply(names[name], _resolved(resource.get("Properties", {}), parameters), local)


def physical_names(local: Local) -> dict[str, str]:
    """The names the emulator gave to the resources of the stack, by their names in the template."""
    found = client("cloudformation", local).describe_stack_resources(StackName=STACK)["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}


def _apply_time_to_live(table: str, properties: Template, local: Local) -> None:
    wanted = properties.get("TimeToLiveSpecification")
    dynamodb = client("dynamodb", local)
    # DynamoDB refuses to enable what is enabled.
    status = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"]
    if wanted and status != "ENABLED":
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=wanted)


def _apply_to_bucket(bucket: str, properties: Template, local: Local) -> None:
    _apply_life_cycle(bucket, properties, local)
    lock = properties.get("ObjectLockConfiguration")
    if lock:
        client("s3", local).put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)


def _apply_life_cycle(bucket: str, properties: Template, local: Local) -> None:
    rules = properties.get("LifecycleConfiguration", {}).get("Rules", [])
    if rules:
        client("s3", local).put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [_as_s3_rule(rule) for rule in rules]}
        )


def _as_s3_rule(rule: Template) -> Template:
    """A rule of a life cycle in the words of S3, which differ a little from those of CloudFormation."""
    renamed = dict(rule)
    result: Template = {"ID": renamed.pop("Id"), "Filter": {"Prefix": renamed.pop("Prefix", "")}}
    if "ExpiredObjectDeleteMarker" in renamed:
        result["Expiration"] = {"ExpiredObjectDeleteMarker": renamed.pop("ExpiredObjectDeleteMarker")}
    return result | renamed


_FORGOTTEN: dict[str, Callable[[str, Template, Local], None]] = {
    "AWS::DynamoDB::Table": _apply_time_to_live,
    "AWS::S3::Bucket": _apply_to_bucket,
}


def _resolved(value: Any, parameters: dict[str, Any]) -> Any:
    """The value with references to parameters replaced by their defaults; other references stay."""
    if isinstance(value, dict):
        if value.keys() == {"Ref"} and value["Ref"] in parameters:
            return parameters[value["Ref"]]
        return {key: _resolved(inner, parameters) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, parameters) for inner in value]
    return value
