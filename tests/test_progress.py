from __future__ import annotations

from simcore.progress import Progress, printable


def test_rate_and_time_left_count_only_this_run():
    progress = Progress("embed", total=1000, done=400, quiet=True)
    progress.advance(100, note="loss 1.5")
    assert progress.describe(10.0) == "embed: 500/1,000 images (50 %), 10.0/s, 0:50 left  loss 1.5"


def test_hours_and_unknown_time():
    fresh = Progress("x", total=7201, quiet=True)
    assert fresh.describe(1.0).endswith("? left")
    fresh.advance(1)
    assert fresh.describe(1.0).endswith("2:00:00 left")


def test_quiet_says_nothing_and_a_pipe_gets_whole_lines(capsys):
    with Progress("a", total=2, quiet=True) as progress:
        progress.advance(2)
    assert capsys.readouterr().err == ""
    with Progress("a", total=2) as progress:
        progress.advance(2)
    assert capsys.readouterr().err.endswith("left\n")


def test_what_steers_a_terminal_is_shown_as_text():
    assert printable("caf\u00e9 \u732b \u00a0.jpg") == "caf\u00e9 \u732b \u00a0.jpg"
    assert printable("\x1b[31mred\x07\n.jpg") == r"\x1b[31mred\x07\n.jpg"
    assert printable("gpj.\u202eexe\udce9") == r"gpj.\u202eexe\udce9"
    assert printable("a\n\tb\x1b", kept="\n\t") == "a\n\tb\\x1b"
