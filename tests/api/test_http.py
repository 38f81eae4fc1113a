import json
import re
import socket
import subprocess
import time

import pytest
from conftest import QUARANTINE_MIB, SLOW, Client, Server, wait_until

GOOD = "GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("text, status", [
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost : {host}\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\n folded\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\nHost: {host}\n\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\nX: y\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nX: a\rb\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nno colon\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nKéy: x\r\n\r\n", 400),
    ("GET  /livez HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("GET /livez HTTP/2.0\r\nHost: {host}\r\n\r\n", 400),
    ("GET /livez\r\n\r\n", 400),
    ("GET http://x/livez HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("GET /%00 HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("GET /v1/..%2flivez HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: +2\r\n\r\n{{}}", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2,2\r\n\r\n{{}}", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10485760\r\n\r\n", 413),
    ("POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nX: " + "y" * 17000 + "\r\n\r\n", 431),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\n" + "X: y\r\n" * 70 + "\r\n", 431),
    ("GET /" + "y" * 9000 + " HTTP/1.1\r\nHost: {host}\r\n\r\n", 431),
    ("GET /livez HTTP/1.1\r\n Host: {host}\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\n: x\r\n\r\n", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nX: \x7f\r\n\r\n", 400),
    ("\r\nGET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("GET\t/livez HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("GET /livez HTTP/1.1 \r\nHost: {host}\r\n\r\n", 400),
    ("GET /livez HTTP/1.12\r\nHost: {host}\r\n\r\n", 400),
    ("GET /liv\u00e9z HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("\x05\x01\x00", 400),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nExpect: 200-maybe\r\n\r\n", 417),
    ("GET /livez HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
    ("DELETE /v1/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", 405),
    ("TRACE /v1/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", 405),
])
def test_a_head_that_two_readers_could_frame_differently_is_refused(server, text, status):
    answer = server.raw(text.format(host=server.address).encode("utf-8" if "K" in text else "latin-1"))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"application/problem+json" in answer


SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"


@pytest.mark.parametrize("fields, body", [
    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: \x0bchunked", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding : chunked", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: ", "0\r\n\r\n" + SMUGGLED),
    ("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n" + SMUGGLED),
    ("Content-Length: 0\r\nContent-Length: 44", SMUGGLED),
    ("Content-Length: 44\r\nContent-Length: 44", SMUGGLED),
    ("Content-Length: 0, 0", SMUGGLED),
    ("Content-Length: 0x0", SMUGGLED),
    ("Content-Length: -0", SMUGGLED),
    ("Content-Length: +0", SMUGGLED),
    ("Content-Length: 0 0", SMUGGLED),
    ("Content-Length:", SMUGGLED),
    ("Content-Length: 18446744073709551616", SMUGGLED),
    ("Content-Length : 0", SMUGGLED),
    ("Content-Length\x00: 0", SMUGGLED),
    ("Transfer-Encoding: chunked", "0x0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "-1\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "10000000000000000\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", " 0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "0 \r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "0\n\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "0;a\nb\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "0;a\rb\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "0;" + "a" * 16384 + "\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "1\r\nab\r\n0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "1\r\na\n0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "0\r\nContent-Length: 0\r\n\r\n" + SMUGGLED),
    ("Transfer-Encoding: chunked", "0\r\nAuthorization: Bearer x\r\n\r\n" + SMUGGLED),
])
def test_a_second_request_cannot_be_smuggled_behind_a_body(server, fields, body):
    head = "POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\n" + fields + "\r\n\r\n"
    answer = server.raw((head + body).format(host=server.address).encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 400 ") and b"Connection: close" in answer, answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1 and b"smuggled" not in answer


def test_a_body_nobody_asked_for_is_framed_and_not_the_next_request(server):
    host = server.address
    one = f"GET /livez HTTP/1.1\r\nHost: {host}\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"
    inner = f"GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"
    last = GOOD.format(host=host)
    sized = one + f"Content-Length: {len(inner)}\r\n\r\n{inner}"
    chunked = one + f"Transfer-Encoding: chunked\r\n\r\n{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"
    answer = server.raw((sized + chunked + last).encode())
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"HTTP/1.1 ") == 3


def test_a_client_that_waits_for_100_continue_gets_it(server):
    body = b'{"title":"x"}'
    head = (f"POST /v1/tasks HTTP/1.1\r\nHost: {server.address}\r\nExpect: 100-continue\r\n"
            f"Authorization: Bearer {server.key}\r\nContent-Length: {len(body)}\r\n\r\n")
    with connect(server) as s:
        s.sendall(head.encode())
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body)
        assert s.recv(1000).startswith(b"HTTP/1.1 201 ")


def connect(server, timeout=15):
    host, port = server.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=timeout)


def memory_mib(server):
    status = open(f"/proc/{server.process.pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def test_who_does_not_read_its_answers_gets_no_more_of_them(server):
    one = f"GET /livez HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode()
    before = memory_mib(server)
    with connect(server, 0.5) as s:
        with pytest.raises(socket.timeout):  # the server stops reading
            for _ in range(2000):
                s.sendall(one * 1000)
        assert memory_mib(server) < before + 8 + QUARANTINE_MIB
        s.settimeout(15)
        assert s.recv(12) == b"HTTP/1.1 200"  # and goes on when they are read
        got = 0
        while got < 20 << 20:
            got += len(s.recv(1 << 20))
            try:
                s.settimeout(0)
                s.sendall(one)
            except BlockingIOError:
                pass
            s.settimeout(15)
            if got > 8 << 20:
                break
        assert got > 8 << 20


@pytest.fixture
def small_server(tmp_path):
    server = Server(tmp_path / "data", "--max-connections", "60", "--max-connections-per-source",
                    "40", "--max-streams-per-key", "3")
    yield server
    server.stop()


def test_an_address_with_too_many_connections_is_told_so(small_server):
    held = [connect(small_server) for _ in range(40)]
    one = f"GET /livez HTTP/1.1\r\nHost: {small_server.address}\r\n\r\n".encode()
    for s in held:
        s.sendall(one)
        assert s.recv(1000).startswith(b"HTTP/1.1 200 ")
    answer = small_server.raw(one)
    assert answer.startswith(b"HTTP/1.1 429 ") and b"Retry-After: 1" in answer
    assert b'"code":"rate_limited"' in answer and b"Connection: close" in answer
    with socket.socket(socket.AF_UNIX) as local:  # the operator gets in
        local.connect(str(small_server.data / "baton.sock"))
        local.sendall(one)
        assert local.recv(1000).startswith(b"HTTP/1.1 200 ")
    held.pop().close()
    wait_until(lambda: small_server.raw(GOOD.format(host=small_server.address).encode())
               .startswith(b"HTTP/1.1 200 "))
    for s in held:
        s.close()


def test_a_server_with_too_many_connections_says_so(tmp_path):
    server = Server(tmp_path / "data", "--max-connections", "10")
    held = [connect(server) for _ in range(10)]
    one = f"GET /livez HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode()
    for s in held:
        s.sendall(one)
        assert s.recv(1000).startswith(b"HTTP/1.1 200 ")
    answer = server.raw(one)
    assert answer.startswith(b"HTTP/1.1 429 ") and b"(--max-connections)" in answer
    for s in held:
        s.close()
    server.stop()


def test_a_key_with_too_many_streams_is_told_so(small_server):
    api = Client(small_server)
    path = f"/v1/tasks/{api.task()['id']}/events/stream"
    other = Client(small_server, key=api.key_for()["key"])
    held = [api.request("GET", path, status=200, stream=True) for _ in range(3)]
    problem = api.problem("GET", path, 429, "rate_limited")
    assert problem["limit"] == 3
    other.request("GET", path, status=200, stream=True).close()
    held.pop().close()
    wait_until(lambda: api.request("GET", path, stream=True).status_code == 200)


def test_a_server_without_descriptors_waits_for_one_without_burning_the_processor(own_server):
    one = f"GET /livez HTTP/1.1\r\nHost: {own_server.address}\r\n\r\n".encode()
    subprocess.run(["prlimit", "--pid", str(own_server.process.pid), "--nofile=64:64"], check=True)
    held = [connect(own_server) for _ in range(150)]
    began = own_server.cpu_seconds()
    held[0].sendall(one)
    assert held[0].recv(1000).startswith(b"HTTP/1.1 200 ")  # those who are in are served
    time.sleep(2)
    assert own_server.cpu_seconds() - began < 0.5
    for s in held:
        s.close()
    wait_until(lambda: own_server.raw(GOOD.format(host=own_server.address).encode())
               .startswith(b"HTTP/1.1 200 "))


def test_pipelined_requests_are_answered_in_order(server):
    one = f"GET /livez HTTP/1.1\r\nHost: {server.address}\r\n\r\n"
    last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    assert server.raw((one * 20 + last).encode()).count(b"HTTP/1.1 200 OK") == 21


def test_a_chunked_body_is_read(server):
    head = (f"POST /v1/tasks HTTP/1.1\r\nHost: {server.address}\r\n"
            f"Authorization: Bearer {server.key}\r\nTransfer-Encoding: chunked\r\n"
            "Connection: close\r\n\r\n")
    assert b" 201 " in server.raw((head + "9\r\n{\"title\":\r\n4;a=b\r\n\"x\"}\r\n0\r\n\r\n").encode())


def test_a_head_dripped_a_byte_a_second_is_cut_off(server):
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=15) as s:
        began = time.monotonic()
        s.settimeout(1)
        out = b""
        while not out and time.monotonic() - began < 12 + 2 * SLOW:
            try:
                s.sendall(b"G" if time.monotonic() - began < 1 else b"E")
                out = s.recv(1000)
            except socket.timeout:
                pass
    assert out.startswith(b"HTTP/1.1 408 ") and 9 < time.monotonic() - began < 11 + SLOW


def test_json_that_is_too_deep_or_wrong_is_refused(api):
    for body in ["[" * 100000, '{"title":"x","metadata":' + "[" * 65 + "]" * 65 + "}", "{", "nul",
                 '{"title":"x","title":"y"}', '{"title":"\ud800"}', "{'a':1}", '{"title":"x",}']:
        api.problem("POST", "/v1/tasks", 400, "invalid_json", data=body.encode("utf-8", "replace")
                    if "\ud800" not in body else body.encode("utf-8", "surrogatepass"))
    api.problem("POST", "/v1/tasks", 400, "validation_failed", data="[]")


def test_json_may_nest_64_deep(api):
    def body(depth):
        return {"title": "x", "metadata": json.loads("[" * (depth - 1) + "]" * (depth - 1))}

    assert api.post("/v1/tasks", body(64))["metadata"] == body(64)["metadata"]
    api.problem("POST", "/v1/tasks", 400, "invalid_json", body(65))


def test_a_body_is_what_its_media_type_names(api):
    def send(media, path="/v1/tasks", data='{"title": "x"}'):
        return api.request("POST", path, data=data, headers={"Content-Type": media}).status_code

    assert [send(m) for m in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;x"]] == [201] * 4
    assert [send(m) for m in ["text/plain", "application/jsonfoo", "application/json+x", "application/problem+json", "x;application/json"]] == [415] * 5
    validate = "/v1/definitions/validate"
    assert [send(m, validate, "{}") for m in ["application/yaml", "text/yaml;charset=utf-8", "APPLICATION/X-YAML"]] == [200] * 3
    assert [send(m, validate, "{}") for m in ["application/yamlfoo", "application/jsonfoo"]] == [415] * 2


def test_refused_requests_store_nothing(api):
    before = len(api.get("/v1/tasks?limit=500")["items"])
    api.problem("POST", "/v1/tasks", 400, "unknown_field", {"title": "x", "id2": 1})
    assert len(api.get("/v1/tasks?limit=500")["items"]) == before
