# SPDX-License-Identifier: Apache-2.0
"""Files of certificates, keys and bundles that change under a running gateway: taken over by themselves, whole or not at all."""
import os
import shutil
import time

from bed.domains import ECHO_HOST
from bed.gateway import SLOW, http, wait

HOST = ECHO_HOST.encode()


def in_use(g, name="identity"):
    return [c for c in g.status()["certificates"] if c["name"] == name][0]["serial"]


def put(issued, crt, key):
    """In the order in which gwctl does it: the key first; each file whole."""
    for src, dst in ((issued.keyfile, key), (issued.crt, crt)):
        shutil.copy(src, dst + ".tmp")
        os.rename(dst + ".tmp", dst)


def pids(g):
    return {r["pid"] for r in g.status()["roles"]}


def test_certificate_is_taken_over(make_pair, origin):
    """A new certificate with a new key is in use without a reload and without a new process; calls go on; it is on record."""
    p = make_pair()
    before, family, n = in_use(p.a), pids(p.a), len(p.a.journal("generation"))
    put(p.hud.issue("gateway", "dmz1", "gateway-2"), p.hud.gateway.crt, p.hud.gateway.keyfile)
    wait("the new certificate", lambda: in_use(p.a) != before)
    assert pids(p.a) == family
    assert p.a.record("generation", reason="trust", verdict="allow") and len(p.a.journal("generation")) == n + 1
    for i in range(20):
        assert p.get("/rotated-%d" % i)[0] == 200
    # The far gateway sees it: links with the new one replace those with the old.
    wait("links with the new certificate", lambda: len(p.b.journal("link-up")) >= 4)
    assert p.get("/after")[0] == 200
    assert not [r for r in p.a.exchanges() if r["status"] not in ("200", "")]


def test_unfinished_edit_hinders_no_renewal(make_pair, origin):
    """sallyport.conf is broken in the middle of an edit: the certificate is taken over all the same, and nothing of the edit is."""
    p = make_pair()
    before = in_use(p.a)
    with open(p.a.path) as f:
        text = f.read()
    with open(p.a.path, "w") as f:
        f.write(text.replace("10.1.0.10:80", "10.1.0.10:81") + "\nservices = (")
    put(p.hud.issue("gateway", "dmz1", "gateway-2"), p.hud.gateway.crt, p.hud.gateway.keyfile)
    wait("the new certificate", lambda: in_use(p.a) != before)
    assert p.get("/same-listener")[0] == 200
    with open(p.a.path, "w") as f:
        f.write(text)


def test_unusable_files_are_refused(make_pair, origin):
    """Case 57 among them: each with its reason; what runs goes on; the right file is taken once it is there."""
    p = make_pair()
    before, crt, key = in_use(p.a), p.hud.gateway.crt, p.hud.gateway.keyfile
    other_key = p.hud.issue("workload", "x", "x")
    other_id = p.hud.issue("gateway", "dmz2", "other-id")
    foreign = p.irs.issue("gateway", "dmz1", "foreign")
    good = p.hud.issue("gateway", "dmz1", "gateway-2")
    bundle = p.irs.ca.bundle
    with open(bundle) as f:
        pem = f.read()
    saved = {f: open(f, "rb").read() for f in (crt, key, bundle)}

    def refused(what, said):
        n = len(p.a.journal("generation", reason="trust", verdict="deny"))
        at = len(p.a.log())
        what()
        wait(said, lambda: len(p.a.journal("generation", reason="trust", verdict="deny")) > n and said in p.a.log()[at:])
        assert in_use(p.a) == before and p.get("/still")[0] == 200
        for f, content in saved.items():
            with open(f + ".tmp", "wb") as out:
                out.write(content)
            os.chmod(f + ".tmp", 0o600)
            os.rename(f + ".tmp", f)
        time.sleep(1.2 * SLOW)
        assert in_use(p.a) == before

    def write(path, text):
        with open(path + ".tmp", "w") as f:
            f.write(text)
        os.rename(path + ".tmp", path)

    refused(lambda: shutil.copy(other_key.keyfile, key), "is not the key of the certificate")
    refused(lambda: put(other_id, crt, key), "is now for")
    refused(lambda: put(foreign, crt, key), "which is not in our domain")
    refused(lambda: write(crt, "no certificate\n"), "holds no certificate in PEM")
    refused(lambda: write(bundle, ""), bundle)
    refused(lambda: write(bundle, pem + pem), bundle)
    refused(lambda: write(bundle, open(good.crt).read()), bundle)
    refused(lambda: os.rename(bundle, bundle + ".gone"), bundle)
    put(good, crt, key)
    wait("the right one", lambda: in_use(p.a) != before)
    assert p.get("/right")[0] == 200


def test_touched_file_is_nothing(pair):
    before, n = pids(pair.a), len(pair.a.journal("generation"))
    os.utime(pair.hud.gateway.crt)
    time.sleep(2 * SLOW)
    assert pids(pair.a) == before and len(pair.a.journal("generation")) == n


def test_replacement_cut_in_two_by_a_crash(make_pair, origin):
    """The key was replaced, the certificate not yet: the next start completes it. One that had not begun is undone."""
    p = make_pair()
    new = p.hud.issue("gateway", "dmz1", "gateway-2")
    p.a.stop()
    shutil.copy(new.crt, p.hud.gateway.crt + ".new")
    shutil.copy(new.keyfile, p.hud.gateway.keyfile)
    p.a.start()
    assert not os.path.exists(p.hud.gateway.crt + ".new") and "renewal-completed" in p.a.log()
    with open(new.crt) as a, open(p.hud.gateway.crt) as b:
        assert a.read() == b.read()
    p.wait_links()
    assert p.get("/completed")[0] == 200
    p.a.stop()
    third = p.hud.issue("gateway", "dmz1", "gateway-3")
    shutil.copy(third.crt, p.hud.gateway.crt + ".new")
    shutil.copy(third.keyfile, p.hud.gateway.keyfile + ".new")
    p.a.start()
    assert not os.path.exists(p.hud.gateway.crt + ".new")  # the key stays, for a renewal that asks for its certificate again
    with open(new.crt) as a, open(p.hud.gateway.crt) as b:
        assert a.read() == b.read()


def test_reload_of_trust_keeps_processes(make_pair, origin):
    """gateways and assert change by reload, too, without a new process, and at once: B refuses what A may not claim any more."""
    p = make_pair()
    family = pids(p.b)
    with p.legacy() as s:
        assert http(s, b"GET /before HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")[0] == 200
        peers = [dict(p.b.config["peers"][0], **{"assert": ["uid"]})]
        p.b.write(peers=peers)
        p.b.reload()
        assert http(s, b"GET /after HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")[0] == 403
    assert pids(p.b) == family
    assert p.b.record("deny", reason="assurance-not-accepted")
