# SPDX-License-Identifier: Apache-2.0
"""The keys role: kinds of keys, its rate, its slowness and its death, what is in nobody's memory, and keys in an HSM. (Case 60.)"""
import datetime
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bed.domains import DB_HOST, ECHO_HOST, TAX_HOST
from bed.gateway import SLOW, curl, recv_all, wait
from bed.net import World
from bed.pki import CLIENT, SERVER, pem_key
from bed.tls import connect

INSIDE, TUNNEL = ("10.1.0.10", 443), (World.HUD, 443)
KEYS_UID = 61000 + 1  # user_prefix of the bed, and the role's number

KINDS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA-PSS 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-PSS 4096": lambda: rsa.generate_private_key(65537, 4096),
}


def certify(ca, path, public, uri, dns=()):
    """A certificate for a key of any kind, wherever its private part is; the file."""
    now = datetime.datetime.utcnow()
    names = [x509.UniformResourceIdentifier(uri)] + [x509.DNSName(d) for d in dns]
    cert = (x509.CertificateBuilder().issuer_name(ca.cert.subject).subject_name(x509.Name([])).public_key(public)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)
            .add_extension(x509.ExtendedKeyUsage([CLIENT, SERVER]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False)
            .add_extension(x509.SubjectAlternativeName(names), True).sign(ca.key, hashes.SHA256()))
    with open(path + ".crt", "wb") as f:
        f.write(cert.public_bytes(serialization.Encoding.PEM) + ca.chain)
    return path + ".crt"


