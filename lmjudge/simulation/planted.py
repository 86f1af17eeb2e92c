"""The parameters of a simulated study: its models, judges and voters, and their habits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import sqrt

Side = str  # one of model_a, model_b, tie
_OTHER = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}

CATEGORIES = ("errands", "letters", "maps", "recipes", "reasoning", "math")
REFERENCED = ("reasoning", "math")  # these come with a reference answer
ONE_TURN = ("maps",)  # and these stop after the first turn
RIGHT_FROM = 5.5  # the quality from which on an answer counts as right
LENGTHS = (0.62, 1.0, 1.57)  # an answer is short, middling or long, each as often as the others


@dataclass(frozen=True)
class SimulatedModel:
    """A model that answers: how good it is, in points of ten, and how long its answers are.

    `points` has the expected quality by category, `second_turn` what a second turn adds to it,
    `words` the length of a middling answer.
    """

    name: str
    words: int
    points: tuple[float, ...]
    second_turn: float = 0.0

    def quality(self, category: str, turn: int) -> float:
        """Return the expected quality of its answers, on the scale on which judges grade."""
        return self.points[CATEGORIES.index(category)] + (self.second_turn if turn == 2 else 0.0)


@dataclass(frozen=True)
class SimulatedJudge:
    """A judge model with planted habits; every rate is a share of its judgments.

    A judgment fails (text without a verdict) with `failure_rate`. Of the others, `position_bias`
    go to the answer shown first (to the second where it is negative), `tie_rate` are ties whatever
    the answers, `verbosity_bias` go to the longer answer, `self_preference` to the judge's own
    where it is one of the two, `name_bias` to the assistant called A (to B where it is negative);
    the rest name the better answer, or the tie that it is, with `accuracy`. Examples in the prompt
    take a share `steadied` of the position bias away. In grading, a habit adds a point: to the
    first answer (two scores in one judgment), to a long answer, to its own; `leniency` is added to
    all and `spread` is the standard deviation of its grades. Another sample of a judgment is drawn
    afresh with `repeat_noise`. `request_failure_rate` of its requests never get a reply. Where they
    differ, `likes` names models, the best liked first, and `leaning` of its comparisons go to the
    one of the two that it likes better, if it likes either. Where they differ, `reasoned` is its
    accuracy under a prompt that has it solve the question first, `guided` under one that shows a
    reference answer (not planted for prompts that show it now and then).
    """

    name: str
    accuracy: float
    position_bias: float = 0.0
    verbosity_bias: float = 0.0
    self_preference: float = 0.0
    tie_rate: float = 0.0
    failure_rate: float = 0.0
    repeat_noise: float = 0.0
    leniency: float = 0.0
    spread: float = 0.9
    request_failure_rate: float = 0.0
    name_bias: float = 0.0
    steadied: float = 0.0
    reasoned: float | None = None
    guided: float | None = None
    leaning: float = 0.0
    likes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        habits = abs(self.position_bias) + abs(self.name_bias) + self.tie_rate + self.verbosity_bias
        habits += self.leaning
        rates = ("accuracy", "failure_rate", "repeat_noise", "request_failure_rate", "steadied")
        for name in rates:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} of {self.name!r} is {getattr(self, name)}; give a share")
        if (
            habits + self.self_preference > 1
            or min(self.tie_rate, self.verbosity_bias, self.self_preference) < 0
            or min(self.leaning, self.spread) < 0
        ):
            raise ValueError(
                f"the habits of {self.name!r} take a share of {habits + self.self_preference:.3f};"
                " give shares that are not negative and leave something to judge"
            )

    def under(
        self, *, exchanged: bool, examples: bool, solves: bool = False, guided: bool = False
    ) -> SimulatedJudge:
        """Return the judge under a prompt with exchanged names, examples, a solution or a guide."""
        habit = self.guided if guided else self.reasoned if solves else None
        return replace(
            self,
            name_bias=-self.name_bias if exchanged else self.name_bias,
            position_bias=self.position_bias * (1 - self.steadied * examples),
            accuracy=self.accuracy if habit is None else habit,
        )

    def liked(self, model_a: str, model_b: str) -> Side | None:
        """Return which of two models it likes better; None if it likes neither."""
        places = [
            self.likes.index(m) if m in self.likes else len(self.likes) for m in (model_a, model_b)
        ]
        if places[0] == places[1]:
            return None
        return "model_a" if places[0] < places[1] else "model_b"

    def verdicts(
        self, best: Side, longer: Side | None, own: Side | None, liked: Side | None = None
    ) -> dict[Side | None, float]:
        """Return the probability of each verdict on a game, `None` being a judgment without one.

        The first answer, model_a, is the one called A.

        >>> SimulatedJudge("j", accuracy=0.75, position_bias=0.25).verdicts("model_b", None, None)
        {'model_a': 0.4375, 'model_b': 0.5625, 'tie': 0.0, None: 0.0}
        """
        habits: list[tuple[Side | None, float]] = [
            ("model_a" if self.position_bias > 0 else "model_b", abs(self.position_bias)),
            ("model_a" if self.name_bias > 0 else "model_b", abs(self.name_bias)),
            ("tie", self.tie_rate),
            (longer, self.verbosity_bias),
            (own, self.self_preference),
            (liked, self.leaning),
        ]
        shares: dict[Side | None, float] = {"model_a": 0.0, "model_b": 0.0, "tie": 0.0, None: 0.0}
        judged = 1.0
        for side, share in habits:
            if side is not None:
                shares[side] += share
                judged -= share
        shares[best] += judged * self.accuracy
        wrong = [s for s in ("model_a", "model_b") if s != best]
        for side in wrong:
            shares[side] += judged * (1 - self.accuracy) / len(wrong)
        spoken = 1 - self.failure_rate
        return {
            side: self.failure_rate if side is None else share * spoken
            for side, share in shares.items()
        }

    def in_both_orders(
        self, best: Side, gap: float, own: Side | None, liked: Side | None = None
    ) -> tuple[dict[Side | None, float], dict[Side | None, float]]:
        """Return the probabilities of verdicts on the models, with model_a shown first and second.

        `gap` is how many words more model_a's answer has.
        """
        longer = "model_a" if gap > 0 else "model_b" if gap < 0 else None
        first = self.verdicts(best, longer, own, liked)
        turned = [side and _OTHER[side] for side in (longer, own, liked)]
        second = self.verdicts(_OTHER[best], *turned)
        return first, {side and _OTHER[side]: share for side, share in second.items()}

    def extra_points(self, first: float, long: float, own: float) -> list[tuple[float, float]]:
        """Return the points added to a grade and their probabilities.

        `first`, `long` and `own` say with what probability (0 or 1 for a known answer) the answer
        is shown first (-1: second), is long, is the judge's own.
        """
        coins = (
            abs(self.position_bias) * (first * self.position_bias > 0),
            self.verbosity_bias * long,
            self.self_preference * own,
        )
        totals: dict[int, float] = {}
        for tossed in product((0, 1), repeat=3):
            chance = 1.0
            for coin, heads in zip(coins, tossed, strict=True):
                chance *= coin if heads else 1 - coin
            totals[sum(tossed)] = totals.get(sum(tossed), 0.0) + chance
        return [(self.leniency + points, chance) for points, chance in totals.items()]


@dataclass(frozen=True)
class Voters:
    """A group of human voters: `each` of the `pool` vote on every pair of answers.

    A voter names the better answer, or the tie that it is, but for a share `noise` of the votes,
    which go to either of the two other choices alike, and a share `taste`, which go to the model
    that this voter likes better. Whom a voter likes is drawn once: a random order of the models.
    """

    group: str
    pool: int
    each: int
    noise: float
    taste: float = 0.0

    def choices(self, best: Side, liked: Side | None = None) -> dict[Side, float]:
        """Return the probability of each vote: of a voter who likes one better, or of any voter."""
        chances = {}
        for side in ("model_a", "model_b", "tie"):
            seen = 1 - self.noise if side == best else self.noise / 2
            tasted = 0.5 * (side != "tie") if liked is None else 1.0 * (side == liked)
            chances[side] = (1 - self.taste) * seen + self.taste * tasted
        return chances


@dataclass(frozen=True)
class Plan:
    """All that is planted in a study.

    The quality of an answer is its model's, plus what all answers to the question share
    (standard deviation `question_spread`), plus its own luck (`answer_spread`). Which of two
    answers is better follows their qualities, but on a share `contested` of the questions, where
    any two answers are as good as each other.
    """

    per_category: int
    models: tuple[SimulatedModel, ...]
    judges: tuple[SimulatedJudge, ...]
    voters: tuple[Voters, ...]
    baseline: str | None = None
    contested: float = 0.145
    question_spread: float = 0.71
    answer_spread: float = 1.13

    def better(self, a: SimulatedModel, b: SimulatedModel, category: str, turn: int) -> float:
        """Return the probability that a's answer has the higher quality (closed form)."""
        from scipy.special import ndtr

        gap = a.quality(category, turn) - b.quality(category, turn)
        return float(ndtr(gap / (sqrt(2) * self.answer_spread)))


