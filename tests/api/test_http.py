import socket
import time

import pytest
from conftest import SLOW

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
    ("DELETE /v1/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", 405),
    ("TRACE /v1/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", 405),
])
def test_a_head_that_two_readers_could_frame_differently_is_refused(server, text, status):
    answer = server.raw(text.format(host=server.address).encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"application/problem+json" in answer


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
    api.problem("POST", "/v1/tasks", 415, "unsupported_media_type", data="title=x",
                headers={"Content-Type": "text/plain"})


def test_refused_requests_store_nothing(api):
    before = len(api.get("/v1/tasks?limit=500")["items"])
    api.problem("POST", "/v1/tasks", 400, "unknown_field", {"title": "x", "id2": 1})
    assert len(api.get("/v1/tasks?limit=500")["items"]) == before
