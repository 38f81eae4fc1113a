"""A PostgreSQL of the tests' own: a cluster in a temporary directory, reached by a socket in it alone."""
import functools
import itertools
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

ORDINARY = "postgres"  # PostgreSQL does not run as root; the Debian package makes this user


def _programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    assert found, "no PostgreSQL: apt-get install postgresql"
    return found[-1]


class Cluster:
    def __init__(self, directory=None):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="baton-pg-", dir=directory))
        self.user = []
        if os.geteuid() == 0:
            user = pwd.getpwnam(ORDINARY)
            os.chown(self.home, user.pw_uid, user.pw_gid)
            self.user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self.home.chmod(0o755)
        self.numbers = itertools.count()
        self.run("initdb", "-D", self.home / "data", "-U", "baton", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
                 "--no-sync")
        self.start()

    def run(self, program, *arguments):
        done = subprocess.run([*self.user, _programs() / program, *arguments], cwd="/", text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        assert done.returncode == 0, done.stdout

    def start(self):
        """As a child that dies with this process, whatever becomes of it."""
        log = open(self.home / "log", "ab")
        self.process = subprocess.Popen(
            [*(self.user or ["setpriv"]), "--pdeathsig=QUIT", _programs() / "postgres", "-D", self.home / "data",
             "-c", f"unix_socket_directories={self.home}", "-c", "listen_addresses=", "-c", "synchronous_commit=on"],
            cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while subprocess.run([_programs() / "pg_isready", "-q", "-h", self.home]).returncode:
            assert self.process.poll() is None, (self.home / "log").read_text()
            time.sleep(0.05)

    def stop(self):
        """At once, as after a power cut."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def remove(self):
        self.stop()
        shutil.rmtree(self.home)

    def sql(self, url, text):
        """Rows as text, columns separated by '|'."""
        return subprocess.run([_programs() / "psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", url, "-c", text],
                              check=True, capture_output=True, text=True).stdout.splitlines()

    def database(self):
        """The URL of a new empty database."""
        name = f"b{next(self.numbers)}"
        self.sql(f"postgres://baton@/postgres?host={self.home}", f"CREATE DATABASE {name}")
        return f"postgres://baton@/{name}?host={self.home}"


@functools.cache
def cluster():
    """The one of this process, made when it is first asked for."""
    return Cluster()


def finish():
    """It is gone, if it was made."""
    if cluster.cache_info().currsize:
        cluster().remove()
