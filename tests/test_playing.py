"""The terminal game: its logic key by key, what it draws, and real sessions in a pseudo-terminal."""

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import impactrl
from impactrl.game import Game, new_game, press
from impactrl.playing import draw, play, read_keys
from impactrl.world import Outcome, World

REACHABILITY = impactrl.Penalty(discount=1.0, weight=3.0)
GRID_KEYS = ["up", "down", "left", "right", "space"]


def pressed(game: Game, keys: Sequence[str]) -> Game:
    for key in keys:
        game = press(game, key)
    return game


def screen(game: Game, width: int = 80, height: int = 24, **kwargs: Any) -> str:
    """What is drawn in a terminal of that size."""
    file = StringIO()
    Console(file=file, width=width, height=height, **kwargs).print(draw(game))
    return file.getvalue()


class Dice(World[tuple[int, int]]):
    """Chance decides where it starts and what its second action does; nothing lists its states."""

    actions = ("pass", "roll")
    noop = 0
    time_limit = 50
    enumerable = False
    tiles = {"A": "agent"}  # noqa: RUF012

    def start(self):
        return [(0.5, (0, 0)), (0.5, (0, 1))]

    def outcomes(self, state, action):
        t, eyes = state
        if action == 0:
            return [Outcome((t + 1, eyes))]
        return [Outcome((t + 1, e), reward=e, probability=1 / 6) for e in range(1, 7)]

    def terminal(self, state):  # noqa: ARG002
        return False

    def board(self, state):
        return np.array([[65, 48 + state[1]]], np.uint8)


class Field(World[tuple[int, int]]):
    """An endless meadow: names of actions as in other programs, and more of them than digits."""

    actions = ("stay", "North", "South", "West", "East", "interact", "a", "b", "c", "d", "e", "jump")
    noop = 0
    time_limit = 1000
    enumerable = False
    tiles = {"A": "agent", "T": "tree"}  # noqa: RUF012
    moves = {1: (-1, 0), 2: (1, 0), 3: (0, -1), 4: (0, 1)}  # noqa: RUF012

    def start(self):
        return [(1.0, (20, 30))]

    def outcomes(self, state, action):
        down, right = self.moves.get(action, (0, 0))
        effect = {5: 1.0, 11: -1.0}.get(action, 0.0)
        return [Outcome((state[0] + down, state[1] + right), reward=-0.1, side_effect=effect)]

    def terminal(self, state):
        return state[1] == 33

    def completed(self, state):
        return state[0] == 19

    def board(self, state):
        board = np.full((40, 60), 32, np.uint8)
        board[::4, ::4] = ord("T")
        board[state] = ord("A")
        return board


# ---------------------------------------------------------------------------------------------------- the logic


