# SPDX-License-Identifier: Apache-2.0
"""Two operators pair two live gateways, replace a CA, part again; and the kill switch."""
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from bed.domains import ECHO_HOST, RULES_A, Domain
from bed.gateway import GWCTL, SLOW, http_read, wait
from bed.net import World

HOST = ECHO_HOST.encode()


def ctl(config, *args, check=True):
    p = subprocess.run([GWCTL, "-c", config] + list(args), capture_output=True, timeout=60 * SLOW)
    if check:
        assert p.returncode == 0, "gwctl %s: %d\n%s%s" % (" ".join(args), p.returncode, p.stdout.decode(), p.stderr.decode())
    return p


made = [0]


def export(g, domain, address, out, *more, bundle=None):
    """The file and its code, with everything said on the command line, as on a gateway whose configuration is not complete yet."""
    # Files of one second are equally new, so that the later one is no update.
    wait("the next second", lambda: int(time.time()) > made[0])
    made[0] = int(time.time())
    p = ctl(g.path, "--json", "pair", "export", "--gateway", domain.gateway_id, "--bundle", bundle or "%s/%s.pem" % (domain.folder, domain.name), "--dir", domain.folder,
            "--address", address, "--out", out, *more)
    told = json.loads(p.stdout)
    assert told["cas"] and all(len(c["sha256"]) == 64 and c["subject"] and c["not_after"] for c in told["cas"])
    return out, told["code"]


def answered(p, path="/x", status=200):
    """A call by the mapped application: does it cross?"""
    try:
        return p.get(path)[0] == status
    except (OSError, AssertionError):
        return False


def crosses(p, seconds=10):
    wait("a call that crosses", lambda: answered(p), seconds, 0.05)


@pytest.fixture
def unpaired(make_pair, folder):
    """Two gateways whose peers are files of a directory, and that do not know each other yet."""
    p = make_pair(start=False, a={"peers": None, "peers_dir": "peers"}, b={"peers": None, "peers_dir": "peers"})
    p.outbox = folder()
    return p


def pair_up(p, *more_a, **kw):
    """As gwctl-pair(1) says. The irs only listens."""
    irs, code_irs = export(p.b, p.irs, World.IRS + ":443", p.outbox + "/irs.pair")
    hud, code_hud = export(p.a, p.hud, World.HUD + ":443", p.outbox + "/hud.pair")
    ctl(p.a.path, "pair", "accept", irs, "--code", code_irs, *more_a)
    ctl(p.b.path, "pair", "accept", hud, "--code", code_hud.replace("-", " "), "--no-dial")
    # What the peer may claim is the operator's to grant, in the entry.
    conf = p.b.folder + "/peers/hud.example.conf"
    with open(conf) as f:
        text = f.read()
    with open(conf, "w") as f:
        f.write(text.replace("\n}", '\n  assert = [ "uid", "address" ];\n}'))
    return irs, code_irs


