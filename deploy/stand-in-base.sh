#!/bin/sh
# Make a stand-in for the official Python image where none can be pulled: a minimal Debian 12 from the Debian archive
# with this machine's CPython 3.11. It proves the steps of the Dockerfiles, not the contents of the official image.
# Needs root, debootstrap and podman.
#
# usage: stand-in-base.sh [PYTHON]
set -eu
python=${1:-python3.11}
name=${PYTHON_IMAGE:-docker.io/library/python:3.11-slim-bookworm}
prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

debootstrap --variant=minbase \
    --include=ca-certificates,libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,netbase,tzdata,zlib1g \
    bookworm "$root" >"$work/log" || { tail -3 "$work/log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/archives/* "$root"/var/lib/apt/lists/*

mkdir -p "$root/usr/local/lib/python3.11"
cp "$prefix/bin/python3.11" "$root/usr/local/bin/"
cp "$prefix"/lib/libpython3.11.so* "$root/usr/local/lib/" 2>/dev/null || true
tar -C "$prefix/lib/python3.11" -c --exclude=./site-packages --exclude=./test --exclude=__pycache__ . |
    tar -C "$root/usr/local/lib/python3.11" -x
ln -s python3.11 "$root/usr/local/bin/python3"
ln -s python3.11 "$root/usr/local/bin/python"
chroot "$root" ldconfig
chroot "$root" /usr/local/bin/python3.11 -m ensurepip --default-pip >"$work/log" 2>&1 || { tail -3 "$work/log" >&2; exit 1; }

tar -C "$root" -c . | podman import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'CMD ["python3"]' - "$name"
