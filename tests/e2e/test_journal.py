# SPDX-License-Identifier: Apache-2.0
"""Both books: complete, chained, joined; whatever dies and wherever the disk ends."""
import glob
import os
import re
import subprocess
import threading
import time

import pytest

from bed.domains import COBOL, ECHO_HOST, TAX_HOST
from bed.gateway import SLOW, http, parse_record, recv_all, wait


def test_verify_and_reconcile(pair, origin):
    for i in range(30):
        assert pair.get("/j%d" % i)[0] == 200
    assert pair.get("/denied", source="10.1.0.8")[0] == 403
    time.sleep(0.3)
    pair.a.verify()
    pair.b.verify()
    out = pair.reconcile()
    assert b"30" in out.stdout or out.returncode == 0


def test_what_a_record_says(pair, origin):
    """AU-3: what, when, where, who, outcome, which rule at which file:line, policy generation, octets, duration."""
    pair.get("/au3", method="POST", body=b"12345")
    r = pair.a.exchange(path="/au3")
    for name in ("seq", "prev", "worker", "exchange", "attempt", "verdict", "reason", "status", "principal", "assurance", "service", "host", "method",
                 "path", "protocol", "rule", "rule_at", "generation", "direction", "peer", "link", "client", "listener", "bytes_in",
                 "bytes_out", "duration_us"):
        assert r.get(name), (name, r["line"])
    assert (r["bytes_in"], r["reason"], r["method"]) == ("5", "complete", "POST") and int(r["duration_us"]) > 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|\+00:00)", r["time"])
    b = pair.b.exchange(path="/au3")
    assert b["endpoint"] == "10.2.0.30:9000" and b["exchange"] == r["exchange"]


def test_sequence_is_unbroken(pair):
    for g in (pair.a, pair.b):
        seqs = [int(r["seq"]) for r in g.journal()]
        assert seqs == list(range(1, len(seqs) + 1))


def test_escapes(pair, origin):
    """Case 84: what an application writes stays in its field, whatever it is."""
    for path in ("/a]b", "/q%22x", "/%5B%5D", "/%1b%5b31m", "/%e2%80%ae", "/%ff%fe"):
        pair.get(path)
    for g in (pair.a, pair.b):
        for r in g.journal():  # parse_record is strict
            assert all(0x20 <= ord(c) for c in r["line"])
        g.verify()


def test_tampering_is_found(pair, folder, origin):
    """Case 78: an edited, removed or swapped record is named by its number."""
    pair.get("/tamper")
    time.sleep(1.2)
    src = pair.a.folder + "/journal"
    for what in ("edit", "remove", "swap"):
        copy = folder() + "/j"
        subprocess.run(["cp", "-r", src, copy], check=True)
        path = sorted(glob.glob(copy + "/journal-*.log"))[0]
        with open(path) as f:
            lines = f.read().split("\n")
        if what == "edit":
            lines[3] = lines[3].replace('worker="', 'worker="x', 1)
        elif what == "remove":
            del lines[3]
        else:
            lines[3], lines[4] = lines[4], lines[3]
        with open(path, "w") as f:
            f.write("\n".join(lines))
        p = pair.a.ctl("audit", "verify", copy, check=False)
        assert p.returncode == 1, (what, p.stdout)
        assert re.search(rb"\b[345]\b", p.stdout + p.stderr), (what, p.stdout + p.stderr)


def test_reconcile_finds_what_one_book_lacks(pair, folder, origin):
    pair.get("/lacking")
    r = pair.b.exchange(path="/lacking")
    time.sleep(0.3)
    copy = folder() + "/j"
    subprocess.run(["cp", "-r", pair.b.folder + "/journal", copy], check=True)
    for path in glob.glob(copy + "/journal-*.log"):
        with open(path) as f:
            lines = [l for l in f.read().split("\n") if r["exchange"] not in l]
        with open(path, "w") as f:
            f.write("\n".join(lines))
    p = pair.a.ctl("audit", "reconcile", pair.a.folder + "/journal", copy, check=False)
    assert p.returncode == 1 and r["exchange"].encode() in p.stdout, p.stdout + p.stderr


def test_tail(pair, origin):
    pair.get("/tailed")
    pair.a.exchange(path="/tailed")
    assert b"/tailed" in pair.a.ctl("audit", "tail").stdout


def hold(pair, origin, path):
    """An exchange under way: (socket, event that lets the service end it)."""
    go = threading.Event()

    def answer(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        go.wait(30)
        c.sendall(b"67890")
    origin.answers[path] = answer
    s = pair.legacy()
    s.settimeout(10 * SLOW)
    s.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, ECHO_HOST)).encode())
    got = b""
    while b"12345" not in got:
        d = s.recv(4096)
        assert d, got
        got += d
    return s, go


