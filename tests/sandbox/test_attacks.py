"""What a hostile command tries, and how it is refused: by root and by a user, by bubblewrap and by Landlock with and
without namespaces."""
import json
import os
import re
import threading

import pytest
from conftest import SECRET, WORLDS, command, command_line, make_world, output, python, wait_until

# Every attempt is one line: its name and "allowed" or the error.
HELPER = '''
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(name, *arguments):
    result = libc.syscall(*map(ctypes.c_long, arguments))
    print(name, errno.errorcode[ctypes.get_errno()] if result < 0 else "allowed")

def attempt(name, do, *arguments):
    try:
        do(*arguments)
        print(name, "allowed")
    except OSError as e:
        print(name, errno.errorcode.get(e.errno, "timeout"))
'''

# What is expected is a pattern, or one for each view: bwrap, landlock (with namespaces), bare (Landlock without).
OUT = "ENOENT|EACCES"
CLOSED = "ENOENT|EACCES|EROFS"
BUT_BARE = {"bwrap": "allowed", "landlock": "allowed", "bare": "EACCES"}


def files(world):
    """Reading and writing outside the workspace, by every kind of path."""
    reads = {
        **dict.fromkeys([
            "/etc/shadow", "/etc/hostname", "/root/.profile", "{data}/admin.key", "{data}/baton.db", "{data}.log",
            "{other}/note", "{other}/../..", "/proc/{pid}/environ", "/proc/{pid}/cmdline", "/proc/{pid}/mem",
            "/proc/{pid}/root/etc/shadow", "/proc/1/root/etc/shadow", "/proc/self/root/etc/shadow",
            "/proc/self/cwd/../../../../../../etc/shadow", "link", "links/etc/shadow", "links/{data}/admin.key", "/proc/kcore",
            "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/loop0", "/dev/fuse", "/dev/kvm", "/dev/vsock", "/dev/net/tun",
            "/sys/kernel/notes", "/sys/fs/cgroup", "/var/log", "/root", "/boot"], OUT),
        # Its own process 1 is bubblewrap with an environment of its own; without it process 1 is hidden.
        "/proc/1/environ": {"bwrap": "allowed", "landlock": OUT, "bare": OUT}, "/dev/tty": OUT + "|ENXIO",
        "/etc/passwd": {"bwrap": "allowed", "landlock": OUT, "bare": OUT},  # one that was made up
        "/proc/self/status": BUT_BARE, "/usr/bin/env": "allowed", "here": "ENOENT"}
    writes = {
        **dict.fromkeys([
            "/x", "/usr/x", "/usr/bin/env", "/etc/x", "/dev/x", "/var/tmp/x", "{data}/x", "{other}/x", "{workspaces}/x",
            "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/self/exe",
            "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/x", "link"], CLOSED),
        "/dev/null": "allowed", "here": "allowed"}
    lines = ["from helper import *", "os.symlink('/etc/shadow', 'link'); os.symlink('/', 'links')"]
    expected = {}
    for verb, flags, table in (("read", "os.O_RDONLY|os.O_NOCTTY", reads), ("write", "os.O_WRONLY|os.O_CREAT", writes)):
        for path, outcome in table.items():
            lines.append(f"attempt({verb + ':' + path!r}, os.open, {path.format(**world.names)!r}, {flags})")
            expected[f"{verb}:{path}"] = outcome
    return python("\n".join(lines)), expected


def names_and_modes(world):
    """Names and modes of what lies outside.  Landlock alone does not know of modes, times and owners."""
    key = "{data}/admin.key".format(**world.names)
    text = f"""from helper import *
key = {key!r}
beside = os.path.dirname(key)
attempt('link', os.link, key, 'key')
attempt('rename', os.rename, key, 'key')
attempt('unlink', os.unlink, key)
attempt('truncate', os.truncate, key, 0)
attempt('mkdir', os.mkdir, beside + '/d')
attempt('symlink', os.symlink, '/etc/passwd', beside + '/l')
attempt('move-out', lambda: (open('mine', 'w').close(), os.rename('mine', beside + '/mine')))
attempt('chmod', os.chmod, key, 0o600)
attempt('utime', os.utime, key)
attempt('chown', os.chown, key, 12345, 12345)
attempt('mknod', os.mknod, 'device', 0o20666, os.makedev(1, 3))
attempt('setuid', os.setuid, 0)
attempt('setgroups', os.setgroups, [0])
"""
    expected = dict.fromkeys(["link", "rename", "unlink", "truncate", "mkdir", "symlink", "move-out"], CLOSED + "|EXDEV")
    expected |= dict.fromkeys(["chmod", "utime"], {"bwrap": CLOSED, "landlock": CLOSED, "bare": "allowed"})
    return python(text), expected | {"chown": CLOSED + "|EPERM|EINVAL", "mknod": "EPERM|EACCES", "setuid": "EPERM|EINVAL",
                                     "setgroups": "EPERM"}


