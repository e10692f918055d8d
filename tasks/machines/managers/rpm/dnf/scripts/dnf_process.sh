#!/bin/sh
# Asks dnf 4 in one process: to start Python and to load dnf takes longer than most answers. The process loads dnf once,
# and forks for each question. The fork runs dnf's own program with the question's words, as its interpreter would do
# at its start, and ends as dnf ends. Only for questions: what changes packages is a process of its own.
# Before fp_start_dnf, and where anything for that is missing, dnf is started for each question.
# Requires: tool_history
# shellcheck disable=SC2154  # set by the prelude

# shellcheck disable=SC2016  # Python
fp_dnf_program='
import sys
sys.path[:] = filter(None, sys.path)  # never from the working directory
import atexit, gc, importlib, os, runpy, select, signal, stat, threading
import dnf.cli.main

for module in ("dbus", "dnfpluginscore", "pkgutil", "typing"):  # of plugins that most machines have
    try:
        importlib.import_module(module)
    except ImportError:
        pass

program, pipes, script = sys.argv[1], sys.argv[2], os.getppid()


def read_question():
    text = b""
    while not text.endswith(b"\n\n"):
        while not select.select([0], [], [], 5)[0]:
            if os.getppid() != script:
                sys.exit()
        part = os.read(0, 65536)
        if not part:
            sys.exit()
        text += part
    return os.fsdecode(text)[:-2].split("\n")


def open_output(pid, number):
    output = os.open("/proc/%s/fd/%d" % (pid, number), os.O_WRONLY)
    mode = os.fstat(output).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return output
    os.close(output)
    raise OSError("a second position in a file")


def leave(code):
    # dnf has closed what it opened, and to take Python apart would copy all memory that the fork shares
    if not isinstance(code, (int, type(None))) or threading.active_count() > 1 or not hasattr(atexit, "_run_exitfuncs"):
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 255)


def answer(pid, limit, words):
    outputs = []
    try:
        outputs += [open_output(pid, 6)]
        outputs += [open_output(pid, 8)]
        child = os.fork()
    except OSError:
        child = None
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
            os.close(output)
        signal.alarm(int(limit))
        sys.argv = [program] + words
        if not getattr(sys.flags, "safe_path", False):
            sys.path.insert(0, os.path.dirname(os.path.realpath(program)))
        try:
            runpy.run_path(program, run_name="__main__")
            sys.exit()
        except SystemExit as end:
            leave(end.code)
            raise
    for output in outputs:
        os.close(output)
    if child is None:
        return b"no"
    status = os.waitpid(child, 0)[1]
    return b"%d" % (os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


with open("/proc/self/comm", "w") as name:
    name.write("dnf")  # so that a process that waits for a lock of a fork shows this name
try:
    for pipe in os.listdir(pipes):
        os.unlink(os.path.join(pipes, pipe))
    os.rmdir(pipes)  # both are open
except OSError:
    pass
getattr(gc, "freeze", int)()  # forks have no need to look through what was loaded before them; Python 3.6 lacks it
os.write(1, b"ready\n")
while True:
    pid, limit, *words = read_question()
    os.write(1, answer(pid, limit, words) + b"\n")
'

fp_dnf=''
# fp_start_dnf: starts the process; it ends with this script. Questions go to fd 5, exit codes come from fd 7.
fp_start_dnf() {
  fp_program=$(command -v dnf) && { IFS= read -r fp_first <"$fp_program"; } 2>/dev/null || return 0
  case $fp_first in '#!/'*python*) ;; *) return 0 ;; esac
  fp_pipes=$(mktemp -d) || return 0
  if mkfifo "$fp_pipes/question" "$fp_pipes/answer"; then
    # shellcheck disable=SC2086  # the interpreter and its options
    ${fp_first#??} -c "$fp_dnf_program" "$fp_program" "$fp_pipes" <"$fp_pipes/question" >"$fp_pipes/answer" 2>/dev/null 3>&- &
    exec 5>"$fp_pipes/question" 7<"$fp_pipes/answer"
    read -r fp_dnf <&7 || :
  fi
  [ ! -d "$fp_pipes" ] || rm -r "$fp_pipes"
}

# fp_ask_dnf LIMIT WORDS…: as "dnf WORDS…", ended after LIMIT seconds (0: not ended)
fp_ask_dnf() {
  fp_seconds=$1; shift
  fp_says=no
  if [ "$fp_dnf" = ready ] && ! fp_is_unsendable "$@" && read -r fp_pid _ </proc/self/stat; then
    fp_says=''
    exec 6>&1 8>&2 # the process opens these: while a shell writes the question, 1 and 2 may be others
    trap '' PIPE # the process may have ended
    { printf '%s\n' "$fp_pid" "$fp_seconds" "$@" '' >&5; } 2>/dev/null && read -r fp_says <&7 || :
    trap - PIPE
    exec 6>&- 8>&-
  fi
  case $fp_says in '' | *[!0-9]*) ;; *) return "$fp_says" ;; esac
  [ "$fp_seconds" -gt 0 ] || { dnf "$@"; return; }
  fp_limited "$fp_seconds" dnf "$@"
}
fp_is_unsendable() { # WORDS…: whether one of them is empty or has several lines
  for fp_word in "$@"; do case $fp_word in '' | *"$fp_newline"*) return 0 ;; esac; done
  return 1
}

fp_ask_tool() { fp_ask_dnf 60 "$@"; } # in place of the one of tool_history
