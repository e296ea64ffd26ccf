"""What a story is called is what happens in it, and backwards it is another one."""

import numpy as np
from helpers import synthetic_stories
from helpers.synthetic_stories import EVENTS, OPPOSITE

STORIES = synthetic_stories.held_out(2 * len(EVENTS), seed=1)


def test_a_story_is_the_same_pixels_whenever_it_is_told():
    for story in STORIES[:4]:
        frames = synthetic_stories.render(story)
        np.testing.assert_array_equal(frames, synthetic_stories.render(story))
        assert frames.shape == (8, synthetic_stories.SIDE, synthetic_stories.SIDE, 3)


def test_what_moves_ends_on_the_side_that_is_told_and_what_comes_first_is_shown_first():
    for story in STORIES:
        first, then = story.event
        places = [scene.centre[0] for scene in story.frames]
        shapes = [scene.shape for scene in story.frames]
        if then in OPPOSITE:
            assert places == sorted(places, reverse=then == "left")
            assert abs(places[-1] - places[0]) > 0.3
            assert set(shapes) == {first}
        else:
            change = shapes.index(then)
            assert shapes == [first] * change + [then] * (8 - change)
            assert 2 < change < 6


def test_backwards_a_story_is_another_one_of_the_same_pictures():
    for story in STORIES:
        told = story.backwards
        assert told.event in EVENTS
        assert told.event != story.event
        assert told.backwards == story
        np.testing.assert_array_equal(synthetic_stories.render(told), synthetic_stories.render(story)[::-1])


def test_every_event_has_a_name_of_its_own():
    captions = {story.caption for story in STORIES}
    assert len(captions) == len(EVENTS)
    assert {"a circle moves to the left", "first a cross, then a triangle"} <= captions
