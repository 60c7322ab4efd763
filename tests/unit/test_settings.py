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


@pytest.mark.parametrize(
    ("host", "url", "server"),
    [
        ("geti.example.com", "https://geti.example.com", "geti.example.com"),
        ("Geti.example.com:7860/", "https://Geti.example.com:7860", "geti.example.com:7860"),
        ("https://geti.example.com/", "https://geti.example.com", "geti.example.com"),
        ("http://127.0.0.1:7000", "http://127.0.0.1:7000", "127.0.0.1:7000"),
        ("http://localhost:7000", "http://localhost:7000", "localhost:7000"),
        ("http://[::1]:7000", "http://[::1]:7000", "::1:7000"),
    ],
)
def test_a_host_is_enough_to_reach_geti(host: str, url: str, server: str) -> None:
    settings = read_settings(NEEDED | {"GETI_HOST": host})

    assert (settings.geti_host, settings.geti_server, settings.is_geti_configured) == (url, server, True)


@pytest.mark.parametrize(
    "host",
    [
        "http://geti.example.com",
        "http://127.0.0.1.example.com",
        "http://localhost@geti.example.com",
        "https://user:password@geti.example.com",
        "https://geti.example.com/api/v1",
        "https://geti.example.com?x=1",
        "geti.example.com:port",
        "geti.example.com:70000",
        "ftp://geti.example.com",
        "https:///",
        "geti example",
        "https://geti\r\nHost: x",
    ],
)
def test_a_token_is_only_sent_by_https_or_on_this_machine(host: str) -> None:
    with pytest.raises(SettingsError, match="GETI_HOST") as caught:
        read_settings(NEEDED | {"GETI_HOST": host})

    assert host not in str(caught.value)


def test_a_server_keeps_its_identity_under_another_host_name() -> None:
    settings = read_settings(NEEDED | {"GETI_HOST": "new.example.com", "GETI_SERVER_ID": "geti.example.com"})

    assert settings.geti_server == "geti.example.com"


def test_the_token_of_geti_is_not_shown() -> None:
    settings = read_settings(NEEDED | {"GETI_HOST": "geti.example.com", "GETI_TOKEN": "geti_pat_x"})

    assert "geti_pat_x" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.geti_token
    assert settings.geti_token.get_secret_value() == "geti_pat_x"


def test_what_is_synced_is_listed_with_commas() -> None:
    settings = read_settings(
        NEEDED
        | {"GETI_SYNC_PROJECTS": "Bottle caps, 64a0 ,", "GETI_SYNC_PRECISIONS": "INT8", "GETI_SYNC_MIN_SCORE": "0"}
    )

    assert settings.geti_sync_projects == ("Bottle caps", "64a0")
    assert settings.geti_sync_precisions == ("INT8",)
    assert settings.geti_sync_min_score == 0
    assert settings.geti_sync_exclude_projects == ()


@pytest.mark.parametrize(
    "variables",
    [
        {"GETI_SYNC_MODELS": "newest"},
        {"GETI_SYNC_XAI": "yes"},
        {"GETI_SYNC_MIN_SCORE": "nan"},
        {"GETI_CONCURRENCY": "0"},
        {"GETI_SERVER_SSL_VERIFY": "perhaps"},
        {"GETI_SERVER_ID": "a#b"},
    ],
)
def test_a_wrong_setting_of_geti_is_named(variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(variables))):
        read_settings(NEEDED | variables)
