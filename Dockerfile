# Two stages: one installs the dependencies, the other holds what serving needs and nothing else.
# The defaults make the GPU image; docker/services.yml has the arguments of the CPU image.
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS dependencies
# Where torch comes from, if not from the default index: one with CPU builds, say. It holds old versions of other packages
# too, so every index is asked for the pinned ones.
ARG TORCH_INDEX=""
WORKDIR /build
RUN python -m venv /uv && /uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
COPY pyproject.toml ./
# Bytecode is compiled here: the file system is read-only later, and a worker's restart is quicker with it.
RUN python -m venv --without-pip /venv \
    && /uv/bin/uv pip install --no-cache --compile-bytecode --python /venv/bin/python --requirements pyproject.toml \
       ${TORCH_INDEX:+--index-strategy unsafe-best-match --extra-index-url "${TORCH_INDEX}"}

FROM ${PYTHON}
# Triton compiles the launchers of its kernels with a C compiler when they are first used. Empty leaves it out.
ARG COMPILER="gcc libc6-dev"
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${COMPILER}" ]; then \
        apt-get update && apt-get install --yes --no-install-recommends ${COMPILER} && rm -rf /var/lib/apt/lists/*; \
    fi \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin upsnet
COPY --from=dependencies /venv /venv
WORKDIR /app
COPY weights ./weights
COPY model ./model
COPY service ./service
RUN python -m compileall -q model service
# Caches belong on the tmpfs, the one place that can be written; Triton's is loaded from there, so it is mounted `exec`.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TRITON_CACHE_DIR=/tmp/triton \
    UPSNET_HOST=0.0.0.0 \
    UPSNET_LOG_FORMAT=json
# REVISION="$(git describe --always)" docker compose build
ARG REVISION="unknown"
# The second licence is the demo archive's.
LABEL org.opencontainers.image.title="upsnet-service" \
      org.opencontainers.image.description="Panoptic segmentation over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-NC-4.0" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; \
    u.urlopen(f'http://127.0.0.1:{os.environ.get(\"UPSNET_PORT\") or 8000}/health/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
