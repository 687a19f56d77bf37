"""Who acts when a command changes something: this machine's own command line, by the name of the system's user."""

from __future__ import annotations

import os
import pwd

from antiphon.admin.acts import Acts
from antiphon.core.clock import Clock
from antiphon.core.ids import Ids
from antiphon.store.activities import Actor
from antiphon.store.database import Database


def operator() -> Actor:
    """The user whose process this is; asked of the system and not of the environment, where anything may stand."""
    number = os.getuid()
    try:
        return Actor("system_actor", pwd.getpwuid(number).pw_name)
    except KeyError:  # a container's user may have no name
        return Actor("system_actor", f"uid {number}")


def acts_in(database: Database, clock: Clock) -> Acts:
    """What commands do, they do through this."""
    return Acts(database, Ids(clock), clock)
