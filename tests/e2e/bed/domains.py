# SPDX-License-Identifier: Apache-2.0
"""The two domains as most tests want them."""
import copy
import os
import subprocess

from .gateway import GWCTL, Gateway, http, wait
from .net import World
from .pki import CA

COBOL = "spiffe://hud.example/cobol"
PERMIT = "spiffe://hud.example/permit-svc"
OTHER = "spiffe://hud.example/other"
APP = "spiffe://hud.example/app"
TAX_HOST = "tax-svc.irs.svc.cluster.local"
ECHO_HOST = "echo.irs.svc"
DB_HOST = "db.irs.svc.cluster.local"
PERMIT_UID, OTHER_UID = 12345, 12346


class Issued:
    def __init__(self, prefix):
        self.crt, self.keyfile = prefix + ".crt", prefix + ".key"


class Domain:
    """A domain's CA, made by gwctl, and what it has issued. ca makes the certificates that gwctl would refuse to."""

    def __init__(self, folder, name, gateway):
        self.name, self.folder = name, folder
        self._ctl("init", name)
        self.ca = CA.of_gwctl(folder, name)
        self.gateway_id = "spiffe://%s/gateway/%s" % (name, gateway)
        self.gateway = self.issue("gateway", gateway, "gateway")

    def _ctl(self, *args):
        p = subprocess.run([GWCTL, "-c", self.folder + "/none.conf", "pki"] + list(args) + ["--dir", self.folder], capture_output=True)
        assert p.returncode == 0, "gwctl pki %s: %s%s" % (" ".join(args), p.stdout.decode(), p.stderr.decode())

    def issue(self, kind, name, file, dns=()):
        """kind: "gateway" or "workload"."""
        out = os.path.join(self.folder, file)
        self._ctl("issue", kind, name, "--out", out, *[x for d in dns for x in ("--dns", d)])
        return Issued(out)

    def identity(self):
        return {"certificate": self.gateway.crt, "key": self.gateway.keyfile, "bundle": self.ca.bundle}


def rule(name, principals=(COBOL, PERMIT, APP), services=("tax-svc",), **kw):
    """An allow rule for every way of knowing a caller, unless told otherwise."""
    r = {"name": name, "principals": list(principals), "services": list(services),
         "assurance": ["mtls", "uid", "address"]}
    r.update({k: v for k, v in kw.items() if v is not None})
    return r


RULES_A = [
    rule("hud-calls-tax", methods=["GET", "HEAD", "POST", "PUT"], paths=["/v1/**", "/files/**", "/put/**", "/slow/**", "/admin/**"]),
    rule("hud-calls-echo", services=["echo"]),
    rule("hud-calls-db", services=["ledger-db"]),
]
RULES_B = [
    rule("tax-for-hud", methods=["GET", "HEAD", "POST", "PUT"], paths=["/v1/**", "/files/**", "/put/**", "/slow/**"]),  # no /admin
    rule("echo-for-hud", services=["echo"]),
    rule("db-for-hud", services=["ledger-db"]),
]


