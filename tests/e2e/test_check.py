# SPDX-License-Identifier: Apache-2.0
"""gwctl check and the hourly warnings: whatever ends is spoken of before it does, and after. Time is moved by certificates."""
import datetime
import json
import os
import re
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from bed.domains import Pair
from bed.gateway import GWCTL, conf, wait
from bed.pki import CA

DAY = 86400


@pytest.fixture
def still(world, folder):
    """A pair's two configurations; nothing runs. check(*options) is gwctl check of A's: (exit code, JSON)."""
    p = Pair(world, folder(), start=False)

    def check(*args, path=p.a.path):
        r = subprocess.run([GWCTL, "-c", path, "-s", p.a.folder + "/control.sock", "--json", "check"] + list(args), capture_output=True, timeout=30)
        return r.returncode, json.loads(r.stdout) if r.stdout else r.stderr.decode()

    p.check = check
    return p


def plain(p, *args):
    r = subprocess.run([GWCTL, "-c", p.a.path, "-s", p.a.folder + "/control.sock", "check"] + list(args), capture_output=True, timeout=30)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def items(out, **want):
    return [i for i in out["items"] if all(i.get(k) == v for k, v in want.items())]


def only(out, **want):
    found = items(out, **want)
    assert len(found) == 1, (want, out)
    return found[0]


def crl(ca, seconds, path, number=1):
    """A CRL of this CA, from and until so many seconds from now; with the CA, which the bundle has not but its root."""
    now = datetime.datetime.utcnow()
    c = (x509.CertificateRevocationListBuilder().issuer_name(ca.cert.subject).last_update(now + datetime.timedelta(seconds=seconds[0]))
         .next_update(now + datetime.timedelta(seconds=seconds[1])).add_extension(x509.CRLNumber(number), False)
         .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False).sign(ca.key, hashes.SHA256()))
    with open(path, "wb") as f:
        f.write(c.public_bytes(serialization.Encoding.PEM) + ca.cert.public_bytes(serialization.Encoding.PEM))
    return path


def beside(bundle, folder, domain, name, days):
    """One more CA in a bundle, from and until so many days from now."""
    ca, now = CA(folder, domain, name=name), datetime.datetime.utcnow()
    cert = (x509.CertificateBuilder().subject_name(ca.cert.subject).issuer_name(ca.cert.subject).public_key(ca.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1])).add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True).sign(ca.key, hashes.SHA256()))
    with open(bundle, "ab") as f:
        f.write(cert.public_bytes(serialization.Encoding.PEM))


def put(pair, cert):
    """A certificate in the place of gateway A's own."""
    shutil.copy(cert.crt, pair.hud.gateway.crt)
    shutil.copy(cert.keyfile, pair.hud.gateway.keyfile)


def test_all_is_well(still):
    """Fresh certificates of a fresh CA: every one is named with its file, its end and its days."""
    code, out = still.check()
    assert code == 0 and out["ok"] and out["level"] == "ok", out
    own = only(out, kind="identity", what="certificate")
    assert own["name"] == still.hud.gateway_id and own["file"] == still.hud.gateway.crt
    assert 80 < own["days_left"] <= 90 and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", own["not_after"])
    only(out, kind="inside", what="certificate")
    assert items(out, kind="bundle", what="ca", domain="hud.example") and items(out, kind="bundle", what="ca", domain="irs.example")
    assert any("no daemon" in n for n in out["notes"])
    code, text, err = plain(still)
    assert code == 0 and "√ ok" in text and not err and "‼" not in text
    assert text.splitlines()[0].split() == ["STATE", "WHAT", "NAME", "UNTIL", "LEFT", "FILE"]


