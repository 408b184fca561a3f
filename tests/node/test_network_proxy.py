"""How proxies are written, which one is used for what, and who is reached without: as curl has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2psync.errors import UsageError
from p2psync.network.egress import egress, egress_of, leaving_by
from p2psync.network.proxy import Kind, NoProxy, Proxy
from p2psync.network.server import Server

PLAIN = Server.peer("host.example:8730")
TLS = Server.web("https://host.example/")


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("proxy.example:3128", Proxy(Kind.HTTP, "proxy.example", 3128)),
        ("proxy.example", Proxy(Kind.HTTP, "proxy.example", 1080)),
        ("http://192.0.2.1:8/", Proxy(Kind.HTTP, "192.0.2.1", 8)),
        ("HTTPS://[2001:db8::1]", Proxy(Kind.HTTPS, "2001:db8::1", 443)),
        ("socks5://h:1", Proxy(Kind.SOCKS5, "h", 1)),
        ("socks5h://me@h:1", Proxy(Kind.SOCKS5, "h", 1, b"me")),
        ("http://me:p%40s%3As@h:1", Proxy(Kind.HTTP, "h", 1, b"me", b"p@s:s")),
        ("me:a@b/c@h:1", Proxy(Kind.HTTP, "h", 1, b"me", b"a@b/c")),
    ],
)
def test_a_proxy_is_written_as_for_curl(text: str, proxy: Proxy) -> None:
    assert Proxy.parse(text) == proxy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "://h:1",
        "ftp://h:1",
        "socks4://h:1",
        "http://h:x",
        "h:99999",
        "h:0",
        "http://h:1/path",
        "http://h:1?a",
        "http://a b:1",
        "http://h\r\nX: y:1",
        "http://h" + "x" * 3000,
        "http://" + "u" * 300 + "@h:1",
        "http://a%3ab:p@h:1",
    ],
)
def test_what_is_no_proxy_is_refused_and_its_password_is_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Proxy.parse(text.replace("://", "://me:secret@", 1) if "@" not in text else text)
    assert "secret" not in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_password_is_in_no_name_and_in_basic_authentication() -> None:
    proxy = Proxy.parse("http://Aladdin:open%20sesame@h:1")
    assert str(proxy) == "http://h:1"
    assert proxy.authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617, section 2
    assert Proxy.parse("http://h:1").authorization == ""


@pytest.mark.parametrize(
    ("listed", "host", "covered"),
    [
        ("example.org", "example.org", True),
        ("example.org", "EXAMPLE.org.", True),
        ("example.org", "a.b.example.org", True),
        (".example.org", "example.org", True),
        (".example.org", "a.example.org", True),
        ("example.org", "notexample.org", False),
        ("a.example.org", "example.org", False),
        ("*", "anything", True),
        ("*.org", "example.org", False),
        ("one, example.org\ttwo", "example.org", True),
        ("", "example.org", False),
        (",. ,", "example.org", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.11", False),
        ("192.0.2.0/24", "192.0.2.77", True),
        ("192.0.2.0/24", "192.0.3.77", False),
        ("192.0.2.0/24", "x192.0.2.7", False),
        ("2001:db8::/32", "2001:db8::7", True),
        ("[2001:db8::7]", "2001:DB8:0::7", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", True),
        ("example.org:80", "example.org", False),
        ("example.org:8730", "example.org", True),
        ("[2001:db8::7]:8730", "2001:db8::7", True),
        ("192.0.2.0/99", "192.0.2.0", False),
        ("example.org:port", "example.org", False),
        ("localhost", "localhost", True),
    ],
)
def test_hosts_without_a_proxy(listed: str, host: str, covered: bool) -> None:
    assert NoProxy(listed).covers(host, 8730) == covered


@pytest.mark.parametrize(
    ("environ", "plain", "tls", "rsync"),
    [
        ({}, None, None, None),
        ({"http_proxy": "a:1", "https_proxy": "b:1", "all_proxy": "c:1"}, "a", "b", "c"),
        ({"http_proxy": "a:1", "HTTP_PROXY": "b:1"}, "a", "a", "a"),
        ({"HTTPS_PROXY": "b:1", "ALL_PROXY": "c:1"}, "c", "b", "c"),
        ({"http_proxy": "", "ALL_PROXY": "c:1"}, "c", "c", "c"),
        # Nothing goes direct because another kind of connection was thought of.
        ({"https_proxy": "b:1"}, "b", "b", "b"),
        ({"http_proxy": "a:1"}, "a", "a", "a"),
        ({"RSYNC_PROXY": "r:1"}, "r", "r", "r"),
        ({"rsync_proxy": "http://r:1", "https_proxy": "b:1"}, "b", "b", "r"),
        # A header of a stranger's request to a CGI program (httpoxy).
        ({"HTTP_PROXY": "evil:1", "REQUEST_METHOD": "GET"}, None, None, None),
        ({"http_proxy": "a:1", "REQUEST_METHOD": "GET"}, "a", "a", "a"),
    ],
)
def test_the_environment_names_proxies(
    environ: dict[str, str], plain: str | None, tls: str | None, rsync: str | None
) -> None:
    way = egress_of(environ)
    found = (way.proxy_for(PLAIN), way.proxy_for(TLS), way.rsync_proxy("host.example", 873))
    assert tuple(proxy and proxy.host for proxy in found) == (plain, tls, rsync)
    assert way.udp == (plain is None), "no proxy carries UDP"


def test_an_option_is_stronger_than_the_environment() -> None:
    environ = {"http_proxy": "a:1", "no_proxy": "host.example"}
    assert egress_of(environ).proxy_for(PLAIN) is None
    assert egress_of(environ, no_proxy="").proxy_for(PLAIN) == Proxy.parse("a:1")
    assert egress_of(environ, proxy="socks5://b:2", no_proxy="").proxy_for(TLS) == Proxy.parse("socks5://b:2")
    none = egress_of(environ, proxy="none", no_proxy="")
    assert (none.proxy_for(PLAIN), none.udp) == (None, True)
    assert egress_of(environ, udp=True).udp
    assert not egress_of({}, udp=False).udp


def test_a_variable_that_names_no_proxy_is_an_error_and_nothing_goes_direct() -> None:
    with pytest.raises(UsageError, match=r"variable https_proxy: .* is no proxy that can be used"):
        egress_of({"https_proxy": "ftp://me:secret@h"})


def test_rsyncs_own_variable_is_no_url() -> None:
    """rsync(1) takes what is in RSYNC_PROXY as it is."""
    assert egress_of({"RSYNC_PROXY": "me:a%40b@r:1"}).rsync_proxy("h", 873) == Proxy(
        Kind.HTTP, "r", 1, b"me", b"a%40b"
    )


def test_the_way_out_holds_within_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "a:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert egress().proxy_for(PLAIN) == Proxy.parse("a:1")
    with leaving_by(egress_of(proxy="b:2", no_proxy="")):
        assert egress().proxy_for(PLAIN) == Proxy.parse("b:2")
    monkeypatch.setenv("http_proxy", "c:3")
    assert egress().proxy_for(PLAIN) == Proxy.parse("c:3")


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"nonsense"):
        (tmp_path / "ca").write_bytes(content)
        with pytest.raises(UsageError, match="no certificates can be read"):
            egress_of({}, ca_file=str(tmp_path / "ca")).check()
