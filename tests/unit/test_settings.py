"""Settings: read from the environment, refused by name."""

import pytest

from chalicelib.settings import SettingsError, read_settings

NEEDED = {"REGISTRY_TABLE": "models", "EVENTS_TABLE": "events", "ARTIFACT_BUCKET": "bucket", "AUDIT_BUCKET": "audit"}


def test_what_is_needed_is_enough() -> None:
    settings = read_settings(NEEDED | {"UNRELATED": "x", "PUBLIC_URL": ""})

    assert settings.registry_table == "models"
    assert settings.public_url is None
    assert settings.download_url_seconds == 3600
    assert settings.access == "token"


def test_the_api_and_s3_may_share_a_host_but_not_its_port() -> None:
    settings = read_settings(NEEDED | {"PUBLIC_URL": "http://here:1/api/", "S3_PUBLIC_ENDPOINT": "http://here:2/"})

    assert (settings.public_url, settings.s3_public_endpoint) == ("http://here:1/api", "http://here:2")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"REGISTRY_TABLE": ""}, "REGISTRY_TABLE"),
        ({"DOWNLOAD_URL_SECONDS": "soon"}, "DOWNLOAD_URL_SECONDS"),
        ({"DOWNLOAD_URL_SECONDS": "0"}, "DOWNLOAD_URL_SECONDS"),
        ({"PUBLIC_URL": "ftp://here"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://here/api?x=1"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "https://here/a\r\nLink: x"}, "PUBLIC_URL"),
        ({"S3_PUBLIC_ENDPOINT": "localhost"}, "S3_PUBLIC_ENDPOINT"),
        ({"S3_PUBLIC_ENDPOINT": "http://here:1", "PUBLIC_URL": "http://here:1/api"}, "S3_PUBLIC_ENDPOINT"),
        ({"ACCESS": "closed"}, "ACCESS"),
        ({"ACCESS": "OPEN"}, "ACCESS"),
        ({"POWERTOOLS_LOG_LEVEL": "LOUD"}, "POWERTOOLS_LOG_LEVEL"),
        ({"POWERTOOLS_TRACE_DISABLED": "perhaps"}, "POWERTOOLS_TRACE_DISABLED"),
    ],
)
def test_a_wrong_variable_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read_settings(NEEDED | variables)


def test_the_value_of_a_variable_is_not_told() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(NEEDED | {"PUBLIC_URL": "s3cret"})

    assert "s3cret" not in str(caught.value)
