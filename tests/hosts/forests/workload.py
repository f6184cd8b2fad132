"""A workload as an operator may bring one: one file that a node's own python3 runs, with nats-py in it.

It knows NATS_URL and nothing else. Each time it begins it says so in a stream of its own, named after its
machine, and then it waits for the end.
"""

import shutil
import zipapp
from pathlib import Path

import nats

PROGRAM = """\
import asyncio, os, socket
import nats, nats.errors

async def again(ask):
    # In the first moments of a cluster or a stream, what is asked may be refused or get no answer.
    for _ in range(200):
        try:
            return await ask()
        except nats.errors.Error:
            await asyncio.sleep(0.1)
    return await ask()

async def main():
    name = "WORK-" + socket.gethostname()
    client = await nats.connect(os.environ["NATS_URL"])
    stream = client.jetstream(timeout=2)
    await again(lambda: stream.add_stream(name=name, subjects=[name]))
    await again(lambda: stream.publish(name, b"begun"))
    await asyncio.Event().wait()

asyncio.run(main())
"""


def workload(folder: Path) -> Path:
    """The program, as a file in *folder*."""
    source = folder / "workload"
    shutil.copytree(Path(nats.__file__).parent, source / "nats", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "__main__.py").write_text(PROGRAM, encoding="utf-8")
    made = folder / "workload.pyz"
    zipapp.create_archive(source, made, interpreter="/usr/bin/python3", compressed=True)
    shutil.rmtree(source)
    made.chmod(0o755)
    return made
