# Weights to ONNX: torch's CPU build from PyTorch's own index, Ultralytics. Runs once, serves nobody.
ARG PYTHON_VERSION=3.11.13
ARG DEBIAN_RELEASE=bookworm

FROM python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE} AS installed
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml deploy/constraints.txt ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --quiet "pip==25.3" \
    && /opt/venv/bin/pip install --quiet --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" \
        --group clients --group export

FROM python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --from=installed /opt/venv /opt/venv
COPY LICENSE pyproject.toml ./
COPY model_repository model_repository
COPY demo demo
COPY clients clients
COPY export export
COPY loadtest loadtest
COPY deploy deploy
RUN mkdir -p /models out && chown 1000:1000 /models out
USER 1000:1000
CMD ["python", "-m", "export", "--help"]
