# Two stages: one installs the dependencies, the other holds what serving needs and nothing else.
# TORCH_INDEX names the index that torch comes from where it is not the default one: a CPU build, say.
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS dependencies
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN python -m pip install uv==0.13.9
COPY pyproject.toml ./
RUN python -m venv /venv \
    && uv pip compile --quiet pyproject.toml --output-file requirements.txt ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} \
    && VIRTUAL_ENV=/venv uv pip install --requirements requirements.txt ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}}

FROM ${PYTHON}
LABEL org.opencontainers.image.title="upsnet-service" \
      org.opencontainers.image.description="Panoptic segmentation over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin upsnet
COPY --from=dependencies /venv /venv
WORKDIR /app
COPY model ./model
COPY service ./service
COPY weights ./weights
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    UPSNET_HOST=0.0.0.0 \
    UPSNET_LOG_FORMAT=json
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
