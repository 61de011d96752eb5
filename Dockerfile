# syntax=docker/dockerfile:1
# The operator's image. `make image` builds the last stage without Docker: see hack/image.

# Built on the architecture that it is for: `docker buildx build --platform linux/arm64` emulates where it must.
FROM rust:1.95-slim-bookworm AS build
# protoc and the well-known .proto files, for etcd-client.
RUN apt-get update && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev
# Static against the gnu libc: the image needs no libc, and no musl target is needed. The target is named although
# it is the host's own: without it the flags would reach build scripts and proc-macros, which cannot be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"
WORKDIR /src
COPY . .
RUN target=$(uname -m)-unknown-linux-gnu && \
    cargo build --release --locked --bin quorate --target "$target" && \
    install -D "target/$target/release/quorate" /out/quorate

FROM scratch
LABEL org.opencontainers.image.title="quorate" \
      org.opencontainers.image.description="Runs etcd clusters on Kubernetes and upgrades them one verified member at a time" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/quorate /quorate
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/quorate"]
