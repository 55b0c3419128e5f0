# SPDX-License-Identifier: Apache-2.0
"""README.md's "Pair two domains in five minutes", each of its lines run as it is written, on two hosts.

A host here is a network namespace with a file system of its own: the machine's, with everything that is written kept apart and thrown
away (overlayfs), so that make install, /etc/sallyport and the users are those of the text. Three things are brought along: "systemctl" for a host without systemd, which
does what the installed unit says; the mail, which carries the two files; and the phone, by which each operator hears the other's code.
"""
import json
import os
import re
import signal
import subprocess

import pytest

from bed.gateway import BUILD, ROOT, SLOW, wait

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

SYSTEMCTL = r"""#!/bin/bash
# What "systemctl enable --now sallyportd" comes to, by the unit that make install put there.
set -eu
unit=$(cat /usr/lib/systemd/system/sallyportd.service)
[ "$*" = "enable --now sallyportd" ] || { echo "systemctl $*: not here" >&2; exit 1; }
pre=$(sed -n 's/^ExecStartPre=//p' <<<"$unit") start=$(sed -n 's/^ExecStart=//p' <<<"$unit")
$pre
setsid $start </dev/null >/var/log/sallyportd.log 2>&1 &
for _ in $(seq 200); do
	gwctl --json status 2>/dev/null | grep -q '"role": "worker"' && exit 0
	sleep 0.1
done
cat /var/log/sallyportd.log >&2
exit 1
"""

SETUP = r"""
set -eu
mount -t tmpfs -o mode=755 none "$1"
cd "$1"
mkdir up work root src-up src-work
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" root
for d in proc sys dev; do mount --rbind /$d root/$d; done
mount -t tmpfs -o mode=755 none root/run
mount -t tmpfs -o mode=1777 none root/tmp
# The source may be on a file system of its own, or in /tmp, which the ones above do not show.
mkdir -p "root$2"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/src-up,workdir=$1/src-work" "root$2"
# A machine that has Sallyport already begins anew.
rm -rf root/etc/sallyport root/var/lib/sallyport
mkdir -p root/root/pairing root/usr/local/bin
cat >root/usr/local/bin/systemctl
chmod 755 root/usr/local/bin/systemctl
exec chroot root /bin/sh -c 'echo ready; exec sleep infinity'
"""


class Host:
    def __init__(self, ns, name, folder):
        self.ns, self.name = ns, name
        os.makedirs(folder)
        self.holder = ns.popen(["unshare", "--mount", "--propagation", "private", "bash", "-c", SETUP, "setup", folder, ROOT],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.holder.stdin.write(SYSTEMCTL.encode())
        self.holder.stdin.close()
        if self.holder.stdout.readline() != b"ready\n":
            why = self.holder.stderr.read().decode()
            if "mount:" in why or "propagation" in why:
                pytest.skip("no overlay file system here, or no root of mounts (a bare chroot): " + why.strip())
            raise AssertionError(why)
        self.root = "/proc/%d/root" % self.holder.pid

    def run(self, script, typed="", folder="/root/pairing", check=True):
        env = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root", "LANG": "C.UTF-8", "DEPS": "no"}
        if "san" in os.path.basename(BUILD):  # the build that is being tested
            env["SAN"] = "address,undefined"
        pid = str(self.holder.pid)
        p = self.ns.run("nsenter", "-t", pid, "-m", "-r", "--wd=" + self.root + folder, "bash", "-euo", "pipefail", "-c", script, check=False,
                        input=typed.encode(), timeout=300 * SLOW, env=env)
        out = p.stdout.decode(errors="replace")
        if check:
            assert p.returncode == 0, "on %s: %d\n%s\n--- out\n%s\n--- err\n%s" % (self.name, p.returncode, script, out, p.stderr.decode(errors="replace"))
        return out

    def path(self, file):
        return "%s/root/pairing/%s" % (self.root, file)

    def processes(self):
        """What runs in this host's mount namespace, but for the holder."""
        mine, out = os.readlink("/proc/%d/ns/mnt" % self.holder.pid), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink("/proc/%s/ns/mnt" % pid) == mine and int(pid) != self.holder.pid:
                    out.append(int(pid))
            except OSError:
                continue
        return out

    def close(self):
        for sig in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.processes():
                try:
                    os.kill(pid, sig)
                except ProcessLookupError:
                    pass
            try:
                wait("the host's processes to end", lambda: not self.processes(), 10)
                break
            except AssertionError:
                continue
        self.holder.kill()
        self.holder.wait()


def section():
    """(host, script) of each block of the section, in its order; a block's first line says whose it is."""
    with open(ROOT + "/README.md", encoding="utf-8") as f:
        text = f.read()
    part = text.split("## Pair two domains in five minutes\n", 1)[1].split("\n## ", 1)[0]
    out = []
    for indent, block in re.findall(r"^( *)```sh\n(.*?)^\1```$", part, re.S | re.M):
        lines = [line[len(indent):] for line in block.splitlines()]
        assert lines[0] in ("# both", "# hud", "# irs"), lines[0]
        out.append((lines[0][2:], "\n".join(lines[1:]) + "\n"))
    return out


@pytest.mark.limit(400)
def test_as_written(world, nginx, folder):
    """A call crosses, and both books have it."""
    world.open(("hud", "irs"))
    blocks = section()
    assert len(blocks) >= 12
    base = folder()
    hosts = {"hud": Host(world.hud, "hud", base + "/hud"), "irs": Host(world.irs, "irs", base + "/irs")}
    codes, called = {}, []
    before = len(nginx.requests())
    try:
        for who, script in blocks:
            for name in ("hud", "irs") if who == "both" else (who,):
                host, other = hosts[name], hosts["irs" if name == "hud" else "hud"]
                typed = ""
                if "pair accept" in script:
                    file = re.search(r"pair accept (\S+)", script).group(1)
                    with open(other.path(file), "rb") as f, open(host.path(file), "wb") as g:  # the mail
                        g.write(f.read())
                    typed = codes[file] + "\n"  # the phone
                if script.startswith("curl"):
                    # Both are up; a link takes a moment.
                    wait("a link", lambda: '"up"' in hosts["hud"].run("gwctl --json peers") or '"ready"' in hosts["hud"].run("gwctl --json peers"), 10, 0.1)
                out = host.run(script, typed, ROOT if script.startswith("make\n") else "/root/pairing")
                m = re.search(r"pair export .*--out (\S+)", script)
                if m:
                    codes[m.group(1)] = re.search(r"code +([0-9-]{35})", out).group(1)
                if script.startswith("curl"):
                    called.append(out)
                if "audit tail" in script:
                    assert "spiffe://hud.example/permit-svc" in out and "permits-look-up-taxes" in out, out
        assert called == ["nginx GET /v1/taxes/7\n"]
        served = nginx.requests()[before:]
        assert len(served) == 1 and "|spiffe://hud.example/permit-svc|" in served[0]
        # And what no rule allows does not.
        no = hosts["hud"].run("curl -s -o /dev/null -w '%{http_code}' --cacert /etc/sallyport/pki/hud.example.pem --cert permit-svc.crt --key permit-svc.key "
                              "--resolve tax.irs.example:443:10.1.0.10 https://tax.irs.example/v1/other")
        assert no == "403"
        for name in hosts:
            uids = {r["role"]: r["uid"] for r in json.loads(hosts[name].run("gwctl --json status"))["roles"]}
            for role in ("keys", "journal", "control", "worker"):  # the users that systemd-sysusers made
                assert uids[role] == int(hosts[name].run("id -u sallyport-" + role)), (role, uids)
    finally:
        for h in hosts.values():
            h.close()