class Pair:
    """Gateway A (hud.example) and gateway B (irs.example). a= and b= are changes of their configs' top level."""

    def __init__(self, world, folder, a=None, b=None, rules_a=None, rules_b=None, deny_a=None, deny_b=None, dial="a", start=True,
                 peer_a=None, peer_b=None):
        os.makedirs(folder, exist_ok=True)
        self.world = world
        self.hud = Domain(folder + "/pki-hud", "hud.example", "dmz1")
        self.irs = Domain(folder + "/pki-irs", "irs.example", "dmz1")
        inside = self.hud.issue("gateway", "dmz1", "inside", dns=[TAX_HOST, ECHO_HOST, DB_HOST])
        self.app = self.hud.issue("workload", "app", "app")
        ca = {
            "domain": "hud.example", "identity": self.hud.identity(), "inside": {"certificate": inside.crt, "key": inside.keyfile},
            "listeners": [
                {"name": "tunnel", "address": World.HUD + ":443", "accept": ["peers", "workloads"]},
                {"name": "inside", "address": "10.1.0.10:443", "accept": ["workloads"]},
                {"name": "legacy", "address": "10.1.0.10:80", "accept": ["plaintext"], "clients": [
                    {"address": "10.1.0.7/32", "principal": COBOL, "allow_local": True},
                    {"address": "10.1.0.8/32", "principal": OTHER, "allow_local": True}]},
                {"name": "apps", "path": folder + "/apps.sock", "mode": "0666", "accept": ["plaintext"], "clients": [
                    {"uid": str(PERMIT_UID), "principal": PERMIT}, {"uid": str(OTHER_UID), "principal": OTHER}]},
                {"name": "ledger", "address": "10.1.0.10:5432", "accept": ["tcp"], "service": "ledger-db", "clients": [
                    {"address": "10.1.0.7/32", "principal": COBOL, "allow_local": True},
                    {"address": "10.1.0.8/32", "principal": OTHER, "allow_local": True}]},
            ],
            "peers": [{"name": "irs", "domain": "irs.example", "bundle": self.irs.ca.bundle,
                       "gateways": [self.irs.gateway_id]}],
            "services": [
                {"name": "tax-svc", "host": TAX_HOST, "via": "irs"},
                {"name": "echo", "host": ECHO_HOST, "via": "irs"},
                {"name": "ledger-db", "host": DB_HOST + ":5432", "kind": "tcp", "via": "irs"},
            ],
            "limits": {"drain_timeout": "5s"},
        }
        cb = {
            "domain": "irs.example", "identity": self.irs.identity(),
            "listeners": [{"name": "tunnel", "address": World.IRS + ":443", "accept": ["peers"]}],
            "peers": [{"name": "hud", "domain": "hud.example", "bundle": self.hud.ca.bundle, "assert": ["uid", "address"],
                       "gateways": [self.hud.gateway_id]}],
            "services": [
                {"name": "tax-svc", "host": TAX_HOST, "endpoints": ["10.2.0.30:8080"]},
                {"name": "echo", "host": ECHO_HOST, "endpoints": ["10.2.0.30:9000"]},
                {"name": "ledger-db", "host": DB_HOST + ":5432", "kind": "tcp", "endpoints": ["10.2.0.30:5432"]},
            ],
            "limits": {"drain_timeout": "5s"},
        }
        if dial == "a":
            ca["peers"][0]["dial"] = [World.IRS + ":443"]
        elif dial == "b":
            cb["peers"][0]["dial_reverse"] = [World.HUD + ":443"]
        ca["peers"][0].update(peer_a or {})
        cb["peers"][0].update(peer_b or {})
        for c, more in ((ca, a), (cb, b)):
            for k, v in (more or {}).items():
                if isinstance(v, dict) and isinstance(c.get(k), dict):
                    c[k].update(v)
                else:
                    c[k] = v
        self.apps = folder + "/apps.sock"
        os.chmod(folder, 0o755)
        self.a = Gateway(world.hud, folder + "/a", ca, rules_a if rules_a is not None else copy.deepcopy(RULES_A), deny_a)
        self.b = Gateway(world.irs, folder + "/b", cb, rules_b if rules_b is not None else copy.deepcopy(RULES_B), deny_b)
        if start:
            self.start()

    def start(self):
        self.b.start(wait_ready=False)
        self.a.start(wait_ready=False)
        self.b.wait_ready()
        self.a.wait_ready()
        self.wait_links()
        return self

    def wait_links(self, seconds=10):
        """A call crosses, so every part is there."""
        def crossed():
            s = self.world.hud.connect(("10.1.0.10", 80), source="10.1.0.8")
            with s:
                s.settimeout(5)
                s.sendall(b"GET /ready HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST.encode())
                s.recv(100)
            links = self.a.journal("link-up")
            return len({r["worker"] for r in links}) >= self.a.config["workers"] and self.b.journal("link-up")
        try:
            wait("links between the gateways", crossed, seconds, 0.1)
        except AssertionError as e:
            raise AssertionError("%s\n--- A\n%s\n--- B\n%s" % (e, self.a.log()[-3000:], self.b.log()[-3000:]))

    # ---- callers
    def legacy(self, source="10.1.0.7", port=80):
        """A connection of the mapped legacy application to gateway A."""
        return self.world.hud.connect(("10.1.0.10", port), source=source)

    def get(self, path="/", host=ECHO_HOST, method="GET", fields="", source="10.1.0.7", body=b""):
        """One request on a connection of its own: (status, head, body)."""
        with self.legacy(source) as s:
            extra = "Content-Length: %d\r\n" % len(body) if body else ""
            return http(s, ("%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n" % (method, path, host, extra, fields)).encode() + body)

    def running(self):
        return all(g.proc is not None and g.proc.poll() is None for g in (self.a, self.b))

    def stop(self, check=True):
        try:
            self.a.stop(check)
        finally:
            self.b.stop(check)

    def reconcile(self, check=True):
        """Both books, joined; the exit code says whether they balance."""
        return self.a.ctl("audit", "reconcile", self.a.folder + "/journal", self.b.folder + "/journal", check=check)
