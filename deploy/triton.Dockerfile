# NVIDIA's Triton with our launcher, and what builds engines on its TensorRT. Two environments, as everywhere in this
# project: ours, and that of the Python backend (numpy < 2), which Triton finds first on its PATH.
ARG TRITON_VERSION=26.08

FROM nvcr.io/nvidia/tritonserver:${TRITON_VERSION}-py3 AS installed
ARG TENSORRT_VERSION=11.2.1.2
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
USER 0
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml deploy/constraints.txt deploy/constraints-server.txt ./
# the bindings alone: they load the image's libnvinfer, whose plans this Triton takes
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --quiet "pip==25.3" \
    && /opt/venv/bin/pip install --quiet --constraint constraints.txt --group clients --group card \
    && /opt/venv/bin/pip install --quiet --no-deps "tensorrt_cu13_bindings==${TENSORRT_VERSION}"
RUN python3 -m venv /app/.venv-triton \
    && /app/.venv-triton/bin/pip install --quiet "pip==25.3" \
    && /app/.venv-triton/bin/pip install --quiet --constraint constraints-server.txt --group stub
USER 1000:1000

FROM nvcr.io/nvidia/tritonserver:${TRITON_VERSION}-py3
USER 0
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --from=installed /opt/venv /opt/venv
COPY --from=installed /app/.venv-triton .venv-triton
COPY LICENSE pyproject.toml ./
COPY model_repository model_repository
COPY demo demo
COPY clients clients
COPY export export
COPY loadtest loadtest
COPY deploy deploy
RUN mkdir -p /models /run/fleet && chown 1000:1000 /models /run/fleet
USER 1000:1000
# NVIDIA's own prints a page of text before every command
ENTRYPOINT []
CMD ["python", "-m", "deploy.triton", "--help"]