def sockets(world):
    """The server, other machines, other families."""
    host, port = world.server.address.rsplit(":", 1)
    text = f"""from helper import *
import time
def connect(family, kind, address):
    with socket.socket(family, kind) as s:
        s.settimeout(3)
        s.connect(address)
        s.send(b'x')
S, D, R = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
attempt('server', connect, socket.AF_INET, S, ({host!r}, {port}))
attempt('server-mapped', connect, socket.AF_INET6, S, ('::ffff:127.0.0.1', {port}))
attempt('metadata', connect, socket.AF_INET, S, ('169.254.169.254', 80))
attempt('lan', connect, socket.AF_INET, S, ('192.168.0.1', 80))
attempt('world', connect, socket.AF_INET, S, ('192.0.2.1', 443))
attempt('ipv6', connect, socket.AF_INET6, S, ('2001:db8::1', 443))
attempt('udp', connect, socket.AF_INET, D, ('192.0.2.1', 53))
attempt('server-socket', connect, socket.AF_UNIX, S, {world.names['data'] + '/baton.sock'!r})
attempt('abstract', connect, socket.AF_UNIX, S, '\\0sandbox-test-{world.pid}')
attempt('vsock', connect, 40, S, (2, 1))
attempt('packet', connect, 17, R, ('lo', 0))
attempt('alg', connect, 38, 5, ('hash', 'sha256'))
attempt('key', lambda: socket.socket(15, R, 2))
attempt('bluetooth', lambda: socket.socket(31, R))
attempt('raw', lambda: socket.socket(socket.AF_INET, R, 1))
attempt('netlink', lambda: socket.socket(16, R, 0))
def own():
    with socket.socket() as a, socket.socket() as b:
        a.bind(('127.0.0.1', 0))
        a.listen()
        b.connect(a.getsockname())
attempt('own-loopback', own)
attempt('pair', socket.socketpair)
call('unix-high', 41, 0x100000001 + {0 if world.view != 'bwrap' else 39}, 1, 0)
"""
    def each(bwrap, landlock=None):
        return {"bwrap": bwrap, "landlock": landlock or bwrap, "bare": "EAFNOSUPPORT"}
    never = "EAFNOSUPPORT"
    return python(text), {
        "server": each("ECONNREFUSED"), "server-mapped": each("ECONNREFUSED"), "metadata": each("ENETUNREACH"),
        "lan": each("ENETUNREACH"), "world": each("ENETUNREACH"), "ipv6": each("ENETUNREACH"), "udp": each("ENETUNREACH"),
        "server-socket": each("ENOENT", never), "abstract": each("ECONNREFUSED", never), "vsock": never, "packet": never,
        "alg": never, "key": never, "bluetooth": never, "raw": each("EPERM"), "unix-high": never, "netlink": each("allowed"),
        "own-loopback": each("allowed"), "pair": "allowed"}


def system_calls(world):
    """What the filter refuses; numbers of x86-64."""
    numbers = {
        "mount": (165,), "umount2": (166,), "pivot_root": (155,), "chroot": (161,), "open_tree": (428,), "move_mount": (429,),
        "fsopen": (430,), "fspick": (433,), "mount_setattr": (442,), "open_tree_attr": (467,), "statmount": (457,),
        "ptrace": (101, 16, world.pid), "process_vm_readv": (310, world.pid), "process_vm_writev": (311, world.pid),
        "pidfd_getfd": (438, 0), "kcmp": (312,), "keyctl": (250,), "add_key": (248,), "request_key": (249,), "bpf": (321,),
        "userfaultfd": (323,), "perf_event_open": (298,), "io_uring_setup": (425, 1), "io_uring_enter": (426,),
        "io_uring_register": (427,), "unshare-user": (272, 0x10000000), "unshare-net": (272, 0x40000000),
        "unshare-mount": (272, 0x20000), "setns": (308,), "clone-user": (56, 0x10000000 | 17), "clone-net": (56, 0x40000000 | 17),
        "init_module": (175,), "finit_module": (313,), "delete_module": (176,), "kexec_load": (246,), "kexec_file_load": (320,),
        "reboot": (169,), "swapon": (167,), "acct": (163,), "syslog": (103, 10), "quotactl": (179,), "iopl": (172, 3),
        "ioperm": (173, 0, 1, 1), "modify_ldt": (154,), "open_by_handle_at": (304,), "name_to_handle_at": (303,),
        "clock_settime": (227,), "settimeofday": (164,), "adjtimex": (159,), "fanotify_init": (300,), "move_pages": (279,),
        "vhangup": (153,), "TIOCSTI": (16, 0, 0x5412), "TIOCLINUX": (16, 0, 0x541C), "TIOCSTI-high": (16, 0, 0x100005412)}
    shared = {"shmget": (29, 0x5ECE7, 4096, 0o600), "msgget": (68, 0x5ECE7, 0o600), "semget": (64, 0x5ECE7, 1, 0o600)}
    lines = ["from helper import *"]
    lines += [f"call({name!r}, *{arguments!r})" for name, arguments in {**numbers, **shared}.items()]
    lines += ["call('clone3', 435, 0, 0)", "call('getppid', 110)"]
    expected = dict.fromkeys(numbers, "EPERM") | {"clone3": "ENOSYS", "getppid": "allowed"}
    expected |= dict.fromkeys(shared, {"bwrap": "ENOENT", "landlock": "ENOENT", "bare": "EPERM"})
    return python("\n".join(lines)), expected


