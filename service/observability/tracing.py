"""Traces for OpenTelemetry; needs the extra `otel` and an endpoint."""

from fastapi import FastAPI

from vlm_ood.errors import InputError


def trace(app: FastAPI, endpoint: str) -> None:
    """Send one span per request to an OTLP collector over HTTP.

    Args:
        app: the application to trace.
        endpoint: such as http://127.0.0.1:4318/v1/traces; empty for no tracing.

    Raises:
        InputError: the extra isn't installed.
    """
    if not endpoint:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise InputError("VLM_OOD_OTLP_ENDPOINT is set: install the extra, pip install 'vlm-ood[otel]'") from None
    provider = TracerProvider(resource=Resource.create({"service.name": "vlm-ood"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, excluded_urls="livez,readyz,metrics")