def test_pair_and_part(unpaired, origin):
    """From two domains that do not know each other to a call; and back: remove cuts links at once, and the old file is of no more use."""
    p = unpaired
    irs, code = pair_up(p)
    p.start()
    crosses(p)

    listed = p.a.json("pair", "list")
    assert len(listed) == 1
    one = listed[0]
    assert (one["domain"], one["name"], one["state"], one["configured"]) == ("irs.example", "irs", "linked", True)
    assert one["gateways"] == ["spiffe://irs.example/gateway/dmz1"] and one["addresses"] == [World.IRS + ":443"]
    assert one["entry"].endswith("peers/irs.example.conf:1") and one["bundle"][0]["days_left"] > 300 and len(one["key"]) == 64
    text = p.a.ctl("pair", "list").stdout.decode()
    for word in ("irs.example", "2 link" if len(p.a.json("peers")["peers"][0]["links"]) == 2 else "link", "days left", "accepted", one["key"]):
        assert word in text

    # A configuration that still needs the peer is named by its line, and nothing is removed.
    bad = p.a.ctl("pair", "remove", "irs", check=False)
    assert bad.returncode == 1 and b"sallyport.conf:" in bad.stderr and b'"irs"' in bad.stderr and b"nothing was removed" in bad.stderr
    assert b"gwctl sever irs" in bad.stderr and os.path.exists(p.a.folder + "/peers/irs.example.pem")
    assert answered(p)
    near = p.a.ctl("pair", "remove", "isr", check=False)
    assert near.returncode == 19 and b'did you mean "irs"' in near.stderr

    s = p.world.hud.connect(("10.1.0.10", 5432), source="10.1.0.7")
    s.sendall(b"hello")
    assert s.recv(100) == b"hello"
    with open(p.a.path) as f:
        conf = f.read()
    config = dict(p.a.config)
    p.a.config["services"], p.a.config["listeners"] = [], [l for l in config["listeners"] if l["name"] != "ledger"]
    p.a.write()
    p.a.policy([])
    out = p.a.ctl("pair", "remove", "irs.example").stdout
    assert b"no link to it is left" in out
    assert p.a.json("peers")["peers"] == [] and sorted(os.listdir(p.a.folder + "/peers")) == ["irs.example.removed"]
    s.settimeout(5 * SLOW)
    with _ends(s):
        pass
    p.a.record("link-down")
    p.b.record("link-down")
    wait("no link at B", lambda: not p.b.json("peers")["peers"][0]["links"], 5)

    with open(p.a.path, "w") as f:
        f.write(conf)
    p.a.config = config
    replay = ctl(p.a.path, "pair", "accept", irs, "--code", code, check=False)
    assert replay.returncode == 17 and b"replayed" in replay.stderr
    # A new file is a new beginning.
    irs, code = export(p.b, p.irs, World.IRS + ":443", p.outbox + "/irs-2.pair")
    ctl(p.a.path, "pair", "accept", irs, "--code", code)
    p.a.policy(RULES_A)
    p.a.reload()
    crosses(p)


class _ends:
    """The connection ends, one way or another."""

    def __init__(self, s):
        self.s = s

    def __enter__(self):
        try:
            while self.s.recv(65536):
                pass
        except ConnectionError:
            pass

    def __exit__(self, *_):
        self.s.close()
        return False


def test_refusals_have_reasons_and_exits(unpaired):
    """Each with its own exit code, and nothing is installed."""
    p = unpaired
    irs, code = export(p.b, p.irs, World.IRS + ":443", p.outbox + "/irs.pair")
    short, short_code = export(p.b, p.irs, World.IRS + ":443", p.outbox + "/short.pair", "--ttl", "1m")
    hud, hud_code = export(p.a, p.hud, World.HUD + ":443", p.outbox + "/hud.pair")
    with open(irs) as f:
        text = f.read()
    made = {"altered": text.replace("203.0.113.20", "203.0.113.66"), "cut": text[:-40], "nul": text.replace("spiffe", "spi\0ffe", 1),
            "other": '{"a":1}', "empty": "", "huge": "[" * 300000}
    for name, content in made.items():
        with open("%s/%s" % (p.outbox, name), "w") as f:
            f.write(content)
    wrong = "%05d" % ((int(code[:5]) + 1) % 100000) + code[5:]

    def accept(file, with_code, *more, fake=None):
        env = dict(os.environ, ASAN_OPTIONS="verify_asan_link_order=0")
        argv = [GWCTL, "-c", p.a.path, "pair", "accept", file, "--code", with_code] + list(more)
        return subprocess.run((["faketime", "-f", fake] if fake else []) + argv, capture_output=True, env=env)

    for file, with_code, want, word, fake in (
            (p.outbox + "/altered", code, 11, b"altered", None), (p.outbox + "/cut", code, 10, b"malformed", None),
            (p.outbox + "/nul", code, 10, b"NUL", None), (p.outbox + "/other", code, 10, b"malformed", None),
            (p.outbox + "/empty", code, 10, b"malformed", None), (p.outbox + "/huge", code, 10, b"256 KiB", None),
            (hud, hud_code, 12, b"own-domain", None), (irs, wrong, 15, b"wrong-code", None), (irs, code[:-6], 15, b"wrong-code", None),
            (irs, "", 15, b"wrong-code", None), (p.outbox + "/none", code, 1, b"No such file", None),
            (short, short_code, 13, b"expired", "+2m"), (irs, code, 14, b"from-future", "-1h")):
        if fake and not shutil.which("faketime"):
            continue
        r = accept(file, with_code, fake=fake)
        assert r.returncode == want and word in r.stderr, (file, with_code, r.returncode, r.stderr)
        assert not os.path.exists(p.a.folder + "/peers") or os.listdir(p.a.folder + "/peers") == []
    assert ctl(p.a.path, "pair", "show", p.outbox + "/altered", check=False).returncode == 11
    assert ctl(p.a.path, "pair", "update", irs, check=False).returncode == 19
    assert accept(irs, code).returncode == 0
    assert accept(irs, code).returncode == 17
    # Somebody else's "irs.example", with a key of his own.
    mallory = Domain(p.outbox + "/pki-mallory", "irs.example", "dmz1")
    fake, fake_code = export(p.b, mallory, "203.0.113.66:443", p.outbox + "/mallory.pair")
    r = accept(fake, fake_code)
    assert r.returncode == 16 and b"other-key" in r.stderr
    assert ctl(p.a.path, "pair", "update", fake, check=False).returncode == 16
    # Another domain under a name that is taken: both would be unusable.
    gov = Domain(p.outbox + "/pki-gov", "irs.gov.example", "dmz1")
    third, third_code = export(p.b, gov, "203.0.113.66:443", p.outbox + "/gov.pair")
    r = accept(third, third_code)
    assert r.returncode == 1 and b"irs.example.conf:1" in r.stderr and b"--name" in r.stderr
    assert accept(third, third_code, "--name", "gov").returncode == 0
    assert len(os.listdir(p.a.folder + "/peers")) == 6


