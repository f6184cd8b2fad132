"""What a request leaves behind half done is found although nobody looks for it."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, sqlite3, sys
gc.disable()  # so that it is the thread alone that finds it
if sys.argv[2] == "often":
    from morpheus.cli import collecting
    collecting.EVERY = 0.05
    collecting.collect_often()

def connect():
    patience = 30 if sys.argv[2] == "often" else 1  # seconds
    return sqlite3.connect(sys.argv[1], isolation_level=None, timeout=patience, check_same_thread=False)

def leave_half_done():
    mine = {"cursor": connect().execute("INSERT INTO notes VALUES (1), (2) RETURNING number")}
    mine["self"] = mine

other = connect()
other.execute("CREATE TABLE notes (number)")
leave_half_done()
try:
    other.execute("INSERT INTO notes VALUES (3)")
    print("written")
except sqlite3.OperationalError as error:
    print(error)
"""


def outcome(database: Path, how: str) -> str:
    argv = [sys.executable, "-c", PROGRAM, str(database), how]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_cursor_that_was_forgotten_while_it_wrote_locks_out_the_others(tmp_path: Path) -> None:
    assert outcome(tmp_path / "without.db", "never") == "database is locked"


def test_where_it_is_looked_for_often_the_others_write_soon(tmp_path: Path) -> None:
    assert outcome(tmp_path / "with.db", "often") == "written"


MAKING = """
import gc, time
from morpheus.cli import collecting

gc.freeze = lambda: None  # as when much is loaded between two looks
loaded = [[] for _ in range(300_000)]
collecting.EVERY = 0
collecting.collect_often()
end = time.monotonic() + 3
while time.monotonic() < end:
    tuple(each for each in range(200))  # which is made longer on the way, and must be nobody else's meanwhile
print("made")
"""


def test_what_other_threads_are_making_is_not_touched() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAKING], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "made\n", done.stderr


HELD = """
import gc, time, weakref
from morpheus.cli import collecting

class Cursor:
    pass

def wait_for(what):
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)

gc.disable()
collecting.EVERY, collecting.ALL = 0.02, 20
collecting.collect_often()
loaded = [[] for _ in range(500_000)]  # in the middle of its life, as a server does
cursor = Cursor()
cursor.itself, gone = cursor, weakref.ref(cursor)
wait_for(lambda: len(gc.get_objects()) < 5_000)
print("set aside")
del cursor
wait_for(lambda: gone() is None)
print("found")
"""


def test_what_is_alive_is_set_aside_and_found_all_the_same_once_it_is_forgotten() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.split("\n")[:2] == ["set aside", "found"], done.stderr
