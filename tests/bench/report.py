#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""report.py RESULTS.jsonl - the benchmark's table: medians over rounds, in Markdown.

CPU is of all processes of both gateways, per request or per GiB; "x http" and "x any" are our figure (or a peer's) over that of
the best peer of its kind: below 1 is better. The figure after the sign +- is half the range over the rounds, in percent.
"""
import json
import sys
from collections import defaultdict
from statistics import median

OURS = "sallyport"
TITLES = {
    "c1": "keep-alive requests, 1 connection",
    "c64": "keep-alive requests, 64 connections",
    "c256": "keep-alive requests, 256 connections",
    "open2k": "2,000 requests/s on a schedule, 64 connections",
    "close": "a connection per request, 32 at a time",
    "down1": "1 GiB down, 1 stream", "down8": "1 GiB down, 8 streams",
    "up1": "1 GiB up, 1 stream", "up8": "1 GiB up, 8 streams",
    "idle": "idle client connections", "idletls": "idle client connections, mutual TLS",
}


def cpu(row):
    """CPU of both gateways per request (us) or per GiB (s)."""
    both = row["cpu_a"] + row["cpu_b"]
    return both / row["gib"] if "gib" in row else both / row["ok"] * 1e6


def spread(values):
    if len(values) < 2 or not median(values):
        return ""
    return " ±%.0f %%" % ((max(values) - min(values)) / 2 / median(values) * 100)


def ratio(value, others):
    return "%.2f" % (value / min(others)) if others else "-"


def main():
    rows, kinds, faults = defaultdict(list), {}, []
    for line in open(sys.argv[1]):
        row = json.loads(line)
        kinds[row["peer"]] = row["kind"]
        if row["err"] or not row["ok"]:
            faults.append(row)
        if row["ok"] and row["err"] * 1000 <= row["ok"]:
            rows[row["work"], row["peer"]].append(row)
    summary = []
    for work, title in TITLES.items():
        peers = [p for p in kinds if (work, p) in rows]
        if not peers:
            continue
        print("\n### %s: %s\n" % (work, title))
        if work.startswith("idle"):
            print("| pair | connections | RSS each in A | in B | RSS of A, B before | CPU while idle |\n|---|---|---|---|---|---|")
            for p in peers:
                r = rows[work, p]
                m = lambda f: median(map(f, r))
                print("| %s | %d | %d | %d | %.1f, %.1f MiB | %.2f %% |" % (
                    p, m(lambda x: x["ok"]), m(lambda x: x["a_each"]), m(lambda x: x["b_each"]), m(lambda x: x["a_rss"]) / 2**20,
                    m(lambda x: x["b_rss"]) / 2**20, m(lambda x: (x["cpu_a"] + x["cpu_b"]) / x["secs"] * 100)))
            continue
        bulk = work[:2] in ("do", "up")
        print("| pair | %s | CPU %s A+B | A | B | x http | x any | %s |" % (
            ("Gbit/s", "s/GiB", "cores busy") if bulk else ("requests/s", "µs", "p50, p99 µs")))
        print("|---" * 8 + "|")
        cost = {p: median(map(cpu, rows[work, p])) for p in peers}
        http = [cost[p] for p in peers if p != OURS and kinds[p] == "http"]
        every = [cost[p] for p in peers if p != OURS]
        unit = 1.0 if bulk else 1e6
        for p in sorted(peers, key=cost.get):
            r = rows[work, p]
            m = lambda f: median(map(f, r))
            per = (lambda x: x["gib"]) if bulk else (lambda x: x["ok"])
            rate = m(lambda x: (x["gib"] * 8.589934592 if bulk else x["ok"]) / x["secs"])
            tail = ("%.2f" % m(lambda x: (x["cpu_a"] + x["cpu_b"] + x["cpu_load"] + x["cpu_origin"]) / x["secs"]) if bulk
                    else "%.0f, %.0f" % (m(lambda x: x["p50"]), m(lambda x: x["p99"])))
            digits = "%.2f" if bulk else "%.1f"
            print("| %s | %s | %s%s | %s | %s | %s | %s | %s |" % (
                "**%s**" % p if p == OURS else p, ("%.2f" if bulk else "%.0f") % rate, digits % cost[p], spread([cpu(x) for x in r]),
                digits % m(lambda x: x["cpu_a"] / per(x) * unit), digits % m(lambda x: x["cpu_b"] / per(x) * unit),
                ratio(cost[p], http), ratio(cost[p], every), tail))
        if OURS in cost and every:
            p99 = {p: median([x["p99"] for x in rows[work, p]]) for p in peers}
            others = [p99[p] for p in peers if p != OURS and kinds[p] == "http"]
            summary.append("| %s | %.2f | %s | %s | %s |" % (
                work, cost[OURS], ratio(cost[OURS], http), ratio(cost[OURS], every), "-" if bulk else ratio(p99[OURS], others)))
    if summary:
        print("\n### Ours over the best peer (CPU of both gateways; below 1 is better)\n")
        print("| workload | ours, µs or s/GiB | best HTTP peer | best of any kind | p99 over the best HTTP peer's |\n|---|---|---|---|---|")
        print("\n".join(summary))
    for row in faults[:30]:
        print("\n! %s %s round %d: %d good, %d bad: %s" % (row["peer"], row["work"], row["round"], row["ok"], row["err"], row["why"]))


main()
