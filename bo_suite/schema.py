"""The tables of a history file, and the statements that write to them."""

APPLICATION = 0x626F7331
"""SQLite's application_id: "bos1" in ASCII marks a file as ours."""

VERSION = 1

TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE trials (
        id INTEGER PRIMARY KEY, params TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'failed')),
        value REAL CHECK ((value IS NOT NULL) = (state = 'finished')), std REAL,
        reason TEXT CHECK ((reason IS NOT NULL) = (state = 'failed')),
        attempt INTEGER NOT NULL, asked INTEGER NOT NULL, provenance TEXT NOT NULL,
        started REAL NOT NULL, ended REAL, owner TEXT NOT NULL, revision INTEGER NOT NULL)""",
    "CREATE INDEX trials_revision ON trials (revision)",
)
INSERT = "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
END = """UPDATE trials SET state = ?, value = ?, std = ?, reason = ?, ended = ?, revision = ?
    WHERE id = ? AND attempt = ? AND state = 'running'"""
TAKE_OVER = """UPDATE trials SET attempt = attempt + 1, started = ?, owner = ?, revision = ?
    WHERE id = ? AND state = 'running'"""
