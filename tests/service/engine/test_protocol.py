import pickle

import pytest

from service.engine.worker.protocol import Failure
from vlm_ood import errors
from vlm_ood.errors import EncoderError, ServerError, UnknownNameError, VlmOodError

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, VlmOodError)]


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in {UnknownNameError, ServerError}])
def test_our_errors_cross_the_pipe_with_class_and_message(cls: type[VlmOodError]) -> None:
    error = pickle.loads(pickle.dumps(Failure.of(cls("why, and what to do")))).error()  # noqa: S301 (our own)
    assert type(error) is cls
    assert str(error) == "why, and what to do"


def test_so_does_one_that_takes_other_arguments() -> None:
    error = Failure.of(UnknownNameError("encoder", "x", ["y"])).error()
    assert isinstance(error, UnknownNameError)
    assert "unknown encoder 'x'" in str(error)


def test_any_other_exception_is_the_encoders() -> None:
    error = Failure.of(RuntimeError("out of memory")).error()
    assert type(error) is EncoderError
    assert str(error) == "RuntimeError: out of memory"
