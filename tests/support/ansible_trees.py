"""Made-up Ansible inventories: what people write, and what they write by mistake."""

from dataclasses import dataclass

from hypothesis import strategies as st

GROUPS = ["web", "db", "prod", "site"]
HOSTS = ["h1", "h2", "h3", "h-a", "web", "10.1.1.1"]
PATTERNS = [*HOSTS, *HOSTS, "h[1:3]", "h-[a:b]", "h1:2200", "h2:2201", "h[1:2]:2222", "n[01:02].x"]
ADDRESSES = ["192.0.2.1", "192.0.2.2", "h1.example.org", "{{ inventory_hostname }}.x", "2001:db8::1"]
USERS = ["deploy", "root", "admin"]
PLAIN: dict[str, list[str]] = {
    "ansible_host": ADDRESSES,
    "ansible_ssh_host": ADDRESSES,
    "ansible_port": ["22", "2203"],
    "ansible_ssh_port": ["2204"],
    "ansible_user": USERS,
    "ansible_ssh_user": USERS,
    "ansible_ssh_private_key_file": ["/keys/a", "/keys/b"],
    "ansible_private_key_file": ["/keys/c"],
    "ansible_ssh_common_args": [
        "-o ProxyJump=10.1.1.1",
        "-J 10.1.1.1",
        "-o ProxyCommand='ssh -W %h:%p -q 10.1.1.1'",
        "-C",
    ],
    "ansible_ssh_args": ["-o ProxyJump=10.1.1.1", "-o ProxyJump=none", "-C -4"],
    "ansible_ssh_extra_args": ["-o ProxyJump=10.1.1.1"],
    "fleetpatch_owner": ["manual", "os", "fleetpatch", "managed"],
    "fleetpatch_location": ["a", "b", "c"],
    "ansible_group_priority": ["1", "5", "10", "-3"],
    "http_port": ["80", "((((", "{x", "!"],
}
ODD = [
    "None",
    "'x'",
    "\"'x'\"",
    "\"'None'\"",
    "x # c",
    "22 # c",
    "0x16",
    "022",
    "2_2",
    "22:22",
    "1e1",
    "True",
    "yes",
    "~",
    "null",
    "",
    "[a]",
    "{}",
    "b'x'",
    "a#b",
    "{# c #}x",
    "...",
    "1+1j",
    "2024-01-01",
    "-p 23",
    "-l me",
    "-CJ 10.1.1.1",
    "-o Port=23",
    "-o HostName=x",
    "-J h1",
    "-J me@h2:2201,10.1.1.1",
    "word",
]
NAMES = [
    "hosts",
    "01-hosts",
    "production",
    "hosts.ini",
    "20.cfg",
    "zz",
    "hosts.old",
    "sub/hosts",
    "sub/deep/x",
    "a.md",
    ".h",
]
YAML_NAMES = ["hosts.yml", "00.yaml", "x.json", "staging", "sub/h.yml"]
VARS_ENDS = ["", ".yml", ".yaml", ".json", "/main.yml", "/a", "/sub/b.yml", "/.c.yml", "/d.bak", "/e~", "/x.d/f.yml"]

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Made:
    """A tree of files, and which of them is the inventory ("" is all of them)."""

    files: dict[str, str]
    inventory: str


def _pairs(odd: bool) -> st.SearchStrategy[Pair]:
    key = st.sampled_from(list(PLAIN))
    plain = key.flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(PLAIN[name])))
    return st.one_of(plain, plain, plain, st.tuples(key, st.sampled_from(ODD))) if odd else plain


def _quoted(value: str, how: int) -> str:
    if " " in value or "#" in value or how == 1:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value


def _ini_line(pattern: str, pairs: list[Pair], how: int) -> str:
    words = [f"{key}={_quoted(value, how)}" for key, value in pairs]
    return " ".join([pattern, *words]) + ("  # a comment" if how == 2 else "")


