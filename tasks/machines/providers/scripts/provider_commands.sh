# shellcheck shell=sh
# Runs commands of the controller, one after the other, each also if one before failed. Python decides what they are.
# Parameters: commands (words, one a line; a line ";" ends a command), input (text on the stdin of each).
# Records: a section (name, text, exit_code, stderr) for each command, in order, and ended behind the last one.
# Step: provider
# Changes: on the host: what the commands of the provider change
# shellcheck disable=SC2154  # variables of prelude.sh

fp_set_param input
provider_number=0
run_given() { # COMMAND…: it gets the input, and no line that the script still needs
  if [ -n "$input" ]; then
    "$@" <<INPUT
$input
INPUT
  else "$@"; fi
}
provider_list=$(mktemp) || exit 1 # TMPDIR may be empty
fp_print_param fp_in commands >"$provider_list"
trap 'rm -f "$provider_list"' EXIT
set --
while IFS= read -r provider_word <&5; do
  if [ "$provider_word" != ';' ]; then set -- "$@" "$provider_word"; continue; fi
  provider_number=$((provider_number + 1))
  fp_answer "$provider_number" run_given "$@" 5<&-
  set --
done 5<"$provider_list"
fp_emit ended
