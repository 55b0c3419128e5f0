# SPDX-License-Identifier: Apache-2.0
"""Enrolment by EST (RFC 7030): real gateways, the CA of one of them, and curl, openssl and gwctl as clients. (Case 94, as far as it shows from outside.)"""
import base64
import contextlib
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bed.domains import Domain, Issued, rule
from bed.gateway import DAEMON, GWCTL, SLOW, Gateway, http, wait
from bed.net import World
from bed.servers import Origin, Server
from bed.tls import connect, context, refused

HOST = "enrol.hud.example"
EST = "https://%s/.well-known/est/" % HOST
AT = (World.HUD, 443)
INSIDE = ("10.1.0.10", 443)        # no "enrol" there
ALONE = ("10.1.0.20", 443)         # nothing but "enrol" there
FORWARD = ("10.1.0.21", 443)       # of the gateway that passes it on
CA_UID = 61000 + 5
LOCAL_HOST = "local.hud.example"


def est_id(name):
    return "spiffe://hud.example/" + name


class Site:
    """A gateway of hud.example with its CA behind it."""

    def __init__(self, world, folder, **config):
        self.world, self.folder, self.count = world, folder, 0
        self.hud = Domain(folder + "/pki", "hud.example", "dmz1")
        self.enrol = self.hud.issue("gateway", "dmz1", "enrol", dns=[HOST])
        self.bundle = self.hud.ca.bundle
        for path, _, files in os.walk(self.hud.folder):
            for f in [path] + [os.path.join(path, f) for f in files]:
                os.chown(f, CA_UID, CA_UID)
        c = {
            "domain": "hud.example", "identity": self.hud.identity(), "state_dir": folder + "/state",
            "enrol": {"host": HOST, "certificate": self.enrol.crt, "key": self.enrol.keyfile},
            "ca": {"store": self.hud.folder},
            "listeners": [
                {"name": "tunnel", "address": "%s:%d" % AT, "accept": ["workloads", "enrol"]},
                {"name": "inside", "address": "%s:%d" % INSIDE, "accept": ["workloads"]},
                {"name": "alone", "address": "%s:%d" % ALONE, "accept": ["enrol"]}],
            "services": [{"name": "local", "host": LOCAL_HOST, "endpoints": ["10.1.0.30:9000"]}],
        }
        c.update(config)
        self.g = Gateway(world.hud, folder + "/g", c, [rule("all", principals=["spiffe://hud.example/**"], services=["local"])])

    def token(self, name, *args):
        p = subprocess.run([GWCTL, "-c", self.folder + "/none.conf", "pki", "token", name, "--dir", self.hud.folder] + list(args), capture_output=True)
        assert p.returncode == 0, p.stderr.decode()
        return p.stdout.decode().strip()

    def csr(self, uris=(), dns=(), key=None, challenge=None):
        """A key and a request, by openssl: (DER as base64, key's file)."""
        self.count += 1
        path = "%s/csr-%d" % (self.folder, self.count)
        if key is None:
            subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path + ".key"], check=True,
                           capture_output=True)
            key = path + ".key"
        names = ["URI:" + u for u in uris] + ["DNS:" + d for d in dns]
        with open(path + ".cnf", "w") as f:
            f.write("[req]\nprompt = no\ndistinguished_name = dn\n%s%s[dn]\nO = hud\n%s[ext]\n%s" % (
                "req_extensions = ext\n" if names else "", "attributes = at\n" if challenge else "",
                "[at]\nchallengePassword = %s\n" % challenge if challenge else "", "subjectAltName = %s\n" % ",".join(names) if names else ""))
        der = subprocess.run(["openssl", "req", "-new", "-key", key, "-config", path + ".cnf", "-outform", "DER"], check=True, capture_output=True).stdout
        return base64.b64encode(der), key

    def curl(self, what, *args, data=None, to=AT, kind="application/pkcs10"):
        """(status, head, body)."""
        argv = ["curl", "-sS", "-i", "-m", str(20 * SLOW), "--cacert", self.bundle, "--resolve", "%s:443:%s" % (HOST, to[0])]
        if data is not None:
            argv += ["--data-binary", "@-", "-H", "Content-Type: " + kind]
        p = self.world.hud.run(*argv, *args, EST + what if "://" not in what else what, input=data, check=False, timeout=30 * SLOW)
        if p.returncode:
            return 0, p.stderr, b""
        head, _, body = p.stdout.partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), head.lower(), body

    def certs(self, body):
        """Of an application/pkcs7-mime, by openssl."""
        der = subprocess.run(["openssl", "base64", "-d"], input=body, check=True, capture_output=True).stdout
        pem = subprocess.run(["openssl", "pkcs7", "-inform", "DER", "-print_certs"], input=der, check=True, capture_output=True).stdout
        return [x509.load_pem_x509_certificate(b"-----BEGIN" + p) for p in pem.split(b"-----BEGIN")[1:]]

    def install(self, certs, key, name):
        """A file for --cert: the leaf of this key, then the others."""
        with open(key, "rb") as f:
            mine = serialization.load_pem_private_key(f.read(), None).public_key().public_numbers()
        certs = sorted(certs, key=lambda c: c.public_key().public_numbers() != mine)
        path = "%s/%s" % (self.folder, name)
        with open(path + ".crt", "wb") as f:
            f.write(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certs if c.issuer != c.subject))
        with open(key, "rb") as f, open(path + ".key", "wb") as to:
            to.write(f.read())
        return Issued(path)

    def enrolled(self, name, dns=()):
        """A workload with its certificate, the ordinary way."""
        data, key = self.csr([est_id(name)], dns)
        status, head, body = self.curl("simpleenroll", "-u", name + ":" + self.token(name, *[x for d in dns for x in ("--dns", d)]), data=data)
        assert status == 200, (head, body)
        return self.install(self.certs(body), key, name + "-cert"), key


def uri(cert):
    return cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.fixture(scope="module")
def site(world, folder):
    s = Site(world, folder())
    s.g.start()
    yield s
    s.g.stop()


