"""`antiphon users`: the people of the organization. Whom the API does not make, the operator of the machine does:
admins, and so the first of them (contract platform-and-tools 7.2)."""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeAlias, get_args

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from antiphon.cli.acting import acts_in, operator
from antiphon.cli.keys import opened
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.errors import InvalidRequest
from antiphon.core.records import DEFAULT_ORGANIZATION, Role
from antiphon.core.settings import Settings
from antiphon.store import users
from antiphon.store.pages import Walk
from antiphon.store.users import User
from antiphon.wire.organization.people import Email, PersonName

_TABLE_WIDTH = 120
_PAGE = 1_000
#: `managed` is for organizations of another kind.
_ROLES: tuple[Role, ...] = tuple(role for role in get_args(Role) if role != "managed")
_Asked: TypeAlias = tuple[str, str, Role]

app = typer.Typer(help="People.", no_args_is_help=True)


@app.command("list")
def list_users(home: HomeOption = None, config: ConfigOption = None) -> None:
    """Show everybody, those who came last first."""
    with errors_told():
        rows = asyncio.run(_list(settings_from(home, config)))
    table = Table(box=None, pad_edge=False)
    for column in ("id", "email", "name", "role", "since"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(row.id, escape(row.email), escape(row.name), row.role, rfc3339(row.added_ms)[:10])
    console(least=_TABLE_WIDTH).print(table)


@app.command("add")
def add(
    email: Annotated[str, typer.Argument(help="The person's address.")],
    name: Annotated[
        str, typer.Option("--name", help="What others will know the person by; default: the address.")
    ] = "",
    role: Annotated[str, typer.Option("--role", help=f"What the person may do: {', '.join(_ROLES)}.")] = "user",
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Add somebody, without an invitation. Admins are made here only."""
    with errors_told():
        made = asyncio.run(_add(settings_from(home, config), _checked(email, name, role)))
    console().print(f"Added {made.id} as {made.role}.", markup=False)


def _checked(email: str, name: str, role: str) -> _Asked:
    known = next((each for each in _ROLES if each == role), None)
    if known is None:
        raise InvalidRequest(f"There is no role {role!r}; there are {', '.join(_ROLES)}")
    try:
        return users.normal(msgspec.convert(email.strip(), Email)), msgspec.convert(name or email, PersonName), known
    except msgspec.ValidationError:
        raise InvalidRequest("An address is like name@example.com, and a name a line of text") from None


async def _list(settings: Settings) -> list[User]:
    found: list[User] = []
    async with opened(settings) as database, database.reading() as connection:
        more = True
        while more:
            after = found[-1].id if found else None
            page = await users.page(DEFAULT_ORGANIZATION, connection, Walk(_PAGE, after))
            found, more = [*found, *page.items], page.more
    return found


async def _add(settings: Settings, asked: _Asked) -> User:
    clock = SystemClock()
    async with opened(settings) as database:
        acts = acts_in(database, clock)
        async with acts.act(operator(), DEFAULT_ORGANIZATION, "org_user_added") as act:
            made = User(acts.ids.make("user"), DEFAULT_ORGANIZATION, *asked, clock.now_ms())
            await users.add(DEFAULT_ORGANIZATION, act.connection, made)
            act.subject, act.new = made.id, {"email": made.email, "role": made.role}
    return made
