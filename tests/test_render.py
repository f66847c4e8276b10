from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from impactrl.render import SPRITES, draw_board, draw_path, draw_text_board, filmstrip
from impactrl.sprites import (
    box,
    disc,
    glyph,
    layered,
    letter,
    minus,
    mirrored,
    polygon,
    rasterise,
    rgb,
    stroke,
)

Image = NDArray[np.uint8]
NEEDED = {
    "floor", "wall", "agent", "box", "vase", "broken", "sushi", "eaten", "human", "goal", "belt", "belt_left",
    "belt_up", "belt_down", "coin",
    "dog", "button", "timer2", "timer1", "timer0", "obstacle", "fire", "tree", "tree_bare", "bucket",
    "battery", "train", "carpet", "door", "key", "plant",
}  # fmt: skip
OPTIONS = "######\n# A###\n# X  #\n##   #\n### G#\n######"
TILES = {"#": "wall", "A": "agent", "X": "box", "G": "goal"}
CENTRES = np.arange(0.5, 100, dtype=np.float64)


def board_of(text: str) -> NDArray[np.uint8]:
    return np.array([list(row.encode("latin-1")) for row in text.split("\n")], np.uint8)


def gap_between(a: Image, b: Image) -> float:
    """Largest difference of a colour channel."""
    return float(np.abs(a.astype(int) - b.astype(int)).max())


def plain(height: int, width: int, value: int = 200) -> Image:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (disc(50, 50, 30), np.pi * 900),
        (box(10, 20, 60, 40), 1000),
        (box(10, 10, 90, 90, 20), 6400 - (4 - np.pi) * 400),
        (polygon(0, 0, 100, 0, 0, 100), 5000),
        (polygon(10, 10, 90, 10, 90, 90, 50, 50, 10, 90), 6400 - 1600),
        (stroke(10, 20, 50, 80, 50), 600 + np.pi * 25),
        (minus(disc(50, 50, 30), disc(50, 50, 20)), np.pi * 500),
        (mirrored(box(0, 0, 20, 50)), 2000),
    ],
)
def test_a_shape_covers_its_area(shape, area):
    assert shape(CENTRES[None, :], CENTRES[:, None]).sum() == pytest.approx(area, rel=0.02)


def test_all_needed_sprites_exist():
    assert set(SPRITES) >= NEEDED


