# SPDX-License-Identifier: Apache-2.0
"""The sidecar: the same daemon with an uplink to its own domain's gateway. (Case 90.)"""
import pytest

from bed.domains import ECHO_HOST, RULES_A, RULES_B, rule
from bed.gateway import Gateway, curl, http, wait
from bed.net import World

SIDE = "spiffe://hud.example/side-app"
SIDE_UID = 23456


@pytest.fixture(scope="module")
def sidecar(usual_pair, world, folder):
    pair = usual_pair
    cert = pair.hud.issue("workload", "side-app", "side-app")
    for g, rules in ((pair.a, RULES_A), (pair.b, RULES_B)):
        g.policy(rules + [rule("side", principals=[SIDE], services=["echo"], assurance=["mtls"])])
        g.reload()
    path = folder()
    g = Gateway(world.hud, path, {
        "domain": "hud.example", "workers": 1,
        "identity": {"certificate": cert.crt, "key": cert.keyfile, "bundle": pair.hud.ca.bundle},
        "uplink": {"dial": [World.HUD + ":443"], "gateways": [pair.hud.gateway_id]},
        "listeners": [
            {"name": "local", "path": path + "/app.sock", "mode": "0666", "accept": ["plaintext"],
             "clients": [{"uid": str(SIDE_UID), "principal": SIDE}]},
            {"name": "loopback", "address": "127.0.0.1:15001", "accept": ["plaintext"],
             "clients": [{"uid": str(SIDE_UID), "principal": SIDE}]}],
        "services": [{"name": "echo", "host": ECHO_HOST, "via": "uplink"}],
    }, [rule("mine", principals=[SIDE], services=["echo"], assurance=["mtls", "uid"])])
    g.sock = path + "/app.sock"
    g.start()
    wait("an uplink", lambda: g.journal("link-up"))
    yield g
    g.stop()
    for g, rules in ((pair.a, RULES_A), (pair.b, RULES_B)):
        g.policy(rules)
        g.reload()


def test_call_over_a_unix_socket(pair, world, sidecar, origin):
    """The application speaks plain HTTP to its sidecar, which has the certificate: mtls all the way."""
    code, body, err = curl(world.hud, "--unix-socket", sidecar.sock, "http://%s/side" % ECHO_HOST, user=SIDE_UID)
    assert (code, body) == (200, b"echo:"), err
    assert origin.last().get("sallyport-principal") == [SIDE]
    a, b = pair.a.exchange(path="/side"), pair.b.exchange(path="/side")
    assert a["principal"] == b["principal"] == SIDE and a["assurance"] == b["assurance"] == "mtls"
    s = sidecar.exchange(path="/side")
    assert s["principal"] == SIDE
    # its book has an id of its own, and the gateway's, so that the two can be joined
    assert s["exchange"] != a["exchange"] == s["uplink_exchange"]
    # which is what reconcile does; what else the gateway carried came from others
    p = pair.a.ctl("audit", "reconcile", sidecar.folder + "/journal", pair.a.folder + "/journal")
    assert b"1 exchange" in p.stdout and b" 0 imbalances" in p.stdout


def test_call_over_loopback(pair, world, sidecar, origin):
    """Who owns a loopback connection is the kernel's knowledge, too."""
    code, body, err = curl(world.hud, "--connect-to", "::127.0.0.1:15001", "http://%s/loop" % ECHO_HOST, user=SIDE_UID)
    assert (code, body) == (200, b"echo:"), err
    assert pair.b.exchange(path="/loop")["assurance"] == "mtls"


def test_another_local_user(pair, world, sidecar, origin):
    """Case 90: a second user of the machine is not the workload: never mtls."""
    for args in (["--unix-socket", sidecar.sock], ["--connect-to", "::127.0.0.1:15001"]):
        code, _, _ = curl(world.hud, *args, "http://%s/other-user" % ECHO_HOST, user=23457)
        assert code == 403
    assert not origin.requests
    assert not [r for r in pair.a.journal(path="/other-user") if r.get("assurance") == "mtls" and r.get("verdict") == "allow"]
    d = sidecar.record("deny", path="/other-user")
    assert d.get("assurance", "none") != "mtls"


def test_sidecar_has_its_own_book(sidecar, pair, world, origin):
    sidecar.verify()
    assert sidecar.exchanges(verdict="allow")


def test_workload_cannot_be_a_gateway(pair, world, sidecar, origin):
    """The uplink takes only the listed gateway ids."""
    assert sidecar.status()["roles"]


def test_bulk_through_three_hops(pair, world, sidecar, origin):
    with open("/dev/zero", "rb") as f:
        body = f.read(3 << 20)
    path = sidecar.folder + "/body"
    with open(path, "wb") as f:
        f.write(body)
    import os
    os.chmod(path, 0o644)
    code, got, err = curl(world.hud, "--unix-socket", sidecar.sock, "-H", "Expect:", "--data-binary", "@" + path,
                          "http://%s/bulk" % ECHO_HOST, user=SIDE_UID)
    assert code == 200 and got == b"echo:" + body, err
