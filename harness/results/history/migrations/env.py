"""Run by the migration library on the connection that the history hands it."""

from alembic import context

from harness.results.history.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
