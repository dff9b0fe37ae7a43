"""/v1/encoders, /v1/templates, /v1/lexicons: the encoders, templates and lexicons that requests may name."""

from functools import cache, partial

from fastapi import APIRouter, Security

from service.catalogue.records import Encoders, EncoderView, Lexicons, LexiconView, TemplateSets, TemplatesView
from service.engine import EncoderInfo, Engine
from service.routes.deps import TheServices, the_caller
from service.routes.openapi import problems
from vlm_ood.lexicons import LEXICONS, lexicon_named
from vlm_ood.text.templates import template_sets, templates_named

router = APIRouter(prefix="/v1", tags=["catalogue"], dependencies=[Security(the_caller, scopes=["score"])])


@router.get("/encoders", summary="List encoders", responses=problems(503))
async def encoders(services: TheServices) -> Encoders:
    """The encoders that requests may name; sizes are null until an encoder is loaded."""
    engine = services.engine
    return Encoders(encoders=[await _encoder(engine, name) for name in engine.encoder_names()])


@router.get("/templates", summary="List template sets", responses=problems())
async def templates() -> TemplateSets:
    """The sets of sentences that class names are inserted into."""
    return TemplateSets(templates=[_templates(name) for name in template_sets()])


@router.get("/lexicons", summary="List lexicons", responses=problems())
async def lexicons(services: TheServices) -> Lexicons:
    """The word lists that negatives are mined from."""
    return Lexicons(lexicons=[await services.banks.in_thread(partial(_lexicon, name)) for name in LEXICONS])


async def _encoder(engine: Engine, name: str) -> EncoderView:
    state = engine.encoder_state(name)
    default = name == engine.encoder_names()[0]
    if state != "ready":
        return EncoderView(name=name, state=state, default=default)
    info: EncoderInfo = await engine.encoder(name)
    return EncoderView(
        name=name,
        state=state,
        default=default,
        digest=info.digest,
        dim=info.dim,
        scale=info.scale,
        device=info.device,
        dtype=info.dtype,
        capabilities=sorted(info.capabilities),
        height=info.preprocessing.height,
        width=info.preprocessing.width,
    )


def _templates(name: str) -> TemplatesView:
    found = templates_named(name)
    return TemplatesView(
        name=name,
        templates=list(found.templates),
        average=found.average,
        source=found.source,
        licence=found.licence,
    )


@cache
def _lexicon(name: str) -> LexiconView:
    found = lexicon_named(name)
    return LexiconView(name=name, words=len(found), source=found.source, licence=found.licence)
