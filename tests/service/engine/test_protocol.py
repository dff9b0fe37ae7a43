import pickle

import pytest

from service.engine.worker.protocol import ErrorReply, known_error
from vlm_ood import errors
from vlm_ood.errors import EncoderError, ServerError, UnknownNameError, VlmOodError

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, VlmOodError)]
EXAMPLES = [cls("why, and what to do") for cls in CLASSES if cls not in {UnknownNameError, ServerError}]


@pytest.mark.parametrize(
    "error",
    [*EXAMPLES, UnknownNameError("encoder", "x", ["y"]), ServerError(503, "Busy", "try again", "r1")],
    ids=lambda error: type(error).__name__,
)
def test_our_errors_cross_the_pipe_with_class_and_message(error: VlmOodError) -> None:
    copy = pickle.loads(pickle.dumps(ErrorReply(known_error(error)))).error  # noqa: S301 (our own)
    assert type(copy) is type(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), type("Foreign", (VlmOodError,), {})("out of memory")])
def test_any_other_exception_is_the_encoders(error: Exception) -> None:
    told = known_error(error)
    assert type(told) is EncoderError
    assert str(told) == f"{type(error).__name__}: out of memory"