@pytest.mark.parametrize(
    "penalty",
    [
        None,
        REACHABILITY,
        impactrl.Penalty(baseline="inaction", terminal="absorbing", nonterminal_weight=0.5, weight=2.0),
        impactrl.Penalty(deviation="attainable_utility", baseline="stepwise", rollout=True, scale="per-value"),
    ],
    ids=lambda penalty: penalty and penalty.label,
)
@pytest.mark.parametrize("level", ["Box", "Interference", "Offset"])
def test_the_columns_are_those_of_explain(level: str, penalty: impactrl.Penalty | None) -> None:
    for seed in range(3):
        actions = np.random.default_rng(seed).integers(5, size=20).tolist()
        game = pressed(new_game(level, penalty=penalty), [GRID_KEYS[a] for a in actions])
        table = impactrl.explain(level, actions=actions, penalty=penalty)
        moments = game.moments[1:]
        assert [game.rules.world.actions[m.action] for m in moments if m.action is not None] == table["action"].tolist()
        assert [m.total.reward for m in moments] == table["reward"].cumsum().tolist()
        assert [m.total.performance for m in moments] == table["performance"].tolist()
        assert [m.total.side_effect for m in moments] == table["side_effect"].tolist()
        assert [m.completed for m in moments] == table["completed"].tolist()
        assert [m.deviation for m in moments] == table["deviation"].tolist()
        assert [m.penalty for m in moments] == table["penalty"].tolist()
        charged = (penalty.weight if penalty else 0.0) * np.array([m.total.impact for m in moments])
        np.testing.assert_allclose(charged, table["penalty"].cumsum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_chance_decides_as_in_explain(seed: int) -> None:
    """So that what was played can be explained and recorded with the same seed."""
    game = new_game("FrozenLake-v1", seed=seed)
    for action in [2, 1] * 20:
        game = press(game, str(action))
    states = impactrl.explain("FrozenLake-v1", actions=[2, 1] * 20, seed=seed)["state"].tolist()
    mdp = impactrl.compile_mdp("FrozenLake-v1")
    assert [mdp.index(m.state) for m in game.moments[1:]] == states


def test_chance_may_decide_the_start_and_skips_what_is_certain() -> None:
    for seed in range(10):
        env = impactrl.GridEnv(Dice())
        env.reset(seed=seed)
        states = [env.state]
        for action in (1, 0, 0, 1, 1):
            env.step(action)
            states.append(env.state)
        game = pressed(new_game(Dice(), seed=seed), "10011")
        assert [m.state for m in game.moments] == states
    assert len({new_game(Dice(), seed=seed).now.state for seed in range(10)}) == 2


@given(st.lists(st.sampled_from(["0", "1", "space", "u", "r", "x"]), max_size=30), st.integers(0, 99))
def test_undo_is_exact_and_chance_repeats_itself(keys: list[str], seed: int) -> None:
    game = pressed(new_game(Dice(), seed=seed), keys)
    for key in ("0", "1"):
        once = press(game, key)
        assert press(once, "u").moments == game.moments
        assert press(press(once, "u"), key) == once
    back = pressed(game, "u" * game.steps)
    assert back.moments == new_game(Dice(), seed=seed).moments
    assert press(game, "r").moments == back.moments
    assert press(back, "u").note == "nothing to undo: this is the start"
    assert press(back, "u").moments == back.moments


def test_undo_after_the_penalty_has_seen_a_detour() -> None:
    """The baseline's memory is undone too."""
    penalty = impactrl.Penalty(baseline="inaction", rollout=True)
    straight = pressed(new_game("Offset", penalty=penalty), ["down", "down"])
    detour = pressed(
        new_game("Offset", penalty=penalty), ["down", "right", "space", "backspace", "u", "down", "space", "U"]
    )
    assert detour.moments == straight.moments


@pytest.mark.parametrize("penalty", [None, impactrl.Penalty(deviation="none")])
def test_without_a_penalty_nothing_is_enumerated(penalty: impactrl.Penalty | None) -> None:
    game = pressed(new_game(Field(), penalty=penalty), ["up", "i"])
    assert game.rules.impact is None
    assert game.now.total == (-0.2, 0.0, 1.0, 0.0)
    assert game.now.completed


def test_a_penalty_on_what_cannot_be_enumerated_is_refused() -> None:
    with pytest.raises(impactrl.ImpactError, match=r"Field has too many states .* deviation='none'"):
        new_game(Field(), penalty=REACHABILITY)


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("up", 1), ("down", 2), ("left", 3), ("right", 4), ("w", 1), ("s", 2), ("a", 3), ("d", 4), ("W", 1),
        ("space", 0), ("n", 0), ("i", 5), ("I", 5),
    ],
)  # fmt: skip
def test_keys_find_actions_of_other_names(key: str, action: int) -> None:
    assert press(new_game(Field()), key).now.action == action


def test_numbers_have_as_many_digits_as_the_highest() -> None:
    game = new_game(Field())
    half = press(game, "1")
    assert (half.steps, half.typed, half.note) == (0, "1", "action 1_")
    assert press(half, "1").now.action == 11
    assert pressed(game, "07").now.action == 7
    assert pressed(game, "12").note == "there is no action 12"
    assert pressed(game, "12").steps == 0
    assert press(half, "up").now.action == 1
    assert press(press(half, "up"), "1").typed == "1"


def test_keys_without_an_action_say_so_or_nothing() -> None:
    lake = new_game("FrozenLake-v1")
    assert press(lake, "up").note == "there is no action for 'up': choose one by its number"
    assert press(lake, "space").note == "there is no action for 'space': choose one by its number"
    assert press(lake, "4").note == "there is no action 4"
    assert press(lake, "3").now.action == 3
    assert press(lake, "x").note == press(press(lake, "up"), "²").note == ""
    assert pressed(lake, ["up", "space", "x", "4", "²"]).moments == lake.moments


