"""What LocalStack gets is the template for AWS, but for what its free edition cannot do."""

import copy
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from infra.localstack.deploy import for_localstack, parameters, whole_archive

Template = dict[str, Any]
LEFT_OUT = {
    *("AWS::Serverless::LayerVersion", "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"),
    *("AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard"),
}


def test_localstack_gets_every_resource_but_layer_policies_alarms_and_dashboard(template: Template) -> None:
    left_out = template["Resources"].keys() - for_localstack(template)["Resources"].keys()

    assert {template["Resources"][name]["Type"] for name in left_out} == LEFT_OUT
    assert not LEFT_OUT & {resource["Type"] for resource in for_localstack(template)["Resources"].values()}


def test_only_the_api_and_the_functions_differ_there(template: Template) -> None:
    local = for_localstack(template)

    differing = {
        resource["Type"] for name, resource in local["Resources"].items() if resource != template["Resources"][name]
    }
    assert differing == {"AWS::Serverless::Api", "AWS::Serverless::Function"}
    assert {**local, "Resources": None} == {**template, "Resources": None}


def test_the_template_for_aws_stays_as_it_is(template: Template) -> None:
    before = copy.deepcopy(template)

    for_localstack(template)

    assert template == before


def test_the_archive_for_localstack_holds_code_and_dependencies(package: Path, tmp_path: Path) -> None:
    whole_archive(package, tmp_path / "deployment.zip")

    names = ZipFile(tmp_path / "deployment.zip").namelist()
    assert {"app.py", "chalice/app.py", "pydantic/__init__.py", "botocore/__init__.py"} <= set(names)
    assert len(set(names)) == len(names)


def test_links_and_presigned_urls_name_different_hosts() -> None:
    # Clients send Authorization on to the host they were sent to, and S3 refuses a presigned URL with it.
    assert parameters("http://localhost:4567") == [
        "PublicUrl=http://localhost:4567/_aws/execute-api/registry/api",
        "S3PublicEndpoint=http://127.0.0.1:4567",
        "DeletionProtection=false",
    ]