@pytest.fixture
def aside(site):
    """The usual site steps aside for a test's own: they have the same addresses."""
    site.g.stop()
    yield
    site.g.start()


# ---- first certificates

def test_cacerts(site):
    """What anybody may know: the CAs, and what a request may have in it."""
    status, head, body = site.curl("cacerts")
    assert status == 200 and b"content-type: application/pkcs7-mime" in head
    certs = site.certs(body)
    root = x509.load_pem_x509_certificate(open(site.bundle, "rb").read())
    assert root in certs and any(c.issuer == root.subject and c.subject != root.subject for c in certs)
    status, head, body = site.curl("csrattrs")
    assert status in (200, 204)
    if status == 200:
        assert b"application/csrattrs" in head and base64.b64decode(body)[0] == 0x30


def test_enrol_by_token(site):
    """curl and openssl are enough; what comes is good for calls at once."""
    cert, _ = site.enrolled("permit-svc")
    with connect(site.world.hud, AT, name=LOCAL_HOST, ca=site.bundle, cert=cert) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % LOCAL_HOST.encode())
        assert s.recv(20).split(b" ")[1] in (b"200", b"502", b"503")
    r = site.g.record("certificate", principal=est_id("permit-svc"))
    assert r["verdict"] == "allow"


def test_alg_and_line_ends(site):
    """RFC 8951: base64 in lines, in one line, and with the old field for it."""
    for name, wrap, more in (("lines", lambda d: b"\n".join(d[i:i + 64] for i in range(0, len(d), 64)) + b"\n", []),
                             ("crlf", lambda d: b"\r\n".join(d[i:i + 76] for i in range(0, len(d), 76)) + b"\r\n", []),
                             ("cte", lambda d: d, ["-H", "Content-Transfer-Encoding: base64"])):
        data, _ = site.csr([est_id(name)])
        status, _, body = site.curl("simpleenroll", "-u", name + ":" + site.token(name), *more, data=wrap(data))
        assert status == 200, (name, body)
        assert uri(site.certs(body)[0]) + uri(site.certs(body)[-1])


def test_without_credentials(site):
    data, _ = site.csr([est_id("nobody")])
    status, head, _ = site.curl("simpleenroll", data=data)
    assert status == 401 and b"www-authenticate: basic realm=" in head
    status, _, _ = site.curl("simpleenroll", "-u", "nobody:not-a-token", data=data)
    assert status == 401
    assert site.g.record("certificate", verdict="deny")


def test_token_once(site):
    """A token is good for one certificate. The same request again gets the same one: its answer may have been lost."""
    token = site.token("once")
    data, key = site.csr([est_id("once")])
    status, _, first = site.curl("simpleenroll", "-u", "once:" + token, data=data)
    assert status == 200
    status, _, again = site.curl("simpleenroll", "-u", "once:" + token, data=data)
    assert status == 200 and {c.serial_number for c in site.certs(again)} == {c.serial_number for c in site.certs(first)}
    status, _, body = site.curl("simpleenroll", "-u", "once:" + token, data=site.csr([est_id("once")])[0])
    assert status in (401, 403, 409) and body.strip()


def test_token_for_another_name(site):
    """Case 94: a token gives its own name and no other."""
    token = site.token("mine")
    status, _, _ = site.curl("simpleenroll", "-u", "mine:" + token, data=site.csr([est_id("yours")])[0])
    assert status == 403
    status, _, _ = site.curl("simpleenroll", "-u", "mine:" + token, data=site.csr([est_id("mine")], ["www.hud.example"])[0])
    assert status == 403  # nor a DNS name that it was not made for
    status, _, body = site.curl("simpleenroll", "-u", "mine:" + token, data=site.csr([est_id("mine")])[0])
    assert status == 200, body


def test_token_with_dns(site):
    cert, _ = site.enrolled("web", dns=["web.hud.example"])
    with open(cert.crt, "rb") as f:
        leaf = x509.load_pem_x509_certificate(f.read())
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == ["web.hud.example"]


def test_expired_token(site):
    token = site.token("late", "--ttl", "1s")
    data, _ = site.csr([est_id("late")])
    time.sleep(2.1)
    status, _, _ = site.curl("simpleenroll", "-u", "late:" + token, data=data)
    assert status in (401, 403)


def test_no_gateway_by_token(site):
    """An operator alone makes a gateway."""
    p = subprocess.run([GWCTL, "-c", "/nonexistent", "pki", "token", "gateway/evil", "--dir", site.hud.folder], capture_output=True)
    assert p.returncode != 0
    status, _, _ = site.curl("simpleenroll", "-u", "x:" + site.token("x"), data=site.csr(["spiffe://hud.example/gateway/evil"])[0])
    assert status == 403


# ---- renewal

def test_renew_with_curl(site):
    """The same key: the request's own signature is the proof."""
    cert, key = site.enrolled("again")
    before = x509.load_pem_x509_certificate(open(cert.crt, "rb").read())
    data, _ = site.csr([est_id("again")], key=key)
    status, _, body = site.curl("simplereenroll", "--cert", cert.crt, "--key", cert.keyfile, data=data)
    assert status == 200, body
    new = site.install(site.certs(body), key, "again-2")
    after = x509.load_pem_x509_certificate(open(new.crt, "rb").read())
    assert uri(after) == uri(before) and after.serial_number != before.serial_number and after.not_valid_after >= before.not_valid_after


def test_renew_without_a_certificate(site):
    data, _ = site.csr([est_id("again")])
    status, _, body = site.curl("simplereenroll", data=data)
    assert status == 403 and body
    assert site.g.record("refused", reason="no-certificate")


