"""What goes to AWS, read from the package itself: the template, the policies and the archives."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from samtranslator.translator.transform import transform

from chalicelib.forms import MAX_FORM_BYTES
from chalicelib.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MAX_ZIPPED_BYTES = 30 * 1000**2
MAX_UNZIPPED_BYTES = 150 * 1000**2  # Lambda itself refuses 250 MB
NOT_SHIPPED = {
    "awscli", "cfnlint", "cfn-lint", "client", "hypothesis", "infra", "ministack", "moto", "mypy", "pip", "pytest",
    "requests", "ruff", "samtranslator", "schemathesis", "setuptools", "tests",
}  # fmt: skip

Json = dict[str, Any]


def ref(name: str) -> Json:
    return {"Ref": name}


def arn(name: str) -> Json:
    return {"Fn::GetAtt": [name, "Arn"]}


def below(name: str, path: str) -> Json:
    return {"Fn::Sub": f"${{{name}.Arn}}/{path}"}


def when(condition: str, then: Any, otherwise: Any = None) -> Json:
    return {"Fn::If": [condition, then, ref("AWS::NoValue") if otherwise is None else otherwise]}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAM's translator wants to know where it is."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


# --- The template as a whole -------------------------------------------------------------------------------------


def test_cfn_lint_finds_nothing(package: Path) -> None:
    lint = [sys.executable, "-c", "from cfnlint.runner import main; main()", "--non-zero-exit-code", "informational"]

    run = subprocess.run([*lint, str(package / "template.json")], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr


def test_every_parameter_says_what_it_is_and_has_a_default(template: Json) -> None:
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        assert "Default" in parameter, name


def test_no_parameter_takes_just_anything(template: Json) -> None:
    for name, parameter in template["Parameters"].items():
        assert parameter.keys() & {"AllowedValues", "AllowedPattern", "MinValue"}, name


@pytest.mark.parametrize(
    ("parameter", "value", "is_accepted"),
    [
        ("AllowedCidrs", "0.0.0.0/0,::/0", True),
        ("AllowedCidrs", "192.0.2.0/24", True),
        ("AllowedCidrs", "192.0.2.1", False),
        ("AllowedCidrs", "192.0.2.0/24, 198.51.100.7/32", False),
        ("AllowedCidrs", "", False),
        ("PublicUrl", "", True),
        ("PublicUrl", "https://models.example.com", True),
        ("PublicUrl", "models.example.com", False),
        ("AlarmTopicArn", "", True),
        ("AlarmTopicArn", "arn:aws-cn:sns:cn-north-1:123456789012:alarms", True),
        ("AlarmTopicArn", "alarms", False),
        ("GetiHost", "", True),
        ("GetiHost", "geti.example.com:8443", True),
        ("GetiHost", "https://geti.example.com", True),
        ("GetiHost", "http://geti.example.com", False),
        ("GetiHost", "https://geti.example.com/path", False),
        ("GetiTokenSecretArn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:geti/token-a1B2c3", True),
        ("GetiTokenSecretArn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:geti", False),
        ("GetiTokenSecretArn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*", False),
        ("GetiTokenParameterName", "/geti/token", True),
        ("GetiTokenParameterName", "geti-token", False),
        ("GetiTokenParameterName", "/geti/*", False),
        ("GetiCaBundle", "-----BEGIN CERTIFICATE-----\nMIIB+/=\n-----END CERTIFICATE-----\n", True),
        ("GetiCaBundle", "-----BEGIN PRIVATE KEY-----", False),
        ("GetiSyncSchedule", "rate(1 minute)", True),
        ("GetiSyncSchedule", "cron(0 3 * * ? *)", True),
        ("GetiSyncSchedule", "rate(15 minute)", False),
        ("GetiSyncSchedule", "15 minutes", False),
        ("GetiSyncMinScore", "0.75", True),
        ("GetiSyncMinScore", "high", False),
        ("VpcSubnetIds", "subnet-0123456789abcdef0", True),
        ("VpcSubnetIds", "vpc-0123456789abcdef0", False),
        ("VpcSecurityGroupIds", "sg-0123456789abcdef0", True),
    ],
)
def test_a_parameter_refuses_what_would_not_work(template: Json, parameter: str, value: str, is_accepted: bool) -> None:
    pattern = template["Parameters"][parameter]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, value)) is is_accepted


def test_the_outputs_name_what_a_person_needs(template: Json) -> None:
    names = {"ApiUrl", "RegistryTableName", "EventsTableName", "ArtifactBucketName", "BootstrapFunctionName"}

    assert names <= template["Outputs"].keys()


def test_several_registries_fit_in_one_account(resources: Json) -> None:
    fixed = {
        (name, key)
        for name, properties in resources.items()
        for key in (
            "TableName",
            "BucketName",
            "FunctionName",
            "RoleName",
            "AlarmName",
            "DashboardName",
            "LogGroupName",
            "QueueName",
            "Name",
        )
        if isinstance(properties.get(key), str)
    }

    assert fixed == set()


# --- Data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["RegistryTable", "EventsTable", "ArtifactBucket", "ArtifactBucketPolicy", "AuditBucket", "AuditBucketPolicy"],
)
def test_data_survives_the_stack(template: Json, name: str) -> None:
    resource = template["Resources"][name]

    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


@pytest.mark.parametrize("name", ["RegistryTable", "EventsTable"])
def test_a_table_has_string_keys_called_pk_and_sk(resources: Json, name: str) -> None:
    table = resources[name]

    assert table["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    assert {attribute["AttributeType"] for attribute in table["AttributeDefinitions"]} == {"S"}


@pytest.mark.parametrize("name", ["RegistryTable", "EventsTable"])
def test_a_table_is_encrypted_restorable_on_demand_and_protected_by_parameter(resources: Json, name: str) -> None:
    table = resources[name]

    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"] == ref("DeletionProtection")


def test_tables_are_protected_from_deletion_unless_one_says_otherwise(template: Json) -> None:
    assert template["Parameters"]["DeletionProtection"]["Default"] == "true"


def test_the_registry_table_has_a_stream_and_expires_rows_by_ttl(resources: Json) -> None:
    table = resources["RegistryTable"]

    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_events_never_expire(resources: Json) -> None:
    assert "TimeToLiveSpecification" not in resources["EventsTable"]


def test_the_trail_can_be_read_by_day_and_by_project_and_day(resources: Json) -> None:
    assert resources["EventsTable"]["GlobalSecondaryIndexes"] == [
        {
            "IndexName": name,
            "KeySchema": [
                {"AttributeName": key, "KeyType": "HASH"},
                {"AttributeName": "event_id", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
        for name, key in (("by_day", "day"), ("by_project", "project_day"))
    ]


@pytest.mark.parametrize("name", ["ArtifactBucket", "AuditBucket"])
def test_a_bucket_is_private_encrypted_and_versioned(resources: Json, name: str) -> None:
    bucket = resources[name]

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    encryption = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]


def test_the_bucket_forgets_abandoned_uploads_and_old_versions_but_no_current_object(resources: Json) -> None:
    rules = resources["ArtifactBucket"]["LifecycleConfiguration"]["Rules"]

    assert {rule["Status"] for rule in rules} == {"Enabled"}
    effects = [{key: value for key, value in rule.items() if key not in ("Id", "Status")} for rule in rules]
    # An upload lives seven days at most: S3 must not end it before.
    assert {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 8}} in effects
    assert {"NoncurrentVersionExpiration": {"NoncurrentDays": ref("NoncurrentVersionDays")}} in effects
    assert {"ExpiredObjectDeleteMarker": True} in effects
    assert len(effects) == 3


@pytest.mark.parametrize("name", ["ArtifactBucket", "AuditBucket"])
def test_a_bucket_refuses_plain_http_and_old_tls(resources: Json, name: str) -> None:
    policy = resources[f"{name}Policy"]

    assert policy["Bucket"] == ref(name)
    conditions = []
    for statement in policy["PolicyDocument"]["Statement"][:2]:
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Resource"] == [arn(name), below(name, "*")]
        conditions.append(statement["Condition"])
    assert conditions == [{"Bool": {"aws:SecureTransport": "false"}}, {"NumericLessThan": {"s3:TlsVersion": "1.2"}}]


def test_artifacts_can_be_removed_and_checkpoints_by_nobody(resources: Json) -> None:
    policies = {name: resources[f"{name}Policy"]["PolicyDocument"] for name in ("ArtifactBucket", "AuditBucket")}

    assert len(policies["ArtifactBucket"]["Statement"]) == 2
    [removal] = policies["AuditBucket"]["Statement"][2:]
    assert removal == {
        "Sid": "DenyRemoval",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"],
        "Resource": below("AuditBucket", "*"),
    }


def test_checkpoints_are_locked_for_as_long_as_the_parameters_say(template: Json, resources: Json) -> None:
    bucket, parameters = resources["AuditBucket"], template["Parameters"]

    assert bucket["ObjectLockEnabled"] is True
    assert bucket["ObjectLockConfiguration"] == {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": ref("AuditRetentionMode"), "Days": ref("AuditRetentionDays")}},
    }
    assert parameters["AuditRetentionMode"]["Default"] == "COMPLIANCE"
    assert parameters["AuditRetentionMode"]["AllowedValues"] == ["COMPLIANCE", "GOVERNANCE"]
    assert parameters["AuditRetentionDays"]["Default"] == 365
    assert "LifecycleConfiguration" not in bucket


# --- Functions and what they may do ------------------------------------------------------------------------------


def test_every_handler_is_declared_in_app(functions: Json) -> None:
    # What is declared in a blueprint runs without importing app.py.
    assert [name for name, function in functions.items() if not function["Handler"].startswith("app.")] == []


def test_the_api_answers_within_the_time_of_the_gateway(functions: Json) -> None:
    assert functions["APIHandler"]["Timeout"] == 29
    assert functions["APIHandler"]["MemorySize"] == 1024


def test_every_function_is_traced(functions: Json, resources: Json) -> None:
    assert {function["Tracing"] for function in functions.values()} == {"Active"}
    assert resources["RestAPI"]["TracingEnabled"] is True


def test_every_function_logs_to_a_group_of_its_own_that_forgets(functions: Json, resources: Json) -> None:
    groups = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in functions.values()]

    assert len(set(groups)) == len(groups)
    assert [resources[group]["RetentionInDays"] for group in groups] == [ref("LogRetentionDays")] * len(groups)


def test_the_functions_learn_their_names_from_the_stack(functions: Json) -> None:
    for function in functions.values():
        variables = function["Environment"]["Variables"]
        assert variables["REGISTRY_TABLE"] == ref("RegistryTable")
        assert variables["EVENTS_TABLE"] == ref("EventsTable")
        assert variables["ARTIFACT_BUCKET"] == ref("ArtifactBucket")
        assert variables["AUDIT_BUCKET"] == ref("AuditBucket")
        assert variables["PUBLIC_URL"] == ref("PublicUrl")
        assert variables["ACCESS"] == ref("Access")
        assert variables["POWERTOOLS_SERVICE_NAME"] == ref("AWS::StackName")
        assert variables["POWERTOOLS_METRICS_NAMESPACE"] == "ModelRegistry"
        assert variables["POWERTOOLS_LOG_LEVEL"] == ref("LogLevel")


def test_every_variable_of_ours_is_a_setting(functions: Json) -> None:
    known = {name.upper() for name in Settings.model_fields}

    for function in functions.values():
        names = {name for name in function["Environment"]["Variables"] if not name.startswith("POWERTOOLS_")}
        assert names <= known


def test_every_required_setting_is_given(functions: Json) -> None:
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}

    for function in functions.values():
        assert required <= function["Environment"]["Variables"].keys()


def test_every_function_has_a_role_of_its_own(functions: Json) -> None:
    roles = [function["Role"]["Fn::GetAtt"][0] for function in functions.values()]

    assert len(set(roles)) == len(roles)
    assert all("Policies" not in function for function in functions.values())


def statements(template: Json) -> Iterator[tuple[str, Json]]:
    """Every statement of every role, under whatever condition, with the name of the role."""
    roles = {name: res for name, res in template["Resources"].items() if res["Type"] == "AWS::IAM::Role"}
    assert roles
    for name, role in roles.items():
        assert "ManagedPolicyArns" not in role["Properties"], name
        assert role["Properties"]["AssumeRolePolicyDocument"]["Statement"] == [
            {
                "Sid": "",
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ]
        own, *conditional = role["Properties"]["Policies"]
        for policy in [own, *(choice["Fn::If"][1] for choice in conditional)]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::Policy":
            for name in resource["Properties"]["Roles"]:
                for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                    yield name["Ref"], statement


def allowed(template: Json, role: str, resource: Any) -> set[str]:
    """The actions that the role may take on this very resource."""
    return {
        action
        for name, statement in statements(template)
        if name == role and statement["Effect"] == "Allow" and resource in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
    }


def test_no_policy_allows_an_action_by_wildcard(template: Json) -> None:
    for role, statement in statements(template):
        assert not any("*" in action for action in as_list(statement["Action"])), role
        assert not statement.keys() & {"NotAction", "NotResource", "NotPrincipal"}, role


def test_only_tracing_is_allowed_on_any_resource_and_in_a_vpc_what_lambda_needs_there(template: Json) -> None:
    everywhere = {
        tuple(sorted(as_list(statement["Action"])))
        for _, statement in statements(template)
        if statement["Effect"] == "Allow" and any(isinstance(value, str) for value in as_list(statement["Resource"]))
    }

    # X-Ray accepts no other resource for these actions, nor does EC2.
    assert everywhere == {("xray:PutTelemetryRecords", "xray:PutTraceSegments"), tuple(sorted(NETWORK_ACTIONS))}


def test_no_function_may_scan_but_the_doctor_and_none_may_use_partiql(template: Json) -> None:
    granted = {
        (role, action)
        for role, statement in statements(template)
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
    }

    assert {role for role, action in granted if action == "dynamodb:Scan"} == {"DoctorRole"}
    assert not {action for _, action in granted if "PartiQL" in action}


def test_the_api_reads_and_writes_items_of_the_catalogue(template: Json) -> None:
    actions = allowed(template, "ApiHandlerRole", arn("RegistryTable"))

    reading, writing = ("GetItem", "BatchGetItem", "Query"), ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem")
    assert actions == {f"dynamodb:{name}" for name in (*reading, *writing, "ConditionCheckItem")}


def test_the_api_appends_and_reads_events(template: Json) -> None:
    actions = allowed(template, "ApiHandlerRole", arn("EventsTable"))

    assert actions == {f"dynamodb:{name}" for name in ("PutItem", "GetItem", "Query", "ConditionCheckItem")}
    for index in ("by_day", "by_project"):
        assert allowed(template, "ApiHandlerRole", below("EventsTable", f"index/{index}")) == {"dynamodb:Query"}


def test_every_role_is_denied_to_change_events_whatever_else_it_is_granted(template: Json) -> None:
    denied: dict[str, set[str]] = {role: set() for role, _ in statements(template)}
    for role, statement in statements(template):
        if statement["Sid"] == "NeverChangeEvents":
            assert statement["Effect"] == "Deny"
            assert "Condition" not in statement
            assert arn("EventsTable") in statement["Resource"]
            assert below("EventsTable", "index/*") in statement["Resource"]
            denied[role] |= set(statement["Action"])

    for role, actions in denied.items():
        assert actions >= {
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
            "dynamodb:BatchWriteItem",
            "dynamodb:PartiQLInsert",
            "dynamodb:PartiQLUpdate",
            "dynamodb:PartiQLDelete",
            "dynamodb:PartiQLSelect",
        }, role


def test_the_api_touches_artifacts_only(template: Json) -> None:
    objects = allowed(template, "ApiHandlerRole", below("ArtifactBucket", "artifacts/*"))

    of_uploads = ("AbortMultipartUpload", "ListMultipartUploadParts")
    of_objects = ("PutObject", "GetObject", "DeleteObject", "DeleteObjectVersion")
    assert objects == {f"s3:{name}" for name in (*of_objects, *of_uploads)}
    assert allowed(template, "ApiHandlerRole", arn("ArtifactBucket")) == {"s3:ListBucket"}
    assert allowed(template, "ApiHandlerRole", below("ArtifactBucket", "*")) == set()


def test_the_sweep_removes_but_puts_no_object_and_changes_no_item_in_place(template: Json) -> None:
    objects = allowed(template, "SweepRole", below("ArtifactBucket", "artifacts/*"))
    items = allowed(template, "SweepRole", arn("RegistryTable"))

    assert objects == {
        f"s3:{name}" for name in ("GetObject", "DeleteObject", "DeleteObjectVersion", "AbortMultipartUpload")
    }
    assert items == {f"dynamodb:{name}" for name in ("GetItem", "Query", "PutItem", "DeleteItem")}
    assert allowed(template, "SweepRole", arn("EventsTable")) == {"dynamodb:PutItem", "dynamodb:GetItem"}


def test_the_checkpoints_are_written_by_who_only_reads_events_and_can_remove_nothing(template: Json) -> None:
    granted = [
        (action, resource)
        for role, statement in statements(template)
        if role == "CheckpointRole" and statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
        if not action.startswith(("logs:", "xray:"))
    ]

    assert granted == [
        ("dynamodb:Query", arn("EventsTable")),
        ("dynamodb:Query", below("EventsTable", "index/by_day")),
        ("s3:PutObject", below("AuditBucket", "checkpoints/*")),
        ("s3:GetObject", below("AuditBucket", "checkpoints/*")),
        ("s3:ListBucket", arn("AuditBucket")),
    ]


def test_who_writes_the_checkpoints_is_denied_to_add_events_too(template: Json) -> None:
    denied = {
        action
        for role, statement in statements(template)
        if role == "CheckpointRole" and statement["Effect"] == "Deny"
        for action in statement["Action"]
    }

    assert "dynamodb:PutItem" in denied


def test_only_the_api_reads_checkpoints_besides_and_nobody_else_touches_them(template: Json) -> None:
    actions = {
        (role, action)
        for role, statement in statements(template)
        if "AuditBucket" in json.dumps(statement["Resource"])
        for action in as_list(statement["Action"])
    }

    assert {pair for pair in actions if pair[0] != "CheckpointRole"} == {
        ("ApiHandlerRole", "s3:GetObject"),
        ("ApiHandlerRole", "s3:GetObjectRetention"),
        ("ApiHandlerRole", "s3:ListBucket"),
    }


def test_no_role_may_change_a_lock_or_remove_what_is_locked(template: Json) -> None:
    of_locks = ("Retention", "LegalHold", "ObjectLock", "BypassGovernance")
    granted = {
        action
        for _, statement in statements(template)
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
        if any(word in action for word in of_locks)
    }

    assert granted == {"s3:GetObjectRetention"}


def test_checkpoints_are_written_every_day_and_have_time(functions: Json) -> None:
    checkpoint = functions["Checkpoint"]

    assert [event["Properties"]["Schedule"] for event in checkpoint["Events"].values()] == ["cron(17 2 * * ? *)"]
    assert (checkpoint["Timeout"], checkpoint["MemorySize"]) == (900, 1024)


def test_the_sweep_runs_every_hour_and_has_time(functions: Json) -> None:
    sweep = functions["Sweep"]

    assert [event["Properties"]["Schedule"] for event in sweep["Events"].values()] == ["rate(1 hour)"]
    assert sweep["Timeout"] == 300


def test_a_token_is_needed_unless_one_says_otherwise(template: Json) -> None:
    access = template["Parameters"]["Access"]

    assert (access["Default"], access["AllowedValues"]) == ("token", ["token", "open"])


def test_the_bootstrap_reads_tokens_and_appends_one_with_its_event(template: Json, functions: Json) -> None:
    items = allowed(template, "BootstrapRole", arn("RegistryTable"))

    assert items == {f"dynamodb:{name}" for name in ("GetItem", "BatchGetItem", "Query", "PutItem")}
    assert allowed(template, "BootstrapRole", arn("EventsTable")) == {"dynamodb:PutItem", "dynamodb:GetItem"}
    assert not any(
        action.startswith("s3:")
        for role, statement in statements(template)
        if role == "BootstrapRole"
        for action in as_list(statement["Action"])
    )
    assert functions["Bootstrap"]["Timeout"] == 60


def test_the_doctor_reads_all_repairs_items_and_neither_adds_events_nor_touches_objects(
    template: Json, functions: Json
) -> None:
    reads, writes = ("Scan", "Query", "GetItem"), ("PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
    denied = {
        action
        for role, statement in statements(template)
        if role == "DoctorRole" and statement["Effect"] == "Deny"
        for action in statement["Action"]
    }

    items = allowed(template, "DoctorRole", arn("RegistryTable"))
    assert items == {f"dynamodb:{name}" for name in (*reads, *writes)}
    assert allowed(template, "DoctorRole", arn("EventsTable")) == {f"dynamodb:{name}" for name in reads}
    assert "dynamodb:PutItem" in denied
    assert allowed(template, "DoctorRole", below("ArtifactBucket", "artifacts/*")) == {"s3:GetObject"}
    assert allowed(template, "DoctorRole", arn("ArtifactBucket")) == {"s3:ListBucket"}
    assert (functions["Doctor"]["Timeout"], functions["Doctor"]["MemorySize"]) == (900, 512)
    assert template["Outputs"]["DoctorFunctionName"]["Value"] == ref("Doctor")


# --- What talks to Geti -------------------------------------------------------------------------------------------

GETI = {"APIHandler": "ApiHandlerRole", "Sync": "SyncRole", "ImportModel": "ImportModelRole"}
NETWORK_ACTIONS = [
    *("ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"),
    *("ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"),
]


def test_the_queue_of_imports_waits_six_times_as_long_as_an_import_may_take(resources: Json, functions: Json) -> None:
    assert resources["ImportQueue"]["VisibilityTimeout"] == 6 * functions["ImportModel"]["Timeout"]


def test_an_import_that_crashed_three_times_is_kept_for_14_days(resources: Json) -> None:
    queue, dead = resources["ImportQueue"], resources["ImportDeadLetters"]

    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": arn("ImportDeadLetters"), "maxReceiveCount": 3}
    assert (queue["MessageRetentionPeriod"], dead["MessageRetentionPeriod"]) == (4 * 86400, 14 * 86400)


def test_the_queues_are_encrypted_and_refuse_plain_http(resources: Json) -> None:
    policy = resources["ImportQueuesPolicy"]

    assert [resources[name]["SqsManagedSseEnabled"] for name in ("ImportQueue", "ImportDeadLetters")] == [True, True]
    assert policy["Queues"] == [ref("ImportQueue"), ref("ImportDeadLetters")]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
    assert statement["Resource"] == [arn("ImportQueue"), arn("ImportDeadLetters")]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_one_import_is_one_message_and_as_many_run_at_once_as_lambda_and_the_parameter_allow(functions: Json) -> None:
    [source] = functions["ImportModel"]["Events"].values()

    assert source["Type"] == "SQS"
    assert source["Properties"]["Queue"] == arn("ImportQueue")
    assert source["Properties"]["BatchSize"] == 1
    at_once = when("OneImportAtOnce", 2, ref("GetiConcurrency"))
    assert source["Properties"]["ScalingConfig"] == {"MaximumConcurrency": at_once}


def test_an_import_may_send_itself_a_message_as_often_as_it_has_to_wait(functions: Json) -> None:
    # Lambda would stop it after 16 times.
    assert functions["ImportModel"]["RecursiveLoop"] == "Allow"


def test_the_sync_and_the_import_have_time(functions: Json) -> None:
    assert (functions["Sync"]["Timeout"], functions["Sync"]["MemorySize"]) == (900, 512)
    assert (functions["ImportModel"]["Timeout"], functions["ImportModel"]["MemorySize"]) == (900, 1024)


def test_the_sync_runs_when_the_parameter_says_and_not_without_a_server(template: Json, functions: Json) -> None:
    [event] = functions["Sync"]["Events"].values()

    assert event["Properties"] == {
        "Schedule": ref("GetiSyncSchedule"),
        "State": when("GetiConfigured", "ENABLED", "DISABLED"),
    }
    assert template["Parameters"]["GetiSyncSchedule"]["Default"] == "rate(15 minutes)"
    assert template["Conditions"]["GetiConfigured"] == {"Fn::Not": [{"Fn::Equals": [ref("GetiHost"), ""]}]}


def test_the_parameters_of_geti_reach_the_functions_that_talk_to_it_and_no_other(functions: Json) -> None:
    settings = {name.upper() for name in Settings.model_fields if name.startswith("geti_")}
    told = {
        name: {key: value for key, value in function["Environment"]["Variables"].items() if key.startswith("GETI_")}
        for name, function in functions.items()
    }

    assert {name for name, variables in told.items() if variables} == GETI.keys()
    for name in GETI:
        assert told[name].keys() == settings
        assert functions[name]["Environment"]["Variables"]["IMPORT_QUEUE_URL"] == ref("ImportQueue")
    assert functions["APIHandler"]["Environment"]["Variables"]["SYNC_FUNCTION"] == ref("Sync")


def test_the_defaults_of_the_parameters_of_geti_are_those_of_the_settings(template: Json, functions: Json) -> None:
    variables = functions["Sync"]["Environment"]["Variables"]

    for name, setting in Settings.model_fields.items():
        if name.startswith("geti_"):
            default = template["Parameters"][variables[name.upper()]["Ref"]]["Default"]
            assert str(default) in (str(setting.default), str(setting.default).lower(), ""), name
            assert default != "" or setting.default in (None, ()), name


def test_the_token_of_geti_is_not_shown(template: Json) -> None:
    assert template["Parameters"]["GetiToken"]["NoEcho"] is True


@pytest.mark.parametrize(
    ("name", "condition", "action", "secret", "service"),
    [
        ("GetiSecretPolicy", "TokenIsSecret", "secretsmanager:GetSecretValue", "SecretARN", "secretsmanager"),
        ("GetiParameterPolicy", "TokenIsParameter", "ssm:GetParameter", "PARAMETER_ARN", "ssm"),
    ],
)
def test_the_functions_that_talk_to_geti_may_read_its_token_and_only_where_it_is(
    template: Json, name: str, condition: str, action: str, secret: str, service: str
) -> None:
    policy = template["Resources"][name]

    read, decrypt = policy["Properties"]["PolicyDocument"]["Statement"]
    assert policy["Condition"] == condition
    assert policy["Properties"]["Roles"] == [ref(role) for role in GETI.values()]
    assert (read["Action"], decrypt["Action"]) == (action, "kms:Decrypt")
    assert named_in(read["Resource"]) & {"GetiTokenSecretArn", "GetiTokenParameterName"}
    assert "*" not in json.dumps(read["Resource"])
    assert decrypt["Condition"]["StringEquals"] == {
        "kms:ViaService": {"Fn::Sub": f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}"},
        f"kms:EncryptionContext:{secret}": read["Resource"],
    }


def test_only_they_may_read_a_secret(template: Json) -> None:
    readers = {
        role
        for role, statement in statements(template)
        for action in as_list(statement["Action"])
        if action.startswith(("secretsmanager:", "ssm:", "kms:"))
    }

    assert readers == set(GETI.values())


def test_the_api_orders_imports_and_starts_the_sync(template: Json) -> None:
    assert allowed(template, "ApiHandlerRole", arn("ImportQueue")) == {"sqs:SendMessage"}
    assert allowed(template, "ApiHandlerRole", arn("Sync")) == {"lambda:InvokeFunction"}


ITEMS = {
    f"dynamodb:{name}"
    for name in ("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
}


def test_the_sync_changes_items_appends_events_and_orders_imports_but_touches_no_object(template: Json) -> None:
    actions = {action for role, s in statements(template) if role == "SyncRole" for action in as_list(s["Action"])}

    assert allowed(template, "SyncRole", arn("RegistryTable")) == ITEMS
    assert allowed(template, "SyncRole", arn("EventsTable")) == {"dynamodb:PutItem", "dynamodb:GetItem"}
    assert allowed(template, "SyncRole", arn("ImportQueue")) == {"sqs:SendMessage"}
    assert not any(action.startswith(("s3:", "lambda:")) for action in actions)


def test_the_import_may_do_what_a_registration_needs_and_work_through_its_queue(template: Json) -> None:
    role = "ImportModelRole"

    assert allowed(template, role, arn("RegistryTable")) == ITEMS
    assert allowed(template, role, arn("EventsTable")) == {
        f"dynamodb:{name}" for name in ("PutItem", "GetItem", "Query")
    }
    artifacts = below("ArtifactBucket", "artifacts/*")
    assert allowed(template, role, artifacts) == allowed(template, "ApiHandlerRole", artifacts)
    assert allowed(template, role, arn("ArtifactBucket")) == {"s3:ListBucket"}
    assert allowed(template, role, arn("ImportQueue")) == {
        f"sqs:{name}"
        for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility", "SendMessage")
    }


def test_the_functions_that_talk_to_geti_stand_in_a_vpc_only_if_there_are_subnets(
    template: Json, functions: Json
) -> None:
    network = when("InVpc", {"SubnetIds": ref("VpcSubnetIds"), "SecurityGroupIds": ref("VpcSecurityGroupIds")})

    assert {name for name, function in functions.items() if "VpcConfig" in function} == GETI.keys()
    assert all(functions[name]["VpcConfig"] == network for name in GETI)
    assert template["Conditions"]["InVpc"] == {
        "Fn::Not": [{"Fn::Equals": [{"Fn::Select": [0, ref("VpcSubnetIds")]}, ""]}]
    }
    assert template["Parameters"]["VpcSubnetIds"]["Default"] == ""


def test_only_in_a_vpc_may_lambda_make_network_interfaces_for_them_and_their_code_may_never(template: Json) -> None:
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            _, *conditional = resource["Properties"]["Policies"]
            assert bool(conditional) is (name in GETI.values()), name
            for choice in conditional:
                condition, policy, otherwise = choice["Fn::If"]
                grant, denial = policy["PolicyDocument"]["Statement"]
                assert (condition, otherwise) == ("InVpc", ref("AWS::NoValue"))
                assert (grant["Effect"], grant["Action"], denial["Effect"]) == ("Allow", NETWORK_ACTIONS, "Deny")
                assert denial["Action"] == grant["Action"]
                assert denial["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}


def test_subnets_without_security_groups_are_refused_before_anything_changes(template: Json) -> None:
    [rule] = template["Rules"].values()

    def are_given(name: str) -> Json:
        return {"Fn::Not": [{"Fn::EachMemberEquals": [ref(name), ""]}]}

    assert rule["RuleCondition"] == are_given("VpcSubnetIds")
    assert [assertion["Assert"] for assertion in rule["Assertions"]] == [are_given("VpcSecurityGroupIds")]


# --- Errands -------------------------------------------------------------------------------------------------------


def test_the_queue_of_errands_waits_six_times_as_long_as_one_may_take(resources: Json, functions: Json) -> None:
    queue, dead, errand = resources["ErrandQueue"], resources["ErrandDeadLetters"], functions["Errand"]

    assert (errand["Timeout"], errand["MemorySize"]) == (900, 1024)
    assert queue["VisibilityTimeout"] == 6 * errand["Timeout"]
    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": arn("ErrandDeadLetters"), "maxReceiveCount": 3}
    assert (queue["MessageRetentionPeriod"], dead["MessageRetentionPeriod"]) == (4 * 86400, 14 * 86400)


def test_the_queues_of_errands_are_encrypted_and_refuse_plain_http(resources: Json) -> None:
    policy = resources["ErrandQueuesPolicy"]

    assert [resources[name]["SqsManagedSseEnabled"] for name in ("ErrandQueue", "ErrandDeadLetters")] == [True, True]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
    assert statement["Resource"] == [arn("ErrandQueue"), arn("ErrandDeadLetters")]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_one_errand_is_one_message_and_may_ask_for_the_next(functions: Json) -> None:
    [source] = functions["Errand"]["Events"].values()

    assert (source["Type"], source["Properties"]["Queue"]) == ("SQS", arn("ErrandQueue"))
    assert source["Properties"]["BatchSize"] == 1
    assert functions["Errand"]["RecursiveLoop"] == "Allow"


def test_every_function_that_queues_errands_knows_the_queue_and_no_other_may_send_to_it(
    template: Json, functions: Json
) -> None:
    senders = {
        role
        for role, statement in statements(template)
        if statement["Effect"] == "Allow"
        and "sqs:SendMessage" in as_list(statement["Action"])
        and statement["Resource"] == arn("ErrandQueue")
    }

    assert senders == {"ApiHandlerRole", "SweepRole", "ErrandRole"}
    for name in ("APIHandler", "Sweep", "Errand"):
        assert functions[name]["Environment"]["Variables"]["ERRAND_QUEUE_URL"] == ref("ErrandQueue")


def test_an_errand_may_what_it_needs_and_no_more(template: Json) -> None:
    role = "ErrandRole"
    of_items = ("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
    of_objects = ("PutObject", "GetObject", "DeleteObject", "DeleteObjectVersion", "AbortMultipartUpload")

    assert allowed(template, role, arn("RegistryTable")) == {f"dynamodb:{name}" for name in of_items}
    assert allowed(template, role, arn("EventsTable")) == {
        f"dynamodb:{name}" for name in ("PutItem", "GetItem", "Query")
    }
    assert allowed(template, role, below("ArtifactBucket", "artifacts/*")) == {f"s3:{name}" for name in of_objects}
    assert allowed(template, role, arn("ErrandQueue")) == {
        f"sqs:{name}"
        for name in (
            *("ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility"),
            "SendMessage",
        )
    }


def test_an_errand_that_crashed_for_good_is_watched(template: Json) -> None:
    assert ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "ErrandDeadLetters") in watched(template)


BY_HAND = {"Bootstrap", "Doctor"}


def test_only_principals_of_iam_can_invoke_what_is_invoked_by_hand(template: Json, functions: Json) -> None:
    """Neither an event, nor a URL of its own, nor another service, nor another account can."""
    by_hand = functions.keys() & BY_HAND
    invokers = ("AWS::Lambda::Permission", "AWS::Lambda::Url", "AWS::Lambda::EventSourceMapping", "AWS::Events::Rule")
    resources = as_cloudformation(template, {})

    naming = [
        resource["Type"]
        for resource in resources.values()
        if resource["Type"] in invokers and by_hand & named_in(resource["Properties"])
    ]

    assert "Bootstrap" in by_hand
    assert all(not functions[name].keys() & {"Events", "FunctionUrlConfig", "EventInvokeConfig"} for name in by_hand)
    assert naming == []
    # Nor does the API: its integrations name the function they call.
    assert not by_hand & named_in(resources["RestAPI"])
    # Every other function is the API's, or has a schedule.
    assert {name for name in functions if not functions[name].get("Events")} == by_hand | {"APIHandler"}


def named_in(value: Any) -> set[str]:
    """The resources that a part of a template refers to."""
    if isinstance(value, list):
        return set().union(*map(named_in, value))
    if not isinstance(value, dict):
        return set()
    match value:
        case {"Ref": str(name)}:
            return {name}
        case {"Fn::GetAtt": [str(name), *_]}:
            return {name}
        case {"Fn::Sub": text}:
            return set(re.findall(r"\$\{(\w+)", text if isinstance(text, str) else text[0]))
    return set().union(*map(named_in, value.values()))


def test_a_function_writes_to_its_own_log_only(template: Json, functions: Json) -> None:
    for function in functions.values():
        role = function["Role"]["Fn::GetAtt"][0]
        logs = [
            (as_list(statement["Action"]), statement["Resource"])
            for name, statement in statements(template)
            if name == role and any(action.startswith("logs:") for action in as_list(statement["Action"]))
        ]
        group = function["LoggingConfig"]["LogGroup"]["Ref"]
        assert logs == [(["logs:CreateLogStream", "logs:PutLogEvents"], arn(group))]


def test_chalice_sets_no_policy_and_no_variable_of_its_own() -> None:
    config = json.loads((ROOT / ".chalice/config.json").read_text())
    placeholder = json.loads((ROOT / ".chalice/policy-placeholder.json").read_text())

    assert config["stages"]["api"]["autogen_policy"] is False
    assert "environment_variables" not in json.dumps(config)
    assert placeholder["Statement"] == []


# --- The API -----------------------------------------------------------------------------------------------------


def as_cloudformation(template: Json, parameters: dict[str, str]) -> Json:
    """The resources as AWS will see them, once SAM has translated the template."""

    class NoManagedPolicies:
        def load(self) -> dict[str, str]:
            return {}

    source = copy.deepcopy(template)
    for resource in source["Resources"].values():
        for key in ("CodeUri", "ContentUri"):
            if key in resource["Properties"]:
                resource["Properties"][key] = "s3://bucket/key"
    translated: Json = transform(source, parameters, NoManagedPolicies())
    return translated["Resources"]


def deployment_of(resources: Json) -> str:
    [name] = [name for name, resource in resources.items() if resource["Type"] == "AWS::ApiGateway::Deployment"]
    return str(name)


def test_the_api_has_one_stage_and_it_is_throttled(template: Json) -> None:
    stages = [
        resource["Properties"]
        for resource in as_cloudformation(template, {}).values()
        if resource["Type"] == "AWS::ApiGateway::Stage"
    ]

    assert [stage["StageName"] for stage in stages] == ["api"]
    assert stages[0]["MethodSettings"] == [
        {
            "ResourcePath": "/*",
            "HttpMethod": "*",
            "ThrottlingRateLimit": ref("ThrottlingRate"),
            "ThrottlingBurstLimit": ref("ThrottlingBurst"),
        }
    ]
    assert (
        "StageName" not in as_cloudformation(template, {})[deployment_of(as_cloudformation(template, {}))]["Properties"]
    )


def test_only_the_allowed_addresses_may_call(template: Json) -> None:
    body = as_cloudformation(template, {"AllowedCidrs": "192.0.2.0/24"})["RestAPI"]["Properties"]["Body"]

    [statement] = body["x-amazon-apigateway-policy"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "execute-api:Invoke",
        "Resource": "execute-api:/api/*",
        "Condition": {"IpAddress": {"aws:SourceIp": {"Fn::Split": [",", "192.0.2.0/24"]}}},
    }


def test_other_allowed_addresses_make_a_new_deployment(template: Json) -> None:
    # Without one, a changed resource policy would not come into force.
    before = deployment_of(as_cloudformation(template, {}))
    after = deployment_of(as_cloudformation(template, {"AllowedCidrs": "192.0.2.0/24"}))

    assert before != after


def test_the_metrics_of_two_stacks_are_told_apart(resources: Json) -> None:
    api = resources["RestAPI"]

    assert api["Name"] == api["DefinitionBody"]["info"]["title"] == ref("AWS::StackName")


def test_the_gateway_does_not_compress_archives(resources: Json) -> None:
    assert "MinimumCompressionSize" not in resources["RestAPI"]


GATEWAY_STATUSES = {
    "REQUEST_TOO_LARGE": 413,
    "THROTTLED": 429,
    "QUOTA_EXCEEDED": 429,
    "MISSING_AUTHENTICATION_TOKEN": 404,
    "INVALID_SIGNATURE": 404,
    "RESOURCE_NOT_FOUND": 404,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "BAD_REQUEST_BODY": 400,
    "BAD_REQUEST_PARAMETERS": 400,
    "UNAUTHORIZED": 401,
    "ACCESS_DENIED": 403,
    "WAF_FILTERED": 403,
    "INTEGRATION_TIMEOUT": 504,
    "INTEGRATION_FAILURE": 502,
    "DEFAULT_4XX": None,
    "DEFAULT_5XX": None,
}


def test_the_gateway_answers_by_itself_with_these_statuses(resources: Json) -> None:
    responses = resources["RestAPI"]["GatewayResponses"]

    assert {kind: response.get("StatusCode") for kind, response in responses.items()} == GATEWAY_STATUSES


@pytest.mark.parametrize("kind", GATEWAY_STATUSES)
def test_the_gateway_answers_json_with_a_text_and_a_code(resources: Json, kind: str) -> None:
    [(media_type, body)] = resources["RestAPI"]["GatewayResponses"][kind]["ResponseTemplates"].items()

    # API Gateway puts the message in, with its quotes, or null.
    answer = json.loads(body.replace("$context.error.messageString", '"a message"'))
    assert media_type == "application/json"
    assert answer.keys() == {"detail", "code"}
    assert answer["detail"]
    assert re.fullmatch("[a-z_]+", answer["code"])


@pytest.mark.parametrize("kind", ["THROTTLED", "QUOTA_EXCEEDED"])
def test_who_is_throttled_learns_when_to_come_back(resources: Json, kind: str) -> None:
    headers = resources["RestAPI"]["GatewayResponses"][kind]["ResponseParameters"]["Headers"]

    # A literal is quoted, or the gateway takes it for a mapping.
    assert re.fullmatch(r"'\d+'", headers["Retry-After"])


def test_the_gateway_tells_the_limit_that_the_service_keeps(resources: Json) -> None:
    body = resources["RestAPI"]["GatewayResponses"]["REQUEST_TOO_LARGE"]["ResponseTemplates"]["application/json"]

    assert f"A form may have {MAX_FORM_BYTES} bytes" in json.loads(body)["detail"]


def test_the_gateway_tells_no_arn(resources: Json) -> None:
    body = resources["RestAPI"]["GatewayResponses"]["ACCESS_DENIED"]["ResponseTemplates"]["application/json"]

    assert "$context" not in body


# --- Alarms ------------------------------------------------------------------------------------------------------


def alarms(template: Json) -> list[Json]:
    return [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]


def watched(template: Json) -> set[tuple[str, str, str]]:
    """Namespace, metric and a resource, such as (AWS/Lambda, Errors, APIHandler), of all that has an alarm."""
    metrics = []
    for alarm in alarms(template):
        metrics += [alarm] if "MetricName" in alarm else []
        metrics += [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    return {(m["Namespace"], m["MetricName"], name) for m in metrics for name in named_in(m["Dimensions"])}


def test_errors_and_slowness_of_the_api_are_watched(template: Json) -> None:
    assert {
        ("AWS/ApiGateway", "5XXError", "AWS::StackName"),
        ("AWS/ApiGateway", "Latency", "AWS::StackName"),
    } <= watched(template)


def test_every_function_is_watched(template: Json, functions: Json) -> None:
    for name in functions:
        assert {("AWS/Lambda", "Errors", name), ("AWS/Lambda", "Throttles", name)} <= watched(template)


@pytest.mark.parametrize("table", ["RegistryTable", "EventsTable"])
@pytest.mark.parametrize("metric", ["ReadThrottleEvents", "WriteThrottleEvents", "SystemErrors"])
def test_every_table_is_watched(template: Json, table: str, metric: str) -> None:
    assert ("AWS/DynamoDB", metric, table) in watched(template)


@pytest.mark.parametrize("index", ["by_day", "by_project"])
def test_every_index_is_watched(template: Json, index: str) -> None:
    dimensions = [{"Name": "TableName", "Value": ref("EventsTable")}]
    dimensions += [{"Name": "GlobalSecondaryIndexName", "Value": index}]
    queries = [query for alarm in alarms(template) for query in alarm.get("Metrics", []) if "MetricStat" in query]
    metrics = [query["MetricStat"]["Metric"] for query in queries]

    named = {metric["MetricName"] for metric in metrics if metric["Dimensions"] == dimensions}

    assert named == {"ReadThrottleEvents", "WriteThrottleEvents"}


def test_what_waits_for_its_import_is_watched_and_what_crashed_too(template: Json) -> None:
    assert {
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", "ImportQueue"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "ImportDeadLetters"),
    } <= watched(template)


def test_silence_is_no_alarm(template: Json) -> None:
    assert {alarm["TreatMissingData"] for alarm in alarms(template)} == {"notBreaching"}


def test_every_alarm_tells_the_topic_if_there_is_one(template: Json) -> None:
    told = {"Fn::If": ["HasAlarmTopic", [ref("AlarmTopicArn")], ref("AWS::NoValue")]}

    for alarm in alarms(template):
        assert alarm["AlarmActions"] == alarm["OKActions"] == told
        assert alarm["AlarmDescription"]


# --- The archives ------------------------------------------------------------------------------------------------


def test_the_code_archive_holds_the_app_its_package_and_the_chalice_runtime(code: ZipFile) -> None:
    sources = {name for name in code.namelist() if not name.endswith(".pyc")}
    ours = {name for name in sources if not name.startswith("chalice/")}

    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "chalicelib").rglob("*") if path.is_file()}
    assert ours == {"app.py"} | {name for name in expected if "__pycache__" not in name}
    assert sources - ours == {"chalice/__init__.py", "chalice/app.py"}


def test_the_dependencies_are_those_of_the_lock_file(dependencies: ZipFile) -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))

    shipped = {}
    for name in dependencies.namelist():
        if re.search(r"\.dist-info/METADATA$", name):
            about = message_from_bytes(dependencies.read(name))
            shipped[re.sub("[-_.]+", "-", str(about["Name"])).lower()] = str(about["Version"])
    assert shipped == locked


@pytest.mark.parametrize("archive", ["code", "dependencies"])
def test_nothing_is_shipped_that_is_for_tests_or_tools(archive: str, request: pytest.FixtureRequest) -> None:
    names = request.getfixturevalue(archive).namelist()

    top = {re.sub(r"^python/lib/python3\.\d+/site-packages/", "", name).split("/")[0] for name in names}
    assert top & NOT_SHIPPED == set()


@pytest.mark.parametrize("archive", ["code", "dependencies"])
def test_the_byte_code_shipped_is_that_of_the_modules_shipped(archive: str, request: pytest.FixtureRequest) -> None:
    """Lambda unpacks where nothing can be written, so without byte code it compiles at every cold start."""
    names = request.getfixturevalue(archive).namelist()

    compiled = {name for name in names if name.endswith(".pyc")}
    modules = {name for name in names if name.endswith(".py")}
    assert {re.sub(r"__pycache__/(.+)\.cpython-\d+\.pyc$", r"\1.py", name) for name in compiled} == modules


def test_no_credentials_are_shipped(code: ZipFile) -> None:
    secret = re.compile(rb"(AKIA|ASIA)[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|aws_secret_access_key\s*=")

    assert [name for name in code.namelist() if secret.search(code.read(name))] == []
    assert [name for name in code.namelist() if Path(name).name.startswith((".env", "credentials", ".netrc"))] == []


def test_the_package_stays_small(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archives = [ZipFile(package / "deployment.zip"), ZipFile(package / "layer-deployment.zip")]
    zipped = sum(Path(str(archive.filename)).stat().st_size for archive in archives)
    unzipped = sum(entry.file_size for archive in archives for entry in archive.infolist())

    with capsys.disabled():
        print(f"\npackage: {zipped / 1e6:.1f} MB zipped, {unzipped / 1e6:.1f} MB unzipped")
    assert zipped <= MAX_ZIPPED_BYTES
    assert unzipped <= MAX_UNZIPPED_BYTES


# --- The documentation -------------------------------------------------------------------------------------------


def test_the_page_on_deployment_names_every_parameter_with_its_default(template: Json) -> None:
    rows = [line for line in (ROOT / "docs/deploy.md").read_text().splitlines() if line.startswith("| `")]
    documented: dict[str, str] = {}
    for row in rows:
        names, defaults = row.split("|")[1:3]
        for name, default in zip(re.findall(r"`(\w+)`", names), re.findall(r"`([^`]+)`|empty", defaults), strict=True):
            documented[name] = default

    assert documented == {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}
