"""Films of episodes, and the window that Gymnasium opens."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import impactrl
from impactrl.game import Game, new_game, press
from impactrl.recording import draw_frames, record
from impactrl.render import draw_board, filmstrip
from impactrl.sprites import VERMILLION, rgb
from impactrl.world import Outcome, World

PENALTY = impactrl.Penalty(discount=1.0, weight=3.0)


def box_game(keys: str = "sdsds") -> Game:
    game = new_game("Box", penalty=PENALTY)
    for key in keys:
        game = press(game, key)
    return game


def read_gif(path: Path) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """Frames and how many milliseconds each stays."""
    frames, durations = [], []
    with Image.open(path) as film:
        for place in range(getattr(film, "n_frames", 1)):
            film.seek(place)
            frames.append(np.array(film.convert("RGB")))
            durations.append(film.info["duration"])
    return frames, durations


def words(monkeypatch: pytest.MonkeyPatch, game: Game) -> list[list[str]]:
    """What is written on each frame."""
    written: list[list[str]] = []
    draw = ImageDraw.ImageDraw.text
    make = Image.new

    def new_frame(*args: Any, **kwargs: Any) -> Image.Image:
        written.append([])
        return make(*args, **kwargs)

    def text(self: Any, xy: Any, text: str, *args: Any, **kwargs: Any) -> None:
        written[-1].append(text)
        draw(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(Image, "new", new_frame)
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    draw_frames(game)
    return [[word for word in frame if word] for frame in written if frame]


# ---------------------------------------------------------------------------------------------------- the frames


def test_frames_show_the_boards() -> None:
    game = box_game()
    frames = draw_frames(game, cell_size=32)
    assert len(frames) == 6
    assert len({frame.shape for frame in frames}) == 1
    margin = (frames[0].shape[1] - 6 * 32) // 2
    world = game.rules.world
    for moment, frame in zip(game.moments, frames, strict=True):
        board = draw_board(world.board(moment.state), world.tiles, cell_size=32)
        inner = (slice(8, 6 * 32 - 8), slice(margin + 8, margin + 6 * 32 - 8))  # inside the edge that marks a step
        assert (frame[inner] == board[8:-8, 8:-8]).all()


def test_frames_say_what_explain_says(monkeypatch: pytest.MonkeyPatch) -> None:
    table = impactrl.explain("Box", actions="DRDRD", penalty=PENALTY)
    first, *rest = words(monkeypatch, box_game())
    assert first == [
        *("0/5   start", "task reward", "0", "performance", "0", "side effects", "0", "completed", "no"),
        *("impact", "0", "this step", "0"),
    ]
    assert [frame[0] for frame in rest] == [f"{t}/5   {a}" for t, a in enumerate(table["action"], 1)]
    assert rest[0][1] == "side effect!"
    assert rest[4][1] == "end"
    values = [frame[-11::2] for frame in rest]
    assert [v[0] for v in values] == [f"{r:g}" for r in table["reward"].cumsum()]
    assert [v[1] for v in values] == [f"{p:g}" for p in table["performance"]]
    assert [v[2] for v in values] == [f"{s:g}" for s in table["side_effect"]]
    assert [v[3] for v in values] == ["yes" if c else "no" for c in table["completed"]]
    assert [v[4] for v in values] == [f"{d:.4g}" for d in table["deviation"].cumsum()]
    assert [v[5] for v in values] == [f"{d:.4g}" for d in table["deviation"]]


def test_a_step_with_a_side_effect_is_marked() -> None:
    corners = [tuple(frame[0, 0]) for frame in draw_frames(box_game())]
    assert [corner == tuple(rgb(VERMILLION)) for corner in corners] == [False, True, False, False, False, False]


def test_a_side_effect_undone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Switch(World[bool]):
        actions, noop, time_limit, enumerable, tiles = ("switch",), None, 5, False, {}

        def start(self):
            return [(1.0, False)]

        def outcomes(self, state, action):  # noqa: ARG002
            return [Outcome(not state, side_effect=-1.0 if state else 1.0)]

        def terminal(self, state):  # noqa: ARG002
            return False

        def board(self, state):
            return np.array([[49 if state else 48]], np.uint8)

    game = new_game(Switch())
    for _ in range(2):
        game = press(game, "0")
    written = words(monkeypatch, game)
    assert [frame[1] for frame in written] == ["task reward", "side effect!", "side effect undone"]
    assert not any("impact" in frame for frame in written)


@pytest.mark.parametrize("cell_size", [4, 20, 48, 200])
def test_the_caption_is_never_wider_than_the_frame(cell_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[float, float]] = []
    draw = ImageDraw.ImageDraw.text

    def text(self: Any, xy: Any, text: str, **kwargs: Any) -> None:
        if text:
            left, _, right, bottom = self.textbbox(xy, text, font=kwargs["font"], anchor=kwargs["anchor"])
            assert bottom <= self.im.size[1]
            spans.append((left, right))
        draw(self, xy, text, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    frame = draw_frames(box_game(), cell_size=cell_size)[0]
    assert all(left >= 0 and right <= frame.shape[1] for left, right in spans)


def test_boards_of_several_sizes_make_frames_of_one() -> None:
    """A toy-text environment is drawn as the number of its state."""
    shapes = set()
    for seed in range(20):
        game = new_game("FrozenLake-v1", seed=seed)
        for action in [1, 2] * 20:
            game = press(game, str(action))
        shapes = {game.rules.world.board(m.state).shape for m in game.moments}
        if len(shapes) > 1:
            break
    assert shapes == {(1, 7), (1, 8)}
    assert len({frame.shape for frame in draw_frames(game)}) == 1


# ----------------------------------------------------------------------------------------------------- the files


def test_a_gif_has_a_frame_per_step_and_holds_the_ends(tmp_path: Path) -> None:
    path = tmp_path / "box.gif"
    assert record("Box", actions="DRDRD", path=path, penalty=PENALTY) == 6
    frames, durations = read_gif(path)
    assert durations == [1000, 250, 250, 250, 250, 2000]
    assert frames[0].shape == draw_frames(box_game())[0].shape
    assert frames[0].shape[1] == 6 * 48
    with Image.open(path) as film:
        assert film.info["loop"] == 0  # for ever
    assert list(tmp_path.iterdir()) == [path]


def test_a_gif_has_the_colours_of_the_sprites(tmp_path: Path) -> None:
    record("Box", actions="DRDRD", path=tmp_path / "box.gif", penalty=PENALTY)
    frames, _ = read_gif(tmp_path / "box.gif")
    for drawn, stored in zip(draw_frames(box_game()), frames, strict=True):
        difference = np.abs(drawn.astype(int) - stored).max(axis=2)
        assert (difference == 0).mean() > 0.98  # all but blends at some edges
        assert difference.max() < 48


def test_equal_episodes_make_equal_files(tmp_path: Path) -> None:
    for suffix in (".gif", ".png"):
        for name in ("a", "b"):
            record("Box", actions="DRDRD", path=tmp_path / f"{name}{suffix}", penalty=PENALTY)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize(("fps", "middle"), [(0.5, 2000), (1, 1000), (10, 100), (50, 20)])
def test_the_speed_is_that_asked_for(fps: float, middle: int, tmp_path: Path) -> None:
    record("Box", actions="LD", path=tmp_path / "box.gif", fps=fps, cell_size=8)
    _, durations = read_gif(tmp_path / "box.gif")
    assert durations == [max(middle, 1000), middle, max(middle, 2000)]


def test_an_episode_of_no_steps_is_one_frame(tmp_path: Path) -> None:
    assert record("Box", actions="", path=tmp_path / "box.gif") == 1
    assert len(read_gif(tmp_path / "box.gif")[0]) == 1


def test_a_png_is_a_filmstrip(tmp_path: Path) -> None:
    path = tmp_path / "Box.PNG"
    assert record("Box", actions="DRDRD", path=str(path), penalty=PENALTY, cell_size=16) == 6
    with Image.open(path) as strip:
        assert (np.array(strip) == filmstrip(draw_frames(box_game(), cell_size=16))).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio's reader leaves files open
def test_an_mp4_has_the_ends_held(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="no imageio with ffmpeg: pip install 'impactrl[render]'")
    imageio = pytest.importorskip("imageio.v2")
    path = tmp_path / "box.mp4"
    # 117 pixels of text height and 37 of board: the codec wants even sizes.
    assert record("Box", actions="DRDRD", path=path, penalty=PENALTY, cell_size=45) == 6
    with imageio.get_reader(path) as film:
        frames = [np.array(frame) for frame in film]
        assert film.get_meta_data()["fps"] == 4
    assert len(frames) == 4 + 4 + 8
    drawn = draw_frames(box_game(), cell_size=45)
    height, width = drawn[0].shape[:2]
    assert frames[0].shape[:2] == (height + height % 2, width + width % 2)
    assert np.abs(frames[-1][:height, :width].astype(int) - drawn[-1]).mean() < 6
    assert list(tmp_path.iterdir()) == [path]


def test_an_episode_ends_where_explain_ends_it(tmp_path: Path) -> None:
    table = impactrl.explain("FrozenLake-v1", actions=[1, 2] * 30, seed=5)
    assert record("FrozenLake-v1", actions=[1, 2] * 30, seed=5, path=tmp_path / "lake.gif") == 1 + len(table)


def test_settings_of_the_level_and_ready_made_environments(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"actions": "DRDRD", "penalty": PENALTY, "cell_size": 8}
    record("Box", path=tmp_path / "name.gif", goal_reward=7, **arguments)
    record(gym.make("impactrl/Box-v0", goal_reward=7), path=tmp_path / "env.gif", **arguments)
    record("Box", path=tmp_path / "other.gif", **arguments)
    by_name, by_env, other = ((tmp_path / f"{name}.gif").read_bytes() for name in ("name", "env", "other"))
    assert by_name == by_env != other


# -------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "box.webp"}, r"expected a path ending in one of \.gif, \.mp4, \.png, got 'box.webp'"),
        ({"path": "box"}, r"ending in one of"),
        ({"path": "no/such/folder/box.gif"}, r"cannot write no/such/folder/box\.gif: No such file or directory"),
        ({"path": "a_file/box.png"}, r"cannot write a_file/box\.png: Not a directory"),
        ({"path": "a_folder.gif"}, r"cannot write a_folder\.gif: Is a directory"),
        ({"fps": 0}, r"fps must be from 0.1 to 50, not 0"),
        ({"fps": float("nan")}, r"fps must be"),
        ({"cell_size": 2}, r"cell size of 4 to 512"),
        ({"actions": "DX"}, r"unknown action 'X'"),
        ({"source": "Bix"}, r"did you mean 'Box'"),
        ({"gaol_reward": 1}, r"did you mean 'goal_reward'"),
        ({"seed": -1}, r"seed must be"),
    ],
)
def test_what_cannot_be_recorded_is_one_line_and_no_file(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").touch()
    Path("a_folder.gif").mkdir()
    arguments = {"source": "Box", "actions": "D", "path": "box.gif"} | change
    with pytest.raises(impactrl.ImpactError, match=message) as raised:
        record(arguments.pop("source"), **arguments)
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir()) == ["a_file", "a_folder.gif"]


@pytest.mark.parametrize("missing", ["imageio.v2", "imageio_ffmpeg"])
def test_a_missing_imageio_says_how_to_get_it(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    path = tmp_path / "box.mp4"
    path.write_bytes(b"old")
    with pytest.raises(impactrl.ImpactError, match=r"pip install 'impactrl\[render\]'") as raised:
        record("Box", actions="D", path=path)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_halfway_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "box.gif"
    path.write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(impactrl.ImpactError, match=r"cannot write .*box\.gif: No space left on device"):
        record("Box", actions="D", path=path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --------------------------------------------------------------------------------------------------- the window


def test_gymnasium_opens_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """`render_mode="human"`; the window is drawn in memory where there is no screen."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pygame about its dependencies, of Gymnasium about its wrapper
        pygame = pytest.importorskip("pygame", reason="no pygame: pip install 'impactrl[render]'")
        env = gym.make("impactrl/Box-v0", render_mode="human", cell_size=16)
    try:
        env.reset(seed=0)
        first = pygame.surfarray.array3d(pygame.display.get_surface())
        _, reward, _, _, info = impactrl.ImpactPenalty(env, weight=3.0).env.step(1)
        second = pygame.surfarray.array3d(pygame.display.get_surface())
        assert (reward, info["side_effect"]) == (-1.0, 1.0)
    finally:
        env.close()
    world = impactrl.GridEnv("impactrl.envs.sokoban:Box").world
    start = world.start()[0][1]
    for shown, state in ((first, start), (second, world.outcomes(start, 1)[0].state)):
        drawn = draw_board(world.board(state), world.tiles, cell_size=16)
        assert (shown.transpose(1, 0, 2) == drawn).all()
