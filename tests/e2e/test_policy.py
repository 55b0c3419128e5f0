# SPDX-License-Identifier: Apache-2.0
"""Who may call what: denied by either side, by default, and at once when the rules change."""
import threading
import time

import pytest

from bed.domains import APP, COBOL, ECHO_HOST, OTHER, RULES_A, RULES_B, TAX_HOST, rule
from bed.gateway import SLOW, curl, recv_all, wait


@pytest.fixture(autouse=True)
def usual_rules(pair):
    yield
    for g, rules in ((pair.a, RULES_A), (pair.b, RULES_B)):
        g.policy(rules)
        g.reload()


def change(g, rules, deny=()):
    g.policy(rules, deny)
    g.reload()


def test_denied_at_a(pair, nginx):
    """No rule of A names this caller: nothing reaches B."""
    status, head, body = pair.get("/v1/x", host=TAX_HOST, source="10.1.0.8")
    assert status == 403
    d = pair.a.record("deny", principal=OTHER, path="/v1/x")
    assert d["verdict"] == "deny" and d["service"] == "tax-svc" and d["status"] == "403" and d["reason"]
    assert not pair.b.journal(principal=OTHER)
    assert d["exchange"].encode() in body and OTHER.encode() not in body and b"rule" not in body
    assert not [r for r in nginx.requests() if OTHER in r]


def test_denied_at_b_alone(pair, nginx):
    """A allows /admin, B does not: the caller gets a 403, both books say who denied."""
    status, _, body = pair.get("/admin/x", host=TAX_HOST)
    assert status == 403
    d = pair.b.record("deny", path="/admin/x")
    assert d["principal"] == COBOL and d["direction"] == "in"
    a = pair.a.exchange(path="/admin/x")
    assert a["exchange"] == d["exchange"] and a["status"] == "403"
    assert not [r for r in nginx.requests() if " /admin" in r]
    assert d["exchange"].encode() in body


def test_default_deny(pair, origin):
    """Without a rule nothing crosses; an empty policy is a policy."""
    change(pair.a, [])
    assert pair.get("/none")[0] == 403
    change(pair.a, RULES_A)
    change(pair.b, [])
    assert pair.get("/none")[0] == 403
    assert not origin.requests
    change(pair.b, RULES_B)
    assert pair.get("/some")[0] == 200


def test_deny_before_allow(pair, origin):
    """A deny rule wins wherever it stands, on either side."""
    deny = [{"name": "not-secret", "principals": ["*"], "services": ["echo"], "paths": ["/secret/**"]}]
    for g, rules in ((pair.a, RULES_A), (pair.b, RULES_B)):
        change(g, rules, deny)
        assert pair.get("/secret/x")[0] == 403
        assert pair.get("/open/x")[0] == 200
        d = g.record("deny", path="/secret/x")
        assert d["rule"] == "not-secret" and d["rule_at"]
        change(g, rules)
    assert pair.get("/secret/x")[0] == 200


def test_methods_and_paths(pair, nginx):
    """A rule's method and path are exact; patterns stop at a segment's end."""
    change(pair.b, [rule("narrow", methods=["GET"], paths=["/v1/taxes/*", "/v1/deep/**", "/v1/exact"])])
    for path, method, want in (("/v1/taxes/7", "GET", 200), ("/v1/taxes/7", "POST", 403), ("/v1/taxes/7/8", "GET", 403),
                               ("/v1/taxes", "GET", 403), ("/v1/taxes/", "GET", None), ("/v1/deep/a/b/c", "GET", 200),
                               ("/v1/exact", "GET", 200), ("/v1/exact/", "GET", 403), ("/v1/exactly", "GET", 403),
                               ("/V1/exact", "GET", 403), ("/v1/taxes/7", "get", 403)):
        status = pair.get(path, host=TAX_HOST, method=method)[0]
        assert want is None or status == want, (path, method, status)


