"""Users, invites and members of workspaces through the official SDK (contract platform-and-tools 7.2, 7.3)."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types.organization import AlreadyMemberError, CannotRemoveLastMemberError, InviteAlreadyExistsError

from antiphon.store.invites import LIFETIME_MS
from office import Office, told


@pytest.fixture
def workspace(admin: anthropic.Anthropic, office: Office) -> str:
    return admin.organization.workspaces.create(name=office.ids.make("name")).id


def _join(admin: anthropic.Anthropic, office: Office, role: Any = "developer", email: str | None = None) -> str:
    """Somebody who was invited and came; the user's id."""
    invite = admin.organization.invites.create(email=email or f"{office.ids.make('x')}@example.org", role=role)
    reply = office.ask("POST", f"/v1/organizations/invites/{invite.id}/accept", {"name": "Ada"})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def test_the_only_member_stays(own_office: Office) -> None:
    admin = own_office.client()
    only = _join(admin, own_office)
    with pytest.raises(CannotRemoveLastMemberError):
        admin.organization.users.remove(only)
    assert admin.organization.users.retrieve(only).id == only


def test_the_organization_of_a_key(admin: anthropic.Anthropic, office: Office) -> None:
    mine = admin.organization.retrieve()
    assert (mine.id, mine.name, mine.type) == ("org_default", "Default", "organization")
    assert office.client(office.foreign_admin).organization.retrieve().id == "org_other"


def test_somebody_is_invited_and_comes(admin: anthropic.Anthropic, office: Office) -> None:
    invite = admin.organization.invites.create(email="  Grace@Example.ORG ".strip(), role="developer")
    assert (invite.type, invite.status, invite.email, invite.role) == (
        "invite",
        "pending",
        "grace@example.org",
        "developer",
    )
    assert invite.rbac_group_ids == []
    assert (invite.expires_at - invite.invited_at).days == 21
    act = office.last_act()
    assert (act.type, act.subject, act.refused) == ("org_user_invite_sent", invite.id, None)
    assert act.actor.type == "admin_api_key_actor"
    assert (act.actor.user_agent or "").startswith("Anthropic/Python")

    reply = office.ask("POST", f"/v1/organizations/invites/{invite.id}/accept", {"name": "Grace"})
    assert reply.status_code == 200
    act = office.last_act()
    assert (act.type, act.subject) == ("org_user_invite_accepted", invite.id)
    user = admin.organization.users.retrieve(reply.json()["id"])
    assert (user.type, user.name, user.email, user.role) == ("user", "Grace", "grace@example.org", "developer")
    after = admin.organization.invites.retrieve(invite.id)
    assert after.status == "accepted"
    assert after.accepted_at is not None
    assert "not pending" in told(
        office.ask("POST", f"/v1/organizations/invites/{invite.id}/accept", {"name": "X"}), 400
    )
    with pytest.raises(anthropic.BadRequestError, match="it is accepted"):
        admin.organization.invites.delete(invite.id)


def test_an_address_is_invited_once(admin: anthropic.Anthropic, office: Office) -> None:
    invite = admin.organization.invites.create(email="once@example.org", role="user")
    with pytest.raises(InviteAlreadyExistsError, match=invite.id):
        admin.organization.invites.create(email="ONCE@example.org", role="billing")
    office.ask("POST", f"/v1/organizations/invites/{invite.id}/accept", {"name": "Once"})
    with pytest.raises(AlreadyMemberError, match=r"once@example\.org"):
        admin.organization.invites.create(email="Once@Example.org", role="user")


def test_an_invite_is_taken_back(admin: anthropic.Anthropic, office: Office) -> None:
    invite = admin.organization.invites.create(email="gone@example.org", role="user")
    gone = admin.organization.invites.delete(invite.id)
    assert (gone.id, gone.type) == (invite.id, "invite_deleted")
    assert office.last_act().type == "org_user_invite_deleted"
    assert admin.organization.invites.retrieve(invite.id).status == "deleted"
    assert invite.id not in {found.id for found in admin.organization.invites.list()}
    admin.organization.invites.create(email="gone@example.org", role="user")


