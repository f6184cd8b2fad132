"""What a request that ends early leaves behind locks nobody out of Prefect's database."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, for it collects no garbage and changes what SQLAlchemy does. Requests are cancelled
# at every point of their writing; what they leave is kept alive by their errors.
PROGRAM = """
import asyncio, contextlib, gc, sqlite3, sys
import sqlalchemy
from prefect.server.database.configurations import AioSqliteConfiguration
from morpheus.cli import cursors

path, how = sys.argv[1:]
if how == "closed":
    cursors.close_with_connections()
gc.disable()
INSERT = sqlalchemy.text("INSERT INTO notes VALUES (1), (2), (3) RETURNING number")
kept = []

async def request(database):
    session = await database.session(await database.engine())
    async with session, database.begin_transaction(session):
        for _ in range(3):
            await session.execute(INSERT)

async def is_locked(database, steps, pause):
    task = asyncio.create_task(request(database))
    for _ in range(steps):
        await asyncio.sleep(0)
    await asyncio.sleep(pause)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as error:
        kept.append(error)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0.5)) as other:
        try:
            other.execute("INSERT INTO notes VALUES (4)")
        except sqlite3.OperationalError:
            return True
    return False

async def main():
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE notes (number)")
    database = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{path}")
    for tried in range(400):
        if await is_locked(database, tried % 40, tried // 40 * 0.0002):
            return "locked"
    return f"free {len(kept) > 100}"

print(asyncio.run(main()), flush=True)
sys.stdout.close()
__import__("os")._exit(0)
"""


@pytest.mark.parametrize(("how", "outcome"), [("left", "locked"), ("closed", "free True")])
def test_a_request_that_ends_while_it_writes_leaves_no_lock(tmp_path: Path, how: str, outcome: str) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path / "notes.db"), how]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)

    assert done.stdout.strip() == outcome, done.stderr[-2000:]
