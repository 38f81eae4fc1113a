"""Commands that list hosts: what they reach, what they do not, in sandboxes of every kind."""
import socket
import ssl
import subprocess
import threading
import time

import pytest
from conftest import WORLDS, make_world, output, python, wait_until, web

# Programs ask no proxy for what is on their own machine, where the servers of these tests seem to be.
ASK_ALWAYS = {"no_proxy": "", "NO_PROXY": ""}
BARE = "Landlock without namespaces has no network to give"
GET = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).status)
    except urllib.error.HTTPError as e:
        print(e.code, e.read().decode().strip())
    except OSError as e:
        print(e)
"""
# Without the proxy: by TCP and UDP to each address that is given, and by name.
DIRECT = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.rsplit(":", 1)
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        with socket.socket(socket.AF_INET, kind) as s:
            s.settimeout(5)
            try:
                s.connect((host, int(port)))
                s.send(b"x")
                s.recv(1)
                print("reached")
            except OSError as e:
                print(e.errno)
try:
    socket.getaddrinfo("example.com", 80)
    print("resolved")
except OSError:
    print("no name")
"""


def fetch(*urls, network, **fields):
    step = python(GET, **fields)
    step["parameters"]["argv"] += urls
    step["parameters"] |= {"network": network, "env": ASK_ALWAYS}
    return step


@pytest.fixture(params=WORLDS)
def world(request):
    world = make_world(request.param, "--egress-allow", "127.0.0.1", "--concurrency", "4")
    yield world
    world.stop()


@pytest.fixture
def site():
    with web.Site(web.Web) as site:
        site.gate = threading.Event()
        yield site
        site.gate.set()


def bare(world, step):
    """Landlock without namespaces says that it has none to give."""
    if world.view == "bare":
        assert BARE in step["error"]["message"]
    return world.view == "bare"


def test_a_command_reaches_what_its_step_lists_and_nothing_else(world, site):
    here = f"127.0.0.1:{site.port}"
    with web.Site(web.Web) as other:
        (step,) = world.perform(fetch(site.url + "/say", site.url + "/say?status=404&body=gone", other.url + "/say",
                                      "http://169.254.169.254/", "http://a.b.test:8080/", "http://b.test:8080/",
                                      network=[here, "169.254.169.254"]))
        if bare(world, step):
            return
        lines = output(step).splitlines()
        assert lines[:2] == ["200", "404 gone"]
        assert lines[2] == f"403 the step's network does not list 127.0.0.1:{other.port}"
        assert lines[3].startswith("403 url: 169.254.169.254 is at 169.254.169.254, where this server must not connect to")
        assert other.requests == [] and len(site.requests) == 2
        assert step["output"]["refused_hosts"] == [f"127.0.0.1:{other.port}", "169.254.169.254:80", "a.b.test:8080", "b.test:8080"]
        assert step["sandbox"]["network"] == "proxy"
        assert not {"proxy-connection", "proxy-authorization"} & set(site.requests[0]["headers"])
        assert site.requests[0]["headers"]["host"] == here


def test_there_is_no_way_around_the_proxy(world, site):
    step = python(DIRECT)
    step["parameters"]["argv"] += [f"127.0.0.1:{site.port}", "8.8.8.8:53", world.server.url.split("//")[1], "169.254.169.254:80"]
    step["parameters"]["network"] = [f"127.0.0.1:{site.port}"]
    (step,) = world.perform(step)
    if not bare(world, step):
        assert not {"reached", "resolved"} & set(output(step).split()) and "no name" in output(step)
        assert site.requests == []


def test_the_list_of_one_step_is_not_that_of_another_at_the_same_time(world, site):
    with web.Site(web.Web) as other:
        pairs = [(site, other), (other, site)] * 2
        branches = [{"name": f"b{n}", "steps": [fetch(mine.url + "/say", theirs.url + "/say", network=[f"127.0.0.1:{mine.port}"])]}
                    for n, (mine, theirs) in enumerate(pairs)]
        made = world.api.post("/v1/definitions", {"name": "both", "retry": {"max_attempts": 1},
                                                  "steps": [{"action": "parallel", "parameters": {"branches": branches, "on_failure": "wait_all"}}]})
        run = world.api.post(f"/v1/definitions/{made['id']}/runs")["run"]
        wait_until(lambda: world.api.get("/v1/runs/" + run["id"])["status"] in ("completed", "failed"), 60)
        for child in world.api.get(f"/v1/runs?parent_run_id={run['id']}")["items"]:
            (step,) = world.api.get(f"/v1/runs/{child['id']}/steps")["items"]
            if not bare(world, step):
                ok, refused = output(step).splitlines()
                assert ok == "200" and refused.startswith("403 ")