def test_an_invite_lapses_after_21_days(own_office: Office) -> None:
    office, admin = own_office, own_office.client()
    invite = admin.organization.invites.create(email="late@example.org", role="user")
    office.clock.ahead_ms = LIFETIME_MS - 60_000
    assert admin.organization.invites.retrieve(invite.id).status == "pending"
    office.clock.ahead_ms = LIFETIME_MS + 60_000
    assert admin.organization.invites.retrieve(invite.id).status == "expired"
    assert invite.id in {found.id for found in admin.organization.invites.list(statuses=["expired"])}
    assert invite.id not in {found.id for found in admin.organization.invites.list(statuses=["pending", "accepted"])}
    assert "it is expired" in told(
        office.ask("POST", f"/v1/organizations/invites/{invite.id}/accept", {"name": "L"}), 400
    )
    assert admin.organization.invites.create(email="late@example.org", role="user").id != invite.id


def test_lists_are_narrowed(admin: anthropic.Anthropic, office: Office) -> None:
    user = _join(admin, office, "billing", "narrow@example.org")
    assert [u.id for u in admin.organization.users.list(email=" NARROW@example.org")] == [user]
    assert user in {u.id for u in admin.organization.users.list(roles=["billing", "admin"])}
    assert user not in {u.id for u in admin.organization.users.list(roles=["developer"])}
    assert [i.email for i in admin.organization.invites.list(email="Narrow@example.org")] == ["narrow@example.org"]
    assert {i.role for i in admin.organization.invites.list(roles=["billing"])} == {"billing"}


@pytest.mark.behaviour("client-surface-1.7-page-of-administration")
def test_pages_in_both_directions(admin: anthropic.Anthropic, office: Office) -> None:
    for _ in range(7):
        _join(admin, office)
    whole = [user.id for user in admin.organization.users.list(limit=1000)]
    assert len(whole) >= 7
    assert [user.id for user in admin.organization.users.list(limit=3)] == whole
    first = admin.organization.users.list(limit=3)
    assert (first.first_id, first.last_id, first.has_more) == (whole[0], whole[2], True)
    behind = admin.organization.users.list(limit=1000, after_id=whole[2])
    assert [user.id for user in behind.data] == whole[3:]
    assert behind.has_more is False
    ahead = admin.organization.users.list(limit=2, before_id=whole[5])
    assert [user.id for user in ahead.data] == whole[3:5]
    assert ahead.has_more is True
    walked = [[user.id for user in page.data] for page in ahead.iter_pages()]
    assert [id_ for page in reversed(walked) for id_ in page] == whole[:5]
    invites = [invite.id for invite in admin.organization.invites.list(limit=1000)]
    assert len(invites) >= 7
    assert [invite.id for invite in admin.organization.invites.list(limit=3)] == invites
    nothing = admin.organization.users.list(after_id=whole[-1])
    assert (nothing.data, nothing.first_id, nothing.last_id, nothing.has_more) == ([], None, None, False)


def test_a_role_is_changed(admin: anthropic.Anthropic, office: Office) -> None:
    user = _join(admin, office, "user")
    assert admin.organization.users.update(user, role="billing").role == "billing"
    act = office.last_act()
    assert (act.type, act.subject, act.old, act.new) == (
        "claude_user_role_updated",
        user,
        {"role": "user"},
        {"role": "billing"},
    )


def test_a_user_is_removed_with_keys_and_memberships(
    admin: anthropic.Anthropic, office: Office, workspace: str
) -> None:
    user = _join(admin, office, "developer")
    admin.organization.workspaces.members.add(workspace, user_id=user, workspace_role="workspace_developer")
    theirs = office.client(office.key(user=user))
    assert theirs.organization.retrieve().id == "org_default"
    gone = admin.organization.users.remove(user)
    assert (gone.id, gone.type) == (user, "user_deleted")
    assert office.last_act().type == "org_user_deleted"
    with pytest.raises(anthropic.AuthenticationError):
        theirs.organization.retrieve()
    with pytest.raises(anthropic.NotFoundError):
        admin.organization.users.retrieve(user)
    assert user not in {member.user_id for member in admin.organization.workspaces.members.list(workspace)}


def test_admins_are_neither_made_nor_changed_nor_removed(admin: anthropic.Anthropic, office: Office) -> None:
    chief = office.user("admin")
    role: Any = "admin"
    with pytest.raises(anthropic.BadRequestError, match="'billing', 'claude_code_user', 'developer' or 'user'"):
        admin.organization.invites.create(email="chief@example.org", role=role)
    with pytest.raises(anthropic.BadRequestError, match="role: Input should be 'billing'"):
        admin.organization.users.update(office.user().id, role=role)
    with pytest.raises(anthropic.BadRequestError, match="admin"):
        admin.organization.users.update(chief.id, role="user")
    with pytest.raises(anthropic.BadRequestError, match="admin"):
        admin.organization.users.remove(chief.id)
    assert [act.refused is not None for act in office.acts()[:4]] == [True] * 4
    assert admin.organization.users.retrieve(chief.id).role == "admin"


