# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in an operator's hands, and whether the gateway says so, before it matters."""
import os
import signal
import subprocess
import time

import pytest

from bed.domains import ECHO_HOST
from bed.gateway import DAEMON, SLOW, recv_all, wait


def test(gateway):
    """sallyportd -t."""
    return gateway.ns.run(DAEMON, "-t", "-c", gateway.path, check=False, timeout=20 * SLOW)


test.__test__ = False


def identity(domain, cert, key=None):
    return {"certificate": cert.crt, "key": (key or cert).keyfile, "bundle": domain.ca.bundle}


def test_key_of_another_certificate(pair):
    """Said by file and line at -t and at a reload, which changes nothing; and a daemon does not start with it."""
    good = dict(pair.a.config["identity"])
    other = pair.hud.issue("gateway", "dmz1", "another")
    try:
        pair.a.write(identity=identity(pair.hud, pair.hud.gateway, other))
        p = test(pair.a)
        assert p.returncode == 1 and b"sallyport.conf:" in p.stderr and b"is not the key of the certificate" in p.stderr
        assert other.keyfile.encode() in p.stderr and pair.hud.gateway.crt.encode() in p.stderr
        r = pair.a.reload(check=False)
        assert r.returncode == 1 and b"is not the key" in r.stderr
        assert pair.get("/key")[0] == 200
        with open(other.keyfile, "w") as f:
            f.write("no key\n")
        p = test(pair.a)
        assert p.returncode == 1 and b"holds no private key" in p.stderr
        os.remove(other.keyfile)
        assert test(pair.a).returncode == 1
    finally:
        pair.a.write(identity=good)
    assert test(pair.a).returncode == 0


def test_not_proved_by_our_bundle(pair, folder):
    """A certificate of another CA of the same domain: nobody who has our bundle would believe it."""
    good = dict(pair.a.config["identity"])
    from bed.domains import Domain
    stranger = Domain(folder(), "hud.example", "dmz1")
    try:
        pair.a.write(identity=identity(pair.hud, stranger.gateway))
        p = test(pair.a)
        assert p.returncode == 1 and b"is not proved by the bundle" in p.stderr
    finally:
        pair.a.write(identity=good)


def test_a_drain_refuses_at_once(make_pair, origin):
    """Callers of a gateway that ends go elsewhere, instead of waiting in a queue that nobody reads; what runs ends well."""
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
        p.a.proc.send_signal(signal.SIGTERM)

        def refused():
            try:
                p.legacy().close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass
        wait("a refusal", refused, 1)
        assert recv_all(s, 10).endswith(b"12345" * 4)
    assert p.a.proc.wait(15 * SLOW) == 0


@pytest.mark.limit(120)
def test_told_to_stop_while_it_starts(make_pair):
    """Whatever has started by then ends by itself: nobody is killed, and nobody has died."""
    p = make_pair(start=False)
    for ms in range(5, 100, 6):
        p.a.start(wait_ready=False)
        time.sleep(ms / 1000)
        p.a.proc.send_signal(signal.SIGTERM)
        p.a.proc.wait(15 * SLOW)
        p.a.stop()
    bad = [l for l in p.a.log().splitlines() if " is killed: " in l or " died: " in l]
    assert not bad, bad[:5]


def test_signals_that_mean_nothing(pair):
    """What log rotation sends to every process of a name."""
    before = pair.a.pids()
    for pid in pair.a.family():
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGUSR2)
    time.sleep(0.3)
    assert pair.a.pids() == before and pair.get("/usr1")[0] == 200


def test_twice(pair):
    out = pair.a.ns.run(DAEMON, "-f", "-c", pair.a.path, check=False, timeout=20 * SLOW)
    assert out.returncode == 1 and b"another sallyportd runs" in out.stderr
    assert test(pair.a).returncode == 0 and pair.get("/twice")[0] == 200


def test_key_that_cannot_be_opened(make_pair, folder):
    """Not as root: no start without a key."""
    p = make_pair(start=False)
    d = os.path.dirname(p.a.path)
    subprocess.run(["chown", "-R", "23456:23456", d], check=True)
    p.a.write(user_prefix=None, listeners=[])
    argv = ["setpriv", "--reuid=23456", "--regid=23456", "--clear-groups", DAEMON]
    for more in (["-t"], ["-f"]):
        out = p.a.ns.run(*argv, *more, "-c", p.a.path, check=False, timeout=20 * SLOW)
        assert out.returncode == 1 and b"cannot open the private key" in out.stderr, out.stderr


def test_why_there_is_no_link(make_pair):
    """The dialler's log, book and gwctl say what the far end told it, or where nobody answered."""
    p = make_pair(start=False)
    stranger = p.hud.issue("gateway", "dmz7", "dmz7")  # not among the gateways that B has listed
    p.a.write(identity=identity(p.hud, stranger))
    p.b.start()
    p.a.start()

    def failure():
        return p.a.json("peers")["peers"][0].get("last_failure")
    f = wait("a failure", failure)
    assert f["reason"] == "closed" and "list our gateway id" in f["detail"] and f["address"].endswith(":443")
    assert b"Last failure of a link" in p.a.ctl("peers").stdout
    assert p.b.record("refused", reason="gateway-not-listed")
    assert [l for l in p.a.log().splitlines() if " warn " in l and "peer=irs" in l and "address=" in l]
    p.b.stop()
    wait("nobody there", lambda: failure()["reason"] == "connect-failed", 15)


def test_refusals_arrive(pair, world):
    """A client without a certificate learns so from the alert, whenever it looks; not from a reset connection."""
    for _ in range(10):
        p = world.hud.run("curl", "-sS", "-m", "5", "--cacert", pair.hud.ca.bundle, "--connect-to", "::10.1.0.10:443",
                          "https://%s/" % ECHO_HOST, check=False)
        assert b"certificate required" in p.stderr, p.stderr
