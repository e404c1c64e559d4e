#!/usr/bin/env bash
# Installs dokimos by hash out of the checkout that this action is part of, fetches what the lock names, and checks.
# Ends with what `dokimos image check` ends with: 0 identical, 10 different, 40 something is not to be had.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../../.." && pwd)
# Where others may enter: one of the conditions is a build by another user.
scratch=$(mktemp -d "${RUNNER_TEMP:-/tmp}/dokimos.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
chmod 711 "$scratch"

# Only for the conditions of the second build; a build needs none of it.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -z "${DOKIMOS_NO_APT:-}" ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        disorderfs faketime locales python3-venv util-linux >/dev/null
fi

# A copy: what an installation leaves in the folder of its sources stays out of the checkout.
mkdir "$scratch/source"
tar -C "$source" --exclude=.git -cf - . | tar -C "$scratch/source" -xf -
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --require-hashes -r "$scratch/source/requirements-dev.txt"
"$scratch/venv/bin/pip" install --quiet --no-deps --no-build-isolation "$scratch/source"
dokimos="$scratch/venv/bin/dokimos"

from=()
for mirror in ${MIRROR:-}; do from+=(--mirror "$mirror"); done
lock=()
[ -z "${LOCK:-}" ] || lock+=(--lock "$LOCK")
require=()
for name in ${REQUIRE:-}; do require+=(--require "$name"); done

"$dokimos" image fetch "$PROFILE" "${lock[@]}" "${from[@]}"
"$dokimos" image check "$PROFILE" "${lock[@]}" "${require[@]}" --html "${REPORT:-image-check.html}"
