"""The plan, row by row, and what holds for every plan."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.routing.needs import BITS, REASONING, VISION, Needs
from providers.routing.outcomes import Outcome
from providers.routing.plan import Standing, plan
from providers.routing.quota import for_model
from providers.routing.strategies import STRATEGIES, Turns
from providers.routing.table import CredentialRef, ModelQuota
from tests.providers.routing.made import MODEL, NOW, planned, slugs, standing, table, target

# --- what is refused, and with which code ---------------------------------------------------------


@pytest.mark.parametrize("feature", BITS)
@pytest.mark.parametrize("fact", ["has", "lacks", "unknown"])
@pytest.mark.parametrize("is_needed", [True, False], ids=["needed", "not-needed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_feature_refuses_only_where_it_is_known_to_lack(
    feature: str, fact: str, is_needed: bool, strategy: str
) -> None:
    bit = BITS[feature]
    facts: dict[str, Any] = {} if fact == "unknown" else {fact: bit}
    made = planned(
        table(target("one", **facts), target("able", has=sum(BITS.values()))),
        standing(),
        Needs(bits=bit if is_needed else 0),
        asked_strategy=strategy,
    )
    if is_needed and fact == "lacks":
        assert slugs(made) == ["able"]
        assert [(r.target.endpoint.slug, r.code) for r in made.rejected] == [
            ("one", f"no_{feature}")
        ]
    else:
        assert sorted(slugs(made)) == ["able", "one"]
        assert made.rejected == ()


@pytest.mark.parametrize(
    ("known", "asked", "code"),
    [
        ({"window": 0}, {"fewest_tokens": 10**9}, ""),
        ({"window": 1000}, {"fewest_tokens": 1000}, ""),
        ({"window": 1000}, {"fewest_tokens": 1001}, "context_too_small"),
        ({"window": 1000}, {"fewest_tokens": 0, "most_tokens": 10**9}, ""),
        ({"most_output": 0}, {"max_output": 10**9}, ""),
        ({"most_output": 100}, {"max_output": 100}, ""),
        ({"most_output": 100}, {"max_output": 101}, "output_too_small"),
        ({"most_output": 100}, {"max_output": 0}, ""),
        ({"most_bytes": 0}, {"size": 10**9}, ""),
        ({"most_bytes": 100}, {"size": 100}, ""),
        ({"most_bytes": 100}, {"size": 101}, "request_too_large"),
        ({"most_images": 0}, {"images": 10**5}, ""),
        ({"most_images": 8}, {"images": 8}, ""),
        ({"most_images": 8}, {"images": 9}, "too_many_images"),
        ({"kind": "embedding"}, {}, "wrong_kind"),
    ],
    ids=str,
)
def test_figures_refuse_only_where_they_are_known(
    known: dict[str, Any], asked: dict[str, Any], code: str
) -> None:
    made = planned(table(target("one", **known)), standing(), Needs(**asked))
    assert [entry.code for entry in made.rejected] == ([code] if code else [])
    assert len(made.candidates) == (0 if code else 1)


def test_thinking_chooses_but_does_not_refuse() -> None:
    plain, thinker = target("plain", lacks=REASONING), target("thinker", has=REASONING)
    needs = Needs(bits=REASONING)
    assert slugs(planned(table(plain), standing(), needs)) == ["plain"]
    made = planned(table(plain, thinker), standing(), needs)
    assert slugs(made) == ["thinker"]
    assert made.rejected[0].code == "no_reasoning"


def test_a_window_that_surely_suffices_comes_first() -> None:
    routes = table(target("small", window=1_000, priority=9), target("large", window=9_000))
    assert slugs(planned(routes, standing(), Needs(fewest_tokens=500, most_tokens=1_500))) == [
        "large",
        "small",
    ]


def test_names_are_the_keys_and_the_tables() -> None:
    routes = table(target("one"))
    assert not plan("other", routes, lambda _: True, standing()).is_known
    assert not plan(MODEL, routes, lambda name: name != MODEL, standing()).is_known
    assert not plan("m\n", routes, lambda _: True, standing()).is_known
    assert plan(MODEL, routes, lambda name: name == MODEL, standing()).is_known


# --- order ----------------------------------------------------------------------------------------

POOL = (
    target("a", priority=5, rank=1, input_nanos=9, output_nanos=9, weight=1),
    target("b", priority=9, rank=0, input_nanos=5, output_nanos=5, weight=3),
    target("c", priority=1, rank=0, weight=1),
    target("d", priority=5, rank=1, input_nanos=1, output_nanos=1, has=VISION, weight=0),
)


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("priority", ["b", "c", "a", "d"]),
        ("fill-first", ["b", "c", "a", "d"]),
        ("weighted", ["b", "a", "c", "d"]),
        ("lowest-price", ["d", "b", "a", "c"]),
        ("cheapest-capable", ["d", "b", "a", "c"]),
        ("fastest", ["b", "c", "a", "d"]),
        ("least-busy", ["b", "c", "a", "d"]),
        ("two-choices", ["b", "c", "a", "d"]),
    ],
)
def test_orders(strategy: str, wanted: list[str]) -> None:
    made = planned(
        table(*POOL), standing(), Needs(bits=VISION, most_tokens=10), asked_strategy=strategy
    )
    assert slugs(made) == wanted
    assert made.strategy == strategy


def test_who_decides_the_strategy() -> None:
    routes = table(*POOL, strategy="lowest-price")
    assert planned(routes, standing()).strategy == "lowest-price"
    routes.strategies[MODEL] = "fill-first"
    assert planned(routes, standing()).strategy == "fill-first"
    assert planned(routes, standing(), asked_strategy="fastest").strategy == "fastest"


def test_fastest_and_least_busy_read_what_was_seen() -> None:
    known = standing()
    a, b, c = target("a"), target("b"), target("c")
    loads: Any = known.loads
    for each, seconds in ((a, 0.9), (b, 0.2), (c, 0.5)):
        loads.first_token(each, seconds)
    routes = table(a, b, c)
    assert slugs(planned(routes, known, asked_strategy="fastest")) == ["b", "c", "a"]
    loads.began(b)
    loads.began(b)
    loads.began(c)
    assert slugs(planned(routes, known, asked_strategy="least-busy")) == ["a", "c", "b"]
    loads.ended(b)
    loads.ended(b)
    assert loads.running(b) == 0


def first_key(known: Standing, strategy: str, session: str = "") -> str:
    routes = table(target("a", credentials=3))
    made = planned(routes, known, Needs(session=session), asked_strategy=strategy)
    return made.candidates[0].credentials[0].id


def test_equal_credentials_are_measured_too() -> None:
    known, only = standing(), target("a", credentials=3)
    loads: Any = known.loads
    keys = only.endpoint.credentials
    for key, seconds in zip(keys, (0.9, 0.2, 0.5), strict=True):
        loads.first_token(only, seconds, key)
    assert {first_key(known, "fastest") for _ in range(6)} == {"a-1"}
    assert {first_key(known, "fastest", "a conversation") for _ in range(6)} == {"a-1"}
    for key in (keys[0], keys[1], keys[1]):
        loads.began(only, key)
    assert {first_key(known, "least-busy") for _ in range(6)} == {"a-2"}
    drawn = [first_key(known, "two-choices") for _ in range(60)]
    assert "a-1" not in drawn, "the busiest loses to whoever is drawn beside it"
    assert {"a-0", "a-2"} == set(drawn)
    assert len({first_key(known, "least-busy", "a conversation") for _ in range(6)}) == 1
    for key in (keys[0], keys[1], keys[1]):
        loads.ended(only, key)
    assert {first_key(known, "least-busy") for _ in range(6)} == {"a-0", "a-1", "a-2"}


def test_a_lesser_priority_waits_however_idle_it_is() -> None:
    known = standing()
    keys = [CredentialRef(id="busy", priority=1), CredentialRef(id="idle")]
    only = target("a", credentials=keys)
    loads: Any = known.loads
    loads.began(only, keys[0])
    made = planned(table(only), known, asked_strategy="least-busy")
    assert [ref.id for ref in made.candidates[0].credentials] == ["busy", "idle"]


def test_an_explanation_takes_nobodys_turn() -> None:
    known = standing()
    routes = table(*(target(slug, credentials=3) for slug in "abc"))
    looked = [planned(routes, known, is_real=False) for _ in range(3)]
    assert len({tuple(slugs(each)) for each in looked}) == 1
    first = planned(routes, known)
    assert slugs(first) == slugs(looked[0])
    assert first.candidates[0].credentials == looked[0].candidates[0].credentials


# --- rests ----------------------------------------------------------------------------------------


def rest(known: Any, slug: str, outcome: Outcome, seconds: float = 60.0, number: int = 0) -> None:
    known.cooldowns.failed(
        slug,
        f"{slug}-{number}",
        MODEL,
        outcome=outcome,
        now=known.now,
        cooldown_seconds=30,
        retry_after_seconds=seconds,
    )


def test_who_rests_is_left_out_with_the_time_it_comes_back() -> None:
    known = standing()
    rest(known, "a", Outcome.RATE)
    made = planned(table(target("a", priority=9), target("b")), known)
    assert slugs(made) == ["b"]
    assert [(r.code, r.limit, r.detail) for r in made.rejected] == [("resting", NOW + 60, "rate")]


def test_the_last_one_stays_and_a_used_up_quota_does_not() -> None:
    known = standing()
    rest(known, "a", Outcome.RATE, 60)
    rest(known, "b", Outcome.RATE, 30)
    made = planned(table(target("a"), target("b")), known)
    assert slugs(made) == ["b", "a"]
    assert made.is_last_resort
    known = standing()
    rest(known, "a", Outcome.QUOTA, 600)
    made = planned(table(target("a")), known)
    assert slugs(made) == []
    assert made.first_free() == NOW + 600


def test_a_target_works_while_one_of_its_credentials_does() -> None:
    known = standing()
    rest(known, "a", Outcome.RATE, number=0)
    rest(known, "a", Outcome.RATE, number=2)
    made = planned(table(target("a", credentials=3), target("b", priority=-1)), known)
    assert slugs(made) == ["a", "b"]
    assert [ref.id for ref in made.candidates[0].credentials] == ["a-1"]


def test_health_outranks_the_conversation() -> None:
    known = standing()
    routes = table(*(target(slug) for slug in "abc"))
    needs = Needs(session="a conversation")
    kept = slugs(planned(routes, known, needs))[0]
    assert all(slugs(planned(routes, known, needs))[0] == kept for _ in range(20))
    rest(known, kept, Outcome.RATE)
    moved = slugs(planned(routes, known, needs))[0]
    assert moved != kept
    assert all(slugs(planned(routes, known, needs))[0] == moved for _ in range(20))


def test_only_the_conversations_of_a_lost_target_move() -> None:
    known = standing()
    sessions = [Needs(session=f"s{number}") for number in range(200)]
    routes, fewer = table(*(target(s) for s in "abcd")), table(*(target(s) for s in "abc"))
    for needs in sessions:
        before = slugs(planned(routes, known, needs))[0]
        after = slugs(planned(fewer, known, needs))[0]
        assert after == before or before == "d"


def test_stickiness_can_be_off() -> None:
    known = standing()
    routes = table(*(target(slug) for slug in "ab"), is_sticky=False)
    firsts = {slugs(planned(routes, known, Needs(session="s")))[0] for _ in range(4)}
    assert firsts == {"a", "b"}


# --- what holds for every plan --------------------------------------------------------------------

FACTS = st.fixed_dictionaries(
    {
        "priority": st.integers(-2, 2),
        "weight": st.integers(0, 5),
        "lacks": st.integers(0, 255),
        "window": st.sampled_from([0, 100, 10_000]),
        "most_output": st.sampled_from([0, 50, 5_000]),
        "kind": st.sampled_from(["chat", "chat", "chat", "embedding"]),
        "credentials": st.integers(0, 3),
        "rank": st.integers(0, 2),
    }
)
NEEDS = st.builds(
    Needs,
    bits=st.integers(0, 255),
    fewest_tokens=st.sampled_from([0, 50, 500, 50_000]),
    most_tokens=st.sampled_from([0, 5_000, 100_000]),
    max_output=st.sampled_from([0, 20, 1_000]),
    session=st.sampled_from(["", "s1", "s2"]),
)
RESTS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 2),
        st.sampled_from([Outcome.RATE, Outcome.QUOTA, Outcome.AUTH, Outcome.NETWORK]),
        st.sampled_from([None, 60.0]),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FACTS, min_size=1, max_size=6), NEEDS, RESTS, st.sampled_from(["", *STRATEGIES]))
def test_never_to_an_unfit_or_resting_target_while_a_fit_one_is_there(
    facts: list[dict[str, Any]], needs: Needs, rests: list[Any], strategy: str
) -> None:
    targets = [target(f"p{number}", **each) for number, each in enumerate(facts)]
    known = standing()
    for number, credential, outcome, seconds in rests:
        known.cooldowns.failed(
            f"p{number}",
            f"p{number}-{credential}",
            MODEL,
            outcome=outcome,
            now=NOW,
            cooldown_seconds=30,
            retry_after_seconds=seconds,
        )

    def is_resting(provider: str, credential: str) -> bool:
        return known.cooldowns.resting(provider, credential, MODEL, NOW) is not None

    made = planned(table(*targets), known, needs, asked_strategy=strategy)
    chosen = [candidate.target for candidate in made.candidates]
    # Everybody is either tried or refused, once.
    everybody = sorted(t.endpoint.slug for t in [*chosen, *(r.target for r in made.rejected)])
    assert everybody == sorted(t.endpoint.slug for t in targets)
    hard = needs.bits & ~REASONING
    for each in chosen:
        assert each.kind == "chat"
        assert not each.lacks & hard
        assert not 0 < each.spec.context_window < needs.fewest_tokens
        assert not 0 < each.spec.max_output_tokens < needs.max_output
    for candidate in made.candidates:
        provider = candidate.target.endpoint.provider_id
        for credential in [ref.id for ref in candidate.credentials] or [""]:
            assert is_resting(provider, credential) == made.is_last_resort


# --- fairness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["priority", "least-busy", "two-choices"])
@pytest.mark.parametrize("size", [2, 3, 5, 7])
@pytest.mark.parametrize("sessions", [False, True], ids=["turns", "conversations"])
def test_equals_get_equal_shares(strategy: str, size: int, sessions: bool) -> None:
    known = standing()
    routes = table(*(target(f"p{number}") for number in range(size)))
    rounds = 1_000 * size
    counts = dict.fromkeys((f"p{number}" for number in range(size)), 0)
    for number in range(rounds):
        needs = Needs(session=f"s{number}" if sessions else "")
        counts[slugs(planned(routes, known, needs, asked_strategy=strategy))[0]] += 1
    for count in counts.values():
        # Turns are exact; draws and hashes scatter.
        assert abs(count - 1_000) <= (50 if strategy == "priority" and not sessions else 120)


@pytest.mark.parametrize(
    "weights", list(itertools.product([1, 2, 5], repeat=3)), ids=lambda w: "-".join(map(str, w))
)
def test_weights_are_shares(weights: tuple[int, ...]) -> None:
    known = standing()
    names = [f"p{number}" for number in range(len(weights))]
    routes = table(*(target(n, weight=w) for n, w in zip(names, weights, strict=True)))
    counts = dict.fromkeys(names, 0)
    rounds = 20 * sum(weights)
    for _ in range(rounds):
        counts[slugs(planned(routes, known, asked_strategy="weighted"))[0]] += 1
    for name, weight in zip(names, weights, strict=True):
        share = rounds * weight / sum(weights)
        assert abs(counts[name] - share) <= max(1, 0.05 * share)


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3), (5, 1, 0)], ids=str)
def test_credentials_share_by_weight(weights: tuple[int, ...]) -> None:
    known = standing()
    refs = [CredentialRef(id=f"k{n}", weight=w) for n, w in enumerate(weights)]
    routes = table(target("a", credentials=refs))
    counts = dict.fromkeys((ref.id for ref in refs), 0)
    rounds = 20 * sum(weights)
    for _ in range(rounds):
        counts[planned(routes, known).candidates[0].credentials[0].id] += 1
    for ref in refs:
        assert abs(counts[ref.id] - rounds * ref.weight / sum(weights)) <= 1


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 5, 0)])
@pytest.mark.parametrize("session", ["", "a", "b", "c"])
def test_filling_first_fills_the_first_credential(weights: tuple[int, ...], session: str) -> None:
    refs = [CredentialRef(id=f"{n}", weight=weight) for n, weight in enumerate(weights)]
    routes, known = table(target("p", credentials=refs), strategy="fill-first"), standing()
    for _ in range(5):
        made = planned(routes, known, Needs(session=session))
        assert [ref.id for ref in made.candidates[0].credentials] == ["0", "1", "2"]
    known.cooldowns.failed(
        "p", "0", MODEL, outcome=Outcome.QUOTA, now=NOW, cooldown_seconds=30,
    )  # fmt: skip
    made = planned(routes, known, Needs(session=session))
    assert [ref.id for ref in made.candidates[0].credentials] == ["1", "2"]


def test_processes_that_start_anywhere_are_fair_together() -> None:
    routes = table(*(target(slug) for slug in "abc"))
    counts = dict.fromkeys("abc", 0)
    for start in (5, 1_234, 98_765, 7):
        known = standing()
        known = type(known)(
            cooldowns=known.cooldowns,
            turns=Turns(start),
            loads=known.loads,
            draw=known.draw,
            now=NOW,
        )
        for _ in range(300):
            counts[slugs(planned(routes, known))[0]] += 1
    assert all(abs(count - 400) <= 20 for count in counts.values())


# --- what a subscription has left ----------------------------------------------------------------


def login(name: str, share: float = 1.0, until: float = 0.0, **more: Any) -> CredentialRef:
    return CredentialRef(id=name, quota_share=share, quota_used_up_until=until, **more)


@pytest.mark.parametrize(
    ("until", "first"), [(NOW + 1, "b"), (NOW - 1, "a"), (0.0, "a")], ids=["now", "over", "never"]
)
def test_who_has_nothing_left_comes_after_all_others(until: float, first: str) -> None:
    used_up = target("a", priority=9, credentials=[login("a", 0.0, until)])
    routes = table(used_up, target("b"))
    routes = msgspec.structs.replace(routes, knows_quotas=True)
    assert slugs(planned(routes, standing())) == [first, "ba".replace(first, "")]
    # Alone it is asked all the same: the vendor knows better.
    assert slugs(planned(table(used_up), standing())) == ["a"]


@pytest.mark.parametrize(
    ("model", "share", "until"),
    [
        ("gemini-2.5-pro", 0.1, NOW),
        ("gemini-2.5-pro-preview", 0.8, 0.0),
        ("claude-opus-5", 0.4, 0.0),
        ("anthropic/claude-5-OPUS", 0.4, 0.0),
        ("claude-octopus", 0.8, 0.0),
    ],
)
def test_a_window_counts_for_the_models_it_names(model: str, share: float, until: float) -> None:
    quotas = (
        ModelQuota(share=0.1, used_up_until=NOW, model="gemini-2.5-pro"),
        ModelQuota(share=0.4, family=("claude", "opus")),
        ModelQuota(share=0.9, family=("claude", "opus")),
        ModelQuota(share=0.0, used_up_until=NOW),
    )
    found = for_model(login("one", 0.8, model_quotas=quotas), model)
    assert (found.quota_share, found.quota_used_up_until) == (share, until)


@pytest.mark.parametrize("session", ["", "one conversation"])
def test_credentials_with_nothing_left_come_last(session: str) -> None:
    refs = [login("empty", 0.0, NOW + 60, priority=9), login("low", 0.5), login("full")]
    routes = table(target("p", credentials=refs))
    for _ in range(20):
        made = planned(routes, standing(), Needs(session=session))
        assert [ref.id for ref in made.candidates[0].credentials][-1] == "empty"
        assert len(made.candidates[0].credentials) == 3


def test_who_has_more_left_serves_more() -> None:
    refs = [login("quarter", 0.25), login("whole", 1.0), login("spent", 0.0)]
    routes, known = table(target("p", credentials=refs)), standing()
    rounds = 1260
    counts = Counter(planned(routes, known).candidates[0].credentials[0].id for _ in range(rounds))
    assert abs(counts["whole"] - rounds * 100 / 126) <= 2
    assert abs(counts["quarter"] - rounds * 25 / 126) <= 2
    # A conversation stays, and those of all are shared the same way.
    kept = Counter(
        planned(routes, known, Needs(session=f"s{n}")).candidates[0].credentials[0].id
        for n in range(1_000)
    )
    assert kept["whole"] > kept["quarter"] > kept["spent"]
    one = Needs(session="the same")
    chosen = {planned(routes, known, one).candidates[0].credentials[0].id for _ in range(9)}
    assert len(chosen) == 1


# --- who holds the answer that is gone on from ---------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_follow_up_goes_to_who_answered(strategy: str) -> None:
    routes = table(target("a", priority=9, credentials=3), target("b", credentials=3))
    known = standing()
    for _ in range(9):
        for holder in (("a", "a-2"), ("b", "b-1")):
            made = planned(routes, known, Needs(holder=holder), asked_strategy=strategy)
            first = made.candidates[0]
            assert (first.target.endpoint.provider_id, first.credentials[0].id) == holder
            assert len(first.credentials) == 3


def test_health_outranks_who_answered() -> None:
    routes = table(target("a", priority=9), target("b", credentials=2))
    known = standing()
    holder = Needs(holder=("b", "b-1"))
    rest: dict[str, Any] = {
        "outcome": Outcome.RATE,
        "now": NOW,
        "cooldown_seconds": 30,
        "retry_after_seconds": 60,
    }
    known.cooldowns.failed("b", "b-1", MODEL, **rest)
    made = planned(routes, known, holder)
    assert [ref.id for ref in made.candidates[0].credentials] == ["b-0"]
    known.cooldowns.failed("b", "b-0", MODEL, **rest)
    assert slugs(planned(routes, known, holder)) == ["a"]
    # Whoever is gone is nobody's holder.
    assert slugs(planned(routes, standing(), Needs(holder=("gone", "x")))) == ["a", "b"]