def rotate(domain, *step):
    ctl(domain.folder + "/none.conf", "pki", "rotate-ca", *step, "--dir", domain.folder)


def test_new_ca_without_a_call(unpaired, origin):
    """pair update: the peer's new root comes in because the old one certified it; a root that only the pairing key vouches for does not. No call fails."""
    p = unpaired
    pair_up(p)
    p.start()
    crosses(p)

    # The pairing key alone is not enough for a CA.
    thief = Domain(p.outbox + "/pki-thief", "irs.example", "dmz1")
    export(p.b, p.irs, World.IRS + ":443", p.outbox + "/stolen.pair", bundle=thief.folder + "/irs.example.pem")
    bundle = p.a.folder + "/peers/irs.example.pem"
    with open(bundle) as f:
        before = f.read()
    r = ctl(p.a.path, "pair", "update", p.outbox + "/stolen.pair", check=False)
    assert r.returncode == 20 and b"not-vouched" in r.stderr and b"pair accept" in r.stderr
    with open(bundle) as f:
        assert f.read() == before

    bad, stop = [], threading.Event()

    def calls():
        while not stop.is_set():
            try:
                if p.get("/rotating")[0] != 200:
                    bad.append("status")
            except (OSError, AssertionError) as e:
                bad.append(e)

    t = threading.Thread(target=calls)
    t.start()
    try:
        rotate(p.irs, "--begin")
        export(p.b, p.irs, World.IRS + ":443", p.outbox + "/irs-2.pair")
        out = ctl(p.a.path, "pair", "update", p.outbox + "/irs-2.pair").stdout.decode()
        assert "CA        + " in out and "CA        - " not in out and "gwctl reload" in out
        p.a.reload()
        p.b.reload()
        rotate(p.irs, "--switch")
        gateway = p.irs.issue("gateway", "dmz1", "gateway-2")
        p.b.config["identity"] = {"certificate": gateway.crt, "key": gateway.keyfile, "bundle": p.irs.folder + "/irs.example.pem"}
        p.b.write()
        n = len(p.a.journal("link-up"))
        p.b.reload()
        wait("links made anew", lambda: len(p.a.journal("link-up")) >= n + 2, 10)
        rotate(p.irs, "--retire", "--force")
        export(p.b, p.irs, World.IRS + ":443", p.outbox + "/irs-3.pair")
        j = json.loads(ctl(p.a.path, "--json", "pair", "update", p.outbox + "/irs-3.pair").stdout)
        assert len(j["removed"]["bundle"]) == 1 and j["added"] == {"gateways": [], "addresses": [], "bundle": []}
        p.b.reload()
        p.a.reload()
        for _ in range(20):
            assert answered(p)
    finally:
        stop.set()
        t.join()
    assert not bad, bad[:5]
    assert ctl(p.a.path, "pair", "update", p.outbox + "/irs-2.pair", check=False).returncode == 17


