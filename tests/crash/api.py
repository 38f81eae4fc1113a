"""A small HTTP client: one connection per thread, no retries, nothing hidden.

A request either gets its answer or raises Lost: then nobody knows whether it had an effect.
"""

import http.client
import json
import os
import random
import re
import socket


class Lost(Exception):
    """No answer: the connection broke, or there was no server."""


class Down(Lost):
    """The request was certainly not sent."""


STAYS = 0.7  # chance that the next request goes to the same one of several servers


def _address(data):
    try:
        with open(os.path.join(data, "listen")) as f:
            found = re.search(r"([\d.]+|localhost):(\d+)", f.read())
    except OSError:
        return None
    return (found.group(1), int(found.group(2))) if found else None


class Server:
    """
    Where the server of a data directory is now; it moves with every start.  Of several directories, whose
    servers share a database, any one that is there.
    """

    def __init__(self, *data):
        self.data = data
        self.silence = 3 if len(data) == 1 else 20  # seconds for which a stream may say nothing of what is there: one may be held
        self._key = None

    def address(self, last=None):
        there = [a for a in map(_address, self.data) if a]
        if last in there and random.random() < STAYS:
            return last
        return random.choice(there) if there else None

    def key(self):
        if not self._key:
            with open(os.path.join(self.data[0], "admin.key")) as f:
                self._key = f.read().strip()
        return self._key


class Answer:
    def __init__(self, status, body, headers):
        self.status, self.headers = status, headers
        try:
            self.body = json.loads(body) if body else {}
        except ValueError:
            self.body = {"text": body.decode("utf-8", "replace")}

    @property
    def code(self):
        return self.body.get("code") if isinstance(self.body, dict) else None


class Client:
    """Not shared between threads."""

    def __init__(self, server, key=None, timeout=10):
        self.server, self.timeout, self._given = server, timeout, key
        self._connection = self._address = None

    def close(self):
        if self._connection:
            self._connection.close()
        self._connection = None

    def _connect(self, timeout):
        address = self.server.address(self._address)
        if not address:
            raise Down("no server")
        if self._connection and self._address == address:
            self._connection.sock.settimeout(timeout)
            return self._connection
        self.close()
        connection = http.client.HTTPConnection(*address, timeout=timeout)
        try:
            connection.connect()
        except OSError as e:
            raise Down(str(e)) from e
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection, self._address = connection, address
        return connection

    def _headers(self, key, body, headers):
        out = {"Authorization": "Bearer " + (self._given or self.server.key())}
        if body is not None:
            out["Content-Type"] = "application/json"
        if key:
            out["Idempotency-Key"] = key
        out.update(headers or {})
        return out

    def call(self, method, path, body=None, key=None, headers=None, timeout=None):
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        connection = self._connect(timeout or self.timeout)
        try:
            connection.request(method, path, data, self._headers(key, body, headers))
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as e:
            self.close()
            raise Lost(type(e).__name__) from e
        if response.will_close:
            self.close()
        return Answer(response.status, text, response.headers)

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.call("POST", path, {} if body is None else body, **more)

    def all(self, path, limit=500):
        """Every item of a list, page by page."""
        items, cursor = [], None
        while True:
            mark = "&" if "?" in path else "?"
            page = f"{path}{mark}limit={limit}" + (f"&cursor={cursor}" if cursor else "")
            answer = self.get(page)
            if answer.status != 200:
                raise Lost(f"GET {page}: {answer.status}")
            items += answer.body["items"]
            cursor = answer.body.get("next_cursor")
            if not cursor:
                return items

    def stream(self, path, last_id=None, timeout=5):
        """Opens a stream on a connection of its own."""
        return Stream(self, path, last_id, timeout)


class Stream:
    """One connection to an event stream.  next() gives (id, event, data) of whole frames only."""

    def __init__(self, client, path, last_id, timeout):
        address = client.server.address()
        if not address:
            raise Down("no server")
        self._connection = http.client.HTTPConnection(*address, timeout=timeout)
        headers = client._headers(None, None, {"Accept": "text/event-stream"})
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        try:
            self._connection.request("GET", path, None, headers)
            self._response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            self._connection.close()
            raise Lost(type(e).__name__) from e
        self.status = self._response.status
        self.code = None
        if self.status != 200:
            self._refusal()

    def _refusal(self):
        try:
            self.code = json.loads(self._response.read() or b"{}").get("code")
        except (ValueError, OSError, http.client.HTTPException):
            pass

    def next(self):
        """None when the server closed the stream; Lost when it broke; TimeoutError when quiet."""
        ident, event, data = None, "message", []
        while True:
            try:
                line = self._response.readline()
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException, ValueError, AttributeError) as e:
                raise Lost(type(e).__name__) from e
            if not line:
                return None
            text = line.decode().rstrip("\r\n")
            if not text:
                if data:
                    return ident, event, "\n".join(data)
                ident, event, data = None, "message", []
                continue
            name, _, value = text.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "id":
                ident = int(value)
            elif name == "event":
                event = value
            elif name == "data":
                data.append(value)

    def close(self):
        self._connection.close()