def signals(world):
    """The server, whoever started the command, everybody."""
    text = f"""from helper import *
for name, pid in (('server', {world.pid}), ('group', -{os.getpgid(world.pid)})):
    for signal in (0, 9, 19):
        attempt(name + '-%d' % signal, os.kill, pid, signal)
attempt('init', os.kill, 1, 9)
attempt('parent', os.kill, os.getppid(), 0)
attempt('limits', __import__('resource').prlimit, {world.pid}, 7, (0, 0))
attempt('priority', os.setpriority, os.PRIO_PROCESS, {world.pid}, 19)
attempt('affinity', os.sched_setaffinity, {world.pid}, [0])
"""
    # To a process 1 of its own it does nothing.
    own = {"bwrap": "allowed", "landlock": "EPERM", "bare": "EPERM"}
    return python(text), {
        **{f"{name}-{n}": {"bwrap": "ESRCH", "landlock": "ESRCH", "bare": "EPERM"} for name in ("server", "group")
           for n in (0, 9, 19)}, "init": own, "parent": own, **dict.fromkeys(["limits", "priority", "affinity"], "ESRCH|EPERM")}


ATTACKS = [files, names_and_modes, sockets, system_calls, signals]


def told(step):
    lines = (step.get("output") or {}).get("stdout", "").splitlines()
    return dict(line.rsplit(" ", 1) for line in lines)


def prepare(world):
    """Another workspace with a note in it, and the helper in the first."""
    world.other = world.api.post("/v1/workspaces", {"name": "other", "slug": "other"})["id"]
    workspaces = world.home / "data" / "workspaces"
    world.perform({"action": "write_file", "parameters": {"path": "note", "content": "mine"}}, workspace=world.other)
    directory, = workspaces.iterdir()
    world.names = {"data": str(world.home / "data"), "workspaces": str(workspaces), "other": str(directory), "pid": world.pid}
    world.perform({"action": "write_file", "parameters": {"path": "helper.py", "content": HELPER}})
    return world


@pytest.fixture(scope="module", params=WORLDS)
def world(request):
    world = make_world(request.param)
    yield prepare(world)
    world.stop()


def wrong(expected, step, view):
    """Attempts that ended otherwise, with what was expected; and what was not tried at all."""
    got = told(step)
    want = {name: outcome if isinstance(outcome, str) else outcome[view] for name, outcome in expected.items()}
    differs = {name: (got.get(name), want.get(name)) for name in {*got, *want}
               if not re.fullmatch(want.get(name, ""), got.get(name, "nothing"))}
    return differs and {**differs, "error": step.get("error")}


def test_attacks_are_refused(world):
    attacks = [make(world) for make in ATTACKS]
    steps = world.perform(*[step for step, _ in attacks])
    found = {make.__name__: wrong(expected, step, world.view)
             for (_, expected), step, make in zip(attacks, steps, ATTACKS)}
    assert not any(found.values()), json.dumps(found, indent=1)


def test_the_attempts_are_real():
    """The same attempts as a command that is trusted: what the sandboxes refuse is there to be had."""
    world = prepare(make_world("user-trusted"))
    try:
        (step_files, _), (step_sockets, _) = files(world), sockets(world)
        read, connected = (told(step) for step in world.perform(step_files, step_sockets))
        for path in ("{data}/admin.key", "{data}/baton.db", "{other}/note", "/etc/passwd", "/proc/{pid}/cmdline", "/sys/kernel/notes"):
            assert read["read:" + path] == "allowed", read
        assert read["write:{data}/x"] == read["write:/var/tmp/x"] == "allowed"
        for name in ("server", "server-mapped", "server-socket", "netlink"):
            assert connected[name] == "allowed", connected
        os.unlink("/var/tmp/x")
    finally:
        world.stop()


