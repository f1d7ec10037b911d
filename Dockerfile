# One image for every command of Expunge: `docker build -t expunge:0.1.0 .`
#
# The base is pinned by tag. To pin it by content as well, as a release should, print its digest with
#   docker buildx imagetools inspect python:3.13-slim-bookworm
# and write it behind the tag in both FROM lines: python:3.13-slim-bookworm@sha256:…

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
# What changes seldom goes first, so that a new release of ours downloads nothing again.
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /opt/expunge \
 && /opt/expunge/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check \
      --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY ledger ledger
COPY memos_api memos_api
COPY producer producer
COPY worker worker
COPY expunge expunge
# setuptools came with the lock; neither it nor pip goes into the final image. Compiled here, since
# the user of the final image can write nowhere.
RUN /opt/expunge/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check \
      --no-deps --no-build-isolation --no-index . \
 && /opt/expunge/bin/pip uninstall --yes --quiet setuptools pip \
 && /opt/expunge/bin/python -m compileall -q -j 0 /opt/expunge/lib

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="Expunge" \
      org.opencontainers.image.description="Carries out deletion requests against MemOS, reads back what is left, and keeps the record of it." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that orchestrators can see that it is not root. The folders of keys and checkpoints are made here: a
# volume that is mounted there takes its owner and mode over.
RUN groupadd --system --gid 10001 expunge \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/expunge --shell /usr/sbin/nologin expunge \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/expunge /var/lib/expunge/keys \
      /var/lib/expunge/signing /var/lib/expunge/audit
COPY --from=build /opt/expunge /opt/expunge
ENV PATH=/opt/expunge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EXPUNGE_HOME=/var/lib/expunge \
    EXPUNGE_HEALTH_ADDRESS=0.0.0.0 \
    EXPUNGE_HEALTH_PORT=9090
USER 10001:10001
WORKDIR /var/lib/expunge
EXPOSE 9090
# TERM ends it in order, within EXPUNGE_CALL_DEADLINE_SECONDS plus 2 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=3 CMD ["expunge", "healthcheck", "worker"]
ENTRYPOINT ["expunge"]
CMD ["worker"]
