"""The tables of a history file, and the statements that write to them."""

APPLICATION = 0x626F7331
"""SQLite's application_id, which marks a file as a history: "bos1" in ASCII."""

VERSION = 5
"""Version 4 had no columns `outcomes` and `stds`. Version 3 also had no tables `queue` and `changes`.
Version 2 also had no column `traceback`. Version 1, of bo_suite 0.8 and before, also had no columns
`transient` and `seal`, and no withdrawn trials."""

WITH_QUEUE = 4
"""First version with the tables `queue` and `changes`."""

_TRIALS = """CREATE TABLE {name} (
        id INTEGER PRIMARY KEY, params TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'failed', 'withdrawn')),
        value REAL CHECK (value IS NULL OR state = 'finished'), std REAL,
        reason TEXT CHECK ((reason IS NOT NULL) = (state IN ('failed', 'withdrawn'))),
        attempt INTEGER NOT NULL, asked INTEGER NOT NULL, provenance TEXT NOT NULL,
        started REAL NOT NULL, ended REAL, owner TEXT NOT NULL, revision INTEGER NOT NULL,
        transient INTEGER NOT NULL,
        traceback TEXT CHECK (traceback IS NULL OR state = 'failed'), outcomes TEXT, stds TEXT,
        seal TEXT NOT NULL,
        CHECK ((value IS NOT NULL OR outcomes IS NOT NULL) = (state = 'finished')))"""
_INDEX = "CREATE INDEX trials_revision ON trials (revision)"
_PUT = f"REPLACE INTO {{name}} VALUES ({', '.join('?' * 18)})"

_ASIDE = (
    """CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY AUTOINCREMENT, params TEXT NOT NULL,
        seal TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, trial INTEGER, action TEXT NOT NULL,
        author TEXT NOT NULL, made REAL NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
        seal TEXT NOT NULL)""",
)

TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    _TRIALS.format(name="trials"),
    _INDEX,
    *_ASIDE,
)
PUT = _PUT.format(name="trials")

BEGIN_MIGRATION = _TRIALS.format(name="trials_new")
PUT_MIGRATED = _PUT.format(name="trials_new")
END_MIGRATION = ("DROP TABLE trials", "ALTER TABLE trials_new RENAME TO trials", _INDEX, *_ASIDE)
