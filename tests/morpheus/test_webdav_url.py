"""What registry.url may be on a WebDAV server."""

import pytest

from morpheus.errors import InvalidInputError
from morpheus.registry.webdav import document_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("u1.example", "https://u1.example/morpheus/registry.json"),
        ("https://u1.example", "https://u1.example/morpheus/registry.json"),
        ("https://u1.example/", "https://u1.example/registry.json"),
        ("https://u1.example/a/b/", "https://u1.example/a/b/registry.json"),
        ("https://u1.example:8443/a/b.json", "https://u1.example:8443/a/b.json"),
        ("u1.example/a/", "https://u1.example/a/registry.json"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/registry.json"),
        ("http://[::1]:8080/", "http://[::1]:8080/registry.json"),
    ],
)
def test_a_document_a_directory_and_a_host_name_a_document(text: str, url: str) -> None:
    assert document_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://u1.example/",
        "https:///registry.json",
        "https://u1.example/registry",
        "https://u1.example/?x=1",
        "https://u1.example/#top",
        "https://ann:hidden@u1.example/",
        "https://[::1/hidden.json",
        "https://u1.example:port/hidden/",
    ],
)
def test_what_names_none_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"registry\.url must be") as refused:
        document_url(text)

    assert "hidden" not in str(refused.value)


def test_a_password_is_never_sent_unencrypted_over_a_network() -> None:
    with pytest.raises(InvalidInputError, match="use https"):
        document_url("http://u1.example/")
