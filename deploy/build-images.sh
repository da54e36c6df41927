#!/bin/sh
# Build fovea-gateway and fovea-training with docker, or with buildah where no docker answers (docs/images.md).
#
# Environment, all optional:
#   ACCELERATOR     cpu (default) or gpu: what fovea-training brings with it
#   PYTHON_IMAGE    base image, best with its digest
#   PIP_CONF        pip configuration file for the build: an index, its credentials
#   CA              file of certificates to trust in the build
#   PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, HTTP_PROXY, HTTPS_PROXY, NO_PROXY   passed on
#   SOURCE          address of the sources, for the label
#   BUILD_FLAGS     further flags of the build command
set -eu
cd "$(dirname "$0")/.."

if docker info >/dev/null 2>&1; then
    build="docker build"
elif command -v buildah >/dev/null; then
    # The docker format keeps HEALTHCHECK. A base that is there already is not asked for again.
    build="buildah bud --format docker --layers --pull=false"
else
    echo "fovea: neither a running docker nor buildah is here; install one of them to build images" >&2
    exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
accelerator=${ACCELERATOR:-cpu}
case $accelerator in
    cpu) training=$version ;;
    gpu) training=$version-gpu ;;
    *) echo "fovea: ACCELERATOR is cpu or gpu, not '$accelerator'" >&2; exit 1 ;;
esac

set -- --build-arg "VERSION=$version" \
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --build-arg "CREATED=$(git log -1 --format=%cI 2>/dev/null || echo unknown)"
for name in SOURCE PYTHON_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    if value=$(printenv "$name"); then set -- "$@" --build-arg "$name=$value"; fi
done
for file in "${PIP_CONF:-}" "${CA:-}"; do
    [ -z "$file" ] || [ -r "$file" ] || { echo "fovea: $file cannot be read (PIP_CONF, CA)" >&2; exit 1; }
done
[ -z "${PIP_CONF:-}" ] || set -- "$@" --secret "id=pip.conf,src=$PIP_CONF"
[ -z "${CA:-}" ] || set -- "$@" --secret "id=ca.crt,src=$CA" --build-arg PIP_CERT=/run/secrets/ca.crt

# shellcheck disable=SC2086  # both are lists of words
{
    $build "$@" ${BUILD_FLAGS:-} -f Dockerfile.serve -t "fovea-gateway:$version" .
    $build "$@" ${BUILD_FLAGS:-} --build-arg "ACCELERATOR=$accelerator" -f Dockerfile.train -t "fovea-training:$training" .
}
