"""The tables of a history file, the statements that write to them, and what SQLite may refuse."""

import sqlite3

from bo_suite.values.describe import plain_text

APPLICATION = 0x626F7331
"""SQLite's application_id: "bos1" in ASCII marks a file as ours."""

VERSION = 3
"""Version 2 had no column `traceback`; version 1, of bo_suite 0.8 and before, neither that nor `transient`
and `seal`, and no withdrawn trials."""

_TRIALS = """CREATE TABLE {name} (
        id INTEGER PRIMARY KEY, params TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'failed', 'withdrawn')),
        value REAL CHECK ((value IS NOT NULL) = (state = 'finished')), std REAL,
        reason TEXT CHECK ((reason IS NOT NULL) = (state IN ('failed', 'withdrawn'))),
        attempt INTEGER NOT NULL, asked INTEGER NOT NULL, provenance TEXT NOT NULL,
        started REAL NOT NULL, ended REAL, owner TEXT NOT NULL, revision INTEGER NOT NULL,
        transient INTEGER NOT NULL,
        traceback TEXT CHECK (traceback IS NULL OR state = 'failed'), seal TEXT NOT NULL)"""
_INDEX = "CREATE INDEX trials_revision ON trials (revision)"
_PUT = "REPLACE INTO {name} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    _TRIALS.format(name="trials"),
    _INDEX,
)
PUT = _PUT.format(name="trials")

BEGIN_MIGRATION = _TRIALS.format(name="trials_new")
PUT_MIGRATED = _PUT.format(name="trials_new")
END_MIGRATION = ("DROP TABLE trials", "ALTER TABLE trials_new RENAME TO trials", _INDEX)

PATIENCE = 60.0
"""Seconds to wait for other processes' transactions, which take milliseconds."""

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
BARRED_CODES = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
BARRED = "the storage and its folder must be writable"
LAWS = {
    sqlite3.SQLITE_FULL: "the disk must have room for the history (the change was undone)",
    sqlite3.SQLITE_IOERR: "the disk must take what is written (is it full? the change was undone)",
    **dict.fromkeys(BARRED_CODES, BARRED),
    sqlite3.SQLITE_NOTADB: "the storage must be a history of bo_suite",
    sqlite3.SQLITE_CORRUPT: "the storage must be intact (SQLite's `.recover` may save its rows)",
    **dict.fromkeys(BUSY, f"other processes must leave the storage free for a moment in {PATIENCE:.0f} s"),
}
"""What must hold, by SQLite's error code."""


def storable(text: object) -> str:
    """The text as it is stored: what is too long is cut, and a lone surrogate, which is no UTF-8, escaped."""
    return plain_text(text)
