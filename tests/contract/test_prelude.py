"""The prelude in real shells with each awk: what goes in as a parameter comes out as a record, byte for byte."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.domain.protocols.transport import ScriptParameter
from tasks.machines.transport.output_decoder import (
    ScriptOutput,
    ScriptOutputDecoder,
    generate_nonce,
    replace_invalid_utf8,
)
from tasks.machines.transport.posix_shell import build_script_stdin

TOOLS = {
    "mawk": ("mawk", "/bin/sh"),
    "gawk": ("gawk", "/bin/sh"),
    "original-awk": ("original-awk", "/bin/sh"),
    "bash": ("mawk", "bash"),
    "mksh": ("gawk", "mksh"),
    "busybox": ("busybox", "busybox"),
}


@pytest.fixture(params=TOOLS, scope="module")
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A shell's words, and a directory with the awk (and the rest) it shall use."""
    lacking = [tool for tool in TOOLS[request.param] if not shutil.which(tool)]
    if lacking:
        pytest.skip(f"{lacking[0]} is not there: deployments/bootstrap/packages.sh shells installs it")
    tools = tmp_path_factory.mktemp(request.param)
    awk, shell = (str(shutil.which(tool)) for tool in TOOLS[request.param])
    for name in ["awk"] if awk != shell else ["awk", "tr", "tail", "base64", "head", "sed", "cat", "date", "sh"]:
        (tools / name).symlink_to(awk)
    return [shell, "sh"] if shell == awk else [shell], tools


def say(
    shell: tuple[list[str], Path], script: str, params: Mapping[str, ScriptParameter] | None = None
) -> ScriptOutput:
    words, tools = shell
    nonce = generate_nonce()
    done = subprocess.run(
        [*words, "-s"],
        input=build_script_stdin(script, params or {}, nonce),
        capture_output=True,
        env={"PATH": f"{tools}:{os.environ['PATH']}"},
        check=False,
        timeout=240,
    )
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stderr(done.stderr)
    decoder.feed_stdout(done.stdout)
    return decoder.build_output()


odd_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40) | st.sampled_from(
    [
        "$(touch /tmp/x)",
        "`id`",
        "'",
        '"',
        "\\",
        "\\n",
        "\\u0022",
        "\\\\u005c",
        "a\nb\n",
        "\n",
        "%s%n",
        "-n",
        "*",
        "&",
        "\t",
        "~",
        "[",
        "],",
    ]
)
odd_item = odd_text.map(lambda text: text.replace("\n", " "))
same = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@same
@given(text=odd_text, items=st.lists(odd_item, max_size=4).map(tuple), other=odd_text)
def test_parameters_survive_the_way_there_and_back(shell, text, items, other):
    script = """
fp_emit first "value=$(fp_param first; printf .)"
fp_emit before "value=$(fp_param before; printf .)"
fp_param items | fp_lines item value
fp_has items; fp_emit has "items:=$?"
fp_has first; fp_emit has "first:=$?"
fp_has missing; fp_emit has "missing:=$?"
"""
    answer = say(shell, script, {"before": other, "none": (), "items": items, "empty": "", "first": text})
    values = [record.get("value") for record in answer.records if "value" in record]
    assert values == [f"{text}\n.", f"{other}\n.", *items]
    assert [record for record in answer.records if record["kind"] == "has"] == [
        {"kind": "has", "items": int(not items)},
        {"kind": "has", "first": int(not text)},
        {"kind": "has", "missing": 1},
    ]


def test_a_parameter_with_quotes_and_line_breaks_keeps_both(shell):
    text = "it's\none 'text'\n"
    assert (
        say(shell, 'fp_emit text "value=$(fp_param text; printf .)"', {"text": text}).records[0]["value"]
        == f"{text}\n."
    )


@same
@given(data=st.binary(max_size=300))
def test_a_section_carries_any_bytes(shell: tuple[list[str], Path], data: bytes) -> None:
    octal = "".join(f"\\{byte:03o}" for byte in data)
    answer = say(shell, f"fp_section bytes printf '{octal}'")
    (record,) = answer.records
    expected = data.replace(b"\x00", b"\xff")
    assert str(record["text"]).encode("utf-8", "surrogateescape") == expected
    shown = replace_invalid_utf8(record)
    assert isinstance(shown, dict)
    assert shown["text"] == expected.decode("utf-8", "replace")


def test_a_section_tells_its_exit_code_and_the_end_of_stderr(shell):
    answer = say(shell, "fp_section s sh -c 'yes error | head -n 3000 >&2; echo out; exit 3'; fp_emit after rc:=$?")
    section, after = answer.records
    assert section["exit_code"] == 3
    assert section["text"] == "out\n"
    assert len(str(section["stderr"])) <= 4096
    assert str(section["stderr"]).startswith("or") or "error\nerror" in str(section["stderr"])
    assert after["rc"] == 3


def test_a_command_that_is_not_there_is_a_section_too(shell):
    (record,) = say(shell, "fp_section gone no-such-command-here").records
    assert record["exit_code"] == 127
    assert "not found" in str(record["stderr"])


def test_an_answer_is_a_section_too(shell):
    script = """
fp_answer short sh -c 'printf "a \\"b\\"\\n\\n"; echo oops >&2; exit 3'; fp_emit after rc:=$?
fp_answer none true
fp_answer long sh -c 'yes "a \\"long\\" line" | head -n 5000; yes error | head -n 3000 >&2'
fp_answer gone no-such-command-here
"""
    short, after, none, long, gone = say(shell, script).records
    assert (short["text"], short["stderr"], short["exit_code"], after["rc"]) == ('a "b"\n', "oops", 3, 3)
    assert (none["text"], none["stderr"], none["exit_code"]) == ("", "", 0)
    assert long["text"] == 'a "long" line\n' * 5_000
    assert 3900 < len(str(long["stderr"])) <= 4096
    assert gone["exit_code"] == 127