@st.composite
def ini_files(draw: st.DrawFn, odd: bool) -> str:
    """Return the text of an INI inventory."""
    lines: list[str] = []
    pairs, how = _pairs(odd), st.integers(0, 3)
    host_line = st.builds(_ini_line, st.sampled_from(PATTERNS), st.lists(pairs, max_size=2), how)
    lines += draw(st.lists(host_line, max_size=2))
    for group in draw(st.lists(st.sampled_from([*GROUPS, *GROUPS, "ungrouped", "all"]), max_size=4)):
        kind = draw(st.sampled_from(["", "", "vars", "children"]))
        lines.append(f"[{group}{':' if kind else ''}{kind}]" + draw(st.sampled_from(["", "", " # c"])))
        if kind == "":
            lines += draw(st.lists(host_line, max_size=3))
        elif kind == "vars":
            lines += [f"{key}={value}" for key, value in draw(st.lists(pairs, max_size=2))]
        else:
            lines += draw(st.lists(st.sampled_from(GROUPS), max_size=2))
    if draw(st.integers(0, 9)) < 8:  # most people declare what they name
        lines += [f"[{group}]" for group in GROUPS]
    return "\n".join(lines) + "\n"


def _scalar(value: str, how: int) -> str:
    return "'" + value.replace("'", "''") + "'" if how == 1 or "{{" in value or value.startswith(("-", "!")) else value


@st.composite
def _vars_lines(draw: st.DrawFn, odd: bool, indent: str = "") -> list[str]:
    found = dict(draw(st.lists(_pairs(odd), max_size=3)))
    return [f"{indent}{key}: {_scalar(value, draw(st.integers(0, 2)))}" for key, value in found.items()]


@st.composite
def _group_lines(draw: st.DrawFn, odd: bool, indent: str, depth: int) -> list[str]:
    lines: list[str] = []
    kinds = ["hosts", "vars", "children"] if depth < 2 else ["hosts", "vars"]
    for kind in draw(st.lists(st.sampled_from(kinds), unique=True, max_size=3)):
        lines.append(f"{indent}{kind}:")
        if kind == "vars":
            lines += draw(_vars_lines(odd, f"{indent}  "))
        elif kind == "hosts":
            for pattern in draw(st.lists(st.sampled_from(PATTERNS), unique=True, max_size=3)):
                lines += [f"{indent}  {pattern}:", *draw(_vars_lines(odd, f"{indent}    "))]
        else:
            for name in draw(st.lists(st.sampled_from(GROUPS), unique=True, max_size=2)):
                lines += [f"{indent}  {name}:", *draw(_group_lines(odd, f"{indent}    ", depth + 1))]
    return lines


@st.composite
def yaml_files(draw: st.DrawFn, odd: bool) -> str:
    """Return the text of a YAML inventory."""
    lines = ["---"]
    for name in draw(st.lists(st.sampled_from(["all", *GROUPS]), unique=True, min_size=1, max_size=3)):
        lines += [f"{name}:", *draw(_group_lines(odd, "  ", 0))]
    return "\n".join(lines) + "\n"


@st.composite
def trees(draw: st.DrawFn, *, odd: bool) -> Made:
    """Return a tree of files.

    Args:
        odd: with values that Ansible reads otherwise than people do.
    """
    ini = st.tuples(st.sampled_from(NAMES if odd else NAMES[:4]), ini_files(odd))
    yaml = st.tuples(st.sampled_from(YAML_NAMES if odd else YAML_NAMES[:2]), yaml_files(odd))
    files = dict(draw(st.lists(st.one_of(ini, ini, yaml), min_size=1, max_size=3)))
    whole = draw(st.booleans())
    folder = "" if whole else draw(st.sampled_from([*files])).rpartition("/")[0]
    inventory = "" if whole else draw(st.sampled_from([*files]))
    for kind, names in (("group_vars", ["all", *GROUPS, "ungrouped"]), ("host_vars", HOSTS)):
        for name in draw(st.lists(st.sampled_from(names), max_size=2)):
            text = "\n".join(draw(_vars_lines(odd))) + "\n"
            end = draw(st.sampled_from(VARS_ENDS if odd else VARS_ENDS[:5]))
            files["/".join(part for part in (folder, kind, f"{name}{end}") if part)] = text
    return Made(files, inventory)
