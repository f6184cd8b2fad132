"""The registry in S3: how its place is named, its endpoint's clock, and endpoints that must be refused."""

import itertools
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from morpheus import host
from morpheus.errors import (
    ForestBusyError,
    InvalidInputError,
    MorpheusError,
    RegistryBrokenError,
    RegistryConflictError,
    StoreBusyError,
    UnreachableError,
)
from morpheus.forest import Forest, Lease
from morpheus.registry import Registry
from morpheus.registry.document import Document
from morpheus.registry.lease import check_free
from morpheus.registry.s3 import MECHANISM, S3Store, document_url
from tests.servers.s3 import KEY_ID, S3, SECRET, Fault, answering, careless, proxied

# Where it stands


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (
            "https://fsn1.your-objectstorage.com/trees/a/oak.json",
            "https://fsn1.your-objectstorage.com/trees/a/oak.json",
        ),
        (
            "https://trees.fsn1.your-objectstorage.com/",
            "https://fsn1.your-objectstorage.com/trees/registry.json",
        ),
        ("trees.s3.eu-west-1.amazonaws.com/a/", "https://s3.eu-west-1.amazonaws.com/trees/a/registry.json"),
        ("http://[::1]:8333/trees/?region=garage", "http://[::1]:8333/trees/registry.json?region=garage"),
    ],
)
def test_a_url_names_the_document_in_its_bucket(text: str, url: str) -> None:
    assert document_url(text) == url
    assert document_url(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://fsn1.your-objectstorage.com",
        "https://host/trees",
        "https://host/trees/registry.txt",
        "https://host/trees//registry.json",
        "https://host/trees/../registry.json",
        "https://host/trees/a%0Ab.json",
        "https://key:secret@host/trees/",
        "https://host/trees/?versionId=1",
        "https://[host/trees/",
        "s3://trees/registry.json",
    ],
)
def test_any_other_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"registry\.url") as refused:
        document_url(text)

    assert "secret" not in str(refused.value)


def test_an_access_key_is_needed(s3: S3) -> None:
    with pytest.raises(InvalidInputError, match=r"registry\.username"):
        S3Store(s3.url(), None, None)


def test_a_named_document_stands_beside_the_registry_and_is_made_once(s3: S3, path: str) -> None:
    secrets = s3.store(path, f"secrets/{Path(path).stem}")
    secrets.write("first", None, backup=False)

    assert secrets.url == s3.url(f"tests/w%C3%A4ld/secrets/{Path(path).stem}.json")
    with pytest.raises(RegistryConflictError):
        secrets.write("second", None, backup=False)