@pytest.mark.parametrize("count", [1, 2000])
def test_an_answer_that_is_lost_has_failed(shell, count):
    """The errors are all that came: a number in them is no code."""
    script = f"""
lost() {{ yes 0: all is well | head -n {count} >&2; yes | head -n 10000; }}
cat() {{ return 1; }}
fp_answer lost lost || fp_emit after rc:=$?
"""
    section, after = say(shell, script).records
    assert (section["text"], section["exit_code"], after["rc"]) == ("", 1, 1)
    assert str(section["stderr"]).endswith("0: all is well")


def test_a_very_long_text_takes_no_minutes(shell):
    """A shell that searches it from each of its characters would need longer than ``say`` lets it."""
    script = """
fp_answer long sh -c 'yes "an error" | head -n 200000 >&2; yes "a line" | head -n 200000'
fp_emit emitted "value=$(yes word | head -n 400000 | tr '\\n' ' ')"
"""
    long, emitted = say(shell, script).records
    assert long["text"] == "a line\n" * 200_000
    assert str(long["stderr"]).endswith("an error\nan error")
    assert emitted["value"] == "word " * 400_000


def test_what_looks_like_another_value_is_escaped_as_what_it_is(shell):
    (record,) = say(shell, """fp_emit r 'value=\\a:"b:\\c' 'other=a:\\:"'""").records
    assert (record["value"], record["other"]) == ('\\a:"b:\\c', 'a:\\:"')


def test_long_records_come_in_pieces_and_whole(shell):
    script = """
long=$(yes 'a "long" line' | head -n 5000)
fp_section big printf %s "$long" 2>/dev/null
fp_section bigger sh -c 'head -c 400000 /dev/zero | tr "\\000" "\\\\\\\\"'
fp_emit emitted "value=$long"
printf '%s' "$long" | tr '\\n' ' ' | fp_lines line value
"""
    answer = say(shell, script)
    bigger, emitted, line = answer.records[-3:]
    assert bigger["text"] == "\\" * 400_000
    assert emitted["value"] == "\n".join(['a "long" line'] * 5_000)
    assert line["value"] == " ".join(['a "long" line'] * 5_000)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("exit 7", 7),
        ("set -e; false; fp_emit never", 1),
        ("set -u; echo $nothing_here", None),
        ("true", 0),
    ],
)
def test_however_a_script_ends_its_end_is_told(shell, ending, code):
    answer = say(shell, f"fp_emit first\n{ending}\n")
    assert answer.records == ({"kind": "first"},)
    assert answer.exit_code == code if code is not None else answer.exit_code > 0  # shells differ on set -u


def test_only_numbers_and_words_of_json_go_in_raw(shell):
    values: dict[str, object] = {"12": 12, "-3": -3, "0": 0, "1.5": 1.5, "true": True, "null": None, "": None}
    texts = ["012", "-", "1.", ".5", "1-2", "1e5", "--1", "nan", "1.2.3", "[1]", "-true", "-.5", "-01", "0x1", "1-"]
    script = "".join(f"fp_emit n 'v:={value}'\n" for value in [*values, *texts])
    found = [record["v"] for record in say(shell, script).records]
    assert found == [*values.values(), *texts]


def test_what_a_script_prints_is_noise_and_its_stdin_is_empty(shell):
    answer = say(shell, "echo out; echo err >&2; cat; fp_emit done")
    assert answer.records == ({"kind": "done"},)
    assert {"out", "err"} <= set(answer.unframed_output.splitlines())


def test_a_cut_script_runs_nothing(shell, tmp_path):
    words, tools = shell
    trace = tmp_path / "ran"
    text = build_script_stdin(f"touch '{trace}'", {}, generate_nonce())
    whole = text.rindex(b"}")
    for cut in range(0, whole, 997):
        subprocess.run(
            [*words, "-s"], input=text[:cut], capture_output=True, check=False, env={"PATH": f"{tools}:/usr/bin:/bin"}
        )
        assert not trace.exists()
    subprocess.run([*words, "-s"], input=text, capture_output=True, check=True, env={"PATH": f"{tools}:/usr/bin:/bin"})
    assert trace.exists()


FILL = """
for place in {places}; do
  mount -t tmpfs -o size=8k none "$place" && dd if=/dev/zero of="$place/all" bs=4k 2>/dev/null
done
exec bash -s
"""


@pytest.mark.parametrize(
    ("places", "ending"), [("/tmp /var/tmp", 0), ("/tmp /var/tmp /run /dev/shm", 121)], ids=["some", "all"]
)
def test_a_full_disk_leaves_nothing_out_of_what_a_script_reads(places: str, ending: int) -> None:
    """bash keeps a long here-document in a file. What it can't read must not seem to be empty."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    nonce = generate_nonce()
    script = """
set -- "$(fp_param long)"
while read -r line; do fp_emit read "line=$line"; done <<ALL
$1
ALL
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FILL.format(places=places)],
        input=build_script_stdin(script, {"long": "x" * 200_000}, nonce),
        capture_output=True,
        check=False,
        timeout=240,
    )
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stderr(done.stderr)
    decoder.feed_stdout(done.stdout)
    answer = decoder.build_output()
    assert answer.exit_code == ending
    assert [len(str(record["line"])) for record in answer.records] == ([] if ending else [200_000])
    assert ("no temporary file can be written" in answer.unframed_output) is bool(ending)