def test_after_the_end_undo_and_restart_still_work() -> None:
    end = pressed(new_game("Box", penalty=REACHABILITY), ["down", "right", "down", "right", "down"])
    assert end.terminal
    assert end.over
    assert (end.now.total.reward, end.now.total.performance, end.now.completed) == (45, 35, True)
    more = press(end, "up")
    assert more.moments == end.moments
    assert more.note == "no more steps: undo, restart or quit"
    back = press(more, "u")
    assert (back.steps, back.over, back.note) == (4, False, "")
    assert press(back, "down") == end
    assert press(more, "r") == new_game("Box", penalty=REACHABILITY) or press(more, "r").steps == 0


def test_a_game_is_cut_off_at_the_time_limit() -> None:
    game = pressed(new_game("Offset"), ["space"] * 25)
    assert (game.steps, game.over, game.terminal) == (20, True, False)
    assert not press(game, "u").over


def test_quitting() -> None:
    game = new_game("Box")
    assert [press(game, key).left for key in ("q", "Q", "ctrl-c", "u", "x")] == [True, True, True, False, False]


def test_what_cannot_be_played_is_refused_with_the_reason() -> None:
    for call, message in [
        (lambda: new_game("Bx"), "did you mean 'Box'"),
        (lambda: new_game("Box", gaol_reward=1), "did you mean 'goal_reward'"),
        (lambda: new_game("Box", seed=-1), "seed must be a whole number of at least 0, not -1"),
        (lambda: new_game("FrozenLake-v1", penalty=REACHABILITY), "no no-op action"),
    ]:
        with pytest.raises(impactrl.ImpactError, match=message):
            call()


# -------------------------------------------------------------------------------------------------- the drawing


def test_the_screen_shows_board_columns_actions_and_keys() -> None:
    game = press(new_game("Box", penalty=REACHABILITY), "down")
    text = screen(game, 60, 20)
    assert text.splitlines()[0] == "Box   step 1 of 100   RR stepwise discount=1.0, weight 3"
    for row in ("##    ######", "##  A     ##", "####X     ##", "######  G ##"):
        assert re.search(rf"^{row} ", text, re.MULTILINE)
    for name, step, so_far in [
        ("task reward", "-1", "-1"),
        ("performance", "-11", "-11"),
        ("side effects", "1", "1"),
        ("completed", "", "no"),
        ("impact", "0.8333", "0.8333"),
        ("penalty", "2.5", "2.5"),
        ("agent is paid", "-3.5", "-3.5"),
    ]:
        assert re.search(rf"{name} +{step} *\b.*{re.escape(so_far)}$", text, re.MULTILINE), name
    assert "deviation        0.8333" in text
    assert " SIDE EFFECT " in text
    assert "actions ↓" in text
    assert "arrows move  space noop  u undo  r restart  q quit" in text
    assert "0 up  1 down  2 left  3 right  4 noop" in text


def test_this_step_and_so_far_are_told_apart() -> None:
    game = pressed(new_game("Box", penalty=REACHABILITY), ["down", "right"])
    text = screen(game)
    assert re.search(r"task reward +-1 +-2\b", text)
    assert re.search(r"performance +-1 +-12\b", text)
    assert re.search(r"side effects +0 +1\b", text)
    assert re.search(r"impact +0 +0.8333\b", text)
    assert "SIDE EFFECT" not in text
    assert "actions ↓ →" in text


def test_the_start_has_no_step() -> None:
    text = screen(new_game("Box", penalty=REACHABILITY))
    assert re.search(r"task reward +0\n", text)
    assert "actions none yet" in text


def test_ends_and_undone_side_effects_are_shown() -> None:
    box = pressed(new_game("Box"), ["down", "right", "down", "right"])
    assert "OVER" not in screen(box)
    assert " EPISODE OVER: completed  u undo, r restart, q quit" in screen(press(box, "down"))
    assert "no more steps: undo, restart or quit" in screen(pressed(box, ["down", "down"]))
    assert " TIME IS UP: not completed " in screen(pressed(new_game("Offset"), ["space"] * 20))
    field = pressed(new_game(Field()), ["right", "right"])
    assert " EPISODE OVER: not completed " in screen(press(field, "right"))
    assert " side effect undone " in screen(pressed(field, "11"))
    assert "there is no action 99" in screen(pressed(field, "99"))


def test_without_a_penalty_there_is_no_impact() -> None:
    text = screen(press(new_game("Box"), "down"))
    assert re.search(r"impact +no penalty", text)
    assert "agent is paid" not in text


def test_colours_are_those_of_the_sprites_and_optional() -> None:
    game = press(new_game("Box"), "down")
    coloured = screen(game, 60, 18, force_terminal=True, color_system="truecolor")
    assert re.search(r"\x1b\[1;38;2;255;255;255;48;2;0;114;178mA ", coloured)  # white on the agent's blue
    assert "48;2;213;94;0m SIDE EFFECT" in coloured
    assert "\x1b" not in screen(game)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert plain == screen(game, 60, 18)


