"""Holds what is asked and answered against the server's own /openapi.json."""
import json
import re
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import requests

METHODS = {"get", "post", "put", "patch", "delete"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
formats = jsonschema.FormatChecker(())


@formats.checks("date-time")
def is_time(value):
    return not isinstance(value, str) or TIME.fullmatch(value) is not None


def closed(schema):
    """An answer may come to say more, but not today: every member must be described."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and schema.get("properties"):
        out.setdefault("additionalProperties", False)
    return out


class Description:
    def __init__(self, document):
        self.document = closed(document)
        self.resolver = jsonschema.RefResolver.from_schema(self.document)
        self.paths = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + r"\Z"), path) for path in document["paths"]]
        # What is written out comes before what has a place for anything.
        self.paths.sort(key=lambda pair: pair[1].count("{"))

    @staticmethod
    def of(url):
        return Description(requests.get(url + "/openapi.json", timeout=20).json())

    def operations(self):
        return {(method, path): operation for path, methods in self.document["paths"].items()
                for method, operation in methods.items()}

    def find(self, method, path):
        for pattern, name in self.paths:
            if pattern.match(path) and method in self.document["paths"][name]:
                return name
        return None

    def validate(self, value, schema):
        jsonschema.Draft202012Validator(schema, resolver=self.resolver, format_checker=formats).validate(value)

    def response(self, operation, status):
        found = operation["responses"].get(str(status)) or operation["responses"].get(f"{status // 100}XX")
        assert found, f"{operation['operationId']} does not say that it answers {status}"
        return self.resolver.resolve(found["$ref"])[1] if "$ref" in found else found

    def check_answer(self, operation, status, media, text):
        contents = self.response(operation, status).get("content", {})
        if not contents:
            assert not text, (operation["operationId"], status, text)
            return
        assert media in contents, (operation["operationId"], status, media)
        if media.split(";")[0].endswith("json"):
            self.validate(json.loads(text), contents[media]["schema"])

    def check_frames(self, operation, text):
        schema = operation["responses"]["200"]["content"]["text/event-stream"]["schema"]["contentSchema"]
        frames = [dict(line.split(": ", 1) for line in frame.splitlines()) for frame in text.split("\n\n")
                  if frame.startswith(("id:", "event:"))]
        for frame in frames:
            if frame["event"] not in ("gap", "stream.end"):
                self.validate(json.loads(frame["data"]), schema)
        return frames

    def check_request(self, operation, query, headers, body):
        known = {(p["in"], p["name"].lower()): p for p in operation["parameters"]}
        for name, text in parse_qsl(query, keep_blank_values=True):
            schema = known["query", name]["schema"]
            of = {"integer": int, "boolean": {"1": True, "true": True, "0": False, "false": False}.get}
            self.validate(of.get(schema["type"], str)(text), schema)
        missing = [p["name"] for (place, name), p in known.items()
                   if place == "header" and p.get("required") and name not in headers]
        assert not missing, missing
        media = headers.get("content-type", "application/json").split(";")[0]
        contents = operation.get("requestBody", {}).get("content", {})
        if body and contents and media == "application/json":
            self.validate(json.loads(body), contents[media]["schema"])
        assert body or not operation.get("requestBody", {}).get("required")

    def check(self, answer, asked=True):
        """Of a call by `requests`, and of what was asked if it was granted; gives the operation."""
        call = answer.request
        url = urlsplit(call.url)
        path = self.find(call.method.lower(), url.path)
        if not path:
            assert answer.status_code >= 400, (call.method, url.path)
            return None
        operation = self.document["paths"][path][call.method.lower()]
        media = answer.headers.get("Content-Type")
        self.check_answer(operation, answer.status_code, media, answer.text)
        if asked and answer.status_code < 300:
            headers = {name.lower(): value for name, value in call.headers.items()}
            self.check_request(operation, url.query, headers, call.body)
        return call.method.lower(), path


class Watch:
    """What the tests of this process are answered, but for what is long."""
    LONGEST = 20000

    def __init__(self):
        self.description = None

    def __call__(self, server, answer):
        if not self.description:
            self.description = Description.of(server.url)
        if len(answer.content) <= self.LONGEST:
            self.description.check(answer, asked=False)
