# SPDX-License-Identifier: Apache-2.0
"""gwctl against running gateways, and its pki and pair work without one."""
import json
import os
import subprocess

import pytest

from bed.domains import APP
from bed.gateway import GWCTL, SLOW, wait


def ctl(*args, config="/nonexistent/sallyport.conf", check=True):
    p = subprocess.run([GWCTL, "-c", config] + list(args), capture_output=True, timeout=30 * SLOW)
    if check:
        assert p.returncode == 0, "gwctl %s: %d\n%s%s" % (" ".join(args), p.returncode, p.stdout.decode(), p.stderr.decode())
    return p


def test_status_peers_services(pair):
    for sub in ("status", "peers", "services"):
        text = pair.a.ctl(sub).stdout
        assert text.strip() and b"\x1b" not in text
        assert json.loads(pair.a.ctl("--json", sub).stdout)
    assert b"certificate until" in pair.a.ctl("status").stdout and pair.a.status()["certificate_not_after"] > 1700000000
    assert b"irs" in pair.a.ctl("peers").stdout
    assert b"tax-svc" in pair.a.ctl("services").stdout


def test_nobody_there(folder):
    """Exit 3: the gateway cannot be reached; usage faults are 2."""
    conf = folder() + "/none.conf"
    assert ctl("-s", "/nonexistent.sock", "status", check=False).returncode == 3
    assert ctl("frobnicate", check=False).returncode == 2
    p = ctl("statsu", check=False)
    assert p.returncode == 2 and b"status" in p.stderr
    assert not os.path.exists(conf)


def test_policy_check(pair):
    assert pair.a.ctl("policy", "check").returncode == 0
    assert pair.a.ctl("config", "check").returncode == 0


def test_help_and_version():
    assert b"policy" in ctl("help").stdout
    assert ctl("version").stdout.strip()


def test_reload_is_recorded(pair):
    """Who asked: the socket's peer as fact."""
    before = len(pair.a.journal("command"))
    pair.a.reload()
    new = wait("a record", lambda: pair.a.journal("command")[before:])
    assert new[-1]["uid"] == str(os.getuid()) and "reload" in new[-1]["command"]


def test_pki(folder):
    """A CA, a gateway and a workload; nothing is overwritten; keys are private."""
    d = folder() + "/pki"
    ctl("pki", "init", "lab.example", "--dir", d)
    ctl("pki", "issue", "gateway", "g1", "--dir", d, "--out", d + "/g1", "--dns", "a.lab.example")
    ctl("pki", "issue", "workload", "w1", "--dir", d, "--out", d + "/w1")
    assert os.stat(d + "/g1.key").st_mode & 0o777 == 0o600
    assert ctl("pki", "issue", "workload", "w1", "--dir", d, "--out", d + "/w1", check=False).returncode == 1
    p = subprocess.run(["openssl", "x509", "-in", d + "/g1.crt", "-noout", "-ext", "subjectAltName"], capture_output=True)
    assert b"URI:spiffe://lab.example/gateway/g1" in p.stdout and b"DNS:a.lab.example" in p.stdout
    p = subprocess.run(["openssl", "verify", "-CAfile", d + "/lab.example.pem", "-untrusted", d + "/w1.crt", d + "/w1.crt"], capture_output=True)
    assert p.returncode == 0, p.stderr
    assert ctl("pki", "init", "lab.example", "--dir", d, check=False).returncode == 1
    assert b"g1" in ctl("pki", "list", "--dir", d).stdout
    assert b"BEGIN CERTIFICATE" in ctl("pki", "bundle", "--dir", d).stdout


def test_gateway_ids_are_not_for_workloads(folder):
    d = folder() + "/pki"
    ctl("pki", "init", "lab.example", "--dir", d)
    assert ctl("pki", "issue", "workload", "gateway/evil", "--dir", d, "--out", d + "/evil", check=False).returncode == 1


def test_pairing(folder, pair):
    """Two operators exchange a file and, by another way, its code; the wrong code is refused."""
    f = folder() + "/hud.pair"
    pki = pair.hud.folder
    ctl("pair", "export", "--address", "192.0.2.10:443", "--out", f, "--dir", pki, config=pair.a.path)
    shown = ctl("pair", "show", f)
    code = [l.split(None, 1)[1].strip() for l in shown.stdout.decode().splitlines() if l.strip().startswith("code ")][0]
    peers = folder() + "/peers"
    bad = ctl("pair", "accept", f, "--code", code[:-1] + ("a" if code[-1] != "a" else "b"), "--domain", "irs.example", "--peers", peers, check=False)
    assert bad.returncode == 15 and not os.path.exists(peers + "/hud.example.pem")  # wrong-code, see gwctl-pair(1)
    ctl("pair", "accept", f, "--code", code, "--domain", "irs.example", "--peers", peers)
    assert os.path.exists(peers + "/hud.example.pem")
    with open(f) as x:
        text = x.read()
    with open(f, "w") as x:
        x.write(text.replace("192.0.2.10", "192.0.2.66"))
    assert ctl("pair", "show", f, check=False).returncode != 0


