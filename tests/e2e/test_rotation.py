# SPDX-License-Identifier: Apache-2.0
"""Trust that changes under running traffic: what is renewed goes on, what ends or is withdrawn is cut, and both books say why."""
import datetime
import os
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from bed import tls
from bed.domains import APP, DB_HOST, ECHO_HOST, RULES_A, RULES_B, rule
from bed.gateway import SLOW, Gateway, curl, http, wait
from bed.net import World
from bed.pki import CA

pytestmark = pytest.mark.limit(90)
GATEWAY_A, GATEWAY_B = "spiffe://hud.example/gateway/dmz1", "spiffe://irs.example/gateway/dmz1"


# ---- certificates and lists

def end_of(cert):
    """notAfter, in seconds."""
    return cert.cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()


def put(path, data):
    """As an operator should: the new file takes the old one's place at once."""
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as f:
        f.write(data)
    os.rename(path + ".new", path)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def install(cert, at):
    """A certificate with its key in the place of another."""
    put(at.keyfile, read(cert.keyfile))
    put(at.crt, read(cert.crt))


def gateway_cert(domain, seconds, name):
    dns = [DB_HOST, ECHO_HOST] if name.startswith("inside") else []
    return domain.ca.issue(name, uris=[domain.gateway_id], seconds=(-seconds, seconds), dns=dns)


def app_cert(pair, seconds, name="app"):
    return pair.hud.ca.issue("short-" + name, uris=[APP], seconds=(-seconds, seconds))


