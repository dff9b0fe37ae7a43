# syntax=docker/dockerfile:1

# docker build -t vlm-ood .                        for the CPU
# docker build -t vlm-ood:cuda --build-arg VARIANT=cuda .

FROM python:3.12.11-slim-bookworm AS build
ARG VARIANT=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/vlm-ood
ENV PATH=/opt/vlm-ood/bin:$PATH
# PyTorch is installed before the sources are copied, so that a change of the sources does not rebuild this large layer.
# The wheels on PyPI include CUDA.
RUN case "$VARIANT" in \
      cpu) pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.4" "torchvision>=0.19" ;; \
      cuda) pip install "torch>=2.4" "torchvision>=0.19" ;; \
      *) echo "VARIANT=$VARIANT: give cpu or cuda" >&2; exit 1 ;; \
    esac
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY prompts prompts
COPY lexicons lexicons
COPY vlm_ood vlm_ood
COPY service service
RUN pip install ".[postgresql]"

FROM python:3.12.11-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home vlm-ood \
    && install --directory --owner vlm-ood --group vlm-ood --mode 0700 /data
COPY --from=build /opt/vlm-ood /opt/vlm-ood
# All files are written to /data, so that the root can be read-only; temporary files go to a tmpfs on /tmp.
ENV PATH=/opt/vlm-ood/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    HF_HOME=/data/cache/huggingface \
    VLM_OOD_CACHE=/data/cache \
    VLM_OOD_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=9)"]
ENTRYPOINT ["vlm-ood"]
CMD ["serve", "--host", "0.0.0.0"]
