"""A gc plan whose execution is awaited."""

from __future__ import annotations

from calotype.aio.verbs import Awaited, awaited, running
from calotype.gc.plans import Plan


class AsyncPlan(Awaited[Plan]):
    """What a gc run would do: ``facts`` says it, and the verbs of ``Plan`` are awaited."""

    @property
    def facts(self) -> Plan:
        """The plan as it was looked at."""
        return self._inner

    is_safe = awaited(Plan.is_safe)
    locked = awaited(Plan.locked)
    execute = awaited(Plan.execute)
    run = running(Plan.run)
