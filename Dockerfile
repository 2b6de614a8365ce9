# The image of the pipe. With a network this compiles it, for one platform or for several:
#
#     docker build --tag teleport-pipe:dev .
#
# `make image` puts binaries that are built already in the place of the first stage
# (`--build-context compiled=DIRECTORY`), so that both ways end in the same last stage.

FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95.0-bookworm AS compiled
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu musl-tools \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG TARGETARCH
RUN binary=$(release/binary "$TARGETARCH") && install -D "$binary" "/$TARGETARCH/teleport-pipe"

# Nothing but the pipe: no shell, no C library, no CA bundle (Mozilla's roots are in the binary), no /etc/passwd.
FROM scratch
ARG TARGETARCH
COPY --from=compiled --chmod=0755 /${TARGETARCH}/teleport-pipe /teleport-pipe
COPY --chmod=0644 LICENSE pipe.yml README.md /
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="teleport-pipe" \
      org.opencontainers.image.description="Short-lived SSH credentials from Teleport for a Bitbucket Pipelines step" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://bitbucket.org/ORGANISATION/teleport-pipe" \
      org.opencontainers.image.url="https://bitbucket.org/ORGANISATION/teleport-pipe/src/$VERSION/" \
      org.opencontainers.image.documentation="https://bitbucket.org/ORGANISATION/teleport-pipe/src/$VERSION/README.md" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
# No USER: a pipe runs as root, as every pipe does. Bitbucket's directories are root's, and only root can give the
# credentials to the user of the step.
ENTRYPOINT ["/teleport-pipe"]
