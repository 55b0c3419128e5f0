# SPDX-License-Identifier: Apache-2.0
"""gwctl pki as an operator uses it: no daemon, no namespaces. Certificates and CRLs are judged by openssl, which knows nothing of us."""
import base64
import json
import os
import pty
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from bed.gateway import GWCTL, SLOW

DOMAIN = "lab.example"


class Store:
    """A CA in a directory of its own."""

    def __init__(self, path, *args, make=True):
        self.dir, self.top = path + "/pki", path
        if make:
            self("init", DOMAIN, *args)

    def run(self, *args, **kw):
        return subprocess.run([GWCTL, "-c", self.top + "/none.conf", "pki"] + list(args) + ["--dir", self.dir], capture_output=True, text=True,
                              timeout=60 * SLOW, **kw)

    def __call__(self, *args):
        p = self.run(*args)
        assert p.returncode == 0, "gwctl pki %s: %d\n%s%s" % (" ".join(args), p.returncode, p.stdout, p.stderr)
        return p.stdout

    def fails(self, *args, code=1):
        """Refused; the reason. The books are as they were."""
        before = self.index()
        p = self.run(*args)
        assert p.returncode == code, "%s: %d\n%s%s" % (args, p.returncode, p.stdout, p.stderr)
        assert self.index() == before
        return p.stderr

    def index(self):
        try:
            with open(self.dir + "/ca/index", "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def json(self, *args):
        return json.loads(self(*args, "--json"))

    def issue(self, kind, name, *args):
        out = "%s/%s-%s" % (self.top, kind, name.replace("/", "-"))
        got = self.json("issue", kind, name, "--out", out, *args)
        return got["serial"], out

    def states(self, *args):
        return {e["serial"]: e["state"] for e in self.json("list", *args)}

    def path(self, name):
        return "%s/%s" % (self.dir, name)


@pytest.fixture
def store(folder):
    return Store(folder())


def openssl(*args, ok=True, **kw):
    p = subprocess.run(["openssl"] + list(args), capture_output=True, text=True, timeout=30 * SLOW, **kw)
    if ok:
        assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout if ok else p


def text_of(crt):
    return openssl("x509", "-in", crt, "-noout", "-text")


def public_key(crt):
    return openssl("x509", "-in", crt, "-noout", "-pubkey")


def verify(store, crt, crls=True, roots=None):
    """openssl's verdict, with a CRL of each CA that has one."""
    args = ["verify", "-CAfile", roots or store.path(DOMAIN + ".pem"), "-untrusted", crt]
    if crls:
        args += ["-CRLfile", store.path(DOMAIN + ".crl"), "-crl_check"]
    return openssl(*args, crt, ok=False)


def crl_number(store):
    with open(store.path(DOMAIN + ".crl")) as f:
        first = re.search("-----BEGIN X509 CRL.*?END X509 CRL-----", f.read(), re.S).group(0)
    return int(re.search("CRL Number: *\n *(0x[0-9A-Fa-f]+|[0-9]+)", openssl("crl", "-noout", "-text", input=first)).group(1), 0)


# -- init ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg,says", [(None, "NIST CURVE: P-256"), ("p384", "NIST CURVE: P-384"), ("ed25519", "ED25519")])
def test_init(folder, alg, says):
    """Each algorithm; keys for their owner alone; limited to the domain; a second init changes nothing."""
    s = Store(folder(), *(["--alg", alg] if alg else []))
    for name in ("root", "issuing"):
        assert os.stat(s.path("ca/%s.key" % name)).st_mode & 0o777 == 0o600
        text = text_of(s.path("ca/%s.crt" % name))
        assert says in text and "URI:" + DOMAIN in text and "URI:spiffe://" + DOMAIN in text
    before = open(s.path("ca/root.key")).read()
    assert "stays" in s.fails("init", DOMAIN) and "stays" in s.fails("init", "other.example")
    assert open(s.path("ca/root.key")).read() == before
    _, out = s.issue("gateway", "g1", "--dns", "g1.lab.svc")
    assert verify(s, out + ".crt", crls=False).returncode == 0
    s("crl")
    assert verify(s, out + ".crt").returncode == 0


def test_encrypted(folder):
    """Encrypted keys: PBES2 with AES-256; a wrong passphrase is told from none; the file that has it must be private."""
    top = folder()
    good, wrong, short = top + "/good", top + "/wrong", top + "/short"
    for path, text in ((good, "correct horse battery\n"), (wrong, "staple\n"), (short, "1234567\n")):
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o600)
    s = Store(top, make=False)
    assert "less than 8" in s.fails("init", DOMAIN, "--encrypt", "--passphrase-file", short)
    assert not os.path.exists(s.path("ca"))
    s("init", DOMAIN, "--encrypt", "--passphrase-file", good)
    parsed = openssl("asn1parse", "-in", s.path("ca/root.key"))
    assert "PBES2" in parsed and "aes-256-cbc" in parsed and "hmacWithSHA256" in parsed
    openssl("pkey", "-in", s.path("ca/root.key"), "-passin", "file:" + good, "-noout")
    s("issue", "workload", "w", "--out", top + "/w", "--passphrase-file", good)
    assert "ENCRYPTED" not in open(top + "/w.key").read()
    assert "wrong passphrase" in s.fails("issue", "workload", "v", "--out", top + "/v", "--passphrase-file", wrong)
    assert "wrong passphrase" in s.fails("revoke", "w", "--passphrase-file", wrong)
    os.chmod(good, 0o644)
    assert "others may read" in s.fails("crl", "--passphrase-file", good)
    os.chmod(good, 0o600)
    # Nobody to ask: no terminal at all.
    p = s.run("issue", "workload", "v", "--out", top + "/v", start_new_session=True, stdin=subprocess.DEVNULL)
    assert p.returncode == 1 and "--passphrase-file" in p.stderr
    # What needs no key needs no passphrase.
    assert len(s.json("list")) == 3 and "BEGIN" in s("bundle")