def test_peer_moves(unpaired, origin):
    """pair update: other gateways and addresses are shown and taken into the entry; the operator's own changes of it stay."""
    p = unpaired
    pair_up(p, "--name", "tax-office")
    for s in p.a.config["services"]:
        s["via"] = "tax-office"
    p.a.write()
    entry = p.a.folder + "/peers/irs.example.conf"
    with open(entry) as f:
        text = f.read()
    with open(entry, "w") as f:
        f.write(text.replace("\n}", "\n  links = 1; // ours\n}"))
    p.start()
    crosses(p)
    export(p.b, p.irs, World.IRS + ":443", p.outbox + "/2.pair", "--gateway", "spiffe://irs.example/gateway/dmz2", "--address", "203.0.113.21:443")
    out = ctl(p.a.path, "pair", "update", p.outbox + "/2.pair").stdout.decode()
    assert "gateway   + spiffe://irs.example/gateway/dmz2" in out and "address   + 203.0.113.21:443" in out and "CA " not in out
    with open(entry) as f:
        text = f.read()
    assert '"203.0.113.21:443"' in text and "gateway/dmz2" in text and "links = 1; // ours" in text and 'name = "tax-office"' in text
    p.a.reload()
    crosses(p)


def test_pasted_entry(make_pair, origin):
    """An entry in sallyport.conf itself is named, and not cut off at its root."""
    p = make_pair()
    irs, code = export(p.b, p.irs, World.IRS + ":443", p.a.folder + "/irs.pair")
    out = ctl(p.a.path, "pair", "accept", irs, "--code", code).stdout
    assert b"sallyport.conf:" in out
    r = p.a.ctl("pair", "remove", "irs", check=False)
    assert r.returncode == 1 and b"sallyport.conf:" in r.stderr and os.path.exists(p.a.folder + "/peers/irs.example.pem")
    # With its own configuration gone, there is nothing to break.
    os.rename(p.a.path, p.a.path + ".away")
    r = ctl(p.a.path, "-s", p.a.folder + "/none.sock", "pair", "remove", "irs")
    assert sorted(os.listdir(p.a.folder + "/peers")) == ["irs.example.removed"]
    os.rename(p.a.path + ".away", p.a.path)


# ---- the kill switch

