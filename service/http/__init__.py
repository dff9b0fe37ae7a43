"""From HTTP to checked records and back: bodies, dependencies of routes, the OpenAPI document."""