def test_renewal_needs_the_old_key(site):
    """Case 94: a certificate is public. Whoever has somebody's certificate on the connection but not its key's word for the new key gets nothing, and it is
    an alert."""
    cert, _ = site.enrolled("victim")
    data, _ = site.csr([est_id("victim")])  # another key, no proof
    status, _, body = site.curl("simplereenroll", "--cert", cert.crt, "--key", cert.keyfile, data=data)
    assert status == 403, body
    assert site.g.record("alert")
    data, _ = site.csr([est_id("victim")], challenge=base64.b64encode(os.urandom(70)).decode())
    assert site.curl("simplereenroll", "--cert", cert.crt, "--key", cert.keyfile, data=data)[0] == 403
    # and with one's own certificate one does not become somebody else
    mine, key = site.enrolled("attacker")
    data, _ = site.csr([est_id("victim")], key=key)
    assert site.curl("simplereenroll", "--cert", mine.crt, "--key", mine.keyfile, data=data)[0] == 403
    data, _ = site.csr(["spiffe://hud.example/gateway/dmz1"], key=key)
    assert site.curl("simplereenroll", "--cert", mine.crt, "--key", mine.keyfile, data=data)[0] == 403


def test_foreign_certificate(site, folder):
    """Of another domain: refused in the handshake."""
    other = Domain(folder() + "/pki", "irs.example", "dmz9")
    cert = other.issue("workload", "app", "app")
    data, _ = site.csr([est_id("app")])
    assert site.curl("simplereenroll", "--cert", cert.crt, "--key", cert.keyfile, data=data)[0] == 0
    assert site.g.record("refused", reason="unknown-domain")


# ---- what is no EST

@pytest.mark.parametrize("method,path,status", [
    ("GET", "/", 404), ("GET", "/.well-known/est", 404), ("GET", "/.well-known/est/", 404), ("GET", "/.well-known/est/cacerts?x", 404),
    ("GET", "/.well-known/est/label/cacerts", 404), ("GET", "/.well-known/est/fullcmc", 404), ("GET", "/.well-known/est/serverkeygen", 404),
    ("POST", "/.well-known/est/cacerts", 405), ("GET", "/.well-known/est/simpleenroll", 405), ("PUT", "/.well-known/est/simpleenroll", 405),
    ("DELETE", "/.well-known/est/simplereenroll", 405), ("HEAD", "/.well-known/est/cacerts", 405), ("GET", "/.well-known/est/../est/cacerts", 400),
    ("CONNECT", "enrol.hud.example:443", 404), ("OPTIONS", "*", 404)])
def test_wrong_requests(site, method, path, status):
    with connect(site.world.hud, AT, name=HOST, ca=site.bundle) as s:
        got, head, _ = http(s, b"%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (method.encode(), path.encode(), HOST.encode() +
                                                                                 (b":443" if method == "CONNECT" else b"")))
        assert got == status, head
        if got == 405:
            assert b"allow: " in head.lower()


def test_wrong_content(site):
    token = site.token("content")
    data, _ = site.csr([est_id("content")])
    auth = ("-u", "content:" + token)
    assert site.curl("simpleenroll", *auth, data=data, kind="application/json")[0] == 415
    assert site.curl("simpleenroll", *auth, data=data, kind="text/plain; a=application/pkcs10")[0] == 415
    for body in (b"", b"!!!!", b"AAAA", data[:-8], data + b"AAAA", base64.b64encode(b"0\x82\xff\xff" + bytes(100)), b"-----BEGIN CERTIFICATE REQUEST-----\n"):
        status, head, text = site.curl("simpleenroll", *auth, data=body)
        assert status == 400 and b"text/plain" in head and text.strip(), (body, text)
    assert site.curl("simpleenroll", *auth, data=b"A" * 70000)[0] == 413
    assert site.curl("simpleenroll", *auth, "-H", "Transfer-Encoding: chunked", data=b"A" * 70000)[0] == 413
    assert site.curl("simpleenroll", "-H", "Authorization: Basic !!!", data=data)[0] == 400
    assert site.curl("simpleenroll", "-H", "Authorization: Bearer x", data=data)[0] == 400
    assert site.curl("simpleenroll", *auth, data=data)[0] == 200  # none of which used the token up


def test_other_host_on_the_connection(site):
    """Case 50: SNI and Host are one name."""
    with connect(site.world.hud, AT, name=HOST, ca=site.bundle) as s:
        assert http(s, b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: %s\r\n\r\n" % LOCAL_HOST.encode())[0] == 421


def test_keep_alive_and_pipelining(site):
    ask = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode()
    with connect(site.world.hud, AT, name=HOST, ca=site.bundle) as s:
        for _ in range(3):
            assert http(s, ask)[0] == 200
        s.sendall(ask * 3)
        s.settimeout(5 * SLOW)
        got = b""
        while got.count(b"HTTP/1.1 200") < 3:
            d = s.recv(65536)
            assert d
            got += d
        for i in range(len(ask)):  # byte by byte
            s.sendall(ask[i:i + 1])
        while got.count(b"HTTP/1.1 200") < 4:
            d = s.recv(65536)
            assert d
            got += d


def test_garbage(site):
    for junk in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: %s\r\n"
                 b"Content-Type: application/pkcs10\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" % HOST.encode()):
        with connect(site.world.hud, AT, name=HOST, ca=site.bundle) as s:
            status, _, _ = http(s, junk)
            assert status in (400, 505)


def test_slow_and_silent_clients(world, folder, aside):
    """Case 17, 18: each part has its deadline, for all of it; 256 connections are all there are, and the others live on."""
    base = folder()
    site = Site(world, base, limits={"head_timeout": "1s", "body_idle_timeout": "1s", "handshakes_per_source": 2000})
    site.g.start()
    try:
        def ends(data, every, seconds=4):
            """What is said when these octets come so slowly."""
            with connect(world.hud, AT, name=HOST, ca=site.bundle) as s:
                s.settimeout(seconds * SLOW)
                try:
                    for i in range(len(data)):
                        s.sendall(data[i:i + 1])
                        time.sleep(every)
                except OSError:
                    pass
                return s.recv(1000)
        assert ends(b"", 0) == b""
        assert b" 408 " in ends(b"GET /.well-known/est/cacerts HTTP/1.1\r\n", 0.1)
        head = b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: %s\r\nContent-Type: application/pkcs10\r\nContent-Length: 100\r\n\r\n" % HOST.encode()
        with connect(world.hud, AT, name=HOST, ca=site.bundle) as s:
            s.sendall(head)
            for i in range(12):  # a drop now and then does not move the deadline
                try:
                    s.sendall(b"A")
                except OSError:
                    break
                time.sleep(0.2)
            assert b" 408 " in s.recv(1000)
        held = []
        ask = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode()
        for _ in range(600):  # both workers'
            try:
                held.append(connect(world.hud, AT, name=HOST, ca=site.bundle))
                http(held[-1], ask)
            except OSError:
                break
        assert wait("a refusal", lambda: site.g.journal("refused", reason="enrolments"))
        for s in held:
            s.close()
        wait("room again", lambda: site.curl("cacerts")[0] == 200)
    finally:
        site.g.stop()


