"""Servers of the tests' own on loopback: git's smart protocol with Basic authentication, and a web server that answers as it is told."""
import base64
import http.server
import os
import socket
import subprocess
import threading
import urllib.parse


class _Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        out = b""
        while size := int(self.rfile.readline(), 16):
            out += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return out

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Site:
    """`with Site(handler) as site`: site.url, site.requests."""

    def __init__(self, handler, host="127.0.0.1"):
        self.requests = []
        kind = type("Server", (http.server.ThreadingHTTPServer,),
                    {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
        self.server = kind((host, 0), type("Handler", (handler,), {"site": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Web(_Quiet):
    """Records each request; /echo gives it back, /say?status=&body=&type=&to= says that."""

    def serve(self):
        body = self.body()
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.site.requests.append({"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()},
                                   "body": body.decode()})
        if url.path == "/slow":
            self.site.gate.wait(60)
        if url.path == "/big":
            self.answer(200, b"x" * int(query["n"]))
        elif url.path == "/headers":
            self.answer(200, headers=[("X-%d" % i, "y" * 1000) for i in range(int(query["n"]))])
        elif url.path == "/echo":
            told = "\n".join([self.command, *("%s: %s" % i for i in self.headers.items()), "", body.decode()])
            self.answer(200, told.encode(), [("X-Echo", self.headers.get("Authorization", ""))])
        else:
            to = [("Location", query["to"])] if "to" in query else []
            self.answer(int(query.get("status", 200)), query.get("body", "").encode(),
                        [("Content-Type", query.get("type", "text/plain")), *to])

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = serve


class Git(_Quiet):
    """git http-backend over site.root; below /private/ only for site.password."""

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        given = self.headers.get("Authorization", "")
        body = self.body()
        self.site.requests.append({"path": self.path, "authorization": given})
        if url.path.startswith("/moved/"):
            return self.answer(301, headers=[("Location", self.site.elsewhere + self.path[len("/moved"):])])
        if url.path.startswith("/private/") and given != "Basic " + base64.b64encode(self.site.password.encode()).decode():
            return self.answer(401, headers=[("WWW-Authenticate", 'Basic realm="git"')])
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.site.root), "GIT_HTTP_EXPORT_ALL": "1",
               "REQUEST_METHOD": self.command, "PATH_INFO": url.path, "QUERY_STRING": url.query, "REMOTE_ADDR": "127.0.0.1",
               "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        out = subprocess.run(["git", "-c", "safe.directory=*", "http-backend"], input=body, env=env, capture_output=True).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((int(v.split()[0]) for k, v in headers if k == "Status"), 200)
        self.answer(status, content, [h for h in headers if h[0] not in ("Status", "Content-Length")])

    do_GET = do_POST = serve
