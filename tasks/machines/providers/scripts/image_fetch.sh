# shellcheck shell=sh
# Downloads a part of an image with curl. The file gets its name when it is whole and has its digest. It replaces no other file.
# Parameters: folder, name (of the file in it), digest (ALGORITHM:HEX), size (bytes), url, mark (its ETag, or ""), seconds (for
# this part), resume (yes: the part goes on where the last one has ended; "": the file comes in one piece).
# Record: image_part {state, have, why}: Part (have: bytes that are there; why: what curl said), NoResume, OtherFile (it had
# another digest, and was removed), Fetched, Present (it was there before), Failed (why).
# Step: provider
# Changes: on the host: the file of an image
# shellcheck disable=SC2154  # variables of prelude.sh

for variable in folder name digest size url mark seconds resume; do fp_set_param "$variable"; done
image_file=$folder/$name
image_place=${image_file%/*} image_part=${image_file%/*}/.${image_file##*/}.part
image_bytes() { if [ -f "$image_part" ]; then wc -c <"$image_part" | tr -d ' '; else echo 0; fi; }
image_digest() { "${digest%%:*}sum" <"$1" | cut -d ' ' -f 1; } # FILE
image_tell() { fp_emit image_part state="$1" have:="$(image_bytes)" why="${2-}"; exit 0; } # STATE [WHY]

[ -d "$folder" ] || image_tell Failed "there is no folder $folder"
command -v curl >/dev/null || image_tell Failed "curl is not installed there"
mkdir -p -- "$image_place" || image_tell Failed "cannot make the folder $image_place"
[ -z "$(find "$image_place" -maxdepth 0 -perm -0002)" ] || image_tell Failed "anybody may write in $image_place"
exec 9<"$image_place"
flock -w "$seconds" 9 || image_tell Part "another order is at work in $image_place"
if [ -e "$image_file" ] || [ -h "$image_file" ]; then
  [ "$(image_digest "$image_file")" = "${digest#*:}" ] || image_tell Failed "$image_file is there already, and is another file"
  image_tell Present
fi
# what is left of a file with another digest is of no use
if [ -h "$image_part" ] || [ "$(cat -- "$image_part.of" 2>/dev/null)" != "$digest" ] || [ "$(image_bytes)" -gt "$size" ] || [ -z "$resume" ]; then
  rm -f -- "$image_part" "$image_part.of"
  printf '%s\n' "$digest" >"$image_part.of" || image_tell Failed "cannot write in $image_place"
fi
image_need=$(((size - $(image_bytes)) / 1024 + 1024 * 1024)) # a GiB stays: libvirt pauses machines without room
image_free=$(df -Pk -- "$image_place" | awk 'END { print $4 }')
[ "$image_free" -ge "$image_need" ] || image_tell Failed "$image_place has $((image_free / 1024)) MiB free, and needs $((image_need / 1024)) MiB"
if [ "$(image_bytes)" -lt "$size" ]; then
  image_said=$(umask 077; ulimit -f "$((size / 512 + 1))"
    curl -fsS --proto '=https,http' --connect-timeout 20 --max-time "$seconds" ${resume:+-C -} ${mark:+-H "If-Range: $mark"} -o "$image_part" -- "$url" 2>&1)
  image_code=$?
  [ "$image_code" -ne 33 ] || image_tell NoResume
  [ "$(image_bytes)" -ge "$size" ] || image_tell Part "curl ended with $image_code: $image_said"
fi
if [ "$(image_bytes)" -ne "$size" ] || [ "$(image_digest "$image_part")" != "${digest#*:}" ]; then
  rm -f -- "$image_part" "$image_part.of"
  image_tell OtherFile
fi
sync -- "$image_part"
{ chmod 0444 -- "$image_part" && ln -- "$image_part" "$image_file"; } || image_tell Failed "cannot write $image_file"
rm -f -- "$image_part" "$image_part.of"
image_tell Fetched