def test_the_ca_role_dies(site):
    """Its requests are answered 503 with Retry-After; it is back within a second, and a request that was lost can be repeated."""
    token = site.token("patient")
    data, _ = site.csr([est_id("patient")])
    site.g.kill("ca")
    seen = set()

    def asked():
        status, head, _ = site.curl("simpleenroll", "-u", "patient:" + token, data=data)
        if status == 503:
            assert b"retry-after:" in head
        seen.add(status)
        return status == 200
    wait("an answer", asked, 10)
    assert seen <= {200, 503}
    assert site.g.record("role", role="ca", reason="died")


def test_many_refusals(site):
    """Who guesses tokens begins anew with each few: the connection is closed."""
    data, _ = site.csr([est_id("guess")])
    ask = (b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: %s\r\nContent-Type: application/pkcs10\r\nAuthorization: Basic %s\r\n"
           b"Content-Length: %d\r\n\r\n" % (HOST.encode(), base64.b64encode(b"x:guess"), len(data))) + data
    with connect(site.world.hud, AT, name=HOST, ca=site.bundle) as s:
        for i in range(5):
            status, head, _ = http(s, ask)
            assert status == 401
        assert b"connection: close" in head.lower()
        s.settimeout(5 * SLOW)
        assert s.recv(10) == b""


def test_reload_with_connections(site):
    """An old worker answers what was asked, and no more."""
    ask = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode()
    with connect(site.world.hud, AT, name=HOST, ca=site.bundle) as idle, connect(site.world.hud, AT, name=HOST, ca=site.bundle) as half:
        assert http(idle, ask)[0] == 200
        half.sendall(ask[:30])
        time.sleep(0.2)
        site.g.write(log_level="debug")
        site.g.reload()
        idle.settimeout(10 * SLOW)
        assert idle.recv(10) == b""
        half.sendall(ask[30:])
        status, head, _ = http(half, b"")
        assert status in (200, 503) and b"connection: close" in head.lower()  # its generation's ca role may have gone before it
    assert site.curl("cacerts")[0] == 200
    # The old generation ends, its ca role with it: it had the CA's directory.
    wait("one ca role", lambda: len(site.g.role("ca")) == 1 and site.g.status()["generations_draining"] == 0, 20)


# ---- whom the name chooses

def test_the_name_chooses(site):
    """Enrolment is not where it was not asked to be; other services are not where enrolment is alone."""
    ask = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode()
    assert refused(site.world.hud, INSIDE, ask=ask, name=HOST)
    assert site.g.record("refused", reason="server-name", listener="inside")
    cert, _ = site.enrolled("chooser")
    assert refused(site.world.hud, ALONE, ask=ask, name=LOCAL_HOST, cert=cert)
    assert refused(site.world.hud, ALONE, ask=ask, cert=cert)  # no name at all
    assert site.g.record("refused", reason="server-name", listener="alone")
    assert site.curl("cacerts", to=ALONE)[0] == 200
    assert refused(site.world.hud, AT, ask=ask, name=LOCAL_HOST)  # the others still need a certificate
    with connect(site.world.hud, AT, name=HOST.upper(), ca=site.bundle) as s:
        assert http(s, ask)[0] == 200
    # its own certificate, and HTTP/1.1 whatever is offered
    with connect(site.world.hud, AT, name=HOST, ca=site.bundle, alpn=["h2", "http/1.1"]) as s:
        assert s.selected_alpn_protocol() == "http/1.1"
        ours = x509.load_pem_x509_certificate(open(site.enrol.crt, "rb").read())
        assert s.getpeercert(True) == ours.public_bytes(serialization.Encoding.DER)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(site.world.hud, AT, name=HOST, ca=site.bundle, alpn=["h2"]).close()


def test_tls_1_3_alone(site):
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(site.world.hud, AT, name=HOST, ca=site.bundle, highest=ssl.TLSVersion.TLSv1_2).close()


def test_whose_directory(site):
    """The ca role can do nothing with files of root's, and has no use for the root's key: said before it matters, with what to do."""
    def warnings():
        p = subprocess.run([DAEMON, "-t", "-c", site.g.path], capture_output=True)
        assert p.returncode == 0, p.stderr
        return p.stderr.decode()

    index = site.hud.folder + "/ca/index"
    out = warnings()
    assert "chown" not in out and "ca/root.key" in out and "safe place" in out
    os.chown(index, 0, 0)
    try:
        assert "%s\" belongs to uid 0" % index in warnings() and "chown -R %d %s" % (CA_UID, site.hud.folder) in warnings()
    finally:
        os.chown(index, CA_UID, CA_UID)