# A certificate's life, in seconds from now, and what is said of it.
LIVES = {
    "ninety days, a day old": ((-DAY, 89 * DAY), "ok"),
    "thirty days and an hour to go": ((-400 * DAY, 30 * DAY + 3600), "ok"),
    "less than thirty days to go": ((-400 * DAY, 30 * DAY - 60), "warning"),
    "a day's, half of it gone": ((-DAY // 2, DAY // 2), "ok"),
    "a day's, in its last third": ((-DAY * 17 // 24, DAY * 7 // 24), "warning"),
    "an hour's, just made": ((-60, 3540), "ok"),
    "an hour's, in its last third": ((-2500, 1100), "warning"),
    "expired a minute ago": ((-3600, -60), "expired"),
    "expired a year ago": ((-700 * DAY, -365 * DAY), "expired"),
    "from tomorrow": ((DAY, 30 * DAY), "not-yet-valid"),
}


@pytest.mark.parametrize("name", LIVES)
def test_rule(still, name):
    """From 30 days before, of short-lived ones in their last third; what is over stays in sight."""
    seconds, state = LIVES[name]
    put(still, still.hud.ca.issue("odd", uris=[still.hud.gateway_id], seconds=seconds))
    code, out = still.check()
    it = only(out, kind="identity", what="certificate")
    assert it["state"] == state, it
    assert it["level"] == {"ok": "ok", "warning": "warning"}.get(state, "error")
    assert code == (1 if it["level"] == "error" else 0)
    assert still.check("--fail-on=warning")[0] == (0 if state == "ok" else 1)
    assert still.check("--fail-on", "error")[0] == code
    text = plain(still)[1]
    mark = {"ok": "√", "warning": "‼"}.get(state, "×")
    assert re.search("^%s +%s +identity +%s" % (mark, state, still.hud.gateway_id[len("spiffe://"):]), text, re.M), text


def test_cas_of_bundles(still, folder):
    """A peer's bundle in the middle of a change of CAs: the old one is over, the new one good; both are told."""
    beside(still.irs.ca.bundle, folder(), "irs.example", "irs old", (-400, -2))
    code, out = still.check()
    assert code == 1
    mine = items(out, kind="bundle", what="ca", domain="irs.example")
    assert sorted(i["state"] for i in mine).count("expired") == 1 and any(i["state"] == "ok" for i in mine), mine
    gone = [i for i in mine if i["state"] == "expired"][0]
    assert "irs old" in gone["name"] and -2.1 < gone["days_left"] < -1.9 and gone["file"] == still.irs.ca.bundle
    assert " ago" in plain(still)[1]


def test_crls(still, folder):
    """CRLs of ours and of a peer: good, due, stale; a bundle that requires one and has none."""
    d = folder()
    ca = CA.of_gwctl(still.irs.ca.folder, "irs.example")
    peer = still.a.config["peers"][0]
    for seconds, state, code in (((-60, 7 * DAY), "ok", 0), ((-6 * DAY, DAY), "warning", 0), ((-7 * DAY, -60), "stale", 1)):
        peer.update(crl=crl(ca, seconds, d + "/irs.crl", 7), revocation="required")
        still.a.write(peers=[peer])
        got, out = still.check()
        it = only(out, what="crl")
        assert (it["state"], got) == (state, code) and it["domain"] == "irs.example" and it["number"] == "07", (it, got, out["notes"])
    with open(d + "/irs.crl", "w") as f:
        f.write("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    got, out = still.check()
    assert got == 1 and only(out, what="crl")["state"] == "malformed"
    os.unlink(d + "/irs.crl")
    got, out = still.check()
    assert got == 1 and only(out, what="crl")["state"] == "unreadable" and "No such file" in only(out, what="crl")["fault"]
    del peer["crl"]
    still.a.write(peers=[peer])
    got, out = still.check()
    assert got == 1 and only(out, what="crl")["state"] == "missing"


def test_files_that_are_no_good(still):
    """What cannot be read is an error by its name, and the rest is told all the same, although the daemon would not start."""
    with open(still.irs.ca.bundle, "w") as f:
        f.write("no PEM\n")
    os.rename(still.hud.gateway.crt, still.hud.gateway.crt + ".away")
    code, out = still.check()
    assert code == 1
    assert only(out, kind="identity")["state"] == "unreadable" and only(out, domain="irs.example", kind="bundle")["state"] == "malformed"
    assert only(out, kind="inside", what="certificate")["state"] == "ok"
    assert any("has faults" in n for n in out["notes"])
    code, text, _ = plain(still)
    assert code == 1 and "No such file" in text and re.search("^× +unreadable", text, re.M)
    # Peers in files of their own are told of, too.
    peers = still.a.folder + "/peers"
    os.makedirs(peers)
    with open(peers + "/irs.example.conf", "w") as f:
        f.write(conf(still.a.config["peers"][0]))
    still.a.write(peers=None, peers_dir=peers)
    code, out = still.check()
    assert code == 1 and only(out, domain="irs.example", kind="bundle")["state"] == "malformed"
    assert only(out, kind="inside", what="certificate")["state"] == "ok"


def test_no_configuration(still, folder):
    code, out = still.check(path=folder() + "/none.conf")
    assert code == 4 and "none.conf" in out
    code, _, err = plain(still, "--fail-on=nothing")
    assert code == 2 and "warning or error" in err


def test_store(still):
    """--store DIR: the CA's own certificates, root and issuing, without a configuration."""
    code, out = still.check("--store", still.hud.folder, path=still.hud.folder + "/none.conf")
    assert code == 0, out
    assert {os.path.basename(i["file"]) for i in items(out, kind="store", what="ca")} == {"root.crt", "issuing.crt"}
    code, out = still.check("--store", still.hud.folder + "/nothing-here", path=still.hud.folder + "/none.conf")
    assert code == 1 and any("nothing-here" in n for n in out["notes"])


METRIC = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*\})? (-?[0-9.]+)$')


def test_prometheus(still):
    """For a textfile collector: each sample once, each family with HELP and TYPE before it, odd names escaped."""
    put(still, still.hud.ca.issue("odd", uris=[still.hud.gateway_id], seconds=(-3600, -60)))
    code, text, _ = plain(still, "--prometheus")
    assert code == 1
    seen, families, values = set(), {}, {}
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, rest = line.split(" ", 3)
            assert word in ("HELP", "TYPE") and rest
            families.setdefault(name, set()).add(word)
            continue
        m = METRIC.match(line)
        assert m, line
        assert families[m.group(1)] == {"HELP", "TYPE"} and line.rsplit(" ", 1)[0] not in seen, line
        seen.add(line.rsplit(" ", 1)[0])
        values.setdefault(m.group(1), []).append((m.group(2) or "", float(m.group(3))))
    own = [v for labels, v in values["sallyport_certificate_left_seconds"] if 'kind="identity"' in labels and 'what="certificate"' in labels]
    assert len(own) == 1 and -120 < own[0] < 0
    assert values["sallyport_check_state"] == [("", 2.0)] and len(values["sallyport_certificate_state"]) >= 5
    promtool = shutil.which("promtool")
    if promtool:
        r = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True)
        assert r.returncode == 0 and not r.stdout + r.stderr, r.stdout + r.stderr


def test_running_daemon(pair):
    """What the daemon holds, and since when; a file that it does not use yet is told."""
    out = pair.a.json("check")
    assert out["ok"] and out["running_since_s"] >= 0
    assert [c["name"] for c in out["running"]][:2] == ["identity", "inside"]
    assert any("the daemon uses what it took" in n for n in out["notes"])
    assert not any("another" in n for n in out["notes"])


def test_running_daemon_with_another_certificate(make_pair, folder):
    """The configuration on disk names another certificate than the one that runs: a warning, and what to do."""
    p = make_pair()
    other = p.hud.issue("gateway", "dmz1", "other")
    identity = dict(p.a.config["identity"], certificate=other.crt, key=other.keyfile)
    p.a.write(identity=identity)
    r = p.a.ctl("check", "--fail-on=warning", check=False)
    assert r.returncode == 1 and b"uses another identity certificate" in r.stdout and b"gwctl reload" in r.stdout, r.stdout
    p.a.reload()
    assert p.a.ctl("check", "--fail-on=warning").returncode == 0


def test_the_daemon_warns(make_pair, folder):
    """The operator log, soon after the start: the gateway's own certificate, a peer's CA and a CRL, each by file, name and date."""
    p = make_pair(start=False)
    put(p, p.hud.ca.issue("soon", uris=[p.hud.gateway_id], seconds=(-2500, 1100)))
    beside(p.irs.ca.bundle, folder(), "irs.example", "irs ending", (-400, 20))
    peer = dict(p.a.config["peers"][0], crl=crl(CA.of_gwctl(p.irs.ca.folder, "irs.example"), (-6 * DAY, DAY), p.a.folder + "/irs.crl"))
    p.a.write(peers=[peer])
    p.a.start(wait_ready=False)
    log = wait("warnings", lambda: "event=crl-expires" in p.a.log() and p.a.log(), 20, 0.2)
    assert re.search(r"identity\.certificate=%s event=certificate-expires not-after=\S+ name=\"%s\"" % (re.escape(p.hud.gateway.crt), p.hud.gateway_id), log), log
    assert re.search(r"bundle=\S+ peer=irs event=ca-expires not-after=\S+ name=\"\S*irs ending", log), log
    assert re.search(r"crl=\S+ peer=irs event=crl-expires not-after=", log), log
