"""The tables of a history, and the statements that write to them; `{real}` is a type of an engine."""

from bo_suite.storage.rows import Row

APPLICATION = 0x626F7331
"""SQLite's application_id, which marks a file as a history: "bos1" in ASCII."""

VERSION = 7
"""Version 6 had no columns `gradient` and `params_std`. Version 5 also had no table `reports`, no column
`spent`, and no stopped or paused trials. Version 4 also had no columns `outcomes` and `stds`. Version 3 also
had no tables `queue` and `changes`. Version 2 also had no column `traceback`. Version 1, of bo_suite 0.8 and
before, also had no columns `transient` and `seal`, and no withdrawn trials."""

WITH_QUEUE = 4
"""First version with the tables `queue` and `changes`."""

WITH_REPORTS = 6
"""First version with the table `reports`."""

_TRIALS = """CREATE TABLE {name} (
        id {{integer}} PRIMARY KEY, params TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('running', 'finished', 'failed', 'withdrawn', 'stopped', 'paused')),
        value {{real}} CHECK (value IS NULL OR state IN ('finished', 'stopped', 'paused')), std {{real}},
        reason TEXT CHECK ((reason IS NOT NULL) = (state IN ('failed', 'withdrawn'))),
        attempt {{integer}} NOT NULL, asked {{integer}} NOT NULL, provenance TEXT NOT NULL,
        started {{real}} NOT NULL, ended {{real}}, owner TEXT NOT NULL, revision {{integer}} NOT NULL,
        transient {{integer}} NOT NULL,
        traceback TEXT CHECK (traceback IS NULL OR state = 'failed'), outcomes TEXT, stds TEXT,
        spent {{real}} NOT NULL,
        gradient TEXT CHECK (gradient IS NULL OR (state = 'finished' AND value IS NOT NULL)),
        params_std TEXT CHECK (params_std IS NULL OR state = 'finished'), seal TEXT NOT NULL,
        CHECK ((value IS NOT NULL OR outcomes IS NOT NULL) = (state IN ('finished', 'stopped', 'paused'))))"""
_INDEX = "CREATE INDEX trials_revision ON trials (revision)"

LEASES = """CREATE TABLE IF NOT EXISTS leases (owner TEXT PRIMARY KEY, worker TEXT NOT NULL,
        started {real} NOT NULL, renewed {real} NOT NULL, expires {real})"""
"""The leases of those who evaluate; files that were made before there were leases get the table later."""

_ASIDE = (
    """CREATE TABLE IF NOT EXISTS queue (id {counter}, params TEXT NOT NULL, seal TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS changes (id {integer} PRIMARY KEY, trial {integer}, action TEXT NOT NULL,
        author TEXT NOT NULL, made {real} NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
        seal TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS reports (trial {integer} NOT NULL, step {integer} NOT NULL,
        value {real} NOT NULL, seconds {real} NOT NULL, attempt {integer} NOT NULL,
        verdict TEXT CHECK (verdict IN ('continue', 'stop', 'pause')), revision {integer} NOT NULL,
        seal TEXT NOT NULL, PRIMARY KEY (trial, step))""",
    "CREATE INDEX IF NOT EXISTS reports_revision ON reports (revision)",
)

TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    _TRIALS.format(name="trials"),
    _INDEX,
    *_ASIDE,
    LEASES,
)

_COLUMNS = (*Row._fields, "seal")
_INSERT = f"INSERT INTO {{name}} ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"

PUT = f"{_INSERT.format(name='trials')} ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _COLUMNS[1:]
)
_REPORT = ("trial", "step", "value", "seconds", "attempt", "verdict", "revision", "seal")
PUT_REPORT = (
    f"INSERT INTO reports ({', '.join(_REPORT)}) VALUES ({', '.join('?' * len(_REPORT))}) "
    "ON CONFLICT (trial, step) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in _REPORT[2:])
)
PUT_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

BEGIN_MIGRATION = _TRIALS.format(name="trials_new")
PUT_MIGRATED = _INSERT.format(name="trials_new")
END_MIGRATION = ("DROP TABLE trials", "ALTER TABLE trials_new RENAME TO trials", _INDEX, *_ASIDE, LEASES)