def test_a_passphrase_is_corrected(site):
    """A CA whose key cannot be opened is told of by name; a reload takes the right passphrase, without a new process."""
    key, secret, plain = site.hud.folder + "/ca/issuing.key", site.folder + "/passphrase", dict(site.g.config["ca"])
    clear = open(key, "rb").read()
    locked = subprocess.run(["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:correct horse"], input=clear, check=True,
                            capture_output=True).stdout

    def put(path, data):
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, 0o600)

    try:
        put(key, locked)
        put(secret, b"wrong horse\n")
        site.g.write(ca=dict(plain, passphrase_file=secret))
        site.g.reload()
        assert site.curl("cacerts")[0] == 503
        wait("the reason", lambda: "passphrase" in site.g.status()["ca"]["why"], 5)
        assert b"CANNOT BE USED" in site.g.ctl("status").stdout
        wait("one ca role", lambda: len(site.g.role("ca")) == 1, 40)
        pids = site.g.role("ca")
        put(secret, b"correct horse\n")
        site.g.reload()
        wait("the CA", lambda: site.curl("cacerts")[0] == 200, 10)
        assert site.g.role("ca") == pids
    finally:
        put(key, clear)
        site.g.write(ca=plain)
        site.g.reload()
    assert site.curl("cacerts")[0] == 200


def test_status(site):
    st = site.g.status()
    assert any(r["role"] == "ca" for r in st["roles"])
    assert sum(w["enrol"]["requests"] for w in st["workers"]) > 0
    assert b"Enrolment" in site.g.ctl("status").stdout


# ---- gwctl as the client

def gwctl_enrol(site, *args, check=True, to=AT):
    p = site.world.hud.run(GWCTL, "-c", site.folder + "/none.conf", "pki", "enrol", "--url", "https://" + HOST, "--connect", "%s:%d" % to, *args, check=False)
    if check:
        assert p.returncode == 0, p.stderr.decode()
    return p


def test_gwctl_enrol(site):
    """A key of its own, a proof instead of the token, the server known by bundle; then renewal in place."""
    out, token = site.folder + "/out", site.folder + "/token"
    os.makedirs(out, exist_ok=True)
    with open(token, "w") as f:
        f.write(site.token("gw-client") + "\n")
    gwctl_enrol(site, "--name", "gw-client", "--token-file", token, "--bundle", site.bundle, "--out", out)
    crt, key = out + "/gw-client.crt", out + "/gw-client.key"
    assert os.stat(key).st_mode & 0o777 == 0o600 and not os.path.exists(key + ".new")
    first = x509.load_pem_x509_certificate(open(crt, "rb").read())
    assert uri(first) == [est_id("gw-client")]
    assert open(out + "/hud.example.pem").read() == open(site.bundle).read()
    p = gwctl_enrol(site, "--name", "gw-client", "--token-file", token, "--bundle", site.bundle, "--out", out, check=False)
    assert p.returncode == 1 and b"--force" in p.stderr
    gwctl_enrol(site, "--renew", crt, "--key", key, "--bundle", site.bundle)
    second = x509.load_pem_x509_certificate(open(crt, "rb").read())
    assert second.serial_number != first.serial_number and second.public_key().public_numbers() != first.public_key().public_numbers()
    gwctl_enrol(site, "--renew", crt, "--key", key, "--same-key", "--bundle", site.bundle)
    third = x509.load_pem_x509_certificate(open(crt, "rb").read())
    assert third.public_key().public_numbers() == second.public_key().public_numbers()
    with connect(site.world.hud, AT, name=LOCAL_HOST, ca=site.bundle, cert=Issued(out + "/gw-client")):
        pass
    # killed between the certificate and its key: the next one finds both
    os.link(key, key + ".old")
    gwctl_enrol(site, "--renew", crt, "--key", key, "--bundle", site.bundle)
    os.rename(key, key + ".new")
    os.rename(key + ".old", key)
    fourth = x509.load_pem_x509_certificate(open(crt, "rb").read())
    gwctl_enrol(site, "--renew", crt, "--key", key, "--bundle", site.bundle)
    fifth = x509.load_pem_x509_certificate(open(crt, "rb").read())
    assert fifth.serial_number != fourth.serial_number and fifth.public_key().public_numbers() != fourth.public_key().public_numbers()
    with connect(site.world.hud, AT, name=LOCAL_HOST, ca=site.bundle, cert=Issued(out + "/gw-client")):
        pass


@pytest.mark.parametrize("alg", ["p384", "ed25519"])
def test_gwctl_enrol_by_fingerprint(site, alg):
    """Nothing but the root's fingerprint is known beforehand."""
    out = site.folder + "/out-" + alg
    os.makedirs(out)
    root = x509.load_pem_x509_certificate(open(site.bundle, "rb").read())
    fingerprint = hashlib.sha256(root.public_bytes(serialization.Encoding.DER)).hexdigest()
    p = gwctl_enrol(site, "--name", "fp-" + alg, "--token", site.token("fp-" + alg), "--fingerprint", "0" * 64, "--out", out, "--alg", alg, check=False)
    assert p.returncode == 1 and b"fingerprint" in p.stderr and not os.listdir(out)
    gwctl_enrol(site, "--name", "fp-" + alg, "--token", site.token("fp-" + alg), "--fingerprint", fingerprint, "--out", out, "--alg", alg)
    assert sorted(os.listdir(out)) == ["fp-%s.crt" % alg, "fp-%s.key" % alg, "hud.example.pem"]


def test_gwctl_enrol_refused(site, folder):
    """Each with its reason: a wrong token, a server that is another, nobody there."""
    out = site.folder + "/out-refused"
    os.makedirs(out)
    p = gwctl_enrol(site, "--name", "refused", "--token", "wrong", "--bundle", site.bundle, "--out", out, check=False)
    assert p.returncode == 1 and b"refuses (4" in p.stderr
    other = Domain(folder() + "/pki", "irs.example", "dmz9")
    p = gwctl_enrol(site, "--name", "refused", "--token", "wrong", "--bundle", other.ca.bundle, "--out", out, check=False)
    assert p.returncode == 1 and b"bundle" in p.stderr
    p = gwctl_enrol(site, "--name", "refused", "--token", "wrong", "--bundle", site.bundle, "--out", out, check=False, to=("10.1.0.31", 443))
    assert p.returncode == 1 and b"cannot connect" in p.stderr
    assert not [f for f in os.listdir(out) if not f.endswith(".key.new")]


# ---- passed on