def test_terminal_safety(pair):
    """Nothing that a caller wrote reaches a terminal raw."""
    pair.get("/%1b%5b2J", fields="")
    assert b"\x1b[2J" not in pair.a.ctl("audit", "tail").stdout


def test_help_of_each_command():
    """--help after any command, and an example that a reader can copy."""
    names = ctl("help", "--names").stdout.decode().split("\n")[:-1]
    assert len(names) > 20
    for name in names:
        p = ctl(*name.split(), "--help")
        assert p.stdout.startswith(b"gwctl " + name.encode()), name
    assert ctl("help", "frobnicate", check=False).returncode == 2


def test_json_of_each_command(pair, folder):
    """One valid document (or, of records, one a line), and nothing else, on standard output."""
    pair.get("/json")
    j, d = pair.a.json, folder() + "/pki"
    assert j("config", "check") == {"ok": True, "faults": [], "warnings": [], "dropped": 0}
    assert j("policy", "check")["ok"] and j("policy", "check")["rules"] == 3
    assert j("config", "dump")["domain"] == "hud.example"
    assert j("config", "dump")["peers"][0]["name"] == "irs"
    assert isinstance(j("policy", "list"), list)
    assert j("policy", "test", "--principal", APP, "--service", "echo")["verdict"] == "allow"
    assert j("audit", "verify")["ok"] and "balanced" in j("audit", "reconcile", pair.a.folder + "/journal", pair.b.folder + "/journal")
    assert j("log-level", "info")["ok"] and j("reload")["ok"] and j("version")["version"]
    record = pair.a.exchange(path="/json")
    for args in (("audit", "tail", "-n", "3"), ("audit", "show", record["exchange"])):
        for l in pair.a.ctl("--json", *args).stdout.decode().splitlines():
            assert json.loads(l)["msgid"]
    for args in (("pki", "init", "lab.example", "--dir", d), ("pki", "issue", "gateway", "g", "--dir", d, "--out", d + "/g"),
                 ("pki", "list", "--dir", d), ("pki", "show", d + "/g.crt"),
                 ("pair", "export", "--gateway", "spiffe://lab.example/gateway/g", "--bundle", d + "/lab.example.pem", "--dir", d, "--out", d + "/l"),
                 ("pair", "show", d + "/l")):
        assert json.loads(ctl("--json", *args).stdout) is not None, args


def test_no_answer_is_no_denial(pair, folder):
    """Exit 4: neither yes nor no. A script that asks for a denial must not take a typo for one."""
    ask = ["policy", "test", "--principal", APP, "--service"]
    assert pair.a.ctl(*ask, "tax-svc", "--path", "/nope", check=False).returncode == 1
    p = pair.a.ctl(*ask, "tax-scv", check=False)
    assert p.returncode == 4 and b'did you mean "tax-svc"' in p.stderr
    assert ctl(*ask, "tax-svc", check=False).returncode == 4
    empty = folder()
    assert ctl("audit", "verify", empty + "/none", check=False).returncode == 4
    p = ctl("audit", "reconcile", empty, pair.a.folder + "/journal", check=False)
    assert p.returncode == 4 and b"no journal is in this directory" in p.stderr


def test_mistyped_principal(pair):
    p = pair.a.ctl("policy", "test", "--principal", APP + "x", "--service", "echo", check=False)
    assert p.returncode == 1 and b"did you mean" in p.stdout and APP.encode() in p.stdout


def test_damaged_books_do_not_balance(pair, folder):
    """Lines that are no records may have been anything."""
    d = folder()
    subprocess.run(["cp", "-r", pair.a.folder + "/journal/.", d], check=True)
    log = sorted(f for f in os.listdir(d) if f.endswith(".log"))[0]
    with open(d + "/" + log, "ab") as f:
        f.write(b"\x1b[2Jnothing\n" * 3)
    p = ctl("audit", "reconcile", d, pair.b.folder + "/journal", check=False)
    assert p.returncode == 1 and b"NOT BALANCED" in p.stdout and b"\x1b" not in p.stdout
    assert ctl("audit", "verify", d, check=False).returncode == 1