def on_terminal(answers, *args):
    """gwctl with a terminal of its own; answers are typed when it asks. Exit code and all that was shown."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(GWCTL, [GWCTL] + list(args))
    shown, end = b"", time.monotonic() + 30 * SLOW
    for answer in answers:
        mark = len(shown)
        while b": " not in shown[mark:] and time.monotonic() < end:
            shown += os.read(fd, 4096)
        os.write(fd, answer)
    while True:
        try:
            got = os.read(fd, 4096)
        except OSError:
            break
        if not got:
            break
        shown += got
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(fd)
    return status, shown.decode()


def test_asked_on_the_terminal(folder):
    """The passphrase is asked for, twice when it is new, and never shown; ^C ends it and the terminal."""
    top = folder()
    args = ["-c", top + "/none.conf", "pki"]
    code, shown = on_terminal([b"correct horse\n", b"correct house\n"], *args, "init", DOMAIN, "--encrypt", "--dir", top + "/pki")
    assert code == 1 and "two different" in shown and not os.path.exists(top + "/pki/ca")
    code, shown = on_terminal([b"correct horse\n", b"correct horse\n"], *args, "init", DOMAIN, "--encrypt", "--dir", top + "/pki")
    assert code == 0 and "horse" not in shown
    code, shown = on_terminal([b"correct horse\n"], *args, "issue", "workload", "w", "--out", top + "/w", "--dir", top + "/pki")
    assert code == 0 and "horse" not in shown and os.path.exists(top + "/w.crt")
    code, shown = on_terminal([b"wrong horse\n"], *args, "issue", "workload", "v", "--out", top + "/v", "--dir", top + "/pki")
    assert code == 1 and "wrong passphrase" in shown
    code, shown = on_terminal([b"\x03"], *args, "crl", "--dir", top + "/pki")
    assert code == -signal.SIGINT


# -- issue -----------------------------------------------------------------------------------------------


def test_issue(store):
    """Lifetimes from a minute up, DNS names, what a CSR brings and what it may not bring."""
    top = store.top
    serial, out = store.issue("workload", "ns/tax/sa/permit", "--dns", "permit.tax.svc", "--dns", "*.permit.svc", "--lifetime", "1m")
    text = text_of(out + ".crt")
    assert "URI:spiffe://lab.example/ns/tax/sa/permit, DNS:permit.tax.svc, DNS:*.permit.svc" in text
    assert store.states()[serial] == "valid"
    assert "one minute" in store.fails("issue", "workload", "w", "--out", top + "/x", "--lifetime", "59s", code=2)
    openssl("req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", top + "/k", "-subj", "/CN=evil/O=evil", "-addext",
            "subjectAltName=URI:spiffe://lab.example/w,DNS:evil.example", "-out", top + "/csr")
    store("issue", "workload", "w", "--csr", top + "/csr", "--out", top + "/w")
    text = text_of(top + "/w.crt")
    assert "evil" not in text and "URI:spiffe://lab.example/w" in text and not os.path.exists(top + "/w.key")
    assert public_key(top + "/w.crt") == openssl("pkey", "-in", top + "/k", "-pubout")


def test_bad_requests(store):
    """Each malformed request has its own reason, and nothing is issued."""
    top = store.top

    def csr(name, *args, key="rsa:2048"):
        openssl("req", "-new", "-newkey", *key.split(" "), "-nodes", "-keyout", top + "/" + name + ".k", "-subj", "/CN=w", "-out", top + "/" + name, *args)
        return top + "/" + name

    def refused(path):
        return store.fails("issue", "workload", "w", "--csr", path, "--out", top + "/out")

    good = csr("good")
    der = bytearray(base64.b64decode("".join(open(good).read().split("\n")[1:-2])))
    der[-5] ^= 1
    with open(top + "/forged", "w") as f:
        f.write("-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n" % base64.encodebytes(bytes(der)).decode())
    assert "not by its own key" in refused(top + "/forged")
    assert "shorter than 2048" in refused(csr("weak", key="rsa:1024"))
    assert "elliptic curve other than" in refused(csr("curve", key="ec -pkeyopt ec_paramgen_curve:secp256k1"))
    assert "not RSA, ECDSA or Ed25519" in refused(csr("ed448", key="ed448"))
    assert "another id" in refused(csr("other", "-addext", "subjectAltName=URI:spiffe://lab.example/v"))
    assert "another id" in refused(csr("foreign", "-addext", "subjectAltName=URI:spiffe://irs.example/w"))
    assert "more than one URI" in refused(csr("two", "-addext", "subjectAltName=URI:spiffe://lab.example/w,URI:spiffe://lab.example/v"))
    assert "broken digest" in refused(csr("sha1", "-sha1"))
    assert "a private key" in refused(top + "/good.k")
    assert "a certificate, not" in refused(store.path("ca/root.crt"))
    with open(top + "/cut", "w") as f:
        f.write(open(good).read()[:200])
    assert "not a certificate request" in refused(top + "/cut")
    assert "No such file" in refused(top + "/nowhere")
    assert not os.path.exists(top + "/out.crt")


def test_damaged_store(store):
    """A damaged index, a key cut short, a key of another: each is named, nothing is changed."""
    serial, _ = store.issue("workload", "w")
    index, key = store.path("ca/index"), store.path("ca/issuing.key")
    sound = store.index()
    with open(index, "wb") as f:
        f.write(sound.replace(serial.encode(), b"z" * 40))
    for args in (("issue", "workload", "v", "--out", store.top + "/v"), ("revoke", "w"), ("crl",)):
        why = store.fails(*args)
        assert "ca/index:3: a serial number" in why and "restore it from a backup" in why
    assert store.run("list").returncode == 1
    os.unlink(index)
    assert "nobody knows" in store.fails("issue", "workload", "v", "--out", store.top + "/v")
    with open(index, "wb") as f:
        f.write(sound)
    text = open(key).read()
    for n in (0, 30, len(text) // 2, len(text) - 40):
        with open(key, "w") as f:
            f.write(text[:n])
        assert "issuing.key: no private key" in store.fails("issue", "workload", "v", "--out", store.top + "/v")
    with open(key, "w") as f:
        f.write(open(store.path("ca/root.key")).read())
    assert "not the key of the certificate beside it" in store.fails("issue", "workload", "v", "--out", store.top + "/v")
    with open(key, "w") as f:
        f.write(text)
    store.issue("workload", "v")


# -- list, show --------------------------------------------------------------------------------------------


def test_list_and_show(store):
    """States and filters; what is known of one; CRLs of a file."""
    a, out = store.issue("gateway", "g1", "--dns", "g1.lab.svc")
    b, _ = store.issue("workload", "g1")
    c, _ = store.issue("workload", "gone")
    store("revoke", c, "--reason", "cessationOfOperation")
    d = store.json("renew", out + ".crt")["serial"]
    assert store.states()[a] == "superseded" and store.states()[d] == "valid" and store.states()[c] == "revoked"
    assert set(store.states("gateway/g1")) == {a, d} and set(store.states("--id", "g1")) == {a, b, d}
    assert set(store.states("--state", "revoked")) == {c}
    assert "did you mean revoked?" in store.fails("list", "--state", "revokde", code=2)
    lines = [line.split() for line in store("list").splitlines()]
    assert [x[0] for x in lines[1:]] == ["lab.example", "lab.example", "gateway/g1", "g1", "gone", "gateway/g1"], lines
    assert [x[2] for x in lines if x[4] == c] == ["revoked"] and [x[-1] for x in lines if x[4] == c] == ["cessationOfOperation"]
    assert [x[-1] for x in lines if x[4] == d] == ["g1.lab.svc"]
    assert store("list", "nobody") == "Nothing of that kind was issued.\n"
    # Not issued for nobody.
    assert "cannot write there" in store.fails("issue", "workload", "lost", "--out", store.path("nowhere/lost"))
    assert not store.states("lost")
    entry = [e for e in store.json("list") if e["serial"] == d][0]
    assert entry["how"] == "renewal" and entry["predecessor"] == a and entry["dns"] == "g1.lab.svc"
    shown = store("show", c)
    assert "gone" in shown and "cessationOfOperation" in shown
    assert "spiffe://lab.example/gateway/g1" in store("show", out + ".crt")
    assert "revoked     1" in store("show", store.path(DOMAIN + ".crl"))
    assert "neither a file nor" in store.fails("show", "nobody")


def test_expired_is_shown(store):
    """Faketime: a certificate of the past is listed as expired, and revoking it says that there is nothing to revoke."""
    if "san" in GWCTL:
        pytest.skip("faketime and the sanitizers both want to be loaded first")
    if subprocess.run(["sh", "-c", "command -v faketime"], capture_output=True).returncode:
        pytest.skip("no faketime")
    p = subprocess.run(["faketime", "2 days ago", GWCTL, "pki", "init", DOMAIN, "--dir", store.top + "/old"], capture_output=True)
    assert p.returncode == 0, p.stderr
    old = Store(store.top, make=False)
    old.dir = store.top + "/old"
    p = subprocess.run(["faketime", "2 days ago", GWCTL, "pki", "issue", "workload", "w", "--out", store.top + "/w", "--dir", old.dir], capture_output=True)
    assert p.returncode == 0, p.stderr
    assert [e["state"] for e in old.json("list", "w")] == ["expired"]
    assert "ended by itself" in old.fails("revoke", "w")


# -- revoke, crl --------------------------------------------------------------------------------------------


def test_revoke(store):
    """By serial and by name; all of a name; twice; nobody; and openssl refuses what was revoked."""
    a, out_a = store.issue("workload", "w")
    os.rename(out_a + ".crt", store.top + "/a.crt")
    os.unlink(out_a + ".key")
    b, out_b = store.issue("workload", "w")
    c, out_c = store.issue("gateway", "dmz1")
    said = store("revoke", "w", "--reason", "KeyCompromise")
    assert "2 certificates were in force, and all of them are revoked" in said and a in said and b in said
    for crt in (store.top + "/a.crt", out_b + ".crt"):
        p = verify(store, crt)
        assert p.returncode != 0 and "certificate revoked" in p.stdout + p.stderr
    assert verify(store, out_c + ".crt").returncode == 0
    n = crl_number(store)
    again = store("revoke", b.upper())
    assert "was revoked already: keyCompromise" in again and crl_number(store) > n
    assert [e["reason"] for e in store.json("list", "w")] == ["keyCompromise"] * 2
    why = store.fails("revoke", "dmz2")
    assert 'did you mean "dmz1"?' in why
    assert "never issued" in store.fails("revoke", "00" * 20)
    why = store.fails("revoke", "dmz1", "--reason", "keyCompromis", code=2)
    assert "did you mean keyCompromise?" in why and "cessationOfOperation" in why
    store("revoke", ":".join(re.findall("..", c)), "--reason", "superseded")
    assert verify(store, out_c + ".crt").returncode != 0


def test_name_of_two(store):
    """A gateway and a workload of one name: say which."""
    store.issue("gateway", "x")
    store.issue("workload", "x")
    assert "give the whole id" in store.fails("revoke", "x")
    store("revoke", "gateway/x")
    assert sorted(e["state"] for e in store.json("list", "x")) == ["revoked", "valid"]


def test_crl(store):
    """RFC 5280: version 2, number, AKI, a week; numbers grow through a restored backup; only what is in force is listed."""
    store("crl")
    with open(store.path(DOMAIN + ".crl")) as f:
        content = f.read()
    text = openssl("crl", "-noout", "-text", input=content[content.index("-----BEGIN X509 CRL"):])
    assert "Version 2" in text and "Authority Key Identifier" in text and "No Revoked Certificates" in text
    assert content.count("BEGIN CERTIFICATE") == 1 and content.count("BEGIN X509 CRL") == 1
    backup, n = store.index(), crl_number(store)
    w, _ = store.issue("workload", "w")
    got = store.json("revoke", w)
    assert got["crl"] == store.path(DOMAIN + ".crl") and crl_number(store) > n
    with open(store.path("ca/index"), "wb") as f:
        f.write(backup)
    n = crl_number(store)
    while time.time() <= n + 1:
        time.sleep(0.05)
    assert store.json("crl", "--lifetime", "2h")["revoked"] == 0 and crl_number(store) > n
    assert os.stat(store.path(DOMAIN + ".crl")).st_mode & 0o777 == 0o644


def test_issuing_ca_revoked(store):
    """The root's CRL has it, which takes the root's key; from then on it issues nothing, and a new CA takes its place."""
    _, out = store.issue("workload", "w")
    issuing = [e["serial"] for e in store.json("list") if e["kind"] == "issuing"][0]
    os.rename(store.path("ca/root.key"), store.top + "/root.key")
    assert "--root-key FILE" in store.fails("revoke", issuing, "--reason", "cACompromise")
    store("revoke", issuing, "--reason", "cACompromise", "--root-key", store.top + "/root.key")
    p = openssl("verify", "-CAfile", store.path(DOMAIN + ".pem"), "-untrusted", out + ".crt", "-CRLfile", store.path(DOMAIN + ".crl"), "-crl_check_all",
                out + ".crt", ok=False)
    assert p.returncode != 0 and "certificate revoked" in p.stdout + p.stderr
    assert "the issuing CA was revoked" in store.fails("issue", "workload", "v", "--out", store.top + "/v")
    store("crl", "--root-key", store.top + "/root.key", "--lifetime", "30d")
    store("rotate-ca", "--begin", "--root-key", store.top + "/root.key")
    store("rotate-ca", "--switch")
    store.issue("workload", "v")


# -- bundle -------------------------------------------------------------------------------------------------


def test_jwks(store):
    """The SPIFFE bundle: a key for each root, its certificate within, a sequence that grows with the bundle."""
    b = json.loads(store("bundle", "--format", "jwks"))
    (k,) = b["keys"]
    assert k["use"] == "x509-svid" and k["kty"] == "EC" and k["crv"] == "P-256" and b["spiffe_refresh_hint"] > 0
    pem = "-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(base64.b64decode(k["x5c"][0])).decode()
    assert openssl("x509", "-noout", "-fingerprint", input=pem) == openssl("x509", "-noout", "-fingerprint", "-in", store.path("ca/root.crt"))
    raw = openssl("pkey", "-pubin", "-noout", "-text", input=public_key(store.path("ca/root.crt")))
    point = bytes.fromhex("".join(re.search("pub:(.*?)ASN1", raw, re.S).group(1).split()).replace(":", ""))
    x, y = (base64.urlsafe_b64decode(k[c] + "=") for c in "xy")
    assert point == b"\x04" + x + y
    store("rotate-ca", "--begin")
    after = json.loads(store("bundle", "--format", "jwks"))
    assert len(after["keys"]) == 2 and after["spiffe_sequence"] > b["spiffe_sequence"]
    assert store("bundle") == open(store.path(DOMAIN + ".pem")).read()
    assert "pem or jwks" in store.fails("bundle", "--format", "der", code=2)


# -- renew --------------------------------------------------------------------------------------------------


def test_renew(store):
    """In place by file, with the same key, with a request, by name; rights stay; both certificates are good."""
    a, out = store.issue("gateway", "g1", "--dns", "g1.lab.svc", "--days", "30")
    crt, key = out + ".crt", out + ".key"
    os.chmod(key, 0o640)
    os.link(crt, store.top + "/first.crt")
    before, key_before = public_key(crt), open(key).read()
    b = store.json("renew", crt)
    assert b["predecessor"] == a and b["id"] == "spiffe://lab.example/gateway/g1"
    assert public_key(crt) != before and open(key).read() != key_before and os.stat(key).st_mode & 0o777 == 0o640
    assert openssl("pkey", "-in", key, "-pubout") == public_key(crt)
    assert "DNS:g1.lab.svc" in text_of(crt)
    store("crl")
    assert verify(store, crt).returncode == 0 and verify(store, store.top + "/first.crt").returncode == 0
    ends = [openssl("x509", "-in", c, "-noout", "-checkend", str(29 * 86400), ok=False).returncode for c in (crt, store.top + "/first.crt")]
    assert ends == [0, 0] and openssl("x509", "-in", crt, "-noout", "-checkend", str(31 * 86400), ok=False).returncode == 1
    os.chmod(key, 0o600)
    before = public_key(crt)
    c = store.json("renew", "g1", "--key", key, "--out", out, "--lifetime", "1h")
    assert public_key(crt) == before and c["key"] is None and c["predecessor"] == b["serial"]
    openssl("req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", store.top + "/k2", "-subj", "/CN=g1", "-out", store.top + "/csr")
    store("renew", c["serial"], "--csr", store.top + "/csr", "--out", out)
    assert public_key(crt) == openssl("pkey", "-in", store.top + "/k2", "-pubout")


def test_renew_refusals(store):
    """Which one is not clear, where to is not said, somebody else's file, another CA's, a revoked one, no certificate."""
    a, out = store.issue("gateway", "dmz1")
    store("issue", "gateway", "dmz1", "--dns", "in.lab.svc", "--out", store.top + "/inside")
    _, w = store.issue("workload", "w")
    assert "different DNS names" in store.fails("renew", "dmz1", "--out", out)
    assert "stays" in store.fails("renew", a, "--out", w)
    assert "where to?" in store.fails("renew", a)
    assert 'did you mean "dmz1"' in store.fails("renew", "dmz2", "--out", out)
    other_ca(store)
    assert "not issued by the CA" in store.fails("renew", store.top + "/other.crt")
    store("revoke", a)
    assert "was revoked" in store.fails("renew", out + ".crt")
    assert "one of --csr, --key and --alg" in store.fails("renew", w + ".crt", "--key", w + ".key", "--alg", "p384", code=2)
    assert "does not end in .crt" in store.fails("renew", os.link(w + ".crt", store.top + "/plain") or store.top + "/plain")
    with open(store.top + "/broken.crt", "w") as f:
        f.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "not valid DER" in store.fails("renew", store.top + "/broken.crt")


def other_ca(store):
    other = Store(store.top, make=False)
    other.dir = store.top + "/other-pki"
    other("init", DOMAIN)
    other("issue", "workload", "w", "--out", store.top + "/other")


# -- rotate-ca ------------------------------------------------------------------------------------------------


def test_rotate(store):
    """
    The old bundle, the new one and each certificate at each step: nobody who follows the steps refuses anybody.
    """
    old_bundle = store.top + "/old.pem"
    a, out = store.issue("gateway", "g1")
    subprocess.run(["cp", store.path(DOMAIN + ".pem"), old_bundle], check=True)
    assert store.json("rotate-ca")["state"] == "none"
    assert "first" in store.fails("rotate-ca", "--switch") and "no old CA" in store.fails("rotate-ca", "--retire")
    os.rename(store.path("ca/root.key"), store.top + "/root.key")
    assert "--root-key FILE" in store.fails("rotate-ca", "--begin")
    store("rotate-ca", "--begin", "--root-key", store.top + "/root.key")
    assert store.json("rotate-ca", "--status")["state"] == "begun"
    openssl("verify", "-CAfile", old_bundle, store.path("ca/2/cross.crt"))
    assert public_key(store.path("ca/2/cross.crt")) == public_key(store.path("ca/2/root.crt"))
    # Who has not heard of it yet trusts everything that is issued now.
    _, b = store.issue("gateway", "g2")
    assert verify(store, b + ".crt", crls=False, roots=old_bundle).returncode == 0
    store("rotate-ca", "--switch")
    for crt in (out + ".crt", b + ".crt"):
        assert verify(store, crt).returncode == 0
    renewed = store.json("renew", out + ".crt")["serial"]
    assert verify(store, out + ".crt").returncode == 0
    listed = {e["serial"]: (e["ca"], e["state"]) for e in store.json("list", "--state", "valid")}
    assert listed[renewed] == ("new", "valid")
    status = store.json("rotate-ca")
    assert status["state"] == "switched" and status["live"] == 2 and status["live_superseded"] == 1
    assert a in store("list", "--issuer", "old") and renewed not in store("list", "--issuer", "old")
    assert "2 certificates of the old CA are still in force, 1 of them" in store.fails("rotate-ca", "--retire")
    store("renew", b + ".crt")
    store("rotate-ca", "--retire", "--force")
    for crt in (out + ".crt", b + ".crt"):
        assert verify(store, crt).returncode == 0
        assert verify(store, crt, crls=False, roots=old_bundle).returncode != 0
    assert open(store.path(DOMAIN + ".pem")).read().count("BEGIN") == 1
    assert store.json("rotate-ca")["state"] == "none"
    assert store.states()[a] == "retired" and {e["kind"] for e in store.json("list", "--state", "valid")} == {"root", "issuing", "gateway"}


# -- together, and killed ------------------------------------------------------------------------------------


def serials(store):
    return [line.split(b"\t")[1] for line in store.index().split(b"\n") if line.startswith(b"issued\t")]


def test_two_at_once(store):
    """Two loops of 50: a hundred certificates, a hundred serial numbers, a hundred lines."""
    faults = []

    def loop(who):
        for i in range(50):
            p = store.run("issue", "workload", "w%d" % i, "--out", "%s/%s%d" % (store.top, who, i))
            if p.returncode:
                faults.append(p.stderr)

    threads = [threading.Thread(target=loop, args=(who,)) for who in "ab"]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults
    got = serials(store)
    assert len(got) == 102 and len(set(got)) == 102
    for who in "ab":
        for i in range(50):
            text = openssl("x509", "-in", "%s/%s%d.crt" % (store.top, who, i), "-noout", "-serial")
            assert text.strip().split("=")[1].lower().encode() in got


def test_killed(store):
    """kill -9 at any moment of any command, again and again: the store works, what was said to be done is done, CRL numbers grow."""
    rng = random.Random(7)
    _, out = store.issue("gateway", "g1")
    revoked, number, steps = set(), 0, ["--begin", "--switch", "--retire"]
    for i in range(60):
        name = "w%d" % i
        if i % 3 == 0:
            args = ["issue", "workload", name, "--out", store.top + "/" + name]
        elif i % 3 == 1:
            serial, _ = store.issue("workload", name)
            args = ["revoke", serial, "--reason", "superseded"]
        else:
            step = {"none": steps[0], "begun": steps[1], "switched": steps[2]}[store.json("rotate-ca")["state"]]
            args = ["rotate-ca", step] + (["--force"] if step == "--retire" else []) if i % 2 else ["renew", out + ".crt"]
        p = subprocess.Popen([GWCTL, "pki"] + args + ["--dir", store.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.001, 0.03))
        p.kill()
        if p.wait() == 0 and args[0] == "revoke":
            revoked.add(args[1])
        # The next one finds a store that works.
        assert store.run("list").returncode == 0
        store("crl")
        new = crl_number(store)
        assert new > number
        number = new
    states = store.states()
    assert all(states[s] == "revoked" for s in revoked)
    got = serials(store)
    assert len(set(got)) == len(got)
    assert not [f for d, _, files in os.walk(store.path("ca")) for f in files if f.endswith(".tmp")]
    store("renew", out + ".crt")
    assert verify(store, out + ".crt").returncode == 0


def test_init_killed(folder):
    """A CA or none: init killed at any moment can be done again, or is done."""
    top, rng, made = folder(), random.Random(3), 0
    for i in range(20):
        s = Store("%s/%d" % (top, i), make=False)
        p = subprocess.Popen([GWCTL, "pki", "init", DOMAIN, "--dir", s.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.0, 0.02))
        p.kill()
        p.wait()
        if os.path.exists(s.path("ca")):
            made += 1
        else:
            s("init", DOMAIN)
        s("issue", "workload", "w", "--out", s.top + "/w")
        assert verify(s, s.top + "/w.crt", crls=False).returncode == 0
        assert not [f for f in os.listdir(s.dir) if f.endswith(".tmp")]


def test_owner(store):
    """Root in the directory of another user: what it writes is that user's, who goes on alone."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for d, dirs, files in os.walk(store.dir):
        for f in [d] + [os.path.join(d, x) for x in dirs + files]:
            os.chown(f, 65534, 65534)
    os.chmod(store.top, 0o755)
    a, _ = store.issue("workload", "w")
    store("revoke", a)
    store("rotate-ca", "--begin")
    store("rotate-ca", "--switch")
    owners = {os.stat(os.path.join(d, f)).st_uid for d, dirs, files in os.walk(store.dir) for f in dirs + files}
    assert owners == {65534}


# -- size -----------------------------------------------------------------------------------------------------


def test_many(store):
    """A hundred thousand certificates: found, listed, revoked; and how long it took is written down, not asserted."""
    import importlib.util
    spec = importlib.util.spec_from_file_location("bench_pki", os.path.join(os.path.dirname(__file__), "../bench/bench_pki.py"))
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    made = bench.fill(store.dir, 100000, 0.02, DOMAIN)
    _, out = store.issue("workload", "w")
    serial, name = made[50000]
    n = len(store.json("list", name, "--state", "valid"))
    done = store.json("revoke", name, "--reason", "superseded")
    assert len(done["revoked"]) == n and serial in {e["serial"] for e in done["revoked"] + done["already_revoked"]}
    assert verify(store, out + ".crt").returncode == 0
    begin = time.monotonic()
    store("issue", "workload", "v", "--out", store.top + "/v")
    mid = time.monotonic()
    store("revoke", "v")
    print("issue %.0f ms, revoke %.0f ms" % (1000 * (mid - begin), 1000 * (time.monotonic() - mid)))