@pytest.fixture(scope="module")
def forwarder(site, folder):
    """Another gateway of the domain in front, which has no CA: it carries the connections on."""
    hud, path = site.hud, folder()
    cert = hud.issue("gateway", "front", "front")
    g = Gateway(site.world.hud, path, {
        "domain": "hud.example", "identity": {"certificate": cert.crt, "key": cert.keyfile, "bundle": site.bundle}, "state_dir": path + "/state",
        "enrol": {"host": HOST, "forward": ["%s:%d" % AT]},
        "listeners": [{"name": "front", "address": "%s:%d" % FORWARD, "accept": ["workloads", "enrol"]}],
        "services": [{"name": "local", "host": LOCAL_HOST, "endpoints": ["10.1.0.30:9000"]}],
    }, [rule("all", principals=["spiffe://hud.example/**"], services=["local"])])
    g.start()
    yield g
    g.stop()


def test_forward(site, forwarder):
    """TLS goes on unopened: the certificate that the client sees is the far one's, its own reaches the CA, and both books have it."""
    assert site.curl("cacerts", to=FORWARD)[0] == 200
    data, key = site.csr([est_id("far")])
    status, _, body = site.curl("simpleenroll", "-u", "far:" + site.token("far"), data=data, to=FORWARD)
    assert status == 200, body
    cert = site.install(site.certs(body), key, "far-cert")
    status, _, body = site.curl("simplereenroll", "--cert", cert.crt, "--key", cert.keyfile, data=site.csr([est_id("far")], key=key)[0], to=FORWARD)
    assert status == 200, body
    r = wait("its end", lambda: [r for r in forwarder.journal("enrolment", verdict="allow") if "bytes_in" in r])[-1]
    assert r["endpoint"] == "%s:%d" % AT and int(r["bytes_in"]) > 500 and int(r["bytes_out"]) > 500 and r["listener"] == "front"
    # other names go the ordinary way, and need a certificate
    with connect(site.world.hud, FORWARD, name=LOCAL_HOST, ca=site.bundle, cert=cert) as s:
        ours = x509.load_pem_x509_certificate(open(site.hud.folder + "/front.crt", "rb").read())
        assert s.getpeercert(True) == ours.public_bytes(serialization.Encoding.DER)
    assert refused(site.world.hud, FORWARD, name=LOCAL_HOST)


def test_forward_on_record(site, forwarder):
    """Nothing is carried on that is not on record first: not past a journal that is silent, and of a worker that was killed at it the record is there."""
    before = len(forwarder.journal("enrolment", reason="forwarded"))
    with site.world.hud.connect(FORWARD, timeout=10 * SLOW) as s:
        tls = context(ca=site.bundle).wrap_socket(s, server_hostname=HOST)
        forwarder.kill("worker")
        with contextlib.suppress(OSError):
            tls.recv(1)
    wait("on record", lambda: len(forwarder.journal("enrolment", reason="forwarded")) == before + 1)
    forwarder.wait_ready()
    pids = forwarder.kill("journal", signal.SIGSTOP)
    try:
        wait("refusals", lambda: site.curl("cacerts", to=FORWARD)[0] == 0, 10)
    finally:
        for p in pids:
            os.kill(p, signal.SIGCONT)
    wait("service", lambda: site.curl("cacerts", to=FORWARD)[0] == 200, 10)
    assert forwarder.record("refused", reason="journal")


