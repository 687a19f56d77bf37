"""The shapes of `/v1/organizations` (contract `platform-and-tools.md` 7, `client-surface.md` 5)."""
