#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long gwctl pki takes with a CA that has issued many certificates.

    tests/bench/bench_pki.py [-b build] [-n 100000] [-r 0.02] [-k 20]

Makes a CA, writes n entries into its books (r of them revoked), then measures whole commands, from exec to exit.
"""
import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time


def stamp(t):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))


def fill(d, n, revoked, domain="bench.example"):
    """n certificates of n / 4 workloads, as an index has them after 90 days of renewals. Their serial numbers and names."""
    rng, now = random.Random(1), int(time.time())
    with open(d + "/ca/index") as f:
        issuing = [line.split("\t")[1] for line in f if "\tissuing\t" in line][0]
    made = []
    with open(d + "/ca/index", "a") as f:
        for i in range(n):
            serial, name = "%040x" % rng.randrange(1 << 150, 1 << 158), "ns/tax/sa/workload-%d" % (i % max(1, n // 4))
            f.write("issued\t%s\tworkload\t%s\t%s\tspiffe://%s/%s\t%s\ttoken\t-\t%s\n" % (
                serial, stamp(now - 300), stamp(now + 86400 + i % 1000), domain, name, issuing, "a%d.svc.example" % i if i % 3 == 0 else "-"))
            made.append((serial, name))
        for serial, _ in rng.sample(made, int(n * revoked)):
            f.write("revoked\t%s\t%s\tsuperseded\n" % (serial, stamp(now)))
    return made


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-b", default="build")
    p.add_argument("-n", type=int, default=100000)
    p.add_argument("-r", type=float, default=0.02)
    p.add_argument("-k", type=int, default=20)
    o = p.parse_args()
    gwctl = os.path.abspath(o.b + "/gwctl")
    with tempfile.TemporaryDirectory() as t:
        d = t + "/pki"

        def run(*args):
            begin = time.monotonic()
            subprocess.run([gwctl, "-c", t + "/none.conf", "pki"] + list(args) + ["--dir", d], check=True, stdout=subprocess.DEVNULL)
            return 1000 * (time.monotonic() - begin)

        run("init", "bench.example")
        empty = [run("issue", "workload", "e%d" % i, "--out", "%s/e%d" % (t, i)) for i in range(o.k)]
        made = fill(d, o.n, o.r)
        print("%d certificates, %d revoked, index %.1f MB" % (o.n, o.n * o.r, os.path.getsize(d + "/ca/index") / 1e6))
        rows = [("issue, empty CA", empty),
                ("issue", [run("issue", "workload", "w%d" % i, "--out", "%s/w%d" % (t, i)) for i in range(o.k)]),
                ("revoke SERIAL", [run("revoke", made[7 * i][0]) for i in range(o.k)]),
                ("revoke NAME", [run("revoke", made[7 * i + 3][1], "--reason", "keyCompromise") for i in range(o.k)]),
                ("crl", [run("crl") for _ in range(o.k)]),
                ("list", [run("list") for _ in range(3)])]
        for name, ms in rows:
            print("%-16s best %6.1f ms  median %6.1f ms  worst %6.1f ms" % (name, min(ms), statistics.median(ms), max(ms)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
