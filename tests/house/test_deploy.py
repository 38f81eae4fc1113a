"""What stands in deploy/ agrees with the program and with the tools that read it."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BATON = os.environ.get("BATON", str(ROOT / "build" / "baton"))
UNITS = {"baton": "serve", "baton-worker": "worker"}  # what each starts
SAMPLES = {"baton": "serve", "worker": "worker"}


def options(command):
    text = subprocess.run([BATON, command, "--help"], capture_output=True, text=True, check=True).stdout
    return {"BATON_" + name.upper().replace("-", "_") for name in re.findall(r"^  --(\S+)", text, re.M)}


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_sample_configuration_names_options_that_there_are(sample):
    named = set(re.findall(r"^#?(BATON_\w+)=", (DEPLOY / f"{sample}.env").read_text(), re.M))
    assert named and named <= options(SAMPLES[sample])


@pytest.fixture(params=UNITS)
def unit(request, tmp_path):
    """As it is, but with a program that is there."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    text = (DEPLOY / f"{request.param}.service").read_text()
    assert f"ExecStart=/usr/local/bin/baton {UNITS[request.param]}\n" in text
    path = tmp_path / f"{request.param}.service"
    path.write_text(text.replace("/usr/local/bin/baton", shutil.which("true")))
    return path


def test_systemd_takes_the_unit(unit):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


