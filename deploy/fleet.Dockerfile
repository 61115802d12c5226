# Our own images. fleet: cameras to detections, no torch, no Ultralytics; cameras: an RTSP server; cpu: the Triton of
# PyPI with OpenVINO; load: Locust. All of uid 1000, code read-only, every package pinned by deploy/constraints*.txt.
ARG PYTHON_VERSION=3.11.13
ARG DEBIAN_RELEASE=bookworm

FROM python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE} AS installed
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml deploy/constraints.txt deploy/constraints-server.txt ./
# pip reads dependency groups from 25.1 on
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --quiet "pip==25.3" \
    && /opt/venv/bin/pip install --quiet --constraint constraints.txt --group clients

FROM installed AS installed-load
RUN /opt/venv/bin/pip install --quiet --constraint constraints.txt --group load

FROM installed AS installed-server
RUN python -m venv /app/.venv-triton \
    && /app/.venv-triton/bin/pip install --quiet "pip==25.3" \
    && /app/.venv-triton/bin/pip install --quiet --constraint constraints-server.txt --group server

FROM python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE} AS bare
# OpenCV's libraries
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY LICENSE pyproject.toml ./
COPY model_repository model_repository
COPY export export
COPY demo demo
COPY loadtest loadtest
COPY deploy deploy
COPY clients clients
# named volumes take over the owner of the folder that they are mounted on
RUN mkdir -p /models /run/fleet out demo/clips \
    && chown 1000:1000 /models /run/fleet out demo/clips

FROM bare AS fleet
COPY --from=installed /opt/venv /opt/venv
USER 1000:1000
CMD ["python", "-m", "clients", "--help"]

FROM bare AS load
COPY --from=installed-load /opt/venv /opt/venv
USER 1000:1000
CMD ["locust", "-f", "loadtest/locustfile.py"]

FROM bare AS cpu
COPY --from=installed /opt/venv /opt/venv
COPY --from=installed-server /app/.venv-triton .venv-triton
USER 1000:1000
CMD ["python", "-m", "deploy.triton", "--help"]

FROM debian:${DEBIAN_RELEASE}-slim AS cameras
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        gir1.2-gst-rtsp-server-1.0 \
        gstreamer1.0-plugins-bad \
        gstreamer1.0-plugins-base \
        gstreamer1.0-plugins-good \
        gstreamer1.0-plugins-ugly \
        python3-gi \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY demo/rtsp_server.py demo/
USER 1000:1000
CMD ["/usr/bin/python3", "demo/rtsp_server.py", "--help"]
