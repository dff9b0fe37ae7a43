"""A typed client of a vlm-ood server, in a blocking and an asynchronous form.

with Client("http://127.0.0.1:8000") as client:
    answer = client.score(["cat.jpg"], classes=["cat", "dog"])
"""

from vlm_ood.client.awaiting import AsyncClient
from vlm_ood.client.bank_records import Bank, BankInfo, NearRow, PreviewRow
from vlm_ood.client.blocking import Client
from vlm_ood.client.records import (
    CalibrationAnswer,
    CalibrationInfo,
    DetectorInfo,
    DetectorOptions,
    EncoderInfo,
    MethodInfo,
    ScoreAnswer,
)
from vlm_ood.client.retries import Retries

__all__ = [
    "AsyncClient",
    "Bank",
    "BankInfo",
    "CalibrationAnswer",
    "CalibrationInfo",
    "Client",
    "DetectorInfo",
    "DetectorOptions",
    "EncoderInfo",
    "MethodInfo",
    "NearRow",
    "PreviewRow",
    "Retries",
    "ScoreAnswer",
]
