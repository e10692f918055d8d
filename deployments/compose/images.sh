#!/usr/bin/env bash
# Says which container images are pinned by digest. A tag can get another image tomorrow; a digest can't.
#
#   images.sh          list the images; exit code 1 if one is not pinned
#   images.sh --pin    write the digest of today's image behind each tag (needs skopeo, or docker with buildx, and the
#                      network). Run it again to take newer images. Read what changed with git diff, then commit it.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
FILES=(deployments/compose/Dockerfile deployments/compose/compose.yaml .github/workflows/ci.yml)

images() { # each image with its tag, and its digest if it has one; images without a tag are built here
  sed -nE 's/^( *image:|FROM) +([a-z0-9./_-]+:[A-Za-z0-9._-]+(@sha256:[0-9a-f]{64})?)( .*)?$/\2/p' "${FILES[@]}" | sort -u
}

resolve() { # image with its tag: its digest (of the list of all architectures)
  if command -v skopeo >/dev/null; then skopeo inspect --no-tags --raw "docker://$1" | sha256sum | sed -E 's/^([0-9a-f]{64}).*/sha256:\1/'
  elif command -v docker >/dev/null; then docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"
  else echo "images: neither skopeo nor docker is installed" >&2; return 1; fi
}

pin() {
  local image tag digest pinned=()
  for image in $(images); do # all of them are resolved before a file changes
    tag=${image%@*}
    digest=$(resolve "$tag") || { echo "images: the digest of $tag can't be found. Nothing was changed" >&2; exit 1; }
    [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "images: $digest is no digest ($tag). Nothing was changed" >&2; exit 1; }
    pinned+=("s,${tag//./\\.}(@sha256:[0-9a-f]{64})?( |$),$tag@$digest\\2,")
  done
  sed -i -E "$(printf '%s\n' "${pinned[@]}")" "${FILES[@]}"
}

case ${1:-} in
  --pin) pin ;;
  '') ;;
  *) sed -n '2,/^set -e/{/^#/p}' "$0" >&2; exit 2 ;;
esac
code=0
for image in $(images); do
  case $image in *@*) echo "pinned      $image" ;; *) echo "NOT PINNED  $image"; code=1 ;; esac
done
exit $code