@pytest.mark.parametrize("height", [1, 2, 3, 5, 8, 12, 16, 20, 24, 40, 60])
@pytest.mark.parametrize("width", [10, 16, 24, 40, 60, 80, 120, 200])
def test_every_terminal_is_filled_and_not_overfilled(width: int, height: int) -> None:
    names = ["up", "down", "i", "up"]
    for game in (
        pressed(new_game("Box", penalty=REACHABILITY), names),
        pressed(new_game(Field()), [*names, *"11", "99"]),
        new_game("FrozenLake-v1"),
    ):
        lines = screen(game, width, height).splitlines()
        assert 1 <= len(lines) <= height
        assert max(map(len, lines)) <= width
        if game.rules.name != "FrozenLake-v1":
            assert re.search(r"(^|#| )A( |#|$)", "\n".join(lines), re.MULTILINE)  # the agent is always seen
        if height >= 16 and width >= 24:
            assert all(word in "\n".join(lines) for word in ("reward", "performance", "side effects", "completed"))


def test_a_large_board_shows_the_part_around_the_agent() -> None:
    text = screen(new_game(Field()), 80, 24)
    rows = [line for line in text.splitlines() if "T" in line or " A " in line]
    assert len(rows) < 22
    assert re.search(r"task reward", text)
    assert " A " in text


def test_roomier_terminals_have_larger_cells() -> None:
    game = new_game("Box")

    def walls_above(height: int) -> list[str]:
        return [m.group() for m in re.finditer(r"^#{12,}", screen(game, 80, height), re.MULTILINE)]

    assert len(walls_above(18)[0]) == 12
    assert len(walls_above(24)[0]) == 24
    assert len(walls_above(30)[0]) == 36


def test_old_actions_give_way() -> None:
    game = pressed(new_game("Box"), ["left"] + ["space"] * 60 + ["right"])
    for width in (40, 80):
        line = next(line for line in screen(game, width).splitlines() if line.startswith("actions"))
        assert re.fullmatch(r"actions …( ·)+ →", line.rstrip())
        assert width - 3 <= len(line.rstrip()) <= width
    assert "actions ← · ·" in screen(game, 200)


def test_actions_of_other_names_are_arrows_where_they_move() -> None:
    assert "actions ↑ → · interact ↓" in screen(pressed(new_game(Field()), ["w", "d", "n", "i", "down"]), 80, 60)


# ------------------------------------------------------------------------------------------------- the keyboard


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOA\x1bOD", ["up", "left"]),
        (b"\x1b[1;5A\x1b[1;2C", ["up", "right"]),
        (b"u q3", ["u", "space", "q", "3"]),
        (b"\x7f\x08\x03\x04", ["backspace", "backspace", "ctrl-c", "ctrl-c"]),
        (b"\x1b[3~\x1b[15~\x1bx\x1b\x1b[A\x1b[H", ["up"]),
        ("é→U\r\n\t".encode(), ["U"]),
        (b"", []),
    ],
)
def test_keys_of_terminals(data: bytes, keys: list[str]) -> None:
    assert read_keys(data) == (keys, b"")


@given(st.lists(st.sampled_from([b"\x1b[A", b"\x1bOB", b"\x1b[1;5C", b"u", b" ", b"\x03", b"\x1b[3~"]), max_size=6))
def test_keys_may_arrive_in_pieces(tokens: list[bytes]) -> None:
    data = b"".join(tokens)
    whole, rest = read_keys(data)
    assert rest == b""
    for cut in range(len(data) + 1):
        first, waiting = read_keys(data[:cut])
        second, rest = read_keys(waiting + data[cut:])
        assert (first + second, rest) == (whole, b"")


# ------------------------------------------------------------------------------------------------ real sessions

UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"
PLAY = "from impactrl.playing import play\nfrom impactrl import Penalty\nplay('Box', {})"


