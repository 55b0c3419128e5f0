# SPDX-License-Identifier: Apache-2.0
"""The processes: what each may do, and that each is replaced when it dies. (Cases 60, 71.)"""
import os
import re
import threading
import time

import pytest

from bed.domains import ECHO_HOST
from bed.gateway import SLOW, curl, http, recv_all, wait


def status_of(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(l.split(":\t", 1) for l in f.read().splitlines() if ":\t" in l)


def test_users_and_sandbox(pair):
    """As root: each role has a user of its own, no capability, no new privileges, and a seccomp filter."""
    uids = {}
    for g in (pair.a, pair.b):
        for pid, role in g.pids().items():
            st = status_of(pid)
            if role == "master":
                continue
            uid = int(st["Uid"].split()[0])
            assert len(set(st["Uid"].split())) == 1 and uid != 0, (role, st["Uid"])
            assert int(st["CapEff"], 16) == int(st["CapPrm"], 16) == 0, (role, st["CapEff"])
            assert st["NoNewPrivs"].strip() == "1" and st["Seccomp"].strip() == "2", role
            assert st["Groups"].strip() in ("", str(uid)), role
            uids.setdefault(role, uid)
            assert uids[role] == uid
    assert set(uids) == {"keys", "journal", "control", "worker"} and len(set(uids.values())) == 4


def test_who_holds_what(pair):
    """No worker has a file of the journal or a key open; only workers have network sockets; keys has no socket but its channels."""
    for g in (pair.a,):
        for pid, role in g.pids().items():
            fds = [os.readlink("/proc/%d/fd/%s" % (pid, f)) for f in os.listdir("/proc/%d/fd" % pid)]
            files = [f for f in fds if f.startswith("/") and not f.startswith(("/dev/", "/memfd"))]
            if role == "worker":
                assert not [f for f in files if "/journal" in f or f.endswith((".key", ".conf"))], files
            if role in ("keys", "control", "journal"):
                with open("/proc/%d/net/tcp" % pid) as f:
                    inodes = {l.split()[9] for l in f.read().splitlines()[1:]}
                socks = {re.match(r"socket:\[(\d+)\]", f).group(1) for f in fds if f.startswith("socket:")}
                assert not socks & inodes, (role, socks & inodes)
            if role != "journal":
                assert not [f for f in files if "/journal/" in f] or role == "master", (role, files)


def test_status_says_what_the_kernel_gave(pair):
    st = pair.a.status()
    for r in st["roles"]:
        if r["role"] != "master":
            assert r["state"] == "ready" and r["sandbox"], r


@pytest.mark.parametrize("role", ["keys", "journal", "control", "worker"])
@pytest.mark.parametrize("side", ["a", "b"])
def test_each_role_killed(pair, origin, side, role):
    """Case 71: killed by -9, there again within 1 s or so, and calls cross."""
    g = getattr(pair, side)
    old = set(g.kill(role))

    def back():
        st = g.status(check=False)
        if not st:
            return False
        now = [r for r in st["roles"] if r["role"] == role]
        return now and all(r["state"] == "ready" and r["pid"] not in old for r in now)
    wait("%s again" % role, back, 4)
    wait("calls", lambda: pair.get("/kr")[0] == 200, 10)
    assert wait("a record of it", lambda: [r for r in g.journal("role") if r.get("role", "").split("/")[0] == role and r["reason"] != "started"])


def test_keys_killed(pair, world, origin):
    """Case 60: running exchanges live, new handshakes fail and then work again."""
    go = threading.Event()

    def answer(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        go.wait(30)
        c.sendall(b"67890")
    origin.answers["/lives"] = answer
    with pair.legacy() as s:
        s.sendall(("GET /lives HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST).encode())
        s.settimeout(5)
        s.recv(10)
        pair.a.kill("keys")
        assert pair.get("/while-keys-is-gone")[0] == 200  # over links that exist
        go.set()
        assert recv_all(s).endswith(b"1234567890")

    def handshake():
        code, _, _ = curl(world.hud, "--cert", pair.app.crt, "--key", pair.app.keyfile, "--cacert", pair.hud.ca.bundle,
                          "--connect-to", "::10.1.0.10:443", "https://%s/hs" % ECHO_HOST)
        return code == 200
    wait("handshakes again", handshake, 5)


def test_master_killed(make_pair, origin):
    """Without its master nobody goes on: every role ends, so that a supervisor starts all of it."""
    p = make_pair()
    family = p.a.family()
    os.kill(p.a.proc.pid, 9)
    p.a.proc.wait()
    wait("the end of all roles", lambda: not [q for q in family if os.path.exists("/proc/%d" % q)], 5)
    p.a.start()
    wait("calls", lambda: p.get("/after-master")[0] == 200, 15)
    p.a.verify()


def test_sigterm_drains(make_pair, origin):
    """SIGTERM: no new connections, what runs ends well, exit 0."""
    p = make_pair()

    def slow(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(4):
            c.sendall(b"12345")
            time.sleep(0.4)
    origin.answers["/drain"] = slow
    with p.legacy() as s:
        s.sendall(("GET /drain HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST).encode())
        s.settimeout(5)
        s.recv(10)
        p.a.proc.terminate()
        assert recv_all(s, 10).endswith(b"12345" * 4)
    assert p.a.proc.wait(15 * SLOW) == 0
    assert p.a.exchange(path="/drain")["reason"] == "complete"


def test_drain_ends_at_its_deadline(make_pair, origin):
    p = make_pair(a={"limits": {"drain_timeout": "1s"}})
    stop = threading.Event()

    def forever(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not stop.is_set():
            c.sendall(b"x")
            time.sleep(0.05)
        return False
    origin.answers["/forever"] = forever
    with p.legacy() as s:
        s.sendall(("GET /forever HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
        s.settimeout(5)
        s.recv(10)
        p.a.proc.terminate()
        assert p.a.proc.wait(10 * SLOW) == 0
    stop.set()
    assert p.a.exchange(path="/forever")["reason"] != "complete"


def test_sigint_stops_at_once(make_pair, origin):
    p = make_pair()
    began = time.monotonic()
    p.a.proc.send_signal(2)
    p.a.proc.wait(10)
    assert time.monotonic() - began < 3 * SLOW


def test_gwctl_drain(make_pair, origin):
    p = make_pair()
    p.a.ctl("drain")
    assert p.a.proc.wait(15 * SLOW) == 0