@pytest.mark.parametrize(
    ("sprites", "least"),
    [
        (SPRITES | {"unknown": letter("?")}, 20),
        ({char: letter(char) for char in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZx?"}, 3),
    ],
    ids=["sprites", "letters"],
)
def test_every_sprite_looks_different_at_16_pixels(sprites, least):
    images = {name: rasterise(sprite, 16).astype(int) for name, sprite in sprites.items()}
    for (a, image_a), (b, image_b) in combinations(images.items(), 2):
        changed = (np.abs(image_a - image_b).max(-1) > 60).sum()
        assert changed >= least, f"{a} and {b} differ in {changed} pixels"


@pytest.mark.parametrize("cell_size", [4, 8, 31, 200])
def test_a_sprite_keeps_its_mean_colour_at_every_size(cell_size):
    for name in ("wall", "agent", "goal"):
        large = rasterise(SPRITES[name], 64).mean((0, 1))
        np.testing.assert_allclose(rasterise(SPRITES[name], cell_size).mean((0, 1)), large, atol=6, err_msg=name)


def test_a_pixel_is_the_mean_of_what_it_covers():
    image = rasterise(layered("#000000", (box(0, 0, 100, 100), "#FFFFFF"), (box(0, 0, 62.5, 75), "#000000")), 4)
    expected = [[0, 0, 128, 255]] * 3 + [[255] * 4]
    np.testing.assert_array_equal(image, np.repeat(np.array(expected)[..., None], 3, axis=2))


def test_cached_sprites_cannot_be_written_to_and_boards_can():
    with pytest.raises(ValueError, match="read-only"):
        rasterise(SPRITES["agent"], 8)[0] = 0
    draw_board(board_of("A"), TILES, cell_size=8)[:] = 0
    assert draw_board(board_of("A"), TILES, cell_size=8).any()


def test_a_glyph_has_the_height_asked_for():
    rows = glyph("H", 50, 50, 40, 6)(CENTRES[None, :], CENTRES[:, None]).any(axis=1).nonzero()[0]
    assert (rows[0], rows[-1]) == (27, 72)


@pytest.mark.parametrize("cell_size", [4, 17, 48])
def test_a_board_stamps_the_tile_of_each_cell(cell_size):
    board = board_of(OPTIONS)
    image = draw_board(board, TILES, cell_size=cell_size)
    assert image.shape == (6 * cell_size, 6 * cell_size, 3)
    assert image.dtype == np.uint8
    for row, column in np.ndindex(board.shape):
        cell = image[row * cell_size :, column * cell_size :][:cell_size, :cell_size]
        name = TILES.get(chr(board[row, column]), "floor")
        np.testing.assert_array_equal(cell, rasterise(SPRITES[name], cell_size))


def test_a_board_is_drawn_the_same_after_the_cache_is_cleared():
    before = draw_board(board_of(OPTIONS), TILES, cell_size=12)
    rasterise.cache_clear()
    np.testing.assert_array_equal(draw_board(board_of(OPTIONS), TILES, cell_size=12), before)


@given(st.integers(0, 255))
def test_every_character_can_be_drawn(code):
    image = draw_board(np.array([[code]], np.uint8), {}, cell_size=8)
    floor = rasterise(SPRITES["floor"], 8)
    assert (gap_between(image, floor) == 0) == (code == ord(" "))


def test_a_space_may_have_a_sprite_of_its_own():
    image = draw_board(board_of(" "), {" ": "carpet"}, cell_size=8)
    np.testing.assert_array_equal(image, rasterise(SPRITES["carpet"], 8))


@pytest.mark.parametrize("cell_size", [-1, 3, 513])
def test_cell_sizes_out_of_range_are_refused(cell_size):
    with pytest.raises(ValueError, match=f"cell size of 4 to 512 px, got {cell_size}"):
        draw_board(board_of("A"), TILES, cell_size=cell_size)
    with pytest.raises(ValueError, match=f"cell size of 4 to 512 px, got {cell_size}"):
        draw_path(plain(16, 16), [(0, 0)], cell_size=cell_size)


@pytest.mark.parametrize(
    ("board", "came"),
    [
        (np.zeros((2, 2), np.int64), r"int64 \[2, 2\]"),
        (np.zeros(3, np.uint8), r"uint8 \[3\]"),
        (np.zeros((0, 3), np.uint8), r"uint8 \[0, 3\]"),
    ],
)
def test_boards_of_another_kind_are_refused(board, came):
    for draw in (draw_board, draw_text_board):
        with pytest.raises(ValueError, match=rf"expected a board of uint8 \[H, W\], got {came}"):
            draw(board, TILES)


def test_an_unknown_sprite_gets_near_matches():
    for draw in (draw_board, draw_text_board):
        with pytest.raises(ValueError, match=r"'A', got 'agnet'; is it one of.*'agent'"):
            draw(board_of("#"), {"#": "wall", "A": "agnet"})


def test_a_plain_text_board_is_the_characters():
    assert draw_text_board(board_of(OPTIONS), TILES, colour=False) == OPTIONS


def test_colours_surround_runs_of_a_kind_and_leave_the_rest():
    wall, agent = "\x1b[38;5;103m", "\x1b[38;5;31m"
    text = draw_text_board(board_of("##A ?\n#   ?"), TILES)
    assert text == f"{wall}##\x1b[0m{agent}A\x1b[0m ?\n{wall}#\x1b[0m   ?"


def test_a_path_changes_only_pixels_near_it():
    image = plain(5 * 20, 6 * 20)
    path = draw_path(image, [(1, 1), (1, 2), (1, 2), (2, 2), (1, 2), (1, 3), (1, 4)], cell_size=20)
    assert path.shape == image.shape
    assert path.dtype == np.uint8
    assert image.min() == image.max() == 200
    changed = (path != image).any(-1)
    cells = changed.reshape(5, 20, 6, 20).any(axis=(1, 3))
    np.testing.assert_array_equal(np.argwhere(cells), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2)])
    y, x = changed.nonzero()
    on_row = (np.abs(y + 0.5 - 30) <= 6) & (x > 20)
    on_column = (np.abs(x + 0.5 - 50) <= 6) & (y > 20)
    assert (on_row | on_column).all()
    assert changed[30, 30:90].all()
    assert changed[30:50, 50].all()


