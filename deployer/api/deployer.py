"""What programs are given: the hosts of an inventory, with their migration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from deployer.api.hosts import Hosts

if TYPE_CHECKING:
    from deployer.api.migration_verbs import Seat
    from deployer.api.migrations import Migration
    from deployer.migration.state import Given


@dataclass(frozen=True)
class Deployer(Hosts):
    """Hosts of an inventory: what can be asked of them and done with them, as `Hosts` has it, and their migration."""

    def migrate(
        self,
        *,
        until: str = "",
        restart: bool = False,
        check: bool = False,
        seat: Seat | None = None,
        **given: Unpack[Given],
    ) -> Migration:
        """Bring the hosts from what somebody has started there to what is described, step by step (docs/migration.md).

        Goes on with a migration of the same hosts that was begun in this folder and is not done. From the main thread.

        Args:
            until: name of the step after which to stop.
            restart: begin a new one all the same.
            check: change nothing, say what would be, as far as the staging.
            seat: who is asked, and told; nobody where it is left out: what passed goes on, and what did not goes back.
            given: what `migration.state.Settings` has; what is left out is as when it was begun.

        Raises:
            DeployError: a setting cannot work or contradicts an earlier one, or somebody else walks the same migration.
        """
        from deployer.api import migrations

        return migrations.migrate(self, until, restart, check, seat, given)

    def migrate_back(self, *, seat: Seat | None = None, **given: Unpack[Given]) -> Migration:
        """Bring every host that the newest migration has switched back to what served before it.

        Args:
            seat: who is asked, and told; nobody where it is left out.
            given: `batches` and `max_fail`; what the migration has where they are left out.

        Raises:
            DeployError: there is none, or somebody walks it.
        """
        from deployer.api import migrations

        return migrations.back(self, seat, given)

    def migration(self) -> Migration | None:
        """The newest migration of the hosts; where no inventory is named, of any; None where there is none."""
        from deployer.api import migrations

        return migrations.newest(self)