def test_nothing_is_inherited(world):
    """Descriptors, environment, privileges, a terminal, core files."""
    descriptors, environment, others, rights, core, nice, su, setuid, processes = world.perform(
        python("import os\nfor n in range(256):\n  try: os.fstat(n); print(n)\n  except OSError: pass"),
        command("env"),
        command("cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; true"),
        python("import ctypes\nprint(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))\n"
               "data = (ctypes.c_uint32 * 6)()\nctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), data)\nprint(list(data))"),
        command("ulimit -c; kill -SEGV $$"),
        python("import os\ntry: print(os.nice(-1))\nexcept PermissionError: print('refused')"),
        command("echo | su -c id root; sudo -n id; true"),
        command("cp /usr/bin/id id && chmod 6755 id && ./id -u"),
        command("ls /proc | grep -c '^[0-9]'; true"))
    assert output(descriptors).split() == ["0", "1", "2"]
    assert sorted(line.split("=")[0] for line in output(environment).splitlines() if line.split("=")[0] not in ("PWD", "OLDPWD", "SHLVL", "_")) \
        == sorted(["HOME", "LANG", "PATH"] + (["TMPDIR", "GIT_CONFIG_NOSYSTEM"] if world.view != "bwrap" else []))
    assert SECRET not in output(environment) + output(others) and str(world.home) not in output(others)
    assert output(rights) == "1\n[0, 0, 0, 0, 0, 0]\n"
    assert output(core) == "0\n" and core["output"]["exit_code"] == 139
    assert output(nice) == "refused\n"  # the server's writer has it
    assert "uid=0" not in output(su)
    assert output(setuid) != "0\n"
    assert int(output(processes)) <= {"bwrap": 5, "landlock": 4, "bare": 0}[world.view]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_calls_by_another_architectures_numbers_kill(world):
    """x32 numbers, and 32-bit calls by interrupt 0x80: the filter would not know them."""
    x32, interrupt = world.perform(
        python("import ctypes\nctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 | 39))\nprint('survived')"),
        python("import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
               "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\nprint('survived')"))
    assert (output(x32), x32["output"]["exit_code"]) == ("", 159)
    assert (output(interrupt), interrupt["output"]["exit_code"]) == ("", 159)


def test_a_command_cannot_tell_its_own_end(world):
    """What it prints or writes anywhere is output, never the sandbox's report."""
    forged, missing = world.perform(
        command("for fd in 1 2 3 4 5 6 7 8 9; do echo '{ \"exit-code\": 0 }' >&$fd; done 2>/dev/null; exit 7"),
        command("bwrap: execvp nothing 2>/dev/null; echo 'bwrap: execvp x: No such file or directory' >&2; exit 8"))
    assert forged["output"]["exit_code"] == 7 and missing["output"]["exit_code"] == 8


def test_runs_do_not_reach_each_other(world):
    """A command of another workspace, and one of the same, while an attacker looks for both."""
    mark = "61917.%d" % world.pid
    watched = [threading.Thread(target=world.perform, args=(command(f"sleep {mark}", timeout_seconds=30),),
                                kwargs={"workspace": workspace}) for workspace in (world.other, None)]
    for thread in watched:
        thread.start()

    def sleeping():
        return sorted(int(p) for p in os.listdir("/proc") if p.isdigit() and command_line(int(p)) == f"sleep {mark} ")

    try:
        victims = wait_until(lambda: len(sleeping()) == 2 and sleeping(), 20)
        step, = world.perform(python(
            "from helper import *\nfor pid in %r + list(range(2, 400)):\n  for signal in (19, 9):\n"
            "    if pid not in (os.getpid(), os.getppid()): attempt(str(pid), os.kill, pid, signal)" % victims))
        assert "allowed" not in told(step).values(), step
        assert sleeping() == victims
    finally:
        for pid in sleeping():
            os.kill(pid, 9)
        for thread in watched:
            thread.join()


def test_the_profile_is_recorded(world):
    step, = world.perform(command("true"))
    want = {"bwrap": {"runtime": "bwrap", "namespaces": True}, "landlock": {"runtime": "landlock", "namespaces": True},
            "bare": {"runtime": "landlock", "namespaces": False}}[world.view]
    assert want.items() <= step["sandbox"].items()
    assert step["sandbox"]["network"] == "none" and step["sandbox"]["seccomp"] is True
    assert ("landlock" in step["sandbox"]) == (world.view != "bwrap")
    worker, = world.api.get("/v1/workers")["items"]
    assert worker["sandbox"]["runtime"] == want["runtime"]
