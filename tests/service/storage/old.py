"""A database as programs without migrations left it: SQLAlchemy's `create_all` of then, and rows of theirs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

TABLES: Final = (
    """CREATE TABLE api_keys (
        id VARCHAR(12) NOT NULL, digest VARCHAR(64) NOT NULL, tenant VARCHAR(64) NOT NULL, label VARCHAR(200) NOT NULL,
        access JSON NOT NULL, images_per_minute INTEGER, created_at {moment} NOT NULL, revoked_at {moment},
        PRIMARY KEY (id))""",
    """CREATE TABLE detectors (
        id VARCHAR(40) NOT NULL, tenant VARCHAR(64) NOT NULL, family VARCHAR(64) NOT NULL, spec JSON NOT NULL,
        created_at {moment} NOT NULL, PRIMARY KEY (id))""",
    "CREATE INDEX detectors_of_tenant ON detectors (tenant, created_at, id)",
    "CREATE INDEX detectors_of_family ON detectors (tenant, family)",
    "CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version))",
    """CREATE TABLE calibrations (
        detector_id VARCHAR(40) NOT NULL, artefact VARCHAR(64) NOT NULL, keep {real} NOT NULL,
        threshold {real} NOT NULL, images INTEGER NOT NULL, created_at {moment} NOT NULL, PRIMARY KEY (detector_id),
        FOREIGN KEY(detector_id) REFERENCES detectors (id) ON DELETE CASCADE)""",
)

KEY: Final = {
    "id": "0123456789ab",
    "digest": "d" * 64,
    "tenant": "acme",
    "label": "line 3",
    "access": json.dumps(["manage", "score"]),
    "images_per_minute": 600,
    "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}
# The ids and families are what those programs computed from these specs and the tenant "acme".
SPECS: Final[dict[str, dict[str, Any]]] = {
    "det_0ae631dc1941f2160ff07d93": {
        "classes": ["cat", "naïve café"],
        "method": "mcm",
        "parameters": {"temperature": 1.0},
        "templates": "single",
        "encoder": "embedded",
        "negatives": None,
        "no_templates": None,
    },
    "det_e406dd687b785a9b174d2939": {
        "classes": ["red", "blue"],
        "method": "neglabel",
        "parameters": {"temperature": 0.01, "groups": 100, "form": "probability", "seed": 0},
        "templates": ["a photo of {}.", "{}"],
        "encoder": "embedded",
        "negatives": {
            "recipe": "neglabel",
            "lexicon": "wordnet-full",
            "words": ["x"],
            "quantile": 0.95,
            "keep": 0.15,
        },
        "no_templates": None,
    },
    "det_784e9d2fd05d88d0e84e24af": {
        "classes": ["cat", "dog"],
        "method": "clipn",
        "parameters": {"rule": "ctw", "scale": 50.0},
        "templates": "single",
        "encoder": "embedded",
        "negatives": None,
        "no_templates": "clipn_no_training_free",
    },
}
FAMILIES: Final = {
    "det_0ae631dc1941f2160ff07d93": "3fb9274719635cacf2b8559872a2f832b055cc53a31917dba527cdbdb04ba301",
    "det_e406dd687b785a9b174d2939": "9c3d10d5754a6f7bee02184271666d39f6c7ab68edbbc30f39d3a6e7566a7fde",
    "det_784e9d2fd05d88d0e84e24af": "8a7f3a91aabce1afcf6f76208710e7bab54ec3bfa28102dd0c054ac2e79f333c",
}
CALIBRATED: Final = "det_0ae631dc1941f2160ff07d93"
MINED: Final = "det_e406dd687b785a9b174d2939"
CALIBRATION: Final = {
    "detector_id": CALIBRATED,
    "artefact": "a" * 64,
    "keep": 0.95,
    "threshold": -0.1234567890123456,
    "images": 40,
    "created_at": datetime(2026, 1, 3, tzinfo=UTC),
}


def make(url: str, tables: int = len(TABLES)) -> str:
    """Fill an empty database; with fewer tables, as a program left it that was killed in the middle."""
    if file := make_url(url).database:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    try:
        _make_tables(engine, tables)
        if tables == len(TABLES):
            _fill(engine)
    finally:
        engine.dispose()
    return url


def _make_tables(engine: Engine, count: int) -> None:
    sqlite = engine.dialect.name == "sqlite"
    moment, real = ("DATETIME", "DOUBLE") if sqlite else ("TIMESTAMP WITH TIME ZONE", "DOUBLE PRECISION")
    with engine.begin() as connection:
        if sqlite:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        for statement in TABLES[:count]:
            connection.exec_driver_sql(statement.format(moment=moment, real=real))


def _fill(engine: Engine) -> None:
    detectors = [
        {
            "id": name,
            "tenant": "acme",
            "family": FAMILIES[name],
            "spec": json.dumps(spec),
            "created_at": datetime(2026, 1, 2, tzinfo=UTC),
        }
        for name, spec in SPECS.items()
    ]
    rows: list[tuple[str, dict[str, Any]]] = [("schema_version", {"version": 1}), ("api_keys", KEY)]
    rows += [("detectors", row) for row in detectors] + [("calibrations", CALIBRATION)]
    with engine.begin() as connection:
        for table, row in rows:
            values = {name: _plain(value) if engine.dialect.name == "sqlite" else value for name, value in row.items()}
            columns = ", ".join(values)
            places = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({places})"), values)  # noqa: S608


def _plain(value: object) -> object:
    """SQLAlchemy writes moments to SQLite without their time zone."""
    return f"{value:%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else value