def test_what_the_environment_says_for_other_programs_leads_nowhere_else(
    s3: S3, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENDPOINT", "ENDPOINT_URL", "ENDPOINT_URL_S3", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "http://127.0.0.1:1")
    for name in ("SESSION_TOKEN", "REGION", "DEFAULT_REGION", "BUCKET"):
        monkeypatch.setenv(f"AWS_{name}", "other")
    for name in ("SKIP_SIGNATURE", "VIRTUAL_HOSTED_STYLE_REQUEST"):
        monkeypatch.setenv(f"AWS_{name}", "true")

    s3.store(path).write("here", None, backup=False)

    assert s3.store(path).read().text == "here"


# The endpoint's clock


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_writer_whose_clock_is_off_steals_no_lease(s3: S3, path: str, minutes: int) -> None:
    shift = timedelta(minutes=minutes)
    with proxied(s3, Fault(shift=shift)) as proxy:  # seen from there, it is this machine that is off
        registry = Registry(proxy.server.store(path))

        def lease(document: Document, seconds: int) -> Document:
            now = registry.now()
            lease = Lease("plant", "run", "somebody", now, now + timedelta(seconds=seconds))
            return document.with_forest(Forest("oak", lease=lease))

        held = registry.update(lambda document, _: lease(document, 60)).forests["oak"]
        with pytest.raises(ForestBusyError):
            check_free(held, registry.now())
        check_free(registry.update(lambda document, _: lease(document, -3)).forests["oak"], registry.now())


def test_the_endpoint_is_asked_for_its_time_once_a_minute(
    s3: S3, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = itertools.count(1000.0, 10.0)  # at each look at the stopwatch ten seconds have passed
    with proxied(s3) as proxy:
        store = proxy.server.store(path)
        monkeypatch.setattr(host, "awake_seconds", lambda: next(awake))
        times = [store.read().now for _ in range(6)]

    assert [method for method, _ in proxy.requests].count("HEAD") == 2
    assert times[1] - times[0] == timedelta(seconds=20)


# Endpoints that cannot, or do not answer


@pytest.mark.parametrize("looks", [False, True], ids=["ignores conditions", "looks before it writes"])
def test_an_endpoint_that_lets_two_writers_win_is_refused(looks: bool) -> None:
    with careless(looks=looks) as server:
        store = server.store()

        with pytest.raises(RegistryBrokenError, match=r"can keep no registry: it (creates|lets).*storagebox"):
            store.write("one", None, backup=False)

        assert store.read().text is None


def test_the_proof_is_made_once_for_all_devices_and_for_each_endpoint(s3: S3, tmp_path: Path) -> None:
    folder = f"tests/{tmp_path.name}"
    s3.bucket().put(f"{folder}/{MECHANISM}", b'{"conditional": ["another"]}')
    with proxied(s3) as proxy:
        server = replace(proxy.server, proven=False)
        server.store(f"{folder}/one.json").write("one", None, backup=False)
        first = len(proxy.requests)
        server.store(f"{folder}/two.json").write("two", None, backup=False)
        second = len(proxy.requests) - first

    record = s3.bucket().get(f"{folder}/{MECHANISM}")
    assert first > 20
    assert second == 4  # proof, document, backups, write
    assert record is not None
    assert json.loads(record.body) == {"conditional": ["another", proxy.server.endpoint]}


@pytest.mark.parametrize(
    ("status", "code", "error", "advice"),
    [
        (403, "InvalidAccessKeyId", RegistryBrokenError, "registry.username"),
        (403, "SignatureDoesNotMatch", RegistryBrokenError, "registry.password"),
        (403, "RequestTimeTooSkewed", RegistryBrokenError, "clock of this machine"),
        (403, "AccessDenied", RegistryBrokenError, "may not do so"),
        (401, "", RegistryBrokenError, "registry.username"),
        (404, "NoSuchBucket", RegistryBrokenError, "create it"),
        (404, "", RegistryBrokenError, "check registry.url"),
        (400, "AuthorizationHeaderMalformed", RegistryBrokenError, "region"),
        (501, "NotImplemented", RegistryBrokenError, "does not do what a registry needs"),
        (507, "", RegistryBrokenError, "make room"),
        (301, "PermanentRedirect", RegistryBrokenError, "another endpoint"),
        (400, "RequestTimeout", StoreBusyError, "busy"),
        (409, "ConditionalRequestConflict", StoreBusyError, "busy"),
        (429, "TooManyRequests", StoreBusyError, "busy"),
        (500, "InternalError", StoreBusyError, "busy"),
        (502, "", StoreBusyError, "busy"),
        (503, "SlowDown", StoreBusyError, "busy"),
    ],
)
def test_every_refusal_says_what_to_do(
    status: int, code: str, error: type[MorpheusError], advice: str
) -> None:
    with answering(status, code) as server:
        for ask in (
            lambda: server.store().read(),
            lambda: server.bucket().create("a.json", b"text"),
            lambda: server.bucket().replace("a.json", b"text", '"etag"'),
        ):
            with pytest.raises(error, match=advice) as refused:
                ask()
            assert SECRET not in str(refused.value)
            assert KEY_ID not in str(refused.value)
            assert "\n" not in str(refused.value)


def test_a_real_refusal_is_understood(s3: S3) -> None:
    with pytest.raises(RegistryBrokenError, match=r"registry\.password"):
        S3Store(s3.url(), KEY_ID, "wrong").read()
    with pytest.raises(RegistryBrokenError, match="no such bucket: create it"):
        S3Store(f"{s3.endpoint}/another/", KEY_ID, SECRET).read()


def test_no_answer_is_no_answer(s3: S3) -> None:
    with pytest.raises(UnreachableError, match=r"no answer.*Connection refused"):
        S3("http://127.0.0.1:1").store().read()
    with pytest.raises(UnreachableError, match="no answer"):  # nor is one in another protocol
        S3(s3.endpoint.replace("http:", "https:")).store().read()


def test_a_document_that_is_no_text_is_refused(s3: S3, path: str) -> None:
    s3.bucket().put(path, b"\xff")

    with pytest.raises(RegistryBrokenError, match="no UTF-8"):
        s3.store(path).read()
