#!/bin/sh
# The start of every script. POSIX sh, any awk. Records go to fd 3: framed to the controller, or as JSON lines to a
# job's events file. A script's own stdout and stderr are unframed output (or the job's log).
# The transport sets fp_mark (framed) or leaves it empty (in a job), and FP_TOKEN: base64 of the parameters as
# a flat JSON object.
# Step: connect
# Changes: nothing

LC_ALL=C LANG=C TERM=dumb HOME=${HOME:-/root} PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL LANG TERM HOME PATH
unset LANGUAGE ENV BASH_ENV CDPATH GREP_OPTIONS POSIXLY_CORRECT

fp_tab='	' fp_newline='
'
fp_mark=${fp_mark:-}
# the pieces of a record are lines "MARK+ piece", the last one is "MARK= piece"; in a job there is one line and no
# mark
if [ -n "$fp_mark" ]; then
  fp_more="$fp_mark+ " fp_last="$fp_mark= " fp_cut=$fp_newline
else
  fp_more='' fp_last='' fp_cut=''
fi
# Some shells keep a here-document in a file: bash before 5.1 each, later ones a long one. If that can't be written, the
# command that reads it is left out, and what it looks for seems not to be there. So a folder is chosen that has room, and
# without one nothing begins. It is not exported: what a script starts has its own.
fp_find_room() {
  fp_long=''
  # shellcheck disable=SC3045  # of bash
  [ -z "${BASH_VERSION:-}" ] || printf -v fp_long '%70000s' ''
  for fp_room in "${TMPDIR:-}" /dev/shm /run /tmp /var/tmp; do
    [ -z "$fp_room" ] || TMPDIR=$fp_room
    if true 2>/dev/null <<LONG; then return; fi
$fp_long
LONG
  done
  echo "no temporary file can be written in /dev/shm, /run, /tmp and /var/tmp, so nothing was begun" >&2
  exit 121
}
unset TMPDIR
fp_find_room
# fp_read_token PREFIX TOKEN: sets PREFIX_NAME to each parameter, as fp_param prints it, after "s" (a text) or "l" (a list).
# One awk for all of them, and it decodes, too: a script that starts a program for each would start little else. The
# encoder writes " and \ as \u escapes, so that a quote always ends a string and a backslash always starts an escape.
# shellcheck disable=SC2016  # awk's $, not the shell's
fp_reads='
  function swap(s, code, by,   n, i, part, out) {
    if (index(s, code) == 0) return s
    # a pattern: at one character, some awks split at each line break, too
    n = split(s, part, code ~ /^\\/ ? "[\\\\]" substr(code, 2) : "[" code "]"); out = part[1]
    for (i = 2; i <= n; i++) out = out by part[i]
    return out
  }
  function plain(s,   i) {
    if (index(s, "\\")) {
      s = swap(s, "\\n", "\n"); s = swap(s, "\\u0022", "\"")
      for (i = 1; i < 32; i++) s = swap(s, sprintf("\\u%04x", i), sprintf("%c", i))
      s = swap(s, "\\u005c", "\\")
    }
    return swap(s, "\047", "\047\\\047\047")  # for the shell, between single quotes
  }
  function decode(s,   i, a, b, c, piece, out) { # base64; pieces, because a long text grows slowly
    for (i = 0; i < 64; i++) six[substr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", i + 1, 1)] = i
    for (i = 1; i < 256; i++) byte[i] = sprintf("%c", i)
    for (i = 1; i <= length(s); i += 4) {
      a = six[substr(s, i, 1)]; b = six[substr(s, i + 1, 1)]; c = six[substr(s, i + 2, 1)]
      piece = piece byte[a * 4 + int(b / 16)] byte[b % 16 * 16 + int(c / 4)] byte[c % 4 * 64 + six[substr(s, i + 3, 1)]]
      if (i % 4096 == 1) { out = out piece; piece = "" }
    }
    return out piece
  }
  NR == 1 {
    count = split(decode($0), q, "\"")  # q[k] is a key, q[k + 1] the text between it and its value
    for (k = 2; k < count; k = v + 2) {
      list = q[k + 1] ~ /^:\[/; v = k + 2
      printf "%s_%s=\047%s", prefix, q[k], list ? "l" : "s"
      if (q[k + 1] ~ /^:\[\]/) v = k
      else printf "%s\n", plain(q[v])
      while (list && v > k && q[v + 1] == ",") { v += 2; printf "%s\n", plain(q[v]) }
      print "\047"
    }
    print prefix "_=read"
  }'
fp_read_token() {
  eval "$(awk -v prefix="$1" "${3-}$fp_reads" <<TOKEN
$2
TOKEN
)"
}
fp_in_=''
fp_read_token fp_in "${FP_TOKEN:-}" "${fp_environment-}"
[ -n "$fp_in_" ] || exit 120 # awk could not run: nothing may begin without its parameters
fp_find_room # that of /etc/environment may have none

fp_find_param() { fp_stored=''; eval "fp_stored=\${$1_$2-}"; } # PREFIX NAME: sets fp_stored to what fp_read_token has set
fp_print_param() { fp_find_param "$1" "$2"; printf '%s' "${fp_stored#?}"; } # PREFIX NAME: of a list, an item a line
fp_param() { fp_print_param fp_in "$1"; } # NAME
fp_set_param() { # NAME [PREFIX]: sets the variable of that name, and fp_stored, to a parameter; "$(fp_param …)" would start a process
  fp_find_param "${2:-fp_in}" "$1"
  fp_stored=${fp_stored#?} fp_stored=${fp_stored%
}
  eval "$1=\$fp_stored"
}
fp_has() { # NAME: whether a parameter has a value
  fp_find_param fp_in "$1"
  case $fp_stored in '' | l | 's
') return 1 ;; esac
}

# fp_read_boot: sets fp_boot to what tells this boot of the machine from all others: the kernel's boot id and, after a dot, the
# start of the first process in ticks since then (fp_first). A container may have its host's boot id. Empty without a boot id.
fp_read_boot() {
  fp_boot='' fp_first='' fp_stat=''
  { IFS= read -r fp_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || :
  { IFS= read -r fp_stat </proc/1/stat; } 2>/dev/null || :
  # shellcheck disable=SC2086  # fields; what stands before the last bracket is the name, which may hold anything
  set -- ${fp_stat##*) }
  [ "$#" -lt 20 ] || fp_first=${20}
  [ -z "$fp_boot" ] || fp_boot=$fp_boot${fp_first:+.$fp_first}
}
# fp_is_boot BOOT: whether that is this boot, after fp_read_boot. Release 0.1.0 has written the kernel's boot id alone.
fp_is_boot() { [ "$1" = "$fp_boot" ] || { [ -n "$1" ] && [ "$1" = "${fp_boot%.*}" ]; }; }

# The time. A clock can be set back while an order waits. The uptime can't, and it continues while a machine is
# suspended. fp_base is the clock's time at the boot, from the last comparison of the two: an order's parameter
# "clock" has it (boot id, fp_base), and a job stores it when it begins. Without it, only the clock counts.
fp_read_uptime() { # sets fp_up to the whole seconds since the boot
  fp_up=''
  { IFS='. ' read -r fp_up _ </proc/uptime; } 2>/dev/null || :
  case $fp_up in '' | *[!0-9]*) return 1 ;; esac
}
fp_note_clock() { if fp_read_uptime; then fp_base=$(($(date +%s) - fp_up)); fi; } # from now on, a clock that is set back has no effect
# fp_read_time: sets fp_time to the seconds since 1970 by this machine's clock, or by fp_base and the uptime if that is later.
# The clock is a program of its own, so it is asked once in a second of the uptime.
fp_read_time() {
  fp_read_uptime || :
  if [ -z "$fp_up" ] || [ "$fp_up" != "$fp_up_then" ]; then fp_clock=$(date +%s) fp_up_then=$fp_up; fi
  fp_time=$fp_clock
  if [ -n "$fp_base" ] && [ -n "$fp_up" ] && [ "$((fp_base + fp_up))" -gt "$fp_time" ]; then fp_time=$((fp_base + fp_up)); fi
}
fp_ask_time() { fp_up_then=''; fp_read_time; } # as fp_read_time, but asks the clock now: for what may no longer begin
fp_now() { fp_read_time; echo "$fp_time"; }
fp_up_then=''
[ -n "${FP_JOB_DIR:-}" ] || fp_base=''
fp_base=${fp_base:-}
if fp_has clock; then
  fp_set_param clock
  fp_told=$fp_stored
  fp_read_boot
  case $fp_told in "$fp_boot "*[!0-9]* | "$fp_boot ") ;; "$fp_boot "*) fp_base=${fp_told#* } ;; esac
fi
# in a job: whether its directory is still its own. If it was removed, nothing can be recorded, and another job may
# have its place.
fp_has_folder() { { read -r fp_owner _ <"$FP_JOB_DIR/meta"; } 2>/dev/null && [ "$fp_owner" = "$$" ]; }
# in a job: whether nothing more may begin: a stop was requested, no process can follow the job, or the system shuts down
fp_stop_requested() {
  [ -n "${FP_JOB_DIR:-}" ] || return 1
  [ -e "$FP_JOB_DIR/stop" ] || ! fp_has_folder || { [ -d /run/systemd/system ] && [ "$(systemctl is-system-running 2>/dev/null)" = stopping ]; }
}

# quoted(s): a line as the inside of a JSON string (all awks agree on \u0022 and && in a replacement); put(s): print
# all but the last 1 to 60000 characters in pieces, and return those
# shellcheck disable=SC2016  # awk's $, not the shell's
fp_awk='
  function quoted(s,   i) {
    gsub(/\\/, "&&", s); gsub(/"/, "\\u0022", s)
    if (s ~ /[\001-\037]/)
      for (i = 1; i < 32; i++) if (index(s, sprintf("%c", i))) gsub(sprintf("%c", i), sprintf("\\u%04x", i), s)
    return s
  }
  function put(s) {
    while (length(s) > 60000) { printf "%s%s%s", more, substr(s, 1, 60000), cut ? "\n" : ""; s = substr(s, 60001) }
    return s
  }
'
# fp_pieces: an awk program: stdin, which has one extra "." at its end, as the inside of a JSON string. It holds little
# back: an awk copies all of it at each line.
# shellcheck disable=SC2016  # awk's $, not the shell's
fp_pieces=$fp_awk'
  { held = put(held (NR > 1 ? "\\n" : "") quoted($0)); size = length(held) }
  size > 2000 { printf "%s%s%s", more, substr(held, 1, size - 1), cut ? "\n" : ""; held = substr(held, size) }
  END { if (length(held) > 1) printf "%s%s%s", more, substr(held, 1, length(held) - 1), cut ? "\n" : "" }'

# fp_string VALUE: sets fp_quoted to the JSON string. The shell itself makes it, without a process, if it is short: some shells
# search a long text for minutes.
fp_string() {
  fp_rest=$1 fp_quoted='"'
  case ${#1} in ? | ?? | ???) ;; *) fp_escape_rest; fp_quoted="$fp_quoted\""; return ;; esac
  while :; do
    fp_even=${fp_rest%%[[:cntrl:]\"\\]*}
    fp_quoted=$fp_quoted$fp_even
    [ "$fp_even" != "$fp_rest" ] || break
    fp_rest=${fp_rest#"$fp_even"}
    case $fp_rest in
      "$fp_newline"*) fp_quoted="$fp_quoted\\n" ;;
      \"*) fp_quoted="$fp_quoted\\u0022" ;;
      \\*) fp_quoted="$fp_quoted\\\\" ;;
      "$fp_tab"*) fp_quoted="$fp_quoted\\u0009" ;;
      *) fp_escape_rest; break ;;
    esac
    fp_rest=${fp_rest#?}
  done
  fp_quoted="$fp_quoted\""
}
fp_escape_rest() {
  fp_quoted=$fp_quoted$(
    awk -v more= -v cut= "$fp_pieces" <<REST
$fp_rest.
REST
  )
}

# fp_put: each line of stdin is a complete record; long ones are sent in pieces
fp_put() {
  awk -v more="$fp_more" -v last="$fp_last" -v cut="${fp_cut:+1}" "$fp_awk"'{ $0 = put($0); print last $0 }' >&3
}

# fp_emit KIND key=text key:=json …: one record; := accepts numbers, true, false and null (an empty value is null)
fp_emit() {
  fp_string "$1"; fp_json="{\"kind\":$fp_quoted"; shift
  for fp_pair in "$@"; do
    fp_key=${fp_pair%%=*} fp_value=${fp_pair#*=}
    fp_quoted=$fp_value
    case $fp_key in
      *:) fp_key=${fp_key%:}
        case $fp_value in
          '') fp_quoted=null ;;
          true | false | null) ;;
          - | -*[!0-9.]* | [!-]*[!0-9.]* | [!0-9-]* | 0[0-9]* | -0[0-9]* | -.* | *. | *.*.*)
            fp_string "$fp_value" ;; # no JSON number: a string
        esac ;;
      *) fp_string "$fp_value" ;;
    esac
    fp_json="$fp_json,\"$fp_key\":$fp_quoted"
  done
  case ${#fp_json} in
    ? | ?? | ??? | ????) printf '%s%s}\n' "$fp_last" "$fp_json" >&3 ;;
    *) fp_put <<JSON ;;