def test_a_path_has_a_dot_at_its_start_and_a_head_at_its_end():
    changed = (draw_path(plain(32, 160), [(0, 0), (0, 4)], cell_size=32) != 200).any(-1)
    thickness = changed.sum(axis=0)
    assert thickness[16] > thickness[80] > 0
    assert thickness[140] > thickness[80]
    np.testing.assert_array_equal(changed, changed[::-1])


def test_a_path_lets_the_board_show_through():
    dark, light = (draw_path(plain(48, 96, value), [(0, 0), (0, 1)])[24, 48] for value in (0, 255))
    assert (dark < light).all()


def test_walking_a_path_twice_draws_it_once():
    there = [(0, 0), (0, 1), (0, 2)]
    once = draw_path(plain(16, 48), there, cell_size=16)
    again = draw_path(plain(16, 48), [*there, *there[::-1], *there], cell_size=16)
    np.testing.assert_array_equal(once, again)


def test_standing_still_is_a_dot_in_the_colour_asked_for():
    image = draw_path(plain(48, 48, 0), [(1, 1)] * 3, cell_size=16, colour="#FF0000")
    assert image[24, 24, 0] > 200 > 100 > image[24, 24, 1:].max()
    np.testing.assert_array_equal(image, image.transpose(1, 0, 2))
    np.testing.assert_array_equal(draw_path(plain(8, 8), [], cell_size=8), plain(8, 8))


@pytest.mark.parametrize(
    ("image", "cells", "message"),
    [
        (plain(16, 32), [(0, 0), (1, 0)], r"board of 1 x 2, got \(1, 0\)"),
        (plain(16, 32), [(0, -1)], r"board of 1 x 2, got \(0, -1\)"),
        (plain(16, 30), [(0, 0)], "whole cells of 16 px, got 16 x 30 px"),
        (plain(30, 16), [(0, 0)], "whole cells of 16 px, got 30 x 16 px"),
        (plain(16, 16).astype(float), [(0, 0)], r"uint8 \[H, W, 3\], got float64 \[16, 16, 3\]"),
        (plain(16, 16)[..., 0], [(0, 0)], r"uint8 \[H, W, 3\], got uint8 \[16, 16\]"),
    ],
)
def test_paths_off_the_board_are_refused(image, cells, message):
    with pytest.raises(ValueError, match=message):
        draw_path(image, cells, cell_size=16)


@pytest.mark.parametrize("colour", ["red", "#12345", "#12345G", "#1234567"])
def test_colours_written_in_another_way_are_refused(colour):
    with pytest.raises(ValueError, match=f"'#RRGGBB', got '{colour}'"):
        draw_path(plain(8, 8), [(0, 0)], cell_size=8, colour=colour)
    assert rgb("#0072B2").tolist() == [0, 114, 178]


def test_a_filmstrip_lays_frames_out_row_by_row():
    frames = [plain(4, 6, value) for value in range(5)]
    strip = filmstrip(frames, columns=3, gap=2)
    expected = plain(10, 22, 255)
    for value, (top, left) in enumerate([(0, 0), (0, 8), (0, 16), (6, 0), (6, 8)]):
        expected[top : top + 4, left : left + 6] = value
    np.testing.assert_array_equal(strip, expected)
    assert strip.dtype == np.uint8


def test_a_short_filmstrip_is_no_wider_than_its_frames():
    assert filmstrip([plain(4, 6)] * 2, columns=8, gap=3).shape == (4, 15, 3)
    np.testing.assert_array_equal(filmstrip([plain(4, 6, 7)]), plain(4, 6, 7))


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        ([], {}, "at least one frame"),
        ([plain(4, 4), plain(4, 5)], {}, r"one shape, got \[\(4, 4, 3\), \(4, 5, 3\)\]"),
        ([plain(4, 4)[..., 0]], {}, r"got uint8 \[4, 4\]"),
        ([plain(4, 4)], {"columns": 0}, "columns=0"),
        ([plain(4, 4)], {"gap": -1}, "gap=-1"),
    ],
)
def test_filmstrips_of_unlike_frames_are_refused(frames, settings, message):
    with pytest.raises(ValueError, match=message):
        filmstrip(frames, **settings)