class Terminal:
    """A program in a pseudo-terminal of its own."""

    def __init__(self, program: str, rows: int = 24, columns: int = 80) -> None:
        import fcntl
        import termios

        self.termios = termios
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=environment | {"TERM": "xterm-256color"},
            start_new_session=True,
            # What runs in the background may have been told to ignore it.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        self.output = ""

    def expect(self, pattern: str, seconds: float = 60.0) -> None:
        """Waits until the output since the last call matches, colours left out."""
        seen = ""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, re.sub(r"\x1b\[[0-9;]*m", "", seen), re.DOTALL):
            assert time.monotonic() < deadline, f"no {pattern!r} in {seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                new = os.read(self.master, 65536).decode()
                seen, self.output = seen + new, self.output + new

    def send(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def settings(self) -> Any:
        return self.termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        import fcntl

        fcntl.ioctl(self.slave, self.termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self) -> int:
        """The exit status, all output read."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None or select.select([self.master], [], [], 0)[0]:
            assert time.monotonic() < deadline
            if select.select([self.master], [], [], 0.05)[0]:
                self.output += os.read(self.master, 65536).decode()
        return self.process.wait()

    def close(self) -> None:
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal() -> Iterator[Any]:
    pytest.importorskip("termios", reason="there are no pseudo-terminals here")
    opened: list[Terminal] = []

    def start(program: str) -> Terminal:
        opened.append(Terminal(program))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def restored(terminal: Terminal) -> bool:
    """Settings as before, the cursor visible, the ordinary screen back."""
    output = terminal.output
    return bool(
        terminal.settings() == terminal.before
        and output.rindex("\x1b[?1049l") > output.rindex("\x1b[?1049h")
        and output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    )


def test_a_session_with_arrow_keys_undo_and_quit(terminal: Any) -> None:
    box = terminal(PLAY.format("penalty=Penalty(discount=1.0, weight=3.0)"))
    box.expect(r"Box   step 0 of 100.*q quit")
    local = box.settings()[3]
    assert not local & (box.termios.ICANON | box.termios.ECHO | box.termios.ISIG)
    box.send(DOWN)
    box.expect(r"step 1 of.*performance +-11 +-11.*impact +0.8333 +0.8333.*SIDE EFFECT.*q quit")
    box.send(b"u")
    box.expect(r"step 0 of.*performance +0.*none yet.*q quit")
    box.send(LEFT[:1])
    box.send(LEFT[1:])
    box.expect(r"step 1 of.*actions ←.*q quit")
    box.send(DOWN + RIGHT + RIGHT)
    box.expect(r"step 4 of.*actions ← ↓ → →.*q quit")
    box.send(b"\x1b")  # an escape key is no arrow's beginning once it stands alone
    time.sleep(0.5)
    box.send(b"q")
    assert box.wait() == 0
    assert restored(box)
    farewell = box.output[box.output.rindex("\x1b[?1049l") :]
    assert "step 4 of 100" in farewell
    assert 'actions: "LDRR"' in farewell


def test_ctrl_c_quits_and_a_new_size_is_noticed(terminal: Any) -> None:
    box = terminal(PLAY.format(""))
    box.expect(r"q quit")
    box.resize(rows=6, columns=30)
    box.expect(r"step 0  reward 0")
    box.send(b"\x03")
    assert box.wait() == 0
    assert restored(box)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, None), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_signals_leave_the_terminal_as_it_was(terminal: Any, sent: signal.Signals, status: int | None) -> None:
    box = terminal(PLAY.format(""))
    box.expect(r"q quit")
    box.process.send_signal(sent)
    code = box.wait()
    assert code == status if status is not None else code != 0
    assert restored(box)


def test_an_error_leaves_the_terminal_as_it_was(terminal: Any) -> None:
    broken = (
        "import impactrl.playing\ndef press(game, key): raise RuntimeError('broken')\nimpactrl.playing.press = press\n"
    )
    box = terminal(broken + PLAY.format(""))
    box.expect(r"q quit")
    box.send(b"u")
    assert box.wait() == 1
    assert "RuntimeError: broken" in box.output
    assert restored(box)


def test_a_closed_terminal_ends_the_game(terminal: Any) -> None:
    box = terminal(PLAY.format(""))
    box.expect(r"q quit")
    os.close(box.slave)
    os.close(box.master)
    box.master = box.slave = -1
    box.process.wait(timeout=60)


def test_without_a_terminal_there_is_no_game() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAY.format("")], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("ImpactError: playing needs a terminal, and standard input is none")


def test_output_must_be_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Tty())
    monkeypatch.setattr(sys, "stdout", StringIO())
    with pytest.raises(impactrl.ImpactError, match="standard output is none"):
        play("Box")


def test_where_there_is_no_termios_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "termios", None)
    with pytest.raises(impactrl.ImpactError, match="Linux or macOS"):
        play("Box")
