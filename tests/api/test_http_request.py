"""http_request: one request outside, where the operator allows it and nowhere else."""
import json
import socket
import ssl
import subprocess
import threading
import time

import pytest
from conftest import Client, Server, SLOW
from flows import action, completed, definition, ended, failed, launch, outputs, result, steps_of
from web import Site, Web


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("http") / "data", "--egress-allow", "127.0.0.1, 127.0.0.8/30", "--concurrency", "4")
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server as it is without options."""
    server = Server(tmp_path_factory.mktemp("closed") / "data", "--concurrency", "4")
    yield Client(server)
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def site():
    with Site(Web) as site:
        site.gate = threading.Event()
        yield site
        site.gate.set()


def ask(url, fields=None, method="GET", **parameters):
    return action("http_request", fields, method=method, url=url, **parameters)


def test_a_request_gives_status_headers_and_body(api, site):
    out = result(api, ask(site.url + "/say?body=hello&status=201"))
    assert out["status"] == 201 and out["body"] == "hello" and out["truncated"] is False
    assert out["headers"]["content-type"] == "text/plain" and out["headers"]["content-length"] == "5"


def test_json_becomes_a_value_that_later_steps_look_into(api, site):
    run = completed(api, ask(site.url + '/say?type=application/json&body={"a":[1,{"b":"c"}]}', {"id": "r"}),
                    action("noop", output="${{ steps.r.output.body.a[1].b }}"))
    assert outputs(api, run)[1] == "c"
    assert result(api, ask(site.url + "/say?type=application/json&body={nope"))["body"] == "{nope"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_is_sent_as_text_or_json(api, site, method):
    site.requests.clear()
    result(api, ask(site.url + "/say", method=method, body="text as it is"))
    result(api, ask(site.url + "/say", method=method, body={"a": [1, True]}, headers={"X-Own": "v", "X-Empty": ""}))
    result(api, ask(site.url + "/say", method=method, body=[1], headers={"content-type": "application/x-own"}))
    text, value, own = site.requests
    assert text["method"] == method and text["body"] == "text as it is" and "content-type" not in text["headers"]
    assert json.loads(value["body"]) == {"a": [1, True]} and value["headers"]["content-type"] == "application/json"
    assert value["headers"]["x-own"] == "v" and value["headers"]["x-empty"] == ""
    assert own["headers"]["content-type"] == "application/x-own"
    for request in site.requests:
        assert not set(request["headers"]) & {"expect", "cookie", "authorization", "accept-encoding"}


def test_what_may_have_a_body_says_when_it_has_none(api, site):
    site.requests.clear()
    for method in ("POST", "PUT", "PATCH", "GET", "HEAD", "DELETE"):
        result(api, ask(site.url + "/say", method=method))
    assert [request["headers"].get("content-length") for request in site.requests] == ["0"] * 3 + [None] * 3
    assert not any("content-type" in request["headers"] for request in site.requests)


@pytest.mark.parametrize("status, kind", [(404, "failed"), (301, "failed"), (500, "transient"), (503, "transient"), (429, "transient")])
def test_another_status_than_2xx_fails_unless_it_is_expected(api, site, status, kind):
    url = f"{site.url}/say?status={status}&body=why"
    run = failed(api, ask(url), kind=kind)
    step = steps_of(api, run)[0]
    assert step["output"]["status"] == status and step["output"]["body"] == "why" and str(status) in step["error"]["message"]
    assert result(api, ask(url, expect_status=[200, status]))["status"] == status
    failed(api, ask(site.url + "/say", expect_status=[404]), kind="failed")


def test_a_large_answer_is_cut_and_endless_headers_are_refused(api, site):
    out = result(api, ask(site.url + "/big?n=3000000"))
    assert out["truncated"] is True and len(out["body"]) == 500000
    assert result(api, ask(site.url + "/headers?n=40"))["headers"]["x-39"] == "y" * 1000
    assert "bytes of headers" in failed(api, ask(site.url + "/headers?n=90"), kind="transient")["error"]


def test_head_has_no_body(api, site):
    out = result(api, ask(site.url + "/say?body=hello", method="HEAD"))
    assert out["status"] == 200 and out["body"] == "" and out["headers"]["content-length"] == "5"


def test_nobody_there_is_worth_another_try(api):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        failed(api, ask(f"http://127.0.0.1:{s.getsockname()[1]}/"), kind="transient")
    failed(api, ask("http://no-such-host.invalid/"), kind="transient")


def test_an_answer_that_does_not_come_times_out_or_is_canceled(api, site):
    began = time.monotonic()
    run = failed(api, ask(site.url + "/slow", {"timeout_seconds": 1}), kind="timed_out")
    assert "in time" in run["error"]
    run = launch(api, ask(site.url + "/slow"))
    before = len(site.requests)
    while len(site.requests) == before:
        time.sleep(0.02)
        assert time.monotonic() - began < 30 * SLOW
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    assert ended(api, run, 5)["status"] == "canceled"


@pytest.mark.parametrize("step, where", [
    (ask("http://x", method="CONNECT"), "method"), (ask("http://x", method="get"), "method"), (ask(""), "url"),
    (ask("http://x", headers={"A": 1}), "headers"), (ask("http://x", expect_status=["200"]), "expect_status"),
    (ask("http://x", follow=True), "follow"), (action("http_request", method="GET"), "url")])
def test_a_definition_with_wrong_parameters_is_refused(api, step, where):
    answer = api.request("POST", "/v1/definitions", definition(step), 400).json()
    assert answer["field"] == "steps[0].parameters." + where


@pytest.mark.parametrize("headers", [{"Host": "evil"}, {"content-length": "3"}, {"Transfer-Encoding": "chunked"}, {"A": "b\r\nC: d"},
                                     {"A\r\nB": "c"}, {"A:": "b"}, {"": "b"}, {"Connection": "close"}, {"Expect": "100-continue"}])
def test_headers_that_frame_a_message_or_break_a_line_are_refused(api, site, headers):
    before = len(site.requests)
    assert "headers" in failed(api, ask(site.url + "/say", headers=headers), kind="policy")["error"]
    assert len(site.requests) == before


# Redirects.

def moved(to, status=302):
    from urllib.parse import quote
    return f"/say?status={status}&to={quote(to, safe='')}"


def test_redirects_are_followed_a_few_times(api, site):
    url = site.url + "/say?body=there"
    for status in (301, 302, 303, 307, 308):
        assert result(api, ask(site.url + moved(url, status)))["body"] == "there"
    assert result(api, ask(site.url + moved("/say?body=relative")))["body"] == "relative"
    for _ in range(4):
        url = site.url + moved(url)
    assert result(api, ask(site.url + moved(url)))["body"] == "there"
    assert "more than 5 redirects" in failed(api, ask(site.url + moved(site.url + moved(url))), kind="policy")["error"]


def test_a_redirect_of_what_changes_things_is_the_answer(api, site):
    site.requests.clear()
    out = result(api, ask(site.url + moved("/say"), method="POST", body="x", expect_status=[302]))
    assert out["status"] == 302 and out["headers"]["location"] == "/say" and len(site.requests) == 1


def test_a_body_is_sent_to_nobody_but_the_one_it_is_for(api, site):
    with Site(Web) as other:
        for to in (other.url, site.url):
            out = result(api, ask(site.url + moved(to + "/say"), body="for you", expect_status=[302]))
            assert out["status"] == 302 and site.requests[-1]["body"] == "for you"
    assert other.requests == []


def test_another_origin_is_sent_no_headers(api, site):
    api.request("PUT", "/v1/secrets/token", {"value": "the-token-value"}, 204)
    with Site(Web) as other:
        step = dict(token_secret="token", secret_headers={"X-Key": "token"}, headers={"X-Plain": "p", "Cookie": "c"})
        result(api, ask(site.url + moved(other.url + "/say"), **step))
        result(api, ask(site.url + moved(site.url + "/say?same"), **step))
    assert not set(other.requests[0]["headers"]) & {"authorization", "x-key", "x-plain", "cookie"}
    assert site.requests[-1]["path"] == "/say?same" and site.requests[-1]["headers"]["authorization"] == "Bearer the-token-value"


@pytest.mark.parametrize("to", ["http://127.0.0.2:{port}/", "http://localhost.localdomain:1/", "http://[::1]:{port}/", "http://10.0.0.1/",
                                "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "gopher://127.0.0.1:{port}/", "ftp://127.0.0.1/",
                                "http://u:p@127.0.0.1:{port}/", "http://2130706434:{port}/", "//127.0.0.2:{port}/"])
def test_a_redirect_leads_nowhere_that_a_request_may_not_go(api, site, to):
    before = len(site.requests)
    run = ended(api, launch(api, ask(site.url + moved(to.format(port=site.port)))))
    assert run["status"] == "failed" and run["failure_kind"] == "policy", run
    assert len(site.requests) == before + 1


# Addresses.

LOOPBACK = ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0",
            "localhost", "LOCALHOST", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
            "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "127.255.255.254", "%31%32%37.0.0.1"]
PRIVATE = ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255", "169.254.169.254",
           "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
           "255.255.255.255", "0.1.2.3", "192.88.99.1", "[fc00::1]", "[fd12::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]",
           "[3fff::1]", "[100::1]", "[5f00::1]", "[::ffff:10.0.0.1]", "[::ffff:8.8.8.8]"]


def test_loopback_and_private_addresses_are_out_of_reach_in_every_spelling(closed, site):
    hosts = LOOPBACK + PRIVATE
    before = len(site.requests)
    steps = [ask(f"http://{host}:{site.port}/", {"on_error": "continue"}) for host in hosts]
    run = ended(closed, launch(closed, *steps), 60)
    for host, step in zip(hosts, steps_of(closed, run)):
        error = step["error"]
        assert error["kind"] == "policy" and "--egress-allow" in error["message"], (host, error)
    assert len(site.requests) == before


@pytest.mark.parametrize("url", ["http://[fe80::1%25lo]/", "http://127.0.0.1\\@x/", "http://a b/", "http://x\t/", "HTTP://127.0.0.1/", "https:/x", "//x",
                                 "file:///etc/passwd", "gopher://x/", "http://u:p@x/", "http://u@x/", "http://x:99999/", "http://x:1:2/", "http://",
                                 "http://x:22/", "http://x:25/", "http://x:6379/", "http://x:5432/", "http://" + "x" * 9000])
def test_urls_that_two_readers_could_read_differently_are_refused(closed, url):
    answer = closed.request("POST", "/v1/definitions", definition(ask(url)))
    if answer.status_code == 201:
        run = ended(closed, closed.post(f"/v1/definitions/{answer.json()['id']}/runs")["run"])
        assert run["failure_kind"] == "policy", run
    else:
        assert answer.status_code == 400, answer.text


def test_only_the_named_ranges_are_opened(api, site):
    for host, open_ in (("127.0.0.1", True), ("127.0.0.8", True), ("127.0.0.11", True), ("127.0.0.12", False), ("127.0.0.7", False), ("127.0.0.2", False)):
        with socket.socket() as s:
            s.bind((host, 0))
            run = failed(api, ask(f"http://{host}:{s.getsockname()[1]}/"), kind="transient" if open_ else "policy")
            assert ("--egress-allow" in run["error"]) is not open_


def test_a_range_that_is_none_stops_the_start(tmp_path):
    from conftest import BATON
    for text in ("127.0.0.1/33", "10.0.0/8", "localhost", "1.2.3.4/-1", "::1/129", ",", "10.0.0.0/8,,"):
        done = subprocess.run([BATON, "serve", "--data", tmp_path / "d", "--egress-allow", text], capture_output=True, text=True, timeout=20 * SLOW)
        assert done.returncode == 2 and "--egress-allow takes" in done.stderr, (text, done)


def test_proxies_of_the_environment_are_ignored(tmp_path, site):
    import os
    with Site(Web) as proxy:
        kept = dict(os.environ)
        os.environ.update(http_proxy=proxy.url, https_proxy=proxy.url, ALL_PROXY=proxy.url)
        try:
            server = Server(tmp_path / "data", "--egress-allow", "127.0.0.0/8")
        finally:
            os.environ.clear()
            os.environ.update(kept)
        try:
            assert result(Client(server), ask(site.url + "/say?body=direct"))["body"] == "direct"
            assert not any("/say" in request["path"] for request in proxy.requests)
        finally:
            server.stop()


def test_a_certificate_that_nobody_vouches_for_is_refused(api, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "k",
                    "-out", tmp_path / "c", "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    with Site(Web) as site:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "c", tmp_path / "k")
        site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
        run = failed(api, ask(f"https://127.0.0.1:{site.port}/say"), kind="transient")
        assert "certificate" in run["error"].lower()
        assert site.requests == []