def test_principal_patterns(pair, origin):
    """* is one segment, ** any number; another domain never matches."""
    for principals, want in ((["spiffe://hud.example/*"], 200), (["spiffe://hud.example/**"], 200), (["spiffe://hud.example/c*"], None),
                             (["spiffe://irs.example/**"], 403), (["spiffe://hud.example/cobol/*"], 403),
                             (["spiffe://hud.example/cobo"], 403), (["*"], 200)):
        pair.a.policy([rule("p", principals=principals, services=["echo"])])
        if pair.a.reload(check=want is not None).returncode:
            continue
        status = pair.get("/p")[0]
        assert want is None or status == want, principals


def test_assurance(pair, world, origin):
    """A rule that wants mtls does not take an address mapping, on either side."""
    change(pair.b, [rule("mtls-only", services=["echo"], assurance=["mtls"])])
    assert pair.get("/assured")[0] == 403
    d = pair.b.record("deny", path="/assured")
    assert d["assurance"] == "address"
    code, body, err = curl(world.hud, "--cert", pair.app.crt, "--key", pair.app.keyfile, "--cacert", pair.hud.ca.bundle,
                           "--connect-to", "::10.1.0.10:443", "https://%s/assured" % ECHO_HOST)
    assert code == 200, err
    change(pair.b, [{"name": "default", "principals": ["*"], "services": ["echo"]}])  # mtls is the default
    assert pair.get("/assured2")[0] == 403


def test_peer_may_claim_only_what_is_configured(pair, origin):
    """assert = [ "uid" ]: B takes no word of A for an address mapping."""
    peers = pair.b.config["peers"]
    pair.b.write(peers=[dict(peers[0], **{"assert": ["uid"]})])
    pair.b.reload()
    try:
        # What reaches the old generation before A knows of its end is still judged by the old configuration.
        wait("new links", lambda: [pair.get("/old")[0] for _ in range(8)] == [403] * 8)
        assert [pair.get("/claim")[0] for _ in range(4)] == [403] * 4
        assert not [r for r in origin.requests if "/claim" in r.line]
    finally:
        pair.b.write(peers=peers)
        pair.b.reload()
        wait("as before", lambda: pair.get("/claim-again")[0] == 200)


def test_reload_cuts_what_is_no_longer_allowed(pair, origin):
    """Case 56: a running exchange is judged again: cut within 2 s, the octets it had are in the books."""
    for g in (pair.b, pair.a):
        stop = threading.Event()

        def trickle(c, r, stop=stop):
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not stop.is_set():
                c.sendall(b"tick")
                time.sleep(0.05)
            return False
        path = "/long-%s" % ("a" if g is pair.a else "b")
        origin.answers[path] = trickle
        with pair.legacy() as s:
            s.settimeout(5 * SLOW)
            s.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, ECHO_HOST)).encode())
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
            g.policy([r for r in (RULES_A if g is pair.a else RULES_B) if "echo" not in r["services"]])
            g.reload()
            began = time.monotonic()
            try:
                while s.recv(65536):
                    assert time.monotonic() - began < 3 * SLOW, "still running"
            except ConnectionResetError:
                pass
            assert time.monotonic() - began < 2.5 * SLOW
        stop.set()
        end = g.exchange(path=path)
        assert "policy" in end["reason"] and int(end["bytes_out"]) > 0, end["line"]
        g.policy(RULES_A if g is pair.a else RULES_B)
        g.reload()