class Lists:
    """A CRL file of a CA."""

    def __init__(self, ca, path):
        self.ca, self.path, self.number, self.serials = ca, path, 0, []
        self.write()

    def revoke(self, cert):
        self.serials.append(cert.cert.serial_number)
        self.write()

    def write(self):
        self.number += 1
        now = datetime.datetime.utcnow()
        b = (x509.CertificateRevocationListBuilder().issuer_name(self.ca.cert.subject).last_update(now - datetime.timedelta(minutes=1))
             .next_update(now + datetime.timedelta(hours=1)).add_extension(x509.CRLNumber(self.number), False)
             .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.key.public_key()), False))
        for s in self.serials:
            b = b.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(s).revocation_date(now).build())
        put(self.path, b.sign(self.ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + self.ca.chain)


# ---- what runs

class Tunnel:
    """A workload's TCP exchange with the echo server behind B, known by its certificate."""

    def __init__(self, pair, cert):
        self.sent = 0
        self.s = tls.connect(pair.world.hud, ("10.1.0.10", 443), DB_HOST, cert=cert)
        self.s.settimeout(5 * SLOW)
        self.s.sendall(b"CONNECT %s:5432 HTTP/1.1\r\nHost: %s:5432\r\n\r\n" % (DB_HOST.encode(), DB_HOST.encode()))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            d = self.s.recv(1)
            assert d, "closed after %r" % head
            head += d
        assert head.startswith(b"HTTP/1.1 200"), head

    def say(self, text=b"0123456789"):
        self.s.settimeout(5 * SLOW)
        self.s.sendall(text)
        got = b""
        while len(got) < len(text):
            d = self.s.recv(65536)
            assert d, "closed after %d of %d octets" % (self.sent + len(got), self.sent + len(text))
            got += d
        assert got == text
        self.sent += len(text)

    def ended(self, seconds):
        """Waits for the far end to end it."""
        self.s.settimeout(seconds * SLOW)
        try:
            return self.s.recv(1) == b""
        except socket.timeout:
            return False
        except (ConnectionResetError, ssl.SSLError):
            return True

    def close(self):
        """In order: all of it went through. The server's last word comes after our close_notify, which Python takes for a fault."""
        self.s.settimeout(5 * SLOW)
        with pytest.raises(ssl.SSLError, match="AFTER_CLOSE_NOTIFY"):
            self.s.unwrap()
        raw = socket.socket(fileno=self.s.detach())
        raw.settimeout(5 * SLOW)
        while raw.recv(4096):
            pass
        raw.close()


class Legacy(Tunnel):
    """The same of a client that is known by its address: only links hold certificates."""

    def __init__(self, pair):
        self.sent = 0
        self.s = pair.legacy(port=5432)

    def close(self):
        self.s.shutdown(socket.SHUT_WR)
        self.s.settimeout(5 * SLOW)
        assert self.s.recv(10) == b"bye"
        self.s.close()


class Drip:
    """A slow download: "seconds" long, a piece every 100 ms."""

    def __init__(self, pair, origin, seconds):
        self.pieces = int(seconds * 10)
        origin.answers["/drip"] = self.serve
        self.result = None
        self.thread = threading.Thread(target=self.run, args=(pair,), daemon=True)
        self.thread.start()

    def body(self):
        return b"".join(b"%08d" % i * 128 for i in range(self.pieces))

    def serve(self, c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (self.pieces * 1024))
        for i in range(self.pieces):
            c.sendall(b"%08d" % i * 128)
            time.sleep(0.1)

    def run(self, pair):
        try:
            with pair.legacy() as s:
                self.result = http(s, ("GET /drip HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode(), timeout=60)
        except (OSError, AssertionError) as e:
            self.result = repr(e)

    def check(self):
        self.thread.join(60 * SLOW)
        assert self.result and self.result[0] == 200, self.result
        assert self.result[2] == self.body()


def sleep_until(t):
    time.sleep(max(0, t - time.time()))


def both_say(pair, tunnel, reason, **kw):
    """Case 54, 55: why it ended, and how much had gone through, is in both books."""
    for g, want in ((pair.a, kw.get("a", reason)), (pair.b, kw.get("b", reason))):
        r = g.exchange(service="ledger-db", principal=kw.get("principal", APP))
        assert r["reason"] == want, r["line"]
        assert (int(r["bytes_in"]), int(r["bytes_out"])) == (tunnel.sent, tunnel.sent), r["line"]


# ---- gateways' certificates

def replaced(g, n, since):
    """n links of g that came up after "since" records."""
    return len(g.journal("link-up")) - since >= n


@pytest.mark.parametrize("whose", ["a", "b"])
@pytest.mark.parametrize("dial", ["a", "b"])
def test_gateway_certificate_renewed(make_pair, echo, origin, whose, dial):
    """Case 55, for links: a gateway's certificate is renewed on disk, its links are made anew, and what runs on the old ones goes on although their
    certificate ends: not an octet is lost."""
    ways = (("hud", "irs"),) if dial == "a" else (("irs", "hud"),)
    p = make_pair(start=False, dial=dial, ways=ways)
    domain, g = (p.hud, p.a) if whose == "a" else (p.irs, p.b)
    old = gateway_cert(domain, 14 * SLOW, "gateway-old")
    install(old, domain.gateway)
    p.start()
    t = Legacy(p)
    d = Drip(p, origin, 16 * SLOW)
    t.say()
    since = len(p.a.journal("link-up"))
    pids = g.role("worker")
    install(gateway_cert(domain, 3600, "gateway-new"), domain.gateway)
    g.reload()
    assert g.role("worker") == pids, "no new process is needed for that"
    t.say()
    if whose == dial:  # else the dialler sees the new one when it dials again, at the latest before the old one's end
        wait("new links", lambda: replaced(p.a, 4, since), 10)
    while time.time() < end_of(old) + 2:
        t.say()
        time.sleep(0.2)
    wait("new links", lambda: replaced(p.a, 4, since), 5)
    t.say(b"x" * 100000)
    t.close()
    d.check()
    for x in (p.a, p.b):
        assert not x.journal("link-down", reason="certificate-expired"), [r["line"] for r in x.journal("link-down")]
        r = x.exchange(service="ledger-db")
        assert r["reason"] == "complete" and int(r["bytes_in"]) == t.sent, r["line"]
    assert p.get("/after")[0] == 200


@pytest.mark.limit(150)
def test_renewed_over_and_over(make_pair, echo, origin):
    """Both gateways' certificates, each good for a few seconds, are renewed again and again under load: nothing fails, nothing is lost."""
    p = make_pair(start=False)
    life = 8 * SLOW

    def renew(i):
        for d in (p.hud, p.irs):
            install(gateway_cert(d, life, "gateway-%d" % i), d.gateway)
    renew(0)
    p.start()
    t = Legacy(p)
    pids = p.a.role("worker"), p.b.role("worker")
    good, bad, stop = [0], [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                status = p.get("/again")[0]
                if status != 200:
                    bad.append(status)
                good[0] += 1
            except (OSError, AssertionError) as e:
                bad.append(repr(e))
    threads = [threading.Thread(target=load, daemon=True) for _ in range(3)]
    for x in threads:
        x.start()
    for i in range(1, 7):
        end = time.time() + life / 2
        while time.time() < end:
            t.say(b"0123456789" * 1000)
            time.sleep(0.05)
        renew(i)
        for g in (p.a, p.b):
            g.reload()
    stop.set()
    for x in threads:
        x.join()
    t.say()
    t.close()
    assert not bad and good[0] > 50, (good, bad[:5])
    assert (p.a.role("worker"), p.b.role("worker")) == pids
    p.stop()
    for g in (p.a, p.b):
        g.verify()
        assert not g.journal("link-down", reason="certificate-expired")
    assert p.reconcile().returncode == 0


def test_gateway_certificate_ends(make_pair, echo):
    """Not renewed: links end with it, and say so."""
    p = make_pair(start=False)
    old = gateway_cert(p.hud, 12 * SLOW, "gateway-old")
    install(old, p.hud.gateway)
    p.start()
    t = Legacy(p)
    t.say()
    assert not t.ended((end_of(old) - time.time() - 1) / SLOW)
    assert t.ended(5)
    assert time.time() >= end_of(old)
    r = p.b.record("link-down", reason="certificate-expired")
    assert r["gateway"] == GATEWAY_A
    r = p.b.exchange(service="ledger-db")
    assert r["reason"] == "certificate-expired" and int(r["bytes_in"]) == t.sent, r["line"]


# ---- workloads' certificates

def test_workload_certificate_ends(make_pair, echo, origin):
    """Case 55: not renewed, so its exchange ends when the certificate does, with its octets in both books; so does its idle connection."""
    p = make_pair()
    cert = app_cert(p, 6 * SLOW)
    t = Tunnel(p, cert)
    idle = tls.connect(p.world.hud, ("10.1.0.10", 443), ECHO_HOST, cert=cert)
    assert http(idle, ("GET /1 HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())[0] == 200
    t.say()
    assert not t.ended((end_of(cert) - time.time() - 0.5) / SLOW)
    assert t.ended(4)
    assert time.time() >= end_of(cert)
    both_say(p, t, "certificate-expired")
    idle.settimeout(5 * SLOW)
    assert idle.recv(1) == b""
    p.stop()
    assert p.reconcile().returncode == 0


def test_workload_certificate_renewed(make_pair, echo, origin):
    """Case 55: the workload's new certificate was seen once, by one worker of A and none of B; exchanges of the old one go on, on all of them."""
    p = make_pair()
    cert = app_cert(p, 8 * SLOW)
    tunnels = [Tunnel(p, cert) for _ in range(8)]
    for t in tunnels:
        t.say()
    time.sleep(1)
    new = app_cert(p, 600, "new")
    with tls.connect(p.world.hud, ("10.1.0.10", 443), ECHO_HOST, cert=new) as s:
        # A request that goes no further than A: B has to be told.
        assert http(s, ("GET /no-such HTTP/1.1\r\nHost: %s\r\n\r\n" % "nobody.irs.svc").encode())[0] in (403, 421)
    while time.time() < end_of(cert) + 3:
        for t in tunnels:
            t.say()
        time.sleep(0.2)
    for t in tunnels:
        t.close()
    wait("the ends", lambda: all(len(g.exchanges(service="ledger-db", reason="complete", principal=APP)) == 8 for g in (p.a, p.b)))
    for g in (p.a, p.b):
        for r in g.exchanges(service="ledger-db", principal=APP):
            assert r["detail"].startswith("rebound serial="), r["line"]
            assert int(r["bytes_in"]) in [t.sent for t in tunnels], r["line"]
    with pytest.raises((OSError, AssertionError)):
        Tunnel(p, cert)


def test_request_waits_across_the_end(make_pair, origin):
    """A request of the old certificate is being answered when that ends; the connection takes no other after it."""
    p = make_pair()
    cert = app_cert(p, 6 * SLOW)

    def slow(c, r):
        sleep_until(end_of(cert) + 3)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    origin.answers["/slow-answer"] = slow
    with tls.connect(p.world.hud, ("10.1.0.10", 443), ECHO_HOST, cert=cert) as s:
        s.sendall(("GET /slow-answer HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
        with tls.connect(p.world.hud, ("10.1.0.10", 443), ECHO_HOST, cert=app_cert(p, 600, "new")) as n:
            assert http(n, ("GET /2 HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())[0] == 200
        status, head, body = http(s, b"", timeout=20)
        assert (status, body) == (200, b"ok") and b"connection: close" in head.lower()


@pytest.mark.parametrize("renewed", [True, False])
def test_sidecar_certificate_ends(make_pair, world, folder, origin, renewed):
    """A sidecar's, with an answer under way for a local user that it knows (mtls) and for one that it does not (address): renewed, both are brought to
    their end by the old connection; else both are cut."""
    side, uid = "spiffe://hud.example/side-app", 23456
    rules = [rule("side", principals=[side], services=["echo"], assurance=["mtls", "address"])]
    p = make_pair(rules_a=RULES_A + rules, rules_b=RULES_B + rules)
    cert = p.hud.ca.issue("side-app", seconds=(-10 * SLOW, 10 * SLOW))
    path = folder()
    g = Gateway(world.hud, path, {
        "domain": "hud.example", "workers": 1,
        "identity": {"certificate": cert.crt, "key": cert.keyfile, "bundle": p.hud.ca.bundle},
        "uplink": {"dial": [World.HUD + ":443"], "gateways": [p.hud.gateway_id]},
        "listeners": [{"name": "local", "path": path + "/app.sock", "mode": "0666", "accept": ["plaintext"],
                       "clients": [{"uid": str(uid), "principal": side}]}],
        "services": [{"name": "echo", "host": ECHO_HOST, "via": "uplink"}],
    }, [rule("mine", principals=[side], services=["echo"], assurance=["mtls", "uid", "address"])])
    g.start()

    def slow(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbeg")
        sleep_until(end_of(cert) + 3 * SLOW)
        c.sendall(b"end")
    origin.answers["/mtls"] = origin.answers["/address"] = slow
    results = {}

    def call(what, user):
        results[what] = curl(world.hud, "--unix-socket", path + "/app.sock", "http://%s/%s" % (ECHO_HOST, what), user=user, timeout=25)[:2]
    try:
        wait("an uplink", lambda: g.journal("link-up"))
        threads = [threading.Thread(target=call, args=a, daemon=True) for a in (("mtls", uid), ("address", 23457))]
        for t in threads:
            t.start()
        wait("both under way", lambda: len(origin.requests) == 2)
        if renewed:
            install(p.hud.ca.issue("side-app-new", uris=[side], seconds=(-10, 600)), cert)
            g.reload()
        for t in threads:
            t.join(30 * SLOW)
        if renewed:
            assert results == {"mtls": (200, b"begend"), "address": (200, b"begend")}
            assert p.a.exchange(path="/mtls")["detail"].startswith("rebound serial=")
            assert p.a.exchange(path="/address")["reason"] == "complete"
        else:
            assert all(b != b"begend" for _, b in results.values()), results
            for path in ("/mtls", "/address"):
                assert p.a.exchange(path=path)["reason"] == "certificate-expired"
    finally:
        g.stop()


@pytest.mark.limit(120)
def test_links_made_anew_under_posts(make_pair, world, folder, origin):
    """A sidecar's and its gateway's certificates are renewed again and again while content goes out, which cannot be asked for a second time: no call fails, and
    none needs another attempt."""
    side = "spiffe://hud.example/side-app"
    rules = [rule("side", principals=[side], services=["echo"])]
    p = make_pair(rules_a=RULES_A + rules, rules_b=RULES_B + rules)
    certs = [p.hud.ca.issue("side-%d" % i, uris=[side]) for i in range(3)]
    gateways = [gateway_cert(p.hud, 3600, "inside-%d" % i) for i in range(3)]
    at = p.hud.ca.issue("side-app")
    path = folder()
    g = Gateway(world.hud, path, {
        "domain": "hud.example", "workers": 1,
        "identity": {"certificate": at.crt, "key": at.keyfile, "bundle": p.hud.ca.bundle},
        "uplink": {"dial": [World.HUD + ":443"], "gateways": [p.hud.gateway_id]},
        "listeners": [{"name": "local", "address": "127.0.0.1:8088", "accept": ["plaintext"], "clients": [{"uid": "0", "principal": side}]}],
        "services": [{"name": "echo", "host": ECHO_HOST, "via": "uplink"}],
    }, [rule("mine", principals=[side], services=["echo"])])
    g.start()
    good, bad, stop = [0], [], threading.Event()

    def load():
        with world.hud.connect(("127.0.0.1", 8088)) as s:
            s.settimeout(10 * SLOW)
            while not stop.is_set():
                status, _, body = http(s, b"POST /p HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello" % ECHO_HOST.encode(), timeout=10 * SLOW)
                good[0] += 1
                if (status, body) != (200, b"echo:hello"):
                    bad.append((status, body))
    try:
        wait("an uplink", lambda: g.journal("link-up"))
        threads = [threading.Thread(target=load, daemon=True) for _ in range(6)]
        for t in threads:
            t.start()
        for i in range(24):
            install(certs[i % 3], at)
            g.reload()
            if i % 3 == 0:
                install(gateways[i // 3 % 3], p.hud.gateway)
                p.a.reload()
            time.sleep(0.3)
        stop.set()
        for t in threads:
            t.join(20 * SLOW)
        assert not bad and good[0] > 500, (good, bad[:5])
        links = wait("records of all", lambda: len(g.exchanges(reason="complete")) == good[0] and g.journal("link-up"))
        assert len(links) >= 20
        for x in (g, p.a, p.b):
            assert not [r for r in x.exchanges(path="/p") if r["attempt"] != "1" or r["reason"] != "complete"]
    finally:
        stop.set()
        g.stop()


@pytest.mark.parametrize("where", ["a", "b"])
def test_workload_revoked(make_pair, echo, origin, where, folder):
    """Case 54: revoked in mid-exchange, in the list of either gateway: cut within 2 s, the octets in both books; new exchanges are refused."""
    listed = folder() + "/hud.crl"
    p = make_pair(start=False)
    crl = Lists(p.hud.ca, listed)
    if where == "a":
        p.a.config["identity"].update(crl=listed, revocation="if-present")
    else:
        p.b.config["peers"][0].update(crl=listed, revocation="if-present")
    p.a.write()
    p.b.write()
    p.start()
    cert, other = app_cert(p, 600), app_cert(p, 600, "other")
    t, same = Tunnel(p, cert), Tunnel(p, other)
    t.say()
    crl.revoke(cert)
    g = p.a if where == "a" else p.b
    g.reload()
    begun = time.monotonic()
    assert t.ended(5)
    assert time.monotonic() - begun < 3 * SLOW
    r = g.exchange(service="ledger-db", principal=APP)
    assert r["reason"] == "revoked", r["line"]
    for x in (p.a, p.b):
        r = x.exchange(service="ledger-db", principal=APP)
        assert (int(r["bytes_in"]), int(r["bytes_out"])) == (t.sent, t.sent), r["line"]
    same.say()  # a certificate is revoked, not a principal
    with pytest.raises((OSError, AssertionError)):
        Tunnel(p, cert)
    same.say()
    same.close()


def test_gateway_revoked(make_pair, echo, folder):
    """Case 54: a gateway's certificate is revoked: its links are cut, and none comes up with it."""
    listed = folder() + "/hud.crl"
    p = make_pair(start=False)
    crl = Lists(p.hud.ca, listed)
    cert = gateway_cert(p.hud, 3600, "gateway-lost")
    install(cert, p.hud.gateway)
    p.b.config["peers"][0].update(crl=listed, revocation="if-present")
    p.b.write()
    p.start()
    t = Legacy(p)
    t.say()
    crl.revoke(cert)
    p.b.reload()
    assert t.ended(5)
    assert p.b.record("link-down", reason="revoked")["gateway"] == GATEWAY_A
    r = p.b.exchange(service="ledger-db")
    assert r["reason"] == "revoked" and int(r["bytes_in"]) == t.sent, r["line"]
    assert p.b.record("refused", reason="revoked")
    # A new one, and all is well.
    install(gateway_cert(p.hud, 3600, "gateway-found"), p.hud.gateway)
    p.a.reload()
    p.wait_links()


# ---- whom we trust

def test_peer_removed(make_pair, echo):
    """A peer that is taken from the config: what runs with it is cut at once, not when the old workers have drained."""
    p = make_pair()
    p.b.write(limits={"drain_timeout": "60s"})
    p.b.reload()
    p.wait_links()
    t = Legacy(p)
    t.say()
    p.b.write(peers=[])
    p.b.reload()
    assert t.ended(5)
    r = p.b.exchange(service="ledger-db")
    assert r["reason"] == "peer-removed" and int(r["bytes_in"]) == t.sent, r["line"]
    assert p.b.record("link-down", reason="peer-removed")


def test_bundle_grows_and_shrinks(make_pair, echo, folder):
    """A CA beside the old one changes nothing for what runs; the old one's end ends what depends on it."""
    p = make_pair()
    pids = p.b.role("worker")
    old = read(p.hud.ca.bundle)
    second = CA(folder(), "hud.example", name="second")
    t, w = Legacy(p), Tunnel(p, app_cert(p, 600))
    t.say()
    downs = len(p.b.journal("link-down"))
    put(p.hud.ca.bundle, old + read(second.bundle))
    for g in (p.a, p.b):
        g.reload()
    t.say()
    w.say()
    time.sleep(1)
    t.say()
    w.say()
    assert len(p.b.journal("link-down")) == downs
    only = folder() + "/second.pem"
    put(only, read(second.bundle))
    p.b.config["peers"][0]["bundle"] = only
    p.b.write()
    p.b.reload()
    assert t.ended(5) and w.ended(5)
    assert p.b.record("link-down", reason="untrusted")["gateway"] == GATEWAY_A
    for r in (p.b.exchange(service="ledger-db", assurance="address"), p.b.exchange(service="ledger-db", assurance="mtls")):
        assert r["reason"] == "untrusted", r["line"]
    del pids


def test_gateway_taken_from_the_list(make_pair, echo):
    """Its id is not among the peer's gateways any more."""
    p = make_pair()
    pids = p.b.role("worker")
    t = Legacy(p)
    t.say()
    p.b.config["peers"][0]["gateways"] = ["spiffe://hud.example/gateway/dmz2"]
    p.b.write()
    p.b.reload()
    assert p.b.role("worker") == pids
    assert t.ended(5)
    assert p.b.record("link-down", reason="not-a-gateway")["gateway"] == GATEWAY_A
    r = p.b.exchange(service="ledger-db")
    assert r["reason"] == "not-a-gateway" and int(r["bytes_in"]) == t.sent, r["line"]
    p.b.record("refused", reason="gateway-not-listed")
    p.b.config["peers"][0]["gateways"] = [GATEWAY_A]
    p.b.write()
    p.b.reload()
    p.wait_links()


@pytest.mark.parametrize("where", ["a", "b"])
def test_severed(make_pair, echo, origin, where):
    """The kill switch: running exchanges are cut and new ones refused, until it is taken back."""
    p = make_pair()
    g, peer = (p.a, "irs") if where == "a" else (p.b, "hud")
    t = Legacy(p)
    t.say()
    g.ctl("sever", peer)
    assert t.ended(5)
    r = g.exchange(service="ledger-db")
    assert r["reason"] == "severed" and int(r["bytes_in"]) == t.sent, r["line"]
    assert g.record("link-down", reason="severed")
    status = p.get("/severed")[0]
    assert status == 503
    if where == "a":
        assert g.record("deny", reason="severed")
    else:
        assert g.record("refused", reason="severed")
    g.ctl("restore", peer)
    p.wait_links()
    assert p.get("/back")[0] == 200
