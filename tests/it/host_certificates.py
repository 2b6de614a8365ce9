"""Holds the policy of examples/fabric/host_certificates.py against certificates that are wrong in one respect each."""

import base64
import os
import subprocess
import tempfile
from types import SimpleNamespace

from host_certificates import HostCertificatePolicy

os.chdir(tempfile.mkdtemp(dir="."))


def keygen(*arguments):
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def public(name):
    with open(f"{name}.pub", encoding="utf-8") as file:
        return file.read().split()[:2]


for key in ("ca", "other", "host"):
    keygen("-t", "ed25519", "-N", "", "-f", key)
keygen("-t", "rsa", "-b", "2048", "-N", "", "-f", "rsa")
with open("known_hosts", "w", encoding="utf-8") as file:
    for authority in ("ca", "rsa"):
        print("@cert-authority proxy.example,*.example,!*.leaf.example", *public(authority), "type=host", file=file)
policy = HostCertificatePolicy("known_hosts")
checked = 0


def blob(kind, text):
    return SimpleNamespace(key_type=kind, key_blob=base64.b64decode(text))


def certificate(*arguments, ca="ca", names="node.example"):
    keygen("-s", ca, "-I", "id", *(["-n", names] if names else []), *arguments, "host.pub")
    return blob(*public("host-cert"))


def check(expected, name, presented):
    global checked
    problem = policy.problem(name, presented)
    assert (expected is None and problem is None) or (expected and problem and expected in problem), (expected, problem)
    checked += 1


check(None, "node.example", certificate("-h"))
check(None, "node.example", certificate("-h", ca="rsa"))
check("trusted authority", "node.example", certificate("-h", ca="other"))
check("trusted authority", "node.leaf.example", certificate("-h", names="node.leaf.example"))
check("not one for hosts", "node.example", certificate())
check("other names", "node.example", certificate("-h", names="other.example"))
check("other names", "node.example", certificate("-h", names=None))
check("expired", "node.example", certificate("-h", "-V", "20200101:20200102"))
changed = certificate("-h")
changed.key_blob = changed.key_blob[:-1] + bytes([changed.key_blob[-1] ^ 1])
check("signature", "node.example", changed)
check("no certificate", "node.example", blob(*public("host")))
print(checked, "certificates")