def test_a_member_of_a_workspace(admin: anthropic.Anthropic, office: Office, workspace: str) -> None:
    members, user = admin.organization.workspaces.members, _join(admin, office)
    added = members.add(workspace, user_id=user, workspace_role="workspace_user")
    assert (added.type, added.user_id, added.workspace_id, added.workspace_role) == (
        "workspace_member",
        user,
        workspace,
        "workspace_user",
    )
    act = office.last_act()
    assert (act.type, act.subject, act.workspace) == ("platform_workspace_member_added", user, workspace)
    with pytest.raises(anthropic.BadRequestError, match="already"):
        members.add(workspace, user_id=user, workspace_role="workspace_admin")
    changed = members.update(user, workspace_id=workspace, workspace_role="workspace_restricted_developer")
    assert changed.workspace_role == "workspace_restricted_developer"
    act = office.last_act()
    assert act.type == "platform_workspace_member_updated"
    assert act.old == {"workspace_role": "workspace_user"}
    assert members.retrieve(user, workspace_id=workspace) == changed
    gone = members.remove(user, workspace_id=workspace)
    assert (gone.type, gone.user_id, gone.workspace_id) == ("workspace_member_deleted", user, workspace)
    assert office.last_act().type == "platform_workspace_member_removed"
    with pytest.raises(anthropic.NotFoundError):
        members.retrieve(user, workspace_id=workspace)
    with pytest.raises(anthropic.NotFoundError):
        members.remove(user, workspace_id=workspace)


def test_a_role_in_the_organization_counts_in_every_workspace(
    admin: anthropic.Anthropic, office: Office, workspace: str
) -> None:
    members = admin.organization.workspaces.members
    chief, banker = office.user("admin").id, office.user("billing").id
    roles = {member.user_id: member.workspace_role for member in members.list(workspace, limit=1000)}
    assert (roles[chief], roles[banker]) == ("workspace_admin", "workspace_billing")
    assert members.retrieve(banker, workspace_id=workspace).workspace_role == "workspace_billing"
    for user in (chief, banker):
        with pytest.raises(anthropic.BadRequestError, match="belongs to every workspace"):
            members.add(workspace, user_id=user, workspace_role="workspace_user")
        with pytest.raises(anthropic.BadRequestError, match="belongs to every workspace"):
            members.update(user, workspace_id=workspace, workspace_role="workspace_user")
        with pytest.raises(anthropic.BadRequestError, match="belongs to every workspace"):
            members.remove(user, workspace_id=workspace)
    plain = _join(admin, office, "developer")
    members.add(workspace, user_id=plain, workspace_role="workspace_user")
    with pytest.raises(anthropic.BadRequestError, match="can only come from"):
        members.update(plain, workspace_id=workspace, workspace_role="workspace_billing")
    role: Any = "workspace_billing"
    with pytest.raises(anthropic.BadRequestError, match="workspace_role: Input should be"):
        members.add(workspace, user_id=_join(admin, office), workspace_role=role)


def test_the_default_workspace_has_no_members(admin: anthropic.Anthropic, office: Office) -> None:
    members, user = admin.organization.workspaces.members, _join(admin, office)
    assert members.list("wrkspc_default").data == []
    with pytest.raises(anthropic.BadRequestError, match="default workspace"):
        members.add("wrkspc_default", user_id=user, workspace_role="workspace_user")


@pytest.mark.behaviour("client-surface-1.7-page-of-administration")
def test_members_page(admin: anthropic.Anthropic, office: Office, workspace: str) -> None:
    members = admin.organization.workspaces.members
    for _ in range(4):
        members.add(workspace, user_id=_join(admin, office), workspace_role="workspace_user")
    whole = [member.user_id for member in members.list(workspace, limit=1000)]
    assert [member.user_id for member in members.list(workspace, limit=2)] == whole
    page = members.list(workspace, limit=2, before_id=whole[3])
    assert [member.user_id for member in page.data] == whole[1:3]
    assert (page.first_id, page.last_id) == (whole[1], whole[2])
