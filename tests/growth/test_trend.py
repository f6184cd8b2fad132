"""What earlier readings tell, whoever made them and however far apart."""

from datetime import timedelta

import pytest

from morpheus.trend import Kind, Point, duration, forecast, lasted, usual_distance
from tests.growth.sample import NOW, minutes, readings


def at(*ago: float, cpu: float = 90) -> list[Point]:
    """Readings so many minutes before now."""
    return [Point(NOW - minutes(each), 3, {Kind.CPU: cpu}) for each in ago]


def hot(point: Point) -> bool:
    return point.worst[Kind.CPU] > 80


@pytest.mark.parametrize(
    ("ago", "lasts"),
    [
        ((30, 25, 20, 15, 10, 5, 0), True),
        ((30, 26, 19, 15, 12, 4, 0), True),  # a scheduler that is not punctual
        ((45, 40, 35, 30, 20, 15, 10, 5, 0), True),  # one reading is missing
        ((45, 40, 35, 30, 15, 10, 5, 0), False),  # two are
        ((30, 25, 20, 15), False),  # none of late
        ((25, 20, 15, 10, 5, 0), False),  # not so long yet
        ((30, 0), True),
        ((30,), False),
        ((), False),
    ],
)
def test_half_an_hour_is_covered_without_a_gap(ago: tuple[float, ...], lasts: bool) -> None:
    assert lasted(at(*ago), hot, NOW, minutes(30)) is lasts


def test_schedulers_that_read_right_after_each_other_leave_no_gap() -> None:
    """Three of them, every five minutes: most readings are seconds apart, and that is no outage."""
    ago = [5 * k + offset for k in range(8, -1, -1) for offset in (0.2, 0.1, 0)]

    assert lasted(at(*ago), hot, NOW, minutes(30))


def test_a_person_who_looks_often_does_not_make_the_scheduler_look_late() -> None:
    ago = [35, 30, 25, 20, 15, 10, *(5 + k / 10 for k in range(20, 0, -1)), 5, 0]

    assert lasted(at(*ago), hot, NOW, minutes(30))


def test_an_outage_is_not_hidden_by_readings_that_are_as_far_apart_as_it_lasted() -> None:
    assert not lasted(at(60, 55, 50, 45, 40, 35, 30, 5, 4, 3, 2, 1, 0), hot, NOW, minutes(30))


def test_one_reading_that_is_not_above_ends_it() -> None:
    points = [*at(30, 25, 20, 10, 5, 0), *at(15, cpu=10)]

    assert not lasted(points, hot, NOW, minutes(30))


def test_readings_of_the_future_are_not_counted() -> None:
    assert not lasted([*at(30, 25, 20, 15), *at(-5, -10)], hot, NOW, minutes(30))


def test_the_usual_distance_is_that_in_the_middle_of_the_time() -> None:
    assert usual_distance(at(20, 15, 10, 5, 0)) == minutes(5)
    assert usual_distance(at(10, 5.2, 5.1, 5, 0)) == minutes(4.8)
    assert usual_distance(at(5)) is None


# Trends


@pytest.mark.parametrize(
    "values",
    [
        [60, 55, 50, 45, 40, 35],  # falling
        [50, 50, 50, 50, 50, 50],
        [50, 50.1, 50, 50.1, 50.1, 50.2],  # as good as flat
        [30, 40, 50, 60, 70],  # too few
        [10, 90, 5, 95, 20, 80, 15, 100],  # anything may come
        [70, 75, 80, 85, 90, 95],  # above already
    ],
)
def test_what_does_not_rise_for_certain_reaches_nothing(values: list[float]) -> None:
    assert forecast(readings(values), Kind.CPU, 80, NOW) is None


def test_what_rises_reaches_its_level_by_its_trend() -> None:
    found = forecast(readings([20, 25, 30, 35, 40, 45, 50]), Kind.CPU, 80, NOW)

    assert found
    assert found.at - NOW == minutes(25)
    assert found.sentence(NOW) == "CPU reaches 80% in about 25 min, if it goes on like this"


def test_noise_around_a_trend_hides_it_no_more_than_it_moves_it() -> None:
    values = [20 + 2 * k + (4 if k % 2 else -4) for k in range(20)]

    found = forecast(readings([float(each) for each in values]), Kind.CPU, 80, NOW)

    assert found
    assert minutes(30) < found.at - NOW < minutes(70)


def test_a_few_minutes_are_no_trend() -> None:
    assert forecast(readings([20, 25, 30, 35, 40, 45], every=1), Kind.CPU, 80, NOW) is None


def test_nobody_sees_years_ahead() -> None:
    assert forecast(readings([10, 10.1, 10.2, 10.3, 10.4, 10.6]), Kind.CPU, 80, NOW) is None


def test_readings_that_lack_a_kind_are_no_part_of_its_trend() -> None:
    assert forecast(readings([20, 25, 30, 35, 40, 45]), Kind.MEMORY, 80, NOW) is None


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (timedelta(seconds=40), "40 s"),
        (timedelta(minutes=1), "1 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=2), "2 hours"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(days=9), "9 days"),
        (timedelta(seconds=-3), "0 s"),
    ],
)
def test_durations_are_told_in_the_unit_that_suits_them(time: timedelta, said: str) -> None:
    assert duration(time) == said
