#!/bin/sh
# Run the images as a cluster would (no root, nothing writable but /tmp and the volumes, no capabilities, no network) and
# send one picture through: train on drawn pictures, publish, serve with the embedded model server, ask the gateway.
#
# Environment, optional: RUN_FLAGS, further flags of `docker run` or `podman run`.
set -eu
cd "$(dirname "$0")/.."

if docker info >/dev/null 2>&1; then
    engine=docker
elif command -v podman >/dev/null; then
    engine=podman
    # Podman leaves health checks to systemd's timers, and makes more folders writable unless told not to.
    RUN_FLAGS="--health-interval=disable --read-only-tmpfs=false ${RUN_FLAGS:-}"
else
    echo "fovea: neither a running docker nor podman is here; install one of them to run images" >&2
    exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
gateway=fovea-gateway:$version
training=fovea-training:$version
id=fovea-try-$$

cleanup() {
    status=$?
    [ "$status" -eq 0 ] || for name in model-server gateway; do $engine logs --tail 20 "$id-$name" 2>&1 || true; done
    $engine rm -f "$id-gateway" >/dev/null 2>&1 || true
    $engine rm -f "$id-model-server" >/dev/null 2>&1 || true
    $engine volume rm "$id" >/dev/null 2>&1 || true
}
trap cleanup EXIT

hardened() {
    # shellcheck disable=SC2086  # a list of words
    $engine run --read-only --tmpfs /tmp:rw,mode=1777 --cap-drop=ALL --security-opt=no-new-privileges \
        ${RUN_FLAGS:-} -v "$id:/models" "$@"
}

size() { $engine image inspect --format '{{.Size}}' "$1"; }
base=$(size "${PYTHON_IMAGE:-docker.io/library/python:3.11-slim-bookworm}")
for image in "$gateway" "$training"; do
    beyond=$((($(size "$image") - base) / 1000000))
    echo "$image: $beyond MB beyond its base of $((base / 1000000)) MB"
    if [ "$image" = "$gateway" ] && [ "$beyond" -gt 300 ]; then
        echo "$image is larger than 300 MB: something of TensorFlow came in" >&2
        exit 1
    fi
done

$engine volume create "$id" >/dev/null
echo "Training on drawn pictures and publishing"
hardened --rm --network none "$training" sh -euc '
    fovea data make /tmp/pictures --train 20 --validation 10 --test 0 --size 64
    fovea train --recipe fine_tuned --epochs 1 --size 64 --data /tmp/pictures --run /tmp/run --store /models --name drawn
    fovea models --store /models'

echo "Serving"
hardened -d --name "$id-model-server" --network none -e FOVEA_HEALTH_PORT=8500 "$training" fovea-model-server \
    --port=8500 --model_config_file=/models/models.config --model_config_file_poll_wait_seconds=1 \
    --allow_version_labels_for_unavailable_models=true >/dev/null
hardened -d --name "$id-gateway" --network "container:$id-model-server" -e FOVEA_MODELS=drawn "$gateway" >/dev/null
$engine exec "$id-gateway" python /opt/fovea/smoke.py --url http://127.0.0.1:8080 --wait 180

for name in model-server gateway; do
    $engine exec "$id-$name" sh -c '
        test "$(id -u)" = 10001 || { echo "'"$name"' runs as $(id -u)" >&2; exit 1; }
        ! touch /opt/written 2>/dev/null || { echo "'"$name"' can write to its root" >&2; exit 1; }'
done
if $engine exec "$id-gateway" python -c 'import tensorflow.python' 2>/dev/null; then
    echo "the gateway holds TensorFlow" >&2
    exit 1
fi
if [ "$engine" = podman ]; then
    for name in model-server gateway; do $engine healthcheck run "$id-$name"; done
fi

for name in gateway model-server; do
    $engine stop -t 30 "$id-$name" >/dev/null
    code=$($engine inspect --format '{{.State.ExitCode}}' "$id-$name")
    echo "$name ended with status $code after SIGTERM"
    [ "$code" -eq 0 ] || exit 1
done