$fp_json}
JSON
  esac
}

# fp_lines KIND KEY: one record for each line of stdin
fp_lines() {
  tr '\000' '\377' | awk -v kind="$1" -v key="$2" -v more="$fp_more" -v last="$fp_last" -v cut="${fp_cut:+1}" "$fp_awk"'
    { $0 = put("{\"kind\":\"" kind "\",\"" key "\":\"" quoted($0) "\"}"); print last $0 }' >&3
}

# fp_untear TEXT BYTES: sets fp_text to what tail -c BYTES has kept of an output, without the word that it may have torn:
# the second half of a URL does not show that it begins within a password. The shell has removed line breaks at the end.
fp_untear() {
  fp_text=$1
  if [ "${#1}" -ge "$(($2 - 100))" ]; then
    fp_text=${1#*[ "$fp_tab$fp_newline"]}
    [ "$fp_text" != "$1" ] || fp_text=''
  fi
}

# fp_send_section NAME TEXT CODE STDERR: a section record of a text that the script has already
fp_send_section() {
  fp_string "$1"; fp_section_head="{\"kind\":\"section\",\"name\":$fp_quoted,\"exit_code\":$3"
  fp_string "$4"; fp_section_head="$fp_section_head,\"stderr\":$fp_quoted,\"text\":"
  case ${#2} in
    ? | ?? | ???) fp_string "$2"; printf '%s%s%s}\n' "$fp_last" "$fp_section_head" "$fp_quoted" >&3; return ;;
  esac
  printf '%s%s"%s' "$fp_more" "$fp_section_head" "$fp_cut" >&3
  awk -v more="$fp_more" -v cut="${fp_cut:+1}" "$fp_pieces" >&3 <<TEXT
$2.
TEXT
  printf '%s"}\n' "$fp_last" >&3
}
fp_text_section() { fp_send_section "$1" "$2$fp_newline" "${3:-0}" ''; } # NAME TEXT [CODE]: with a line break behind it

# fp_answer NAME COMMAND [ARGS…]: as fp_section, for a command whose output has no NUL, with fewer processes: the shell itself
# reads the output, with one line break at its end. The separator is a nonce, so that no output can forge it. In some
# shells, printf is a program, to which no long text can be given.
fp_answer() {
  [ -n "$fp_mark" ] || { fp_section "$@"; return; }
  fp_asked_for=$1; shift
  fp_back=$(
    { fp_output=$("$@" </dev/null 2>&4 3>&- 4>&-); fp_code=$?; } 4>&1
    case ${#fp_output} in
      ? | ?? | ??? | ????) printf '\n%s:%s:%s' "$fp_mark" "$fp_code" "$fp_output" ;;
      *) cat <<OUTPUT ;;

$fp_mark:$fp_code:$fp_output
OUTPUT
    esac
  )
  case $fp_back in
    "$fp_newline$fp_mark:"*) fp_errors='' fp_output=${fp_back#"$fp_newline$fp_mark:"} ;;
    *) case ${#fp_back} in
      ? | ?? | ???)
        fp_errors=${fp_back%%"$fp_newline$fp_mark:"*} fp_output=''
        # without the separator, nothing is known of the output and its code
        [ "$fp_errors" = "$fp_back" ] || fp_output=${fp_back#"$fp_errors$fp_newline$fp_mark:"} ;;
      *) fp_split_back ;;
    esac ;;
  esac
  fp_code=${fp_output%%:*} fp_output=${fp_output#*:}
  fp_limit_stderr "$fp_errors"
  case $fp_code in '' | *[!0-9]*) fp_code=1 ;; esac
  fp_send_section "$fp_asked_for" "${fp_output:+$fp_output$fp_newline}" "$fp_code" "$fp_text"
  return "$fp_code"
}
fp_split_back() { # sets fp_errors and fp_output to the parts of a long fp_back. It reads to the end, so that no command reports a broken pipe
  fp_errors=$(
    awk -v mark="$fp_mark:" 'index($0, mark) == 1 { is_over = 1 } !is_over { print }' <<BACK | tail -c 4096
$fp_back
BACK
  )
  fp_output=$(
    awk -v mark="$fp_mark:" 'has_begun { print; next } index($0, mark) == 1 { has_begun = 1; print substr($0, length(mark) + 1) }' <<BACK
$fp_back
BACK
  )
}
fp_limit_stderr() { # TEXT: sets fp_text to its last 4 KiB
  fp_text=${1%"$fp_newline"}
  case ${#fp_text} in
    ? | ?? | ???) ;;
    *) fp_text=$(
      tail -c 4096 <<ERRORS
$fp_text
ERRORS
    )
      fp_untear "$fp_text" 4096 ;;
  esac
}

# fp_section NAME COMMAND [ARGS…]: run it; its output, exit code and the last 4 KiB of its stderr become one record. A function
# that ends in another program (exec) needs fp_answer: here its exit code would be lost
fp_section() {
  fp_string "$1"; shift
  printf '%s%s%s' "$fp_more" "{\"kind\":\"section\",\"name\":$fp_quoted,\"text\":\"" "$fp_cut" >&3
  # the result: stderr, and behind it the exit code
  fp_back=$(
    { { "$@" </dev/null 2>&4 3>&- 4>&-; printf '\n%s' "$?" >&4; printf .; } \
      | tr '\000' '\377' | awk -v more="$fp_more" -v cut="${fp_cut:+1}" "$fp_pieces" >&3; } 4>&1
  )
  fp_code=${fp_back##*"$fp_newline"}
  case $fp_code in '' | *[!0-9]*) fp_code=1 ;; esac
  fp_limit_stderr "${fp_back%"$fp_newline"*}"
  fp_string "$fp_text"
  printf '%s%s\n' "$fp_last" "\",\"exit_code\":$fp_code,\"stderr\":$fp_quoted}" >&3
  return "$fp_code"
}
