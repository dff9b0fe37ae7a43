"""What Alembic runs: the revisions, in the transaction that `service.storage.upgrade` has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
