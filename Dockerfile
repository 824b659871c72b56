# The service (`elbound serve`) and bulk scoring (`elbound score`, `elbound inspect`); training stays outside.
#
#   docker build -t elbound .        or `make image`, which labels it with version and revision
#   docker run --read-only --cap-drop=all --tmpfs /tmp -p 127.0.0.1:8000:8000 -e ELBOUND_INSECURE=1 \
#       -v "$PWD/bundles/widgets:/bundles/model:ro" elbound
#
# With keys, which `elbound keys new --name me --scope score --file secrets/keys.json` makes:
#
#   docker run --read-only --cap-drop=all --tmpfs /tmp -p 8000:8000 -u "$(id -u)" -v "$PWD/secrets:/secrets:ro" \
#       -e ELBOUND_API_KEYS_FILE=/secrets/keys.json -v "$PWD/bundles/widgets:/bundles/model:ro" elbound
#
# Several models: -v "$PWD/bundles:/bundles:ro" elbound serve widgets digits
# Settings: -e ELBOUND_...; the health check follows ELBOUND_HOST and ELBOUND_PORT, not flags.
# On a GPU: --build-arg TORCH=cuda; for bundles with an export, on a CPU: --build-arg EXTRAS=onnx
# Behind a proxy or with an index of one's own: --secret id=pip_conf,src=pip.conf and, where that says
# `cert = /run/secrets/ca_bundle`, --secret id=ca_bundle,src=ca.pem. Neither is kept in the image.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b

FROM ${PYTHON_IMAGE} AS dependencies
ARG TORCH=cpu
# Wheels of one's own instead of torch's index for the CPU build: a page or a folder, as pip takes it.
ARG PIP_FIND_LINKS=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv --without-pip /opt/elbound
COPY torch-cpu.txt .
# torch's build for CPUs alone first: the other packages never come from its index. Everything is taken by hash alone.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle \
    case "$TORCH" in cpu|cuda) ;; *) echo "TORCH must be cpu or cuda. Got $TORCH instead" >&2; exit 1;; esac; \
    if [ -z "$PIP_FIND_LINKS" ]; then set -- --index-url https://download.pytorch.org/whl/cpu; fi; \
    [ "$TORCH" = cuda ] || \
    pip --python /opt/elbound/bin/python install --no-deps --require-hashes "$@" -r torch-cpu.txt
COPY constraints.txt pyproject.toml ./
COPY supply/pins.py supply/
# Extras of pyproject.toml beside what serving needs, separated by spaces.
ARG EXTRAS=
# hadolint ignore=SC2086
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle \
    python -m supply.pins --torch "$TORCH" $EXTRAS > pins.txt && \
    pip --python /opt/elbound/bin/python install --require-hashes -r pins.txt
# The wrong build of torch would work, with gigabytes of libraries that no one asked for, or with no GPU. torch's headers
# and its own tests are a tenth of the image.
RUN /opt/elbound/bin/python -c "import runpy, sys, sysconfig; \
    cuda = runpy.run_path(sysconfig.get_path('purelib') + '/torch/version.py')['cuda']; \
    sys.exit((cuda is not None) != ('$TORCH' == 'cuda') and f'TORCH=$TORCH, but pip found the build for CUDA {cuda}')" && \
    rm -rf /opt/elbound/lib/python3*/site-packages/torch/include /opt/elbound/lib/python3*/site-packages/torch/test

FROM dependencies AS application
COPY README.md LICENSE ./
COPY elbound elbound
COPY training training
COPY service service
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle \
    pip --python /opt/elbound/bin/python install --no-deps --no-build-isolation --prefix /opt/application .

FROM ${PYTHON_IMAGE}
# Nothing that installs: the base image's Python has pip and its like, the one in /opt/elbound never had.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin elbound && \
    python -c "import importlib.util, shutil; \
        found = filter(None, map(importlib.util.find_spec, ('pip', 'setuptools', 'wheel', 'pkg_resources', 'ensurepip'))); \
        folders = [folder for one in found for folder in one.submodule_search_locations]; \
        [shutil.rmtree(folder) for folder in folders]" && \
    rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/bin/pip* /usr/share/python-wheels \
        /usr/local/lib/python3*/site-packages/pip-* /usr/local/lib/python3*/site-packages/setuptools-* \
        /usr/local/lib/python3*/site-packages/wheel-*
# A layer that changes with constraints.txt, then a small one that changes with the code.
COPY --from=dependencies /opt/elbound /opt/elbound
COPY --from=application /opt/application /opt/elbound
ENV PATH=/opt/elbound/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ELBOUND_HOST=0.0.0.0 \
    ELBOUND_PORT=8000
USER 10001:10001
WORKDIR /bundles
EXPOSE 8000
# http.client, since urllib would ask a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection(os.environ['ELBOUND_HOST'], int(os.environ['ELBOUND_PORT']), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["elbound"]
CMD ["serve", "/bundles/model"]
# `make image` adds version, revision and source: by --label, since podman's cache keeps a LABEL whose ARG has changed.
LABEL org.opencontainers.image.title="elbound" \
      org.opencontainers.image.description="Calibrated anomaly scores over HTTP from a variational autoencoder" \
      org.opencontainers.image.licenses="Apache-2.0"
