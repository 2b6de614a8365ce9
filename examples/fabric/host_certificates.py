"""Strict host checking for Fabric and Paramiko, by the cluster's host CA.

Paramiko cannot read the `@cert-authority` lines of known_hosts, does not request the certificate of a host that also has
a plain key, and cannot read a key in PKCS#8. This file does the three things. It needs cryptography 40 or newer.
"""

import base64
import fnmatch
import io
import time

import fabric
import paramiko
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_pem_private_key,
    load_ssh_public_identity,
)


class CertificateTransport(paramiko.Transport):
    """Accepts only host keys that are certificates."""

    @property
    def preferred_keys(self):
        return tuple(name for name in super().preferred_keys if "-cert-" in name)


class HostCertificatePolicy(paramiko.MissingHostKeyPolicy):
    """Accepts a host whose certificate an authority of known_hosts has signed for its name, and no other host."""

    def __init__(self, known_hosts):
        with open(known_hosts, encoding="utf-8") as lines:
            lines = [line.split() for line in lines if line.startswith("@cert-authority ")]
        self.authorities = [(patterns.split(","), f"{kind} {key}") for _, patterns, kind, key, *_ in lines]

    def missing_host_key(self, client, hostname, key):
        # Paramiko writes `[name]:port` if the port is not 22.
        name = hostname.removeprefix("[").partition("]:")[0].lower()
        problem = self.problem(name, key.public_blob)
        if problem:
            raise paramiko.SSHException(f"the host {name} is refused: {problem}")

    def problem(self, name, blob):
        if blob is None:
            return "it has no certificate"
        line = f"{blob.key_type} {base64.b64encode(blob.key_blob).decode()}"
        certificate = load_ssh_public_identity(line.encode())
        if not isinstance(certificate, SSHCertificate):
            return "it has no certificate"
        try:
            certificate.verify_cert_signature()
        except InvalidSignature:
            return "the signature of its certificate is wrong"
        signer = certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        if signer not in self.trusted(name):
            return "its certificate is not signed by a trusted authority"
        if certificate.type != SSHCertificateType.HOST or certificate.critical_options:
            return "its certificate is not one for hosts"
        if name.encode() not in certificate.valid_principals:
            return "its certificate is for other names"
        if not certificate.valid_after <= time.time() < certificate.valid_before:
            return "its certificate has expired, or is not valid yet"
        return None

    def trusted(self, name):
        """The authorities for a name. A pattern that begins with `!` excludes it."""
        for patterns, authority in self.authorities:
            matching = [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern.lstrip("!").lower())]
            if matching and not any(pattern.startswith("!") for pattern in matching):
                yield authority


def load_key(directory):
    """The private key with its certificate."""
    with open(f"{directory}/key", "rb") as file:
        pem = load_pem_private_key(file.read(), None).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with open(f"{directory}/key-cert.pub", encoding="utf-8") as file:
        key_class = paramiko.RSAKey if file.read().startswith("ssh-rsa") else paramiko.ECDSAKey
    key = key_class.from_private_key(io.StringIO(pem.decode()))
    key.load_certificate(f"{directory}/key-cert.pub")
    return key


def connect_options(directory):
    """More arguments for paramiko.SSHClient.connect."""
    return {
        "pkey": load_key(directory),
        "allow_agent": False,
        "look_for_keys": False,
        "transport_factory": CertificateTransport,
    }


def connection(host, user, directory="./tbot-user"):
    """A connection of Fabric, which would otherwise accept every host: its own policy is AutoAddPolicy."""
    ssh_config = paramiko.SSHConfig.from_path(f"{directory}/ssh_config")
    config = fabric.Config(ssh_config=ssh_config)
    result = fabric.Connection(host, user=user, config=config, connect_kwargs=connect_options(directory))
    result.client.set_missing_host_key_policy(HostCertificatePolicy(f"{directory}/known_hosts"))
    return result