def test_connections_end_with_the_command(world):
    """One that hangs: at its step's time limit it is gone, and so is its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        port = listener.getsockname()[1]
        found = []

        def serve():
            connection, _ = listener.accept()
            connection.settimeout(30)
            while piece := connection.recv(65536):
                found.append(piece)
            found.append("closed")

        if world.view != "bare":
            thread = threading.Thread(target=serve)
            thread.start()
        (step,) = world.perform(fetch(f"http://127.0.0.1:{port}/", network=[f"127.0.0.1:{port}"], timeout_seconds=2))
        if not bare(world, step):
            assert step["error"]["kind"] == "timed_out"
            thread.join(20)
            assert found[-1] == "closed" and found[0].startswith(b"GET / HTTP/1.1\r\n")


CONNECT = """
import socket, ssl, sys
s = socket.create_connection(("127.0.0.1", 3128))
s.sendall(b"CONNECT " + sys.argv[1].encode() + b" HTTP/1.1\\r\\n\\r\\n")
head = b""
while not head.endswith(b"\\r\\n\\r\\n"):
    piece = s.recv(1)
    if not piece:
        break
    head += piece
print(head.decode().splitlines()[0])
if b" 200 " in head:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    t = context.wrap_socket(s)
    t.sendall(b"hello")
    print(t.recv(100).decode(), t.recv(100))
"""


def test_what_is_encrypted_passes_through_connect(world, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key", "-out", tmp_path / "cert",
                    "-subj", "/CN=x", "-days", "1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        port = listener.getsockname()[1]

        def serve():
            with context.wrap_socket(listener.accept()[0], server_side=True) as s:
                s.sendall(s.recv(100).upper())
                s.unwrap()

        if world.view != "bare":
            threading.Thread(target=serve, daemon=True).start()
        step = python(CONNECT)
        step["parameters"]["argv"] += [f"127.0.0.1:{port}"]
        step["parameters"]["network"] = [f"127.0.0.1:{port}"]
        (step,) = world.perform(step)
        if not bare(world, step):
            assert output(step) == "HTTP/1.1 200 Connection established\nHELLO b''\n", step


def test_what_is_no_request_of_a_proxy_is_refused_and_harms_nobody(world, site):
    """Broken heads, endless heads, more connections than places, and a good one behind them."""
    script = """
import socket, sys, urllib.request
def ask(data):
    with socket.create_connection(("127.0.0.1", 3128)) as s:
        s.settimeout(15)
        try:
            s.sendall(data)
            return s.recv(100).split(b"\\r\\n")[0].decode()
        except OSError:
            return "reset"
for data in (b"GET / HTTP/1.1\\r\\n\\r\\n", b"\\r\\n\\r\\n", b"CONNECT x\\r\\n\\r\\n", b"CONNECT :::: HTTP/1.1\\r\\n\\r\\n",
             b"GET file:///etc/passwd HTTP/1.1\\r\\n\\r\\n", b"GET http://u:p@127.0.0.1/ HTTP/1.1\\r\\n\\r\\n", b"A" * 40000):
    print(ask(data))
idle = [socket.create_connection(("127.0.0.1", 3128)) for _ in range(60)]
print(urllib.request.urlopen(sys.argv[1], timeout=30).status)
"""
    step = python(script)
    step["parameters"]["argv"] += [site.url + "/say"]
    step["parameters"] |= {"network": [f"127.0.0.1:{site.port}"], "env": ASK_ALWAYS}
    (step,) = world.perform(step)
    if not bare(world, step):
        lines = output(step).splitlines()
        assert lines[:3] == ["HTTP/1.1 400 Bad Request"] * 3 and lines[3] == "HTTP/1.1 403 Forbidden"
        assert lines[4:6] == ["HTTP/1.1 400 Bad Request", "HTTP/1.1 403 Forbidden"] and lines[6] in ("", "reset")
        assert lines[7] == "200"


def test_without_a_list_there_is_no_proxy(world, site):
    step = python(GET)
    step["parameters"]["argv"] += [site.url + "/say"]
    (step,) = world.perform(step)
    assert step["sandbox"]["network"] == "none" and "200" not in output(step) and site.requests == []


@pytest.mark.parametrize("network", ["example.com", [], [1], ["http://example.com"], ["a b"], ["*"], ["*."], ["x:0"], ["x:65536"], ["a..b"], [".x"],
                                     ["x."], ["[::1]:80"], ["${{ input.host }}"], ["a/b"], ["a"] * 65])
def test_a_list_of_hosts_is_written_out_and_well_formed(network):
    # Needs a server, of any kind.
    world = make_world("user-bwrap")
    try:
        answer = world.api.request("POST", "/v1/definitions/validate", {"name": "n", "steps": [fetch("http://x/", network=network)]}, 200).json()
        assert not answer["valid"] and answer["problems"][0]["path"] == "steps[0].parameters.network"
    finally:
        world.stop()