def test_reload_leaves_what_is_still_allowed(pair, origin):
    """The same reload with rules that still allow it changes nothing for a running exchange."""
    def trickle(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n")
        for _ in range(10):
            c.sendall(b"tick")
            time.sleep(0.1)
    origin.answers["/steady"] = trickle
    with pair.legacy() as s:
        s.settimeout(5 * SLOW)
        s.sendall(("GET /steady HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST).encode())
        s.recv(10)
        for g, rules in ((pair.a, RULES_A), (pair.b, RULES_B)):
            g.policy(list(rules) + [rule("more-%d" % i, services=["echo"], paths=["/x%d" % i]) for i in range(50)])
            g.reload()
        assert recv_all(s).endswith(b"tick" * 10)
    assert pair.a.exchange(path="/steady")["reason"] == "complete"


def test_a_decision_names_its_generation(pair, origin):
    pair.get("/g1")
    g1 = int(pair.a.exchange(path="/g1")["generation"])
    pair.a.policy(RULES_A + [rule("extra", services=["echo"], paths=["/extra"])])
    pair.a.reload()
    pair.get("/g2")
    g2 = int(pair.a.exchange(path="/g2")["generation"])
    assert g2 > g1


def test_tcp_rules(pair, echo):
    """A rule with methods or paths never matches TCP."""
    change(pair.a, [rule("db-http", services=["ledger-db", "echo"], methods=["CONNECT", "GET"])])
    try:
        with pair.legacy(port=5432) as s:
            s.sendall(b"x")
            assert recv_all(s) == b""
    except (ConnectionResetError, BrokenPipeError):
        pass
    d = pair.a.record("deny", listener="ledger")
    assert d["service"] == "ledger-db"


def test_denied_tcp_caller(pair, echo):
    """The caller's connection is closed and nothing is dialled."""
    del echo.ends[:]
    try:
        with pair.legacy("10.1.0.8", 5432) as s:
            s.sendall(b"x")
            assert recv_all(s) == b""
    except (ConnectionResetError, BrokenPipeError):
        pass
    assert pair.a.record("deny", principal=OTHER, service="ledger-db")
    assert not echo.ends


def test_cut_tcp_exchange(pair, echo):
    """Case 56 for TCP: the connection is reset."""
    with pair.legacy(port=5432) as s:
        s.settimeout(5 * SLOW)
        s.sendall(b"abc")
        assert s.recv(10) == b"abc"
        change(pair.b, [r for r in RULES_B if "ledger-db" not in r["services"]])
        began = time.monotonic()
        try:
            assert s.recv(10) == b""
        except ConnectionResetError:
            pass
        assert time.monotonic() - began < 2.5 * SLOW
    assert "policy" in pair.b.exchange(service="ledger-db", bytes_in="3")["reason"]


def test_policy_test_explains(pair):
    """gwctl policy test: verdict, rule, file:line, why not, and an exit code."""
    ok = pair.a.json("policy", "test", "--principal", APP, "--service", "tax-svc", "--method", "GET", "--path", "/v1/taxes/1")
    assert ok["verdict"] == "allow" and ok["rule"] == "hud-calls-tax"
    p = pair.a.ctl("policy", "test", "--principal", APP, "--service", "tax-svc", "--method", "DELETE", "--path", "/v1/taxes/1", check=False)
    assert p.returncode == 1 and b"deny" in p.stdout and b"method" in p.stdout
    p = pair.a.ctl("policy", "test", "--principal", APP, "--service", "nope", check=False)
    assert p.returncode == 4 and b"nope" in p.stdout + p.stderr


def test_a_hundred_thousand_rules(pair, origin):
    """A policy of that size is taken over in time, and a call costs what it did."""
    lines = ["allow = ("]
    for i in range(100000):
        lines.append('{ name = "r%d"; principals = [ "spiffe://hud.example/p%d" ]; services = [ "echo" ]; },' % (i, i))
    lines[-1] = lines[-1].rstrip(",")
    lines.append(");")
    with open(pair.a.folder + "/policy.d/50-many.conf", "w") as f:
        f.write("\n".join(lines))
    try:
        began = time.monotonic()
        pair.a.ctl("reload", timeout=60)
        took = time.monotonic() - began
        assert took < 10 * SLOW, took
        assert pair.get("/many-rules")[0] == 200
        assert pair.get("/many-rules", source="10.1.0.8")[0] == 403
    finally:
        import os
        os.unlink(pair.a.folder + "/policy.d/50-many.conf")
