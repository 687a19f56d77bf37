"""`/v1/organizations` (contract `platform-and-tools.md` 7): one module per resource, put together in `routes`."""