def words_of(model: SimulatedModel, length: float) -> int:
    """Return how many words an answer of that length has."""
    return round(model.words * length)


MODELS = (
    SimulatedModel("sim-alder", 58, (7.48, 8.14, 7.25, 7.62, 6.31, 6.72), -0.37),
    SimulatedModel("sim-birch", 37, (6.97, 7.22, 7.07, 6.83, 6.5, 6.01), -0.83),
    SimulatedModel("sim-cedar", 46, (6.76, 6.47, 6.36, 6.96, 5.32, 4.76), 0.21),
    SimulatedModel("sim-dogwood", 29, (5.16, 5.66, 4.93, 5.38, 3.72, 3.02), -0.58),
    SimulatedModel("sim-elder", 71, (4.56, 4.31, 5.39, 4.05, 3.02, 2.45), -1.17),
)
JUDGES = (
    SimulatedJudge(
        "sim-heron",
        accuracy=0.893,
        position_bias=0.097,
        verbosity_bias=0.047,
        tie_rate=0.085,
        failure_rate=0.017,
        repeat_noise=0.271,
        leniency=0.184,
        spread=0.683,
    ),
    SimulatedJudge(
        "sim-cedar",
        accuracy=0.757,
        position_bias=-0.143,
        verbosity_bias=0.121,
        self_preference=0.234,
        tie_rate=0.032,
        failure_rate=0.041,
        repeat_noise=0.443,
        leniency=1.228,
        spread=1.399,
    ),
)
# Two samples of one model's answers, and judges who are moved by names and by examples.
TWINS = tuple(replace(MODELS[1], name=f"sim-birch, sample {number}") for number in (1, 2))
MOVED = (
    SimulatedJudge(
        "sim-osprey",
        accuracy=0.863,
        position_bias=0.216,
        tie_rate=0.071,
        failure_rate=0.027,
        leniency=0.143,
        spread=0.771,
        name_bias=0.083,
        steadied=0.573,
    ),
    SimulatedJudge(
        "sim-linnet",
        accuracy=0.779,
        position_bias=-0.094,
        tie_rate=0.119,
        failure_rate=0.043,
        leniency=0.619,
        spread=1.213,
        name_bias=0.337,
        steadied=0.334,
    ),
)
# Judges that are contestants themselves.
KIN = (
    JUDGES[1],
    SimulatedJudge(
        "sim-alder",
        accuracy=0.857,
        position_bias=0.091,
        self_preference=0.153,
        tie_rate=0.056,
        failure_rate=0.022,
        spread=0.927,
    ),
    SimulatedJudge(
        "sim-birch",
        accuracy=0.808,
        position_bias=0.063,
        tie_rate=0.103,
        failure_rate=0.034,
        spread=1.037,
    ),
)
VOTERS = (
    Voters("expert", pool=23, each=3, noise=0.131),
    Voters("crowd", pool=211, each=2, noise=0.325),
)