def test_forward_in_pieces(site, forwarder):
    """A ClientHello in many pieces, in several records, and one that never ends."""
    out, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(ca=site.bundle).wrap_bio(back, out, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = out.read()
    body = hello[5:]
    split = b"".join(hello[:3] + len(p).to_bytes(2, "big") + p for p in (body[:1], body[1:50], body[50:]))
    for data, step in ((hello, len(hello) // 47 + 1), (split, len(split))):  # (OpenSSL 3.5 says three times as much as 3.0)
        s = site.world.hud.connect(FORWARD, timeout=5 * SLOW)
        with s:
            for i in range(0, len(data), step):
                s.sendall(data[i:i + step])
                time.sleep(0.002)
            assert s.recv(3)[0] == 22  # a ServerHello came
    with site.world.hud.connect(FORWARD, timeout=15 * SLOW) as s:
        s.sendall(hello[:100])
        with contextlib.suppress(ConnectionResetError):
            assert s.recv(100) == b""  # the handshake's deadline
    assert forwarder.record("refused", reason="handshake-timeout")
    # junk is no ClientHello: the ordinary way says so
    with site.world.hud.connect(FORWARD, timeout=5 * SLOW) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            s.recv(100)
    assert forwarder.record("refused", reason="protocol")


def test_forward_without_the_far_end(site, folder):
    cert = site.hud.issue("gateway", "front2", "front2")
    path = folder()
    g = Gateway(site.world.hud, path, {
        "domain": "hud.example", "identity": {"certificate": cert.crt, "key": cert.keyfile, "bundle": site.bundle}, "state_dir": path + "/state",
        "enrol": {"host": HOST, "forward": ["10.1.0.31:443"]},
        "listeners": [{"name": "front", "address": "10.1.0.8:443", "accept": ["enrol"]}]})
    g.start()
    try:
        assert site.curl("cacerts", to=("10.1.0.8", 443))[0] == 0
        assert g.record("refused", reason="connect-failed")
    finally:
        g.stop()


# ---- gateways and sidecars renew themselves

def test_one_worker_renews(site, folder):
    """Worker 0 does it, and when it dies, its successor."""
    cert, path = site.hud.issue("gateway", "front3", "front3"), folder()
    g = Gateway(site.world.hud, path, {
        "domain": "hud.example", "identity": {"certificate": cert.crt, "key": cert.keyfile, "bundle": site.bundle}, "state_dir": path + "/state",
        "renewal": {"host": HOST, "dial": ["%s:%d" % AT]},
        "listeners": [{"name": "front", "address": "10.1.0.8:443", "accept": ["workloads"]}],
        "services": [{"name": "local", "host": LOCAL_HOST, "endpoints": ["10.1.0.30:9000"]}]})
    g.start()
    try:
        assert [w["index"] for w in g.status()["workers"] if "renewal" in w] == [0]
        first = renewal(g)
        assert first["state"] == "waiting" and first["next"] < first["until"]
        g.kill("worker")
        r = wait("its successor", lambda: renewal(g))
        assert r["state"] == "waiting" and r["until"] == first["until"]
        g.write(log_level="debug")
        g.reload()
        assert wait("the next generation's", lambda: renewal(g))["state"] == "waiting"
        g.write(renewal=None)
        g.reload()
        wait("none any more", lambda: not [w for w in g.status()["workers"] if "renewal" in w and not w["draining"]])
    finally:
        g.stop()


class Swallower(Server):
    """Between a client of EST and the service: the request goes through, and while "swallow" holds its answer does not."""

    def __init__(self, ns, at, to):
        self.ns, self.to, self.swallow, self.swallowed = ns, to, True, 0
        super().__init__(ns, at)

    def on_conn(self, c):
        with self.ns.connect(self.to) as far:
            asked = threading.Event()

            def back():
                with contextlib.suppress(OSError):
                    while d := far.recv(65536):
                        if asked.is_set() and self.swallow:
                            self.swallowed += len(d)
                        else:
                            c.sendall(d)
                    c.shutdown(socket.SHUT_RDWR)
            t = threading.Thread(target=back, daemon=True)
            t.start()
            first = True
            while d := c.recv(65536):
                if not first:  # no ClientHello any more
                    asked.set()
                first = False
                far.sendall(d)
            far.shutdown(socket.SHUT_RDWR)
            t.join()


@pytest.mark.limit(120)
def test_the_answer_is_lost(site, folder):
    """The CA gives a certificate one successor. When the answer with it is lost, and the gateway is killed and started again, or gets another config, it asks
    for the same key's: else it could never be renewed any more."""
    path, ns = folder(), site.world.hud
    cert = short(site, "front4", "gateway", "front4", life=60)
    between = Swallower(ns, ("10.1.0.31", 443), AT)
    g = Gateway(ns, path, {
        "domain": "hud.example", "identity": {"certificate": cert.crt, "key": cert.keyfile, "bundle": site.bundle}, "state_dir": path + "/state",
        "renewal": {"host": HOST, "dial": ["10.1.0.31:443"], "at": 10},
        "listeners": [{"name": "front", "address": "10.1.0.8:443", "accept": ["workloads"]}],
        "services": [{"name": "local", "host": LOCAL_HOST, "endpoints": ["10.1.0.30:9000"]}]})
    mine = {"principal": "spiffe://hud.example/gateway/front4"}
    g.start()
    try:
        wait("a certificate that does not arrive", lambda: site.g.journal("certificate", reason="renewed", **mine), 30)
        g.proc.kill()
        g.proc.wait()
        g.start()
        wait("the same again", lambda: site.g.journal("certificate", reason="repeated", **mine), 30)
        assert os.stat(cert.keyfile + ".new").st_mode & 0o777 == 0o600
        g.write(log_level="debug")
        g.reload()
        between.swallow = False
        wait("it arrived", lambda: g.journal("enrolment", reason="renewed"), 40)
        new = x509.load_pem_x509_certificate(open(cert.crt, "rb").read())
        wait("taken over", lambda: x509.load_pem_x509_certificate(open(cert.crt, "rb").read()).not_valid_after > new.not_valid_before and
             not os.path.exists(cert.keyfile + ".new"), 10)
        assert not site.g.journal("certificate", reason="already-renewed", **mine)
        issued = [r["cert"] for r in site.g.journal("certificate", reason="renewed", **mine)]
        taken = x509.load_pem_x509_certificate(open(cert.crt, "rb").read())
        assert [int(s, 16) for s in issued] == [taken.serial_number]
        assert serial_at(site.world, ("10.1.0.8", 443), LOCAL_HOST, site.bundle, site.hud.ca.issue("late-app")) == taken.serial_number
    finally:
        g.stop()
        between.stop()


def test_killed_while_it_replaced_its_files(site, folder):
    """Between key and certificate: brought to its end. Before either: undone. And a new key that waited, cut short: another is made."""
    path, (old, new, third) = folder(), [site.hud.issue("gateway", "front5", "front5" + x) for x in "abc"]

    def serial(crt):
        return x509.load_pem_x509_certificate(open(crt, "rb").read()).serial_number
    g = Gateway(site.world.hud, path, {
        "domain": "hud.example", "identity": {"certificate": old.crt, "key": old.keyfile, "bundle": site.bundle}, "state_dir": path + "/state",
        "renewal": {"host": HOST, "dial": ["%s:%d" % AT]},
        "listeners": [{"name": "front", "address": "10.1.0.8:443", "accept": ["workloads"]}],
        "services": [{"name": "local", "host": LOCAL_HOST, "endpoints": ["10.1.0.30:9000"]}]})
    app, expected = site.hud.ca.issue("killed-app"), serial(new.crt)
    os.rename(new.keyfile, old.keyfile)
    os.rename(new.crt, old.crt + ".new")
    for rest in ({}, {old.crt + ".new": open(third.crt, "rb").read()}, {old.keyfile + ".new": open(third.keyfile, "rb").read()[:100]}):
        for name, content in rest.items():
            with open(name, "wb") as f:
                f.write(content)
        g.start()
        try:
            assert serial_at(site.world, ("10.1.0.8", 443), LOCAL_HOST, site.bundle, app) == expected
        finally:
            g.stop()
        assert not os.path.exists(old.crt + ".new") and serial(old.crt) == expected
    assert "event=renewal-completed" in g.log() and "cannot be read; another one is made" in g.log()


LIFE = 60


def short(site, name, kind, file, dns=(), life=LIFE):
    """A certificate of a minute, by the CA's books, as an operator would issue it."""
    out = "%s/pki/short-%s" % (site.folder, file)
    site.hud._ctl("issue", kind, name, "--lifetime", "%ds" % life, "--out", out, *[x for d in dns for x in ("--dns", d)])
    for f in (out + ".crt", out + ".key"):
        os.chown(f, 0, 0)
    return Issued(out)


def serial_at(world, to, name, ca, cert):
    with connect(world.hud, to, name=name, ca=ca, cert=cert) as s:
        return x509.load_der_x509_certificate(s.getpeercert(True)).serial_number


def renewal(g, key="identity"):
    for w in g.status().get("workers", []):
        for r in w.get("renewal", []):
            if r["key"] == key:
                return r


class Calls(threading.Thread):
    """One call after the other until stopped: statuses that were no 200, and how many there were."""

    def __init__(self, dial):
        super().__init__(daemon=True)
        self.dial, self.bad, self.n, self.stopping = dial, [], 0, False
        self.start()

    def run(self):
        while not self.stopping:
            try:
                with self.dial() as s:
                    s.settimeout(10 * SLOW)
                    status, _, _ = http(s, b"GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % LOCAL_HOST.encode())
            except OSError as e:
                status = repr(e)
            self.n += 1
            if status != 200:
                self.bad.append(status)
            time.sleep(0.05)

    def stop(self):
        self.stopping = True
        self.join()


@pytest.fixture
def local(world):
    o = Origin(world.hud, ("10.1.0.30", 9000))
    yield o
    o.stop()


@pytest.mark.limit(240)
def test_they_renew_themselves(world, folder, local, aside):
    """Certificates of a minute: a gateway and a sidecar live three of them, calls never stop, and for a while the CA is away."""
    base = folder()
    site = Site(world, base, ca={"store": base + "/pki", "gateway_lifetime": "%ds" % LIFE, "workload_lifetime": "%ds" % LIFE},
                limits={"drain_timeout": "5s"})
    gw = short(site, "dmz1", "gateway", "gateway")
    inside = short(site, "dmz1", "gateway", "inside", dns=[LOCAL_HOST])
    side = short(site, "side", "workload", "side")
    renew = {"host": HOST, "dial": ["10.1.0.31:443", "%s:%d" % AT]}  # nobody is at the first
    site.g.config.update(identity={"certificate": gw.crt, "key": gw.keyfile, "bundle": site.bundle},
                         inside={"certificate": inside.crt, "key": inside.keyfile}, renewal=renew)
    site.g.write(rules=[rule("all", principals=["spiffe://hud.example/**"], services=["local"])])
    path = folder()
    sidecar = Gateway(world.hud, path, {
        "domain": "hud.example", "workers": 1, "identity": {"certificate": side.crt, "key": side.keyfile, "bundle": site.bundle},
        "state_dir": path + "/state", "renewal": renew,
        "uplink": {"dial": ["%s:%d" % AT], "gateways": ["spiffe://hud.example/gateway/dmz1"]},
        "listeners": [{"name": "local", "address": "127.0.0.1:8088", "accept": ["plaintext"],
                       "clients": [{"uid": "0", "principal": est_id("side")}]}],
        "services": [{"name": "local", "host": LOCAL_HOST, "via": "uplink"}],
    }, [rule("mine", principals=[est_id("side")], services=["local"])])
    started = time.monotonic()
    site.g.start()
    sidecar.start()
    calls = None
    try:
        wait("an uplink", lambda: sidecar.journal("link-up"))
        calls = Calls(lambda: world.hud.connect(("127.0.0.1", 8088)))
        app = site.hud.ca.issue("app")
        first = {k: serial_at(world, to, LOCAL_HOST, site.bundle, app) for k, to in (("identity", AT), ("inside", INSIDE))}
        wait("the first renewals", lambda: len({r["detail"].split(":")[0] for r in site.g.journal("enrolment", reason="renewed")}) >= 2 and
             sidecar.journal("enrolment", reason="renewed"), LIFE)
        wait("new certificates in use", lambda: all(serial_at(world, to, LOCAL_HOST, site.bundle, app) != first[k]
                                                     for k, to in (("identity", AT), ("inside", INSIDE))), 10, 0.2)
        # Its links, too: cut off for as long as the old certificate lasts, they could not be made anew, and what came by the old ones would rightly be refused.
        wait("links with the new certificate", lambda: [r["msgid"] for r in sidecar.journal() if r["msgid"] == "link-up" or (
            r["msgid"] == "enrolment" and r.get("reason") == "renewed")][-2:] == ["link-up"] * 2, 10, 0.2)
        # The CA goes away: it is said why, and when it is back all goes on.
        site.world.hud.run("nft", "-f", "-", input=b"""table inet t {
            chain in {
                type filter hook input priority 0
                ip daddr 192.0.2.10 tcp dport 443 tcp flags & (syn | ack) == syn reject with tcp reset
            }
        }""")
        wait("failures", lambda: sidecar.journal("enrolment", reason="renewal-failed"), LIFE)
        r = renewal(sidecar)
        assert r and (r["error"] or r["failures"] == 0), r
        assert b"Renewal" in sidecar.ctl("status").stdout
        site.world.hud.run("nft", "delete", "table", "inet", "t")
        wait("three lives", lambda: time.monotonic() - started > LIFE * 2, LIFE * 2, 0.5)
        wait("another renewal", lambda: len(sidecar.journal("enrolment", reason="renewed")) >= 2 and
             len(site.g.journal("enrolment", reason="renewed")) >= 4, LIFE)
        assert serial_at(world, AT, LOCAL_HOST, site.bundle, app) != first["identity"]
        calls.stop()
        assert calls.n > 100 and not calls.bad, (calls.n, len(calls.bad), calls.bad[:5], [
            r["line"] for g in (sidecar, site.g) for r in g.journal("deny")[:3]])
        assert sidecar.record("enrolment", reason="renewed")["principal"] == est_id("side")
    finally:
        world.hud.run("nft", "delete", "table", "inet", "t", check=False)
        if calls:
            calls.stop()
        sidecar.stop()
        site.g.stop()
