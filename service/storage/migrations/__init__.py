"""The history of the tables: one file per revision, run by Alembic.

A revision spells its tables out and imports none of the application: it must do the same in ten years as today.
"""