def open_exchanges(p, origin):
    """A TCP exchange and an HTTP exchange that will not end by themselves: (sockets)."""
    tcp = p.world.hud.connect(("10.1.0.10", 5432), source="10.1.0.7")
    tcp.sendall(b"ping")
    assert tcp.recv(100) == b"ping"

    def half(c, _):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    origin.answers["/half"] = half
    web = p.legacy()
    web.sendall(b"GET /half HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST)
    assert http_read(web, head_only=True)[0] == 200
    return tcp, web


def test_sever_and_restore(make_pair, origin):
    """Links and running exchanges end at once, on record on both sides; it holds through reload, restart and kill -9, until it is restored."""
    p = make_pair()
    crosses(p)
    tcp, web = open_exchanges(p, origin)
    out = p.a.ctl("sever", "irs").stdout.decode()
    assert "SEVERED irs (irs.example)" in out and "No link to it is left" in out and "gwctl restore irs" in out
    for s in (tcp, web):
        s.settimeout(2 * SLOW)
        with _ends(s):
            pass
    assert p.a.json("peers")["peers"][0]["severed"] is True and p.a.json("peers")["peers"][0]["links"] == []
    for command in ("peers", "status"):
        assert "SEVERED: irs" in p.a.ctl(command).stdout.decode()
    assert p.a.json("status")["severed"] == ["irs"]
    assert p.get("/after")[0] == 503

    # Both books.
    assert p.a.record("command", command="sever irs", uid="0", verdict="allow")
    assert p.a.record("alert", reason="severed", peer="irs")
    ends = [x for x in p.a.exchanges() if x.get("reason") == "severed"]
    assert len(ends) >= 2, p.a.exchanges()[-4:]
    p.a.record("link-down", reason="severed")
    p.b.record("link-down", 5)
    wait("both exchanges ended at B", lambda: len([x for x in p.b.exchanges() if x.get("reason") not in (None, "", "ok")]) >= 2, 5)

    # The peer dials, or tries to speak, in vain; and nothing that an operator does by accident brings it back.
    p.a.reload()
    assert p.a.ctl("sever", "irs").stdout.startswith(b"irs was severed already")
    p.b.stop()
    p.b.start()
    assert p.a.json("peers")["peers"][0]["links"] == []
    p.a.stop()
    p.a.start()
    assert p.a.json("status")["severed"] == ["irs"] and p.get("/restarted")[0] == 503
    p.a.proc.send_signal(signal.SIGKILL)
    p.a.stop(check=False)
    p.a.start()
    assert p.a.json("status")["severed"] == ["irs"] and p.get("/killed")[0] == 503
    assert p.a.json("peers")["peers"][0]["links"] == []

    assert "Restored irs" in p.a.ctl("restore", "irs").stdout.decode()
    crosses(p)
    assert p.a.json("status")["severed"] == [] and p.a.record("alert", reason="restored", peer="irs")
    assert b"was not severed" in p.a.ctl("restore", "irs.example").stdout
    assert p.a.ctl("audit", "verify").returncode == 0


def test_sever_without_a_disk(make_pair, origin, folder):
    """A state_dir that cannot be written keeps nobody from cutting a peer: it is cut, a reload leaves it so, and what does not last is said."""
    state = folder() + "/state"
    p = make_pair(a={"state_dir": state})
    crosses(p)
    os.rmdir(state + "/severed")
    r = p.a.ctl("sever", "irs", check=False)
    assert r.returncode == 1 and b"SEVERED irs" in r.stdout and b"NOT KEPT" in r.stderr and b"restart" in r.stderr, r
    assert b"reboot" not in r.stdout
    p.a.reload()
    assert p.a.json("status")["severed"] == ["irs"] and p.get("/cut")[0] == 503
    r = p.a.ctl("--json", "sever", "irs", check=False)
    assert r.returncode == 1 and json.loads(r.stdout)["not_kept"] == "No such file or directory"
    assert b"Restored irs" in p.a.ctl("restore", "irs").stdout
    crosses(p)


def test_sever_where_the_peer_dials(make_pair, origin):
    """The side that is dialled severs: what the peer dials does not come up, and is refused with the reason."""
    p = make_pair(ways=[("hud", "irs")])
    crosses(p)
    p.b.ctl("sever", "hud")
    assert p.get("/x")[0] in (502, 503)
    assert p.b.json("peers")["peers"][0]["links"] == []
    p.a.record("link-down", 5)
    p.b.ctl("restore", "hud.example")
    crosses(p, 20)


def test_only_root_severs(make_pair, origin):
    """Anyone else who may use the socket is refused, on record; a name that is none is not cut."""
    p = make_pair(a={"control": {"socket": "control.sock", "mode": "0666"}})
    crosses(p)
    for command in ("sever", "restore"):
        r = p.a.ns.run("setpriv", "--reuid", "12347", "--regid", "12347", "--clear-groups", GWCTL, "-c", "/nonexistent", "-s", p.a.folder + "/control.sock",
                       command, "irs", check=False)
        assert r.returncode == 1 and b"only root" in r.stderr, r.stderr
        assert p.a.record("command", command=command + " irs", uid="12347", verdict="deny")
    assert answered(p)
    for command in ("sever", "restore"):
        r = p.a.ctl(command, "isr", check=False)
        assert r.returncode == 1 and b'did you mean "irs"' in r.stderr
        assert p.a.ctl(command, check=False).returncode == 2
    assert answered(p)
    p.a.stop()
    assert p.a.ctl("sever", "irs", check=False).returncode == 3
    p.a.start()
