"""The running trials that one `History` holds: its name, its lease, and what others have abandoned.

A running trial belongs to the history that handed it out, its owner, while the owner renews its lease, which
a thread does. Of a file, an owner is also dead if its process on this host is gone (or its process id now
belongs to a process with another start time), or if it is a closed or collected history of this process; and
a process on this host that is alive and was not stopped keeps its trials, even if it cannot renew. Trials
that are held stay with their owner whatever becomes of it.
"""

import os
import weakref
from collections.abc import Sequence
from dataclasses import replace

from bo_suite.storage import leases
from bo_suite.storage.addresses import Lease
from bo_suite.storage.rows import Row
from bo_suite.storage.table import TrialTable
from bo_suite.storage.trial import Trial
from bo_suite.system.owners import new_owner

_opened: "weakref.WeakSet[Holding]" = weakref.WeakSet()


class Holding:
    """What one history holds.

    Args:
        table: the tables of the history.
        lease: for how long its trials stay with it when it is silent.
    """

    def __init__(self, table: TrialTable, lease: Lease) -> None:
        self._table, self._lease = table, lease
        self._owner = (os.getpid(), new_owner())
        self._handed: dict[int, int] = {}  # attempts of trials that have not ended here
        self._heartbeat = leases.Heartbeat(self.renew, lease.heartbeat)
        _opened.add(self)

    @property
    def owner(self) -> str:
        """Name of the owner; a forked child has another one, and holds nothing."""
        if self._owner[0] != os.getpid():
            self._owner, self._handed = (os.getpid(), new_owner()), {}
        return self._owner[1]

    def attempt(self, number: int) -> int | None:
        """The attempt of a trial that was handed out here; None for another one."""
        return self._handed.get(number)

    def begin(self) -> None:
        """Begins or renews the lease, within a transaction."""
        leases.renew(self._table.database, self.owner, self._lease)

    def add(self, trials: Sequence[Trial]) -> None:
        """Renews the lease from now on while these trials run."""
        self._handed |= {trial.id: trial.attempt for trial in trials}
        if trials and self._table.database.shared:
            self._heartbeat.start()

    def remove(self, number: int) -> None:
        """Forgets a trial that has ended."""
        self._handed.pop(number, None)

    def keep(self) -> None:
        """Makes a lease without end, and takes another name, so that later trials have another lease."""
        with self._table.database.session():
            self._table.stored(lambda: leases.renew(self._table.database, self.owner, None))
            self._owner = (os.getpid(), new_owner())

    def renew(self) -> bool:
        """Renews the lease; returns False if nothing runs here any more."""
        database = self._table.database
        if database.closed:
            return False
        running = [trial for trial in self._table.trials() if trial.state == "running"]
        holds = any(self._handed.get(trial.id) == trial.attempt for trial in running)
        if holds:
            now = database.now()
            database.aside(leases.EXTEND, (now, now + self._lease.seconds, self.owner))
        return holds

    def abandoned(self) -> list[Row]:
        """The running rows whose owner is dead, or whose lease has expired."""
        running = self._table.rows("WHERE state = 'running' ORDER BY id")
        if not running:
            return []
        gone = self._gone({row.owner for row in running})
        return [row for row in running if row.owner in gone]

    def holders(self) -> list[leases.Holder]:
        """All who hold running trials, with these, and those whose lease has not expired without one."""
        running: dict[str, list[Row]] = {}
        for row in self._table.rows("WHERE state = 'running' ORDER BY id"):
            running.setdefault(row.owner, []).append(row)
        present = leases.holders(self._table.database) if self._table.has_leases else []
        gone = self._gone({*running, *(holder.owner for holder in present)})
        known = [
            one for one in present if one.owner in running or not (one.expires is None or one.owner in gone)
        ]
        without = running.keys() - {holder.owner for holder in known}
        for owner in sorted(without, key=lambda owner: running[owner][0].id):
            began = min(row.started for row in running[owner])
            known.append(leases.Holder(owner, "", began, began, None))
        return [
            replace(
                one, trials=tuple(row.id for row in running.get(one.owner, ())), abandoned=one.owner in gone
            )
            for one in known
        ]

    def _gone(self, owners: set[str]) -> set[str]:
        """Those of some owners that are dead, or whose leases have expired."""
        open_owners = {holding.owner for holding in list(_opened)}
        leased = self._table.has_leases
        return leases.gone_owners(self._table.database, owners, open_owners, leased=leased)

    def take(self, most: int | None, attempts: int | None) -> list[Trial]:
        """Takes over at most so many abandoned rows, within a transaction; fails those without an attempt."""
        table, taken = self._table, list[Row]()
        now, revision = table.database.now(), table.next_revision()
        for row in self.abandoned():
            pauses = sum(report.verdict == "pause" for report in table.reports.of(row.id))
            if attempts is not None and row.attempt - pauses >= attempts:
                table.put(
                    row, state="failed", reason=leases.USED_UP.format(attempts), ended=now, revision=revision
                )
            elif most is None or len(taken) < most:
                taken.append(self.handed_out(row))
        if taken:
            self.begin()
        leases.drop_unused(table.database)
        return [table.trial_of(row) for row in taken]

    def handed_out(self, row: Row) -> Row:
        """Writes a row as running here in another attempt, within a transaction."""
        table = self._table
        spent = max((report.seconds for report in table.reports.of(row.id)), default=0.0)
        return table.put(
            row,
            state="running",
            attempt=row.attempt + 1,
            started=table.database.now(),
            owner=self.owner,
            spent=spent,
            revision=table.next_revision(),
        )

    def close(self) -> None:
        """Ends the heartbeat; running trials stay running."""
        _opened.discard(self)
        self._heartbeat.stop()
