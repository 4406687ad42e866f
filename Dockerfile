# One image for every role: a static program and nothing else.
FROM golang:1.26-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/paldies ./cmd/paldies \
 && mkdir -p /out/data/keys /out/data/log /out/secrets

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/paldies /paldies
# Volumes that are mounted here belong to the user from the beginning.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/secrets /secrets
ENV PALDIES_DATA=/data
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/paldies", "deploy", "probe", "http://127.0.0.1:8080/livez"]
ENTRYPOINT ["/paldies"]
