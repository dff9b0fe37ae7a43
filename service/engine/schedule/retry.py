"""Second attempts: which items of a batch that failed, or of a worker that died, go back to the queue."""

from collections.abc import Sequence

from service.engine.errors import WorkerLost
from service.engine.schedule.items import AnyItem, ItemBatch
from service.engine.schedule.queue import FairQueue
from vlm_ood.errors import VlmOodError

RETRY_S = 1.0


def isolate(queue: FairQueue, items: Sequence[AnyItem], error: VlmOodError) -> None:
    """Fail the item if it was alone; several are tried again one by one, since one of them may be at fault."""
    if len(items) == 1:
        items[0].fail(error)
        return
    for item in items:
        item.alone = True
    queue.put_back(items)


def reclaim(queue: FairQueue, batches: Sequence[ItemBatch]) -> None:
    """Put back what a worker had when it died: the oldest batch was running, those behind it had not begun."""
    for batch in reversed(batches[1:]):
        queue.put_back(batch.items)
    if batches:
        queue.put_back([item for item in batches[0].items if _survives(item)])


def _survives(item: AnyItem) -> bool:
    item.crashes += 1
    if item.crashes == 1:
        item.alone = True
        return True
    item.fail(WorkerLost("the worker died under this work twice: check the input, or try again later", RETRY_S))
    return False
