"""Deploy the packaged template to a running LocalStack.

`python -m infra.localstack.deploy [Name=value ...]` packages the service as for AWS, changes the few things that
LocalStack needs otherwise, and deploys with the same two commands as `make deploy`, and these parameters of the
template. AWS_ENDPOINT_URL says where LocalStack is; by default http://localhost:4566. Prints the base URL of the API.
"""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zipfile import ZIP_DEFLATED, ZipFile

from botocore.exceptions import BotoCoreError
from localstack_client.session import Session

from infra.package import ROOT, TEMPLATE, PackagingError, packaged

Template = dict[str, Any]

STACK = "model-registry"
BUCKET = "model-registry-deployment"
REGION = "us-east-1"
CREDENTIAL = "test"  # LocalStack takes any; never one that means something elsewhere
API_ID = "registry"
WORKSPACE = ROOT / "build" / "localstack"
LEFT_OUT = (
    "AWS::Serverless::LayerVersion",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
)


def for_localstack(template: Template) -> Template:
    """The template as LocalStack needs it; the one given stays as it is.

    No layer, since only its paid editions load layers: the archive holds the dependencies instead. No policies of
    buckets and queues, which would refuse plain HTTP wherever policies are enforced. No alarms and no dashboard, since
    nobody watches a laptop. No traces. A tag that fixes the id of the API, and so its URL.
    """
    result = copy.deepcopy(template)
    result["Resources"] = {
        name: resource for name, resource in result["Resources"].items() if resource["Type"] not in LEFT_OUT
    }
    for resource in result["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            properties.pop("Layers", None)
            properties["Environment"]["Variables"]["POWERTOOLS_TRACE_DISABLED"] = "true"
        elif resource["Type"] == "AWS::Serverless::Api":
            # Said again outside the body of the API, where not every emulator looks: forms would be read as text.
            binary = properties["DefinitionBody"]["x-amazon-apigateway-binary-media-types"]
            properties.update(BinaryMediaTypes=binary, Tags={"_custom_id_": API_ID}, PropagateTags=True)
    return result


def whole_archive(package: Path, target: Path) -> None:
    """One archive of the code and, at its top, the dependencies that the layer holds on AWS."""
    with (
        ZipFile(target, "w", ZIP_DEFLATED) as whole,
        ZipFile(package / "deployment.zip") as code,
        ZipFile(package / "layer-deployment.zip") as layer,
    ):
        for entry in code.infolist():
            whole.writestr(entry, code.read(entry))
        for entry in layer.infolist():
            content = layer.read(entry)
            # python/lib/python3.11/site-packages/<name>
            entry.filename = entry.filename.partition("/site-packages/")[2]
            if entry.filename:
                whole.writestr(entry, content)


def parameters(endpoint: str) -> list[str]:
    """What differs from the defaults, which are for AWS."""
    port = urlsplit(endpoint).port or 4566
    return [
        f"PublicUrl={base_url(endpoint)}",
        # Another host than the API's: clients send Authorization on to the same host, and S3 refuses it there.
        f"S3PublicEndpoint=http://127.0.0.1:{port}",
        "DeletionProtection=false",
    ]


def base_url(endpoint: str, api_id: str = API_ID) -> str:
    return f"http://localhost:{urlsplit(endpoint).port or 4566}/_aws/execute-api/{api_id}/api"


def deploy(endpoint: str, wanted: Sequence[str] = ()) -> str:
    """Package and deploy with these parameters; the base URL of the API. Raises PackagingError, CalledProcessError."""
    package = packaged()
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    template = for_localstack(json.loads((package / TEMPLATE).read_text()))
    (WORKSPACE / TEMPLATE).write_text(json.dumps(template))
    whole_archive(package, WORKSPACE / "deployment.zip")
    localstack = Session(CREDENTIAL, CREDENTIAL, region_name=REGION)
    localstack.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    deployed = str(WORKSPACE / "deployed.json")
    where = ["--s3-bucket", BUCKET, "--s3-prefix", STACK]
    _aws(endpoint, "package", "--template-file", str(WORKSPACE / TEMPLATE), "--output-template-file", deployed, *where)
    # fmt: off
    _aws(
        endpoint, "deploy", "--template-file", deployed, "--stack-name", STACK, *where,
        "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--no-fail-on-empty-changeset",
        "--parameter-overrides", *parameters(endpoint), *wanted,
    )
    # fmt: on
    [stack] = localstack.client("cloudformation", endpoint_url=endpoint).describe_stacks(StackName=STACK)["Stacks"]
    return base_url(endpoint, {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}["RestAPIId"])


def _aws(endpoint: str, command: str, *arguments: str) -> None:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": CREDENTIAL,
        "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
        # The operator's own account is never touched.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    aws = [sys.executable, "-W", "ignore", "-m", "awscli", "cloudformation", command]
    subprocess.run([*aws, *arguments], env=environment, check=True, stdout=sys.stderr)  # noqa: S603


def main(arguments: list[str]) -> int:
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "http://localhost:4566")
    try:
        print(deploy(endpoint, arguments))
    except (PackagingError, BotoCoreError, subprocess.CalledProcessError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