def pair_of_key(ca, path, key, uri, dns=()):
    with open(os.open(path + ".key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
        f.write(pem_key(key))
    return {"certificate": certify(ca, path, key.public_key(), uri, dns), "key": path + ".key"}


def inside(world, p, path="/hs", *more):
    """A call with a handshake of its own at the inside listener."""
    code, _, _ = curl(world.hud, "--cert", p.app.crt, "--key", p.app.keyfile, "--cacert", p.hud.ca.bundle, *more,
                      "--connect-to", "::10.1.0.10:443", "https://%s%s" % (ECHO_HOST, path))
    return code


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_key(make_pair, world, origin, kind):
    """Links of both gateways and an inside listener with keys of one kind: handshakes both ways, and calls."""
    p = make_pair(start=False)
    for g, d in ((p.a, p.hud), (p.b, p.irs)):
        own = pair_of_key(d.ca, d.folder + "/own", KINDS[kind](), d.gateway_id)
        g.write(identity=dict(own, bundle=d.ca.bundle))
    p.a.write(inside=pair_of_key(p.hud.ca, p.hud.folder + "/in", KINDS[kind](), p.hud.gateway_id, dns=[ECHO_HOST, TAX_HOST, DB_HOST]))
    p.start()
    assert p.get("/over-links")[0] == 200
    wait("an inside handshake", lambda: inside(world, p) == 200)
    for g, numbers in ((p.a, {0, 1}), (p.b, {0})):
        keys = g.status()["keys"][0]["keys"]
        assert {k["number"] for k in keys} == numbers
        for k in keys:
            assert k["signatures"] > 0 and k["in"] == "memory" and k["type"].replace("EC ", "") in kind, k


def test_slow_signer(pair, world, origin):
    """The keys role stands still: what is established goes on, on links that are there, new handshakes wait, and are made when it
    goes on."""
    with pair.legacy() as s, world.hud.connect(("10.1.0.10", 5432), source="10.1.0.7") as raw:
        raw.sendall(b"before")
        assert raw.recv(100) == b"before"
        done = []
        pids = pair.a.kill("keys", signal.SIGSTOP)
        try:
            t = threading.Thread(target=lambda: done.append(inside(world, pair, "/slow-signer")))
            t.start()
            for i in range(10):
                s.sendall(("GET /meanwhile%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (i, ECHO_HOST)).encode())
                s.settimeout(5 * SLOW)
                assert b" 200 " in s.recv(65536)
                raw.sendall(b"%d" % i)
                assert raw.recv(100)
            assert pair.get("/new-connection")[0] == 200
            assert not done
        finally:
            for q in pids:
                os.kill(q, signal.SIGCONT)
        t.join(20 * SLOW)
        assert done == [200]


def test_killed_under_load(pair, world, origin):
    """Case 60: the keys role is killed while handshakes come in all the time: running exchanges live, and soon handshakes succeed again."""
    stop, codes = threading.Event(), []

    def load():
        while not stop.is_set():
            codes.append((time.monotonic(), inside(world, pair, "/load", "--max-time", "8")))
    go = threading.Event()

    def answer(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        go.wait(30)
        c.sendall(b"67890")
    origin.answers["/lives"] = answer
    threads = [threading.Thread(target=load) for _ in range(3)]
    with pair.legacy() as s:
        s.sendall(("GET /lives HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST).encode())
        s.settimeout(5 * SLOW)
        s.recv(10)
        for t in threads:
            t.start()
        try:
            wait("load", lambda: len(codes) > 5, 20)
            for _ in range(2):
                old = set(pair.a.kill("keys"))
                killed = time.monotonic()
                wait("another keys role", lambda: set(pair.a.role("keys")) - old, 4)
                wait("handshakes", lambda: [1 for at, code in codes if at > killed and code == 200], 10)
        finally:
            stop.set()
            go.set()
        for t in threads:
            t.join(20 * SLOW)
        assert recv_all(s).endswith(b"1234567890")
    assert not [c for _, c in codes if c not in (0, 200)], codes
    assert pair.get("/after")[0] == 200


def test_rate(make_pair, world, origin):
    """Beyond its rate a worker is refused signatures: handshakes fail, links and the worker live, the journal has an alert."""
    p = make_pair(a={"workers": 1, "limits": {"signatures_per_second": 6}})
    workers = p.a.role("worker")

    def limited():
        ts = [threading.Thread(target=inside, args=(world, p)) for _ in range(12)]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        return p.a.status()["keys"][0]["rate_limited"] > 0
    wait("the limit", limited, 20)
    assert p.get("/links-live")[0] == 200
    assert p.a.record("alert", reason="signature-rate")
    k = p.a.status()["keys"][0]
    assert k["rate_limit"] == 6 and k["workers"][0]["rate_limited"] == k["rate_limited"]
    assert p.a.role("worker") == workers
    wait("handshakes", lambda: inside(world, p) == 200)
    assert len(p.a.journal("alert", reason="signature-rate")) == 1
    assert "REFUSED" in p.a.ctl("status").stdout.decode()


# ---- memory ----

def memory_of(pid):
    """All that a process can read of itself."""
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+\s*(.*)", line)
            if not m or m.group(3) in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            at, end = int(m.group(1), 16), int(m.group(2), 16)
            while at < end:
                n = min(end - at, 1 << 24)
                try:
                    mem.seek(at)
                    yield mem.read(n)
                except (OSError, ValueError):
                    pass
                at += n


def forms(path):
    """A private key's secret number as OpenSSL, DER and PEM have it."""
    with open(path, "rb") as f:
        pem = f.read()
    key = serialization.load_pem_private_key(pem, None)
    n = key.private_numbers().private_value.to_bytes(32, "big")
    lines = [l for l in pem.splitlines() if not l.startswith(b"-")]
    return {"number": n, "limbs": n[::-1], "pem": lines[1]}


def test_nobody_has_the_keys(pair, world, origin):
    """After handshakes with each key: it is in the keys role's memory and in nobody else's, master's included."""
    assert pair.get("/x")[0] == 200
    wait("an inside handshake", lambda: inside(world, pair) == 200)
    pair.a.reload()
    wait("calls", lambda: pair.get("/y")[0] == 200)
    wait("an inside handshake", lambda: inside(world, pair) == 200)
    wanted = [(f, name, v) for f in (pair.hud.gateway.keyfile, pair.hud.folder + "/inside.key") for name, v in forms(f).items()]
    there = {}
    for pid, role in pair.a.pids().items():
        for data in memory_of(pid):
            for f, name, v in wanted:
                if v in data:
                    there.setdefault(role, set()).add((os.path.basename(f), name))
    # The search itself works: the role that has them is found.
    assert {f for f, _ in there.pop("keys")} == {"gateway.key", "inside.key"}
    assert not there


# ---- an HSM ----

MODULE = next((m for m in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
                           "/usr/lib64/pkcs11/libsofthsm2.so") if os.path.exists(m)), None)


class Token:
    """A SoftHSM token with one EC key, that the keys role's user may use."""

    def __init__(self, folder, label="gw"):
        self.folder, self.pin = folder, secrets.token_hex(16)
        os.mkdir(folder)
        os.mkdir(folder + "/tokens")
        self.conf = folder + "/softhsm2.conf"
        with open(self.conf, "w") as f:
            f.write("directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n" % folder)
        self.pin_file = folder + "/pin"
        self.set_pin(self.pin)
        self.run("softhsm2-util", "--init-token", "--free", "--label", "t1", "--pin", self.pin, "--so-pin", "12345678")
        self.tool("-l", "-p", self.pin, "--keypairgen", "--key-type", "EC:prime256v1", "--label", label, "--id", "01")
        self.tool("--read-object", "--type", "pubkey", "--label", label, "-o", folder + "/pub.der")
        self.own()
        with open(folder + "/pub.der", "rb") as f:
            self.public = serialization.load_der_public_key(f.read())

    def set_pin(self, pin):
        with open(os.open(self.pin_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write(pin + "\n")

    def run(self, *argv):
        return subprocess.run(argv, check=True, capture_output=True, env=dict(os.environ, SOFTHSM2_CONF=self.conf))

    def tool(self, *argv):
        self.run("pkcs11-tool", "--module", MODULE, "--token-label", "t1", *argv)

    def own(self):
        os.chmod(self.folder, 0o755)
        for d, _, files in os.walk(self.folder + "/tokens"):
            for f in [d] + [os.path.join(d, f) for f in files]:
                os.chown(f, KEYS_UID, KEYS_UID)

    def uri(self, label="gw"):
        return "pkcs11:token=t1;object=%s?pin-source=file:%s" % (label, self.pin_file)

    def hsm(self):
        return {"module": MODULE, "paths": [self.conf, self.folder + "/tokens"], "environment": ["SOFTHSM2_CONF=" + self.conf]}

    def away(self):
        """Its slot is empty."""
        os.rename(self.folder + "/tokens", self.folder + "/away")
        os.mkdir(self.folder + "/tokens")
        os.chown(self.folder + "/tokens", KEYS_UID, KEYS_UID)

    def back(self):
        shutil.rmtree(self.folder + "/tokens")
        os.rename(self.folder + "/away", self.folder + "/tokens")


@pytest.fixture
def hsm_pair(make_pair, folder):
    """Gateway A's identity is in a token, its inside key in a file."""
    if not MODULE or not shutil.which("softhsm2-util") or not shutil.which("pkcs11-tool"):
        pytest.skip("SoftHSM 2 is not here: apt-get install softhsm2 opensc libengine-pkcs11-openssl")
    p = make_pair(start=False)
    token = Token(folder() + "/hsm")
    crt = certify(p.hud.ca, p.hud.folder + "/in-token", token.public, p.hud.gateway_id)
    p.a.write(identity={"certificate": crt, "key": token.uri(), "bundle": p.hud.ca.bundle}, hsm=token.hsm())
    p.start()
    return p, token


def hsm_of(g):
    return g.status()["keys"][0]["hsm"]


def tunnel_handshake(world, p):
    """Does A prove its identity at the tunnel?"""
    try:
        with connect(world.hud, TUNNEL, cert=p.irs.gateway, ca=p.hud.ca.bundle, alpn=["h2"]) as s:
            return s.version() == "TLSv1.3"
    except (ssl.SSLError, OSError):
        return False


def test_hsm(hsm_pair, world, origin):
    """Links with a key in a token; its PIN is in no configuration, status or memory of others; its process has a sandbox of its
    own, with the paths that were named."""
    p, token = hsm_pair
    assert p.get("/by-token")[0] == 200
    wait("an inside handshake", lambda: inside(world, p) == 200)
    st = p.a.status()["keys"][0]
    assert {k["number"]: k["in"] for k in st["keys"]} == {0: "hsm", 1: "memory"}
    h = st["hsm"]
    assert h["running"] and h["module"] == [MODULE] and h["paths"] == token.hsm()["paths"] and h["keys"][0]["state"] == "ready"
    assert {"own-user", "limits", "no-new-privileges", "seccomp"} <= set(h["sandbox"])
    text = p.a.ctl("status").stdout.decode()
    assert MODULE in text and token.folder + "/tokens" in text and "in the HSM" in text
    # Beside the keys role, which has what it always has.
    keys = p.a.role("keys")[0]
    with open("/proc/%d/status" % h["pid"]) as f:
        s = dict(l.split(":\t", 1) for l in f.read().splitlines() if ":\t" in l)
    assert set(s["Uid"].split()) == {str(KEYS_UID)} and int(s["CapEff"], 16) == 0
    assert s["Seccomp"].strip() == "2" and s["NoNewPrivs"].strip() == "1"
    with open("/proc/%d/maps" % keys) as f:
        assert "softhsm" not in f.read()
    with open("/proc/%d/maps" % h["pid"]) as f:
        assert "softhsm" in f.read()
    # Of the keys in files it has none, and nobody but it has the PIN.
    for data in memory_of(h["pid"]):
        assert not [n for n, v in forms(p.hud.folder + "/inside.key").items() if v in data]
    assert token.pin not in p.a.ctl("config", "dump").stdout.decode()
    for pid, role in p.a.pids().items():
        for data in memory_of(pid):
            assert token.pin.encode() not in data, role


def test_hsm_token_away(hsm_pair, world, origin):
    """The token is pulled out: links live and calls cross, new handshakes of its key fail, those of others do not; the log says so;
    it is put back, and all is well."""
    p, token = hsm_pair
    assert tunnel_handshake(world, p)
    token.away()
    if hsm_of(p.a)["via"] == "provider":  # it would not notice: the software token is still in its memory
        os.kill(hsm_of(p.a)["pid"], signal.SIGKILL)
    wait("handshakes to fail", lambda: not tunnel_handshake(world, p))
    wait("status to say so", lambda: hsm_of(p.a)["keys"][0]["state"] == "away")
    assert p.get("/links-live")[0] == 200
    wait("an inside handshake", lambda: inside(world, p) == 200)
    assert "cannot be had from the HSM" in p.a.log()
    # The keys role is restarted meanwhile: it does without.
    old = p.a.kill("keys")
    wait("another keys role", lambda: set(p.a.role("keys")) - set(old))
    wait("an inside handshake", lambda: inside(world, p) == 200)
    assert p.get("/links-live-on")[0] == 200
    token.back()
    wait("the key", lambda: hsm_of(p.a)["keys"][0]["state"] == "ready", 40)
    wait("a handshake", lambda: tunnel_handshake(world, p))


def test_hsm_helper(hsm_pair, world, origin):
    """Its process stands still: one handshake waits and the keys role goes on; it is killed: there is another one."""
    p, token = hsm_pair
    pid = hsm_of(p.a)["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert not tunnel_handshake(world, p)  # the handshake's own time is up
    wait("an inside handshake", lambda: inside(world, p) == 200)
    assert p.get("/links-live")[0] == 200
    os.kill(pid, signal.SIGKILL)
    wait("its successor", lambda: hsm_of(p.a)["pid"] != pid and hsm_of(p.a)["keys"][0]["state"] == "ready", 20)
    wait("a handshake", lambda: tunnel_handshake(world, p))


def test_hsm_mistakes(hsm_pair, world, origin):
    """What an operator gets wrong is refused with a reason, and what runs goes on."""
    p, token = hsm_pair
    identity, hsm = dict(p.a.config["identity"]), token.hsm()

    def refused(said, code=None, **changes):
        p.a.write(**changes)
        r = p.a.reload(check=False)
        text = r.stdout.decode() + r.stderr.decode() + p.a.log()
        assert r.returncode != 0 and said in text, (said, text[-3000:])
        assert p.get("/goes-on")[0] == 200
    refused("names no key", identity=dict(identity, key="pkcs11:token=t1"))
    refused("does not belong here", identity=dict(identity, key="pkcs11:token=t1;object=gw?pin-value=" + token.pin))
    assert token.pin not in p.a.log()
    refused("no such private key", identity=dict(identity, key=token.uri("nothing")))
    refused("belongs to another pair", identity=dict(identity, certificate=p.hud.gateway.crt))
    refused("cannot be loaded", identity=identity, hsm=dict(hsm, module=p.a.path))
    refused("cannot find", hsm=dict(hsm, paths=["/nowhere"]))
    refused("needs \"hsm\"", hsm=None)
    p.a.config.pop("hsm")
    os.chmod(token.pin_file, 0o644)
    refused("chmod 600", hsm=hsm)
    os.chmod(token.pin_file, 0o600)
    token.set_pin("wrong")
    refused("does not take the PIN", hsm=hsm, workers=1)
    # A restarted keys role does without; it does not try that PIN again and again, but a reload brings another.
    p.a.write(workers=2)
    old = p.a.kill("keys")
    wait("another keys role", lambda: set(p.a.role("keys")) - set(old))
    wait("status to say so", lambda: hsm_of(p.a)["keys"][0]["state"] == "away")
    time.sleep(1)
    assert hsm_of(p.a)["starts"] == 1
    token.set_pin(token.pin)
    p.a.reload()
    wait("a handshake", lambda: tunnel_handshake(world, p))
    assert p.get("/well")[0] == 200
