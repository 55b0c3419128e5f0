#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peers100.py [-b BUILD] [-n PEERS] [-r RESTARTS] [--far-dials] - how soon a gateway has its links again after a restart.

One central gateway of two workers is paired with PEERS others (100), each a domain of its own with a gateway of one worker, all on
127.0.x.y. The central one is stopped and started again; the clock runs from the start of its process until "gwctl peers" shows a link
of every peer, and until every link that the configuration wants is up. It dials, or with --far-dials is dialled by all of them.
Exit code 1 when a peer took longer than 5 s.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

LIMIT_S = 5.0
PORT = 28600


def run(*argv):
    p = subprocess.run(argv, capture_output=True)
    if p.returncode:
        sys.exit("%s: %s%s" % (" ".join(argv), p.stdout.decode(), p.stderr.decode()))
    return p.stdout


class Bed:
    def __init__(self, build, n, far_dials):
        self.daemon, self.gwctl = os.path.abspath(build) + "/sallyportd", os.path.abspath(build) + "/gwctl"
        self.n, self.far_dials = n, far_dials
        self.folder = tempfile.mkdtemp(prefix="sallyport-peers.")
        os.chmod(self.folder, 0o755)
        self.procs = {}
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self.pki, range(n + 1)))
        for i in range(n + 1):
            self.configure(i)

    # Number 0 is the central one.
    def path(self, i, name=""):
        return "%s/%d/%s" % (self.folder, i, name)

    def domain(self, i):
        return "d%d.example" % i

    def address(self, i):
        return "127.%d.%d.1:%d" % (1 + i // 250, i % 250, PORT)

    def pki(self, i):
        os.makedirs(self.path(i, "journal"))
        os.makedirs(self.path(i, "policy.d"))
        run(self.gwctl, "pki", "init", self.domain(i), "--dir", self.path(i, "pki"))
        run(self.gwctl, "pki", "issue", "gateway", "dmz1", "--dir", self.path(i, "pki"), "--out", self.path(i, "gateway"))
        with open(self.path(i, "bundle.pem"), "wb") as f:
            f.write(run(self.gwctl, "pki", "bundle", "--dir", self.path(i, "pki")))

    def peer(self, i, other):
        dials = (i == 0) != self.far_dials
        way = "dial" if dials and i == 0 else "dial_reverse"
        return """{ name = "p%d"; domain = "%s"; bundle = "%s"; revocation = "off"; gateways = [ "spiffe://%s/gateway/dmz1" ];%s }""" % (
            other, self.domain(other), self.path(other, "bundle.pem"), self.domain(other),
            ' %s = [ "%s" ];' % (way, self.address(other)) if dials else "")

    def configure(self, i):
        others = range(1, self.n + 1) if i == 0 else [0]
        with open(self.path(i, "sallyport.conf"), "w") as f:
            f.write("""
domain = "%s"; workers = %d; user_prefix = "61000"; state_dir = "state";
identity = { certificate = "gateway.crt"; key = "gateway.key"; bundle = "bundle.pem"; };
journal = { directory = "journal"; };
control = { socket = "control.sock"; };
limits = { handshakes_per_source = 100000; drain_timeout = "1s"; };
listeners = ( { name = "tunnel"; address = "%s"; accept = [ "peers" ]; } );
peers = ( %s );
""" % (self.domain(i), 2 if i == 0 else 1, self.address(i), ",\n".join(self.peer(i, o) for o in others)))

    def start(self, i):
        log = open(self.path(i, "log"), "ab")
        self.procs[i] = subprocess.Popen([self.daemon, "-f", "-c", self.path(i, "sallyport.conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def stop(self, i, sig=signal.SIGTERM):
        p = self.procs.pop(i)
        p.send_signal(sig)
        try:
            p.wait(30)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()

    def links(self):
        """(peers with a link, links) of the central gateway that are up."""
        p = subprocess.run([self.gwctl, "-s", self.path(0, "control.sock"), "--json", "peers"], capture_output=True)
        try:
            answer = json.loads(p.stdout)
        except ValueError:
            return 0, 0
        found = []

        def walk(v):
            if isinstance(v, dict):
                if v.get("state") == "ready" and "peer" in v:
                    found.append(v["peer"])
                for x in v.values():
                    walk(x)
            elif isinstance(v, list):
                for x in v:
                    walk(x)
        walk(answer)
        return len(set(found)), len(found)

    def wait(self, want, seconds):
        """Seconds until every peer has a link, and until there are so many links; None: not in time."""
        began, first = time.monotonic(), None
        while time.monotonic() - began < seconds:
            peers, links = self.links()
            took = time.monotonic() - began
            if peers == self.n and first is None:
                first = took
            if self.procs[0].poll() is not None:
                with open(self.path(0, "log")) as f:
                    sys.exit("the central gateway ended: " + f.read()[-2000:])
            if first is not None and links >= want:
                return first, took
            time.sleep(0.02)
        return first, None

    def close(self):
        for p in self.procs.values():
            p.terminate()
        for i in list(self.procs):
            self.stop(i)
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("-b", default=os.path.join(os.path.dirname(__file__), "../../build"), metavar="BUILD")
    a.add_argument("-n", type=int, default=100, metavar="PEERS")
    a.add_argument("-r", type=int, default=3, metavar="RESTARTS")
    a.add_argument("--far-dials", action="store_true")
    a.add_argument("--kill", action="store_true", help="the central gateway dies by SIGKILL instead of being stopped")
    o = a.parse_args()
    bed, late = Bed(o.b, o.n, o.far_dials), False
    try:
        for i in range(1, o.n + 1):
            bed.start(i)
            if i % 10 == 0:
                time.sleep(0.5)  # the machine has few cores
        bed.start(0)
        # Two links per worker of ours, whoever dials.
        if bed.wait(2 * 2 * o.n, 120)[1] is None:
            print("not all links came up at first")
        peers, links = bed.links()
        print("%d peers, %d links; each dialled by %s" % (peers, links, "the peer" if o.far_dials else "the central gateway"))
        for r in range(o.r):
            time.sleep(2)
            bed.stop(0, signal.SIGKILL if o.kill else signal.SIGTERM)
            if o.kill:
                time.sleep(0.5)  # its roles end by themselves
            bed.start(0)
            first, last = bed.wait(links, 60)
            late |= first is None or first > LIMIT_S
            print("restart %d: every peer has a link after %s, all %d links after %s" % (
                r + 1, "%.2f s" % first if first else "more than 60 s", links, "%.2f s" % last if last else "more than 60 s"))
    finally:
        bed.close()
    sys.exit(1 if late else 0)


main()
