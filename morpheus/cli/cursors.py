"""Prefect's server as a program whose database is never locked by what nobody reads any more.

A request that ends early (its client gave up, or was killed) leaves the cursor with which it wrote to the
garbage collector, and with it SQLite's one lock for writers; every other write waits for that, up to a minute
long, and so does the flow that needs it. sqlite3 does not close it when its connection is rolled back or
closed (since Python 3.11), so this connection does. Seen with Prefect 3.8, SQLAlchemy 2.0, aiosqlite 0.22.
"""

import sqlite3
import weakref
from typing import Any

import sqlalchemy


class Connection(sqlite3.Connection):
    """One whose cursors end with their transaction, or with it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        cursor = super().cursor(*arguments, **options)
        self._cursors.add(cursor)
        return cursor

    def rollback(self) -> None:
        self._close_cursors()
        super().rollback()

    def close(self) -> None:
        self._close_cursors()
        super().close()

    def _close_cursors(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()


def close_with_connections() -> None:
    """From now on every connection that SQLAlchemy opens in this process is such a one."""
    sqlalchemy.event.listen(sqlalchemy.Engine, "do_connect", _choose)


def _choose(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
    del record, arguments
    if dialect.name == "sqlite":
        options["factory"] = Connection


def main() -> None:
    """Prefect's own command line, with the words of this process."""
    close_with_connections()
    from prefect.cli import app  # noqa: PLC0415  # only in the program

    app()


if __name__ == "__main__":
    main()
