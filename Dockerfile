# The service's image: one process a container, `docker run IMAGE router run`. The servers have images of their own.

FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libmariadb-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/balance
ENV PATH=/opt/balance/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements/build.txt requirements/compile.txt requirements/run.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt \
    && pip install --no-build-isolation --require-hashes -r requirements/run.txt \
    && python -m venv /opt/compiling \
    && /opt/compiling/bin/pip install --require-hashes -r requirements/compile.txt
COPY pyproject.toml ./
COPY processors processors
COPY schemas schemas
COPY config config
RUN pip install --no-build-isolation --no-deps . \
    && /opt/compiling/bin/python -m processors.ops.compiling \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/processors"

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home balance \
    && install -d -o balance -g balance -m 0700 /var/lib/balance
WORKDIR /app
COPY --from=build /opt/balance /opt/balance
COPY config config
ENV PATH=/opt/balance/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BALANCE_ROOT=/app
USER balance
# The signing keys, made by `balance init`, when BALANCE_KEYS_FILE points here.
VOLUME /var/lib/balance
ENTRYPOINT ["balance"]
CMD ["--help"]
