"""Machines that are to be born: every kind there is, with keys that are the same in every run."""

from datetime import UTC, datetime

from morpheus.machine.cloudinit import Birth, Resources

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PRIVATE = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz
c2gtZWQyNTUxOQAAACA7aie8zrakLWKjqNAqbw1zZTIVdx3iQ6Y6wEihi1naKQAA
AIgHE2drBxNnawAAAAtzc2gtZWQyNTUxOQAAACA7aie8zrakLWKjqNAqbw1zZTIV
dx3iQ6Y6wEihi1naKQAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
ADtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdopAAAAAAECAwQF
-----END OPENSSH PRIVATE KEY-----
"""
LIMITED = Resources(cpu_quota="200%", memory_high="1.5G", memory_max="2G")


def birth(
    *, nats: bool = True, workload: bool = False, resources: Resources | None = None, port: int = 22
) -> Birth:
    return Birth(
        forest="oak",
        node="oak-node-1",
        created_at=datetime(2026, 8, 1, 12, tzinfo=UTC),
        host_key=PRIVATE,
        host_key_public=PUBLIC,
        authorized_keys=(f"{PUBLIC} forest oak", f"{PUBLIC} operator"),
        provider="hetzner",
        location="fsn1",
        installs_nats=nats,
        installs_workload=workload,
        resources=resources or Resources(),
        ssh_port=port,
    )


BIRTHS = {
    "nats": birth(),
    "workload": birth(workload=True, resources=LIMITED, port=2222),
    "embedded": birth(nats=False, workload=True),
    "bare": birth(nats=False),
}
