"""The API against its own document: whatever fits the schema, or nearly, is answered without a server error."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
PATIENCE_S = 120  # mining a whole lexicon on a busy machine
WITHIN = settings(
    max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_is_a_server_error(tmp_path: Path, mode: GenerationMode) -> None:
    engine = FakeEngine()
    own = Settings(data=tmp_path, encoders=engine.encoder_names(), allowed_hosts=("testserver", "localhost"))
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(own, engine))
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @WITHIN
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=CHECKS, timeout=PATIENCE_S)

        try:
            check()
        except BaseException as error:
            if "Unsatisfiable" not in type(error).__name__:  # a route without parameters can't be called wrongly
                raise
    assert tried > 100