def test_the_unit_is_hardened(unit):
    """An exposure of 3.6 of 10 at most: the rest is what the sandboxes of commands need."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=36", "--no-pager", unit],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-400:]


@pytest.mark.parametrize("unit_name, sample", zip(UNITS, SAMPLES))
def test_a_stop_has_time_to_drain(unit_name, sample):
    stop = int(re.search(r"^TimeoutStopSec=(\d+)", (DEPLOY / f"{unit_name}.service").read_text(), re.M)[1])
    drain = int(re.search(r"^BATON_DRAIN_SECONDS=(\d+)", (DEPLOY / f"{sample}.env").read_text(), re.M)[1])
    assert stop >= drain + 30  # requests under way end in 5 s, those to webhooks in 10 s


# ---- containers ----

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "baton"}
SAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "compose.env").read_text(), re.M))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def seconds(text):
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def test_the_profile_split_is_a_server_and_workers_on_postgresql_and_redis():
    assert {name for name, service in COMPOSE["services"].items() if service["profiles"] == ["split"]} == {
        "postgres", "redis", "serve", "worker"}
    assert {name: service["command"] for name, service in OURS.items()} == {"serve": ["serve"], "worker": ["worker"]}
    for service in OURS.values():
        assert set(service["depends_on"]) == {"postgres", "redis"}
        assert all(COMPOSE["services"][name]["healthcheck"] for name in service["depends_on"])


@pytest.mark.parametrize("name", OURS)
def test_a_service_names_options_that_its_command_has(name):
    variables = set(OURS[name]["environment"])
    assert {v for v in variables if v.startswith("BATON_")} <= options(name)
    assert variables - options(name) == {"PGPASSFILE"}


def test_a_server_and_its_workers_share_the_store_the_key_and_the_files():
    serve, worker = OURS["serve"], OURS["worker"]
    for name in ("BATON_STORE", "BATON_REDIS", "BATON_WORKSPACES", "PGPASSFILE"):
        assert serve["environment"][name] == worker["environment"][name]
    for service in OURS.values():
        assert {"source": "secret_key", "target": "/var/lib/baton/secret.key"} in service["secrets"]
        assert f"workspaces:{service['environment']['BATON_WORKSPACES']}" in service["volumes"]
    assert not any("/var/lib/baton" in volume for volume in worker["volumes"])  # each has a data directory of its own


def test_what_the_services_mount_is_declared_and_belongs_to_their_user():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")
            assert source in COMPOSE["volumes"]
            if service["image"] == "baton":
                assert re.search(rf"install -d -m 0700 -o baton -g baton [^\n]*{target}\b", DOCKERFILE)
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]


def test_no_secret_stands_in_the_compose_file_or_its_sample():
    assert all(list(secret) == ["file"] for secret in COMPOSE["secrets"].values())
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text() and "deploy/secrets" in (ROOT / ".dockerignore").read_text()
    values = {**SAMPLE, **{k: v for service in COMPOSE["services"].values() for k, v in service.get("environment", {}).items()}}
    for name, value in values.items():
        assert not re.search("PASS|SECRET|KEY|TOKEN", name) or value.startswith("/run/secrets/"), name
        assert not re.search(r"://[^/@]*:[^/@]*@", value), name
    for path in re.findall(r"/run/secrets/(\w+)", (DEPLOY / "compose.yaml").read_text()):
        assert path in COMPOSE["secrets"]


def test_every_variable_of_the_compose_file_is_in_its_sample():
    assert set(re.findall(r"\$\{(\w+)\}", (DEPLOY / "compose.yaml").read_text())) == set(SAMPLE)


def test_the_health_of_the_server_is_asked_where_it_listens_by_a_route_that_there_is():
    serve = OURS["serve"]
    port, path = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/\w+)", serve["healthcheck"]["test"][-1]).groups()
    routes = "".join(source.read_text() for source in (ROOT / "src" / "api").glob("*.c"))
    assert f'{{ HTTP_GET, "{path}", 0, ROUTE_OPEN' in routes
    assert serve["environment"]["BATON_LISTEN"].endswith(":" + port)
    assert serve["ports"] == ["${BATON_PUBLISH}:" + port]
    assert SAMPLE["BATON_PUBLISH"].startswith("127.0.0.1:")  # the world comes through a proxy
    assert re.search(r"\bcurl\b", DOCKERFILE.split("FROM ")[-1])


@pytest.mark.parametrize("name", OURS)
def test_a_container_has_few_rights_and_time_to_drain(name):
    service = OURS[name]
    drain = int(service["environment"].get("BATON_DRAIN_SECONDS", 0))
    assert seconds(service["stop_grace_period"]) >= drain + 30
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    # Without a worker there is no sandbox to be made: nothing is opened for it.
    assert (service["security_opt"] == ["no-new-privileges:true"]) == (service["environment"]["BATON_CONCURRENCY"] == "0")


def test_the_image_is_built_from_the_source_on_debian_12_and_runs_as_a_user():
    stages = DOCKERFILE.split("FROM ")[1:]
    assert all(stage.startswith("debian:bookworm-slim") for stage in stages)
    assert re.search(r"^USER baton$", stages[-1], re.M) and 'ENTRYPOINT ["baton"]' in stages[-1]
    assert "BATON_DATA=/var/lib/baton" in stages[-1]
    for service in OURS.values():
        assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).exists()
    needed = set(re.search(r'^packages="([^"]*)"', (ROOT / "tools" / "setup").read_text(), re.M)[1].split())
    installed = set(re.search(r"recommends \\\n(.*?)\nCOPY", stages[0], re.S)[1].replace("\\", "").split())
    assert installed == {package for package in needed if package.startswith("lib") and package.endswith("-dev")} | {
        "gcc", "pkg-config", "meson", "ninja-build", "python3"}


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not Debian")
@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="it needs a sanitizer's library too")
def test_the_image_has_the_libraries_that_the_program_needs():
    """The packages of those that the build named, as this Debian has them."""
    said = subprocess.run(["readelf", "-d", pathlib.Path(BATON).resolve()], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"NEEDED.*\[(lib(?!c\.|m\.)[^\]]+)\]", said)
    found = subprocess.run(["dpkg-query", "-S", *(f"*/{name}" for name in names)], capture_output=True, text=True).stdout
    packages = {line.split(":")[0] for line in found.splitlines()}
    assert len(packages) >= len(names) - 1 and packages <= set(DOCKERFILE.split("FROM ")[-1].split()), packages