@pytest.mark.parametrize("side", ["a", "b"])
def test_worker_killed_in_mid_exchange(make_pair, origin, side):
    """Case 71: the decision was in the ring before the first octet was forwarded: the exchange ends in the book with worker-died."""
    p = make_pair()
    g = getattr(p, side)
    s, go = hold(p, origin, "/killed")
    g.kill("worker")
    end = g.exchange(path="/killed", seconds=5)
    assert end["reason"] == "worker-died", end["line"]
    go.set()
    s.close()
    wait("service again", lambda: p.get("/after")[0] == 200, 15)
    assert wait("a role record", lambda: g.journal("role"))
    p.stop()
    for g in (p.a, p.b):
        g.verify()


def test_journal_killed(make_pair, origin):
    """Case 71: the writer dies under load: a new one goes on in the same chain; every answered call is in the book, once."""
    p = make_pair()
    done, stop, errors = [], threading.Event(), []

    def calls():
        i = 0
        while not stop.is_set():
            i += 1
            try:
                status = p.get("/jk%d" % i)[0]
            except OSError:
                continue
            if status == 200:
                done.append("/jk%d" % i)
            elif status != 503:
                errors.append(status)
    t = threading.Thread(target=calls)
    t.start()
    for _ in range(3):
        time.sleep(1)
        for g in (p.a, p.b):
            g.kill("journal")
    time.sleep(2)
    stop.set()
    t.join()
    assert len(done) > 20 and not errors, (len(done), errors[:5])
    time.sleep(0.5)
    for g in (p.a, p.b):
        g.verify()
        ends = [r["path"] for r in g.exchanges(service="echo", verdict="allow") if "/jk" in r["path"]]
        assert not set(done) - set(ends)
        assert len(ends) == len(set(ends))
    p.stop()
    assert p.reconcile().returncode == 0


def test_no_room_on_the_disk(make_pair, world, folder, origin):
    """Case 74: the journal's disk is full: nothing crosses, the caller is told 503, an alarm is in the book; with room again, calls cross."""
    disk = folder() + "/disk"
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", disk], check=True)
    try:
        os.mkdir(disk + "/journal")
        p = make_pair(a={"journal": {"directory": disk + "/journal", "min_free": "1MiB", "segment_size": "1MiB"}}, start=False)
        p.a.folder_journal = disk
        p.b.start()
        p.a.start()
        wait("a call", lambda: p.get("/room")[0] == 200, 15)
        with open(disk + "/ballast", "wb") as f:
            try:
                while True:
                    f.write(b"\0" * 65536)
            except OSError:
                pass
        wait("denied", lambda: p.get("/full")[0] == 503, 10)
        seen = len(origin.requests)
        for _ in range(5):
            assert p.get("/full2")[0] == 503
        assert len(origin.requests) == seen
        os.unlink(disk + "/ballast")
        wait("calls again", lambda: p.get("/room-again")[0] == 200, 15)
        p.stop()
        text = "".join(open(f).read() for f in glob.glob(disk + "/journal/journal-*.log"))
        records = [parse_record(l) for l in text.split("\n") if l]
        assert [r for r in records if r["msgid"] in ("alert", "journal") and "space" in r["reason"]], text[-3000:]
        p.a.ctl("audit", "verify", disk + "/journal")
    finally:
        subprocess.run(["umount", "-l", disk])


def test_second_writer_is_refused(make_pair, world, origin):
    """Case 85: another gateway on the same journal directory does not start."""
    p = make_pair()
    import subprocess as sp
    from bed.gateway import DAEMON
    other = dict(p.a.config, listeners=[], control={"socket": "other.sock"}, peers=[], services=[])
    from bed.gateway import conf_file
    with open(p.a.folder + "/other.conf", "w") as f:
        f.write(conf_file(other))
    out = sp.run([DAEMON, "-f", "-c", p.a.folder + "/other.conf"], capture_output=True, timeout=30 * SLOW)
    assert out.returncode != 0 and (b"lock" in out.stderr or b"journal" in out.stderr), out.stderr
    assert p.get("/unharmed")[0] == 200


def test_rotation(make_pair, origin):
    """Segments are closed by size, the chain goes on, and verify reads them all."""
    p = make_pair(a={"journal": {"directory": "journal", "segment_size": "1MiB"}})
    with p.legacy() as s:
        for i in range(2500):
            assert http(s, ("GET /r%d?%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (i, "x" * 10, ECHO_HOST)).encode())[0] == 200
    wait("segments", lambda: len(glob.glob(p.a.folder + "/journal/journal-*.log")) >= 2)
    p.stop()
    p.a.verify()
    seqs = [int(r["seq"]) for r in p.a.journal()]
    assert seqs == list(range(1, len(seqs) + 1))
    assert p.reconcile().returncode == 0


def test_restart_goes_on_in_the_chain(make_pair, origin):
    p = make_pair()
    p.get("/one")
    p.stop()
    last = int(p.a.journal()[-1]["seq"])
    p.start()
    p.get("/two")
    p.stop()
    seqs = [int(r["seq"]) for r in p.a.journal()]
    assert seqs == list(range(1, len(seqs) + 1)) and seqs[-1] > last
    p.a.verify()
