"""The report in a real Chromium, from the file system.

Screenshots go to $REPORT_SCREENSHOTS, else to the test's own folder; $REPORT_PAGE is a report to show on them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

pytest.importorskip("selenium", reason="needs selenium")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.data.anah import load_mini
from factuality_harness.harness.io.samples import read_annotations
from tests.helpers.cli import command
from tests.helpers.reports import HOSTILE

pytestmark = pytest.mark.browser
main = command("report")
RESPONSES = "#view=responses"
RUNS = ["base", "w/o mask", "w/ mask"]
Open = Callable[..., Any]
MOST_ROWS = 60


def address(**state: Any) -> str:
    return "#" + urlencode({"view": "responses", **state}, doseq=True)


def state(driver: Any) -> dict[str, list[str]]:
    return parse_qs(driver.current_url.partition("#")[2])


def find(driver: Any, selector: str) -> Any:
    return driver.find_element(By.CSS_SELECTOR, selector)


def texts(driver: Any, selector: str) -> list[str]:
    return driver.execute_script(f"return [...document.querySelectorAll({selector!r})].map((e) => e.textContent)")


def total(driver: Any) -> int:
    return int(find(driver, "#status b").text.replace(",", ""))


def press(driver: Any, *keys: str) -> None:
    ActionChains(driver).send_keys(*keys).perform()


def focused(driver: Any) -> str:
    return driver.execute_script("const e = document.activeElement; return e.id || e.className || e.tagName")


def given(store: Path) -> list[tuple[str, str, Annotation]]:
    """(run, task, annotation) of all responses in the store."""
    found = []
    for place, run in enumerate(RUNS):
        for file in sorted((store / "stages" / f"score-{place}").rglob("samples_*.jsonl")):
            task = file.name.removeprefix("samples_").partition("_2026")[0]
            found += [(run, task, a) for a in read_annotations(file)]
    return found


def test_leaderboard_is_shown_first_and_states_judge_interval_and_what_is_missing(opened: Open, page: Path) -> None:
    driver = opened(page)
    assert find(driver, "#leaderboard").is_displayed() and not find(driver, "#responses").is_displayed()
    assert Select(find(driver, "#experiment")).first_selected_option.text == "The mask"  # the one that can be read
    caption = find(driver, ".experiment:not([hidden]) figcaption").text
    assert "raw scores of judge lexical; no human labels were given" in caption
    assert "Judge lexical" in caption and "95 % interval over topics" in caption
    assert "1 without a result yet" in caption
    rows = driver.find_elements(By.CSS_SELECTOR, ".experiment:not([hidden]) figure:first-of-type tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == RUNS
    best = [row for row in rows if "best" in row.find_element(By.CSS_SELECTOR, "td.n").text]
    assert [row.find_element(By.TAG_NAME, "th").text for row in best] == ["w/ mask"]


def test_leaderboard_sorts_and_says_so(opened: Open, page: Path) -> None:
    driver = opened(page)
    table = find(driver, ".experiment:not([hidden]) table")
    factuality = table.find_elements(By.CSS_SELECTOR, "thead th")[1]
    for direction, order in (("descending", sorted), ("ascending", lambda v: sorted(v, reverse=True))):
        factuality.find_element(By.TAG_NAME, "button").click()
        assert factuality.get_attribute("aria-sort") == direction
        values = [float(c.get_attribute("data-value")) for c in table.find_elements(By.CSS_SELECTOR, "td:nth-child(2)")]
        assert values == order(values)[::-1] and len(values) == 3


def test_choice_of_experiment_survives_a_reload(opened: Open, page: Path) -> None:
    driver = opened(page)
    Select(find(driver, "#experiment")).select_by_value("another")
    assert state(driver)["experiment"] == ["another"]
    driver.refresh()
    assert [e.text for e in driver.find_elements(By.CSS_SELECTOR, ".experiment h2") if e.is_displayed()] == ["Another"]


def test_a_row_of_the_leaderboard_leads_to_its_responses(opened: Open, page: Path) -> None:
    driver = opened(page)
    find(driver, "a[data-run='w/ mask'][data-task=world_factuality_near]").click()
    WebDriverWait(driver, 5).until(lambda d: find(d, "#detail h3").is_displayed())
    assert (state(driver)["run"], state(driver)["task"]) == (["w/ mask"], ["world_factuality_near"])
    assert total(driver) == 13


@pytest.mark.parametrize("label", list(Label))
def test_filter_by_label(opened: Open, page: Path, store: Path, label: Label) -> None:
    driver = opened(page, RESPONSES)
    chip = find(driver, f"#labels button[value={label}]")
    everything = given(store)
    assert int(chip.find_element(By.TAG_NAME, "small").text) == sum(a.count(label) for _, _, a in everything)
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert total(driver) == sum(a.count(label) > 0 for _, _, a in everything) < len(everything)
    shown = driver.execute_script(
        "return [...document.querySelectorAll('#detail .s:not(.dim)')].map((s) => s.className)"
    )
    assert shown and {name.split()[1] for name in shown} == {label.value}


@pytest.mark.parametrize(
    ("control", "value", "holds"),
    [
        ("topic", "Topic 002", lambda run, task, a: a.topic == "Topic 002"),
        ("language", "zh", lambda run, task, a: a.language == "zh"),
        ("task", "world_factuality_far", lambda run, task, a: task == "world_factuality_far"),
    ],
)
def test_filter_by_choice(
    opened: Open, page: Path, store: Path, control: str, value: str, holds: Callable[..., bool]
) -> None:
    driver = opened(page, RESPONSES)
    Select(find(driver, f"#{control}")).select_by_value(value)
    assert total(driver) == sum(holds(*row) for row in given(store)) > 0
    assert state(driver)[control] == [value]
    find(driver, "#reset").click()
    assert total(driver) == len(given(store)) and control not in state(driver)


def test_filter_by_model(opened: Open, page: Path) -> None:
    driver = opened(page, RESPONSES)
    for count, run in ((26, "base"), (52, "w/ mask")):
        find(driver, f"#models button[value='{run}']").click()
        assert total(driver) == count
    assert {row.split("\n")[-1] for row in (e.text for e in driver.find_elements(By.CSS_SELECTOR, ".row"))} == {"base"}
    find(driver, "#models button[value=base]").click()
    assert total(driver) == 26 and find(driver, "#detail h3").text == "w/ mask"


def test_search_reads_questions_responses_and_evidence_and_marks_what_it_found(
    opened: Open, page: Path, store: Path
) -> None:
    driver = opened(page, RESPONSES)
    for text in ("question 3:", "OLD MILLS", "1507", "桥在北方 😀", "no match"):
        driver.execute_script(  # ChromeDriver types no characters beyond the first plane
            "const t = document.getElementById('text'); t.value = arguments[0]; t.dispatchEvent(new Event('input'))",
            text,
        )
        assert total(driver) == sum(text.lower() in searched(a) for _, _, a in given(store)) > 0, text
    find(driver, "#text").clear()
    find(driver, "#text").send_keys("question 3:")
    assert texts(driver, "#detail h2 mark") == ["Question 3:"]
    find(driver, "#text").send_keys(" not there")
    assert total(driver) == 0 and "No response fits" in find(driver, "#detail").text


def searched(a: Annotation) -> str:
    evidence = [text for j in a.judgements for text in (*j.evidence, j.detail)]
    return "\n".join([a.question, a.topic, a.response, *evidence]).lower()


def test_orders(opened: Open, page: Path, store: Path) -> None:
    driver = opened(page, RESPONSES)

    def share(a: Annotation) -> float:
        return a.count(Label.OK) / n if (n := a.count(Label.OK, Label.CONTRADICTORY, Label.UNVERIFIABLE)) else -1

    shares = [share(a) for _, _, a in given(store)]
    for order, expected in (("worst", min(s for s in shares if s >= 0)), ("best", max(shares))):
        Select(find(driver, "#order")).select_by_value(order)
        find(driver, "#list").send_keys(Keys.HOME)
        right, _, checkable = find(driver, ".pane header .soft").text.split()[:3]
        assert int(right) / int(checkable) == pytest.approx(expected)
    Select(find(driver, "#order")).select_by_value("longest")
    find(driver, "#list").send_keys(Keys.HOME)
    longest = max((a.response for _, _, a in given(store)), key=len)
    assert shown_text(driver) == longest


def shown_text(driver: Any) -> str:
    """The response in full without marks and hidden labels."""
    return driver.execute_script(
        "const p = document.querySelector('.response').cloneNode(true);"
        "p.querySelectorAll('sup, .hidden').forEach((e) => e.remove()); return p.textContent;"
    )


def test_sentences_are_cut_where_they_were_judged_even_beyond_the_first_plane(opened: Open, page: Path) -> None:
    driver = opened(page, address(topic="桥"))
    assert shown_text(driver) == "😀桥在北方。 桥很老。"
    assert texts(driver, ".response .s") == ["😀桥在北方。✓ (ok)", "桥很老。? (unverifiable)"]


def test_labels_differ_without_colour(opened: Open, page: Path) -> None:
    driver = opened(page, RESPONSES)
    find(driver, "#help").click()
    looks = driver.execute_script(
        "return [...document.querySelectorAll('.legend .s')].map((s) => { const c = getComputedStyle(s);"
        "return [c.textDecorationStyle, s.querySelector('sup').textContent]; })"
    )
    assert len(looks) == len(Label) == len({style for style, _ in looks}) == len({mark for _, mark in looks})
    press(driver, Keys.ESCAPE)
    assert not find(driver, "#keys").is_displayed()


def test_the_whole_path_by_keyboard(opened: Open, page: Path) -> None:
    driver = opened(page, RESPONSES)
    press(driver, Keys.TAB)
    assert driver.switch_to.active_element.text == "Skip to the content"
    press(driver, "/")
    assert focused(driver) == "text"
    press(driver, "jk", Keys.ESCAPE)  # in the field they are letters
    assert find(driver, "#text").get_attribute("value") == "jk"
    find(driver, "#reset").click()
    first = state(driver)["r"]
    press(driver, "j")
    assert focused(driver) == "row" and state(driver)["r"] != first
    assert driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(driver, "k")
    assert state(driver)["r"] == first
    press(driver, Keys.END)
    assert driver.switch_to.active_element.get_attribute("aria-posinset") == "78"
    press(driver, Keys.HOME, Keys.ARROW_DOWN, Keys.ENTER)
    assert focused(driver).startswith("s ")
    for i in range(5):
        sentence = driver.switch_to.active_element
        box = find(driver, "#evidence")
        assert box.is_displayed() and box.text.split()[1] == sentence.get_attribute("class").split()[1]
        tabs = driver.execute_script("return [...document.querySelectorAll('.response .s')].map((s) => s.tabIndex)")
        assert tabs == [0 if j == i else -1 for j in range(5)]
        press(driver, Keys.ARROW_RIGHT)
    press(driver, Keys.ESCAPE)
    assert not find(driver, "#evidence").is_displayed()
    press(driver, Keys.ESCAPE)
    assert focused(driver) == "row"
    press(driver, "n")
    assert {"contradictory", "unverifiable"} & set(focused(driver).split())
    press(driver, "c")
    assert state(driver)["compare"] == ["1"]
    assert focused(driver) == "row"  # what had the focus is replaced
    press(driver, Keys.ARROW_DOWN, Keys.ENTER, "c")
    assert "compare" not in state(driver) and focused(driver) == "row"
    assert driver.switch_to.active_element.get_attribute("aria-selected") == "true"
    press(driver, "?")
    assert find(driver, "#keys").is_displayed()
    press(driver, Keys.ESCAPE)


def test_evidence_on_hover_and_its_place_in_the_document(opened: Open, page: Path) -> None:
    driver = opened(page, address(label="ok"))
    sentence = find(driver, ".s.ok:not(.dim)")
    quote = sentence.text.partition("✓")[0].strip()
    ActionChains(driver).move_to_element(sentence).perform()
    WebDriverWait(driver, 5).until(lambda d: find(d, "#evidence").is_displayed())
    assert find(driver, "#evidence blockquote").text == quote
    assert texts(driver, ".document mark") == [quote]
    ActionChains(driver).move_to_element(find(driver, "h1")).perform()
    WebDriverWait(driver, 5).until(lambda d: not find(d, "#evidence").is_displayed())
    assert texts(driver, ".document mark") == []
    sentence.click()  # stays
    ActionChains(driver).move_to_element(find(driver, "h1")).pause(0.4).perform()
    assert find(driver, "#evidence").is_displayed()


def test_two_checkpoints_side_by_side(opened: Open, page: Path) -> None:
    driver = opened(page, RESPONSES)
    find(driver, "#compare").click()
    assert texts(driver, ".pane h3") == ["A  base", "B  w/ mask"]
    assert total(driver) == 26  # two tasks of thirteen questions
    Select(find(driver, "#a")).select_by_value("w/o mask")
    assert texts(driver, ".pane h3") == ["A  w/o mask", "B  w/ mask"]
    find(driver, "#swap").click()
    assert texts(driver, ".pane h3") == ["A  w/ mask", "B  w/o mask"]
    find(driver, "#swap").click()
    Select(find(driver, "#order")).select_by_value("gain")
    press(driver, Keys.TAB)
    find(driver, "#list").send_keys(Keys.HOME)
    gains = []
    for _ in range(5):
        a, b = (
            int(right) / int(checkable)
            for right, _, checkable, *_ in (t.split() for t in texts(driver, ".pane header .soft:nth-child(2)"))
        )
        gains.append(b - a)
        press(driver, "j")
    assert gains == sorted(gains, reverse=True) and gains[0] > 0
    one = driver.current_url
    driver.refresh()
    WebDriverWait(driver, 5).until(lambda d: d.find_elements(By.CSS_SELECTOR, ".panes.two"))
    assert driver.current_url == one and texts(driver, ".pane h3") == ["A  w/o mask", "B  w/ mask"]


def test_another_model_from_the_response_itself(opened: Open, page: Path) -> None:
    driver = opened(page, address(run="w/o mask"))
    question = find(driver, "#detail h2").text
    find(driver, ".others button:last-child").send_keys(Keys.ENTER)
    assert texts(driver, ".pane h3") == ["A  w/o mask", "B  w/ mask"] and find(driver, "#detail h2").text == question
    assert focused(driver) == "row" and driver.switch_to.active_element.get_attribute("aria-selected") == "true"


def test_the_focus_stays_where_no_pair_fits(opened: Open, page: Path) -> None:
    driver = opened(page, address(text="桥很老", label="contradictory"))
    find(driver, "#reset").click()
    press(driver, "j")
    driver.execute_script("state.text = 'not there'; browser.refresh()")
    assert focused(driver) == "empty"


def test_a_question_asked_twice_is_paired_by_its_place(opened: Open, odd_page: Path) -> None:
    driver = opened(odd_page, address(compare="1", text="Same?"))
    pairs = driver.execute_script("return browser.list.items.map((pair) => pair.map((r) => r.text))")
    assert pairs == [[f"first to {n}.", f"second to {n}."] for n in ("one", "two")]
    driver = opened(odd_page, address(run="first", text="Same?"))
    assert texts(driver, ".others button") == ["second 1/1"]


def test_a_sentence_turns_round_only_itself(opened: Open, odd_page: Path) -> None:
    driver = opened(odd_page, address(text="Which way", run="first"))
    ends = driver.execute_script(
        "return [...document.querySelectorAll('.response .s')].map((s) => { const e = s.getBoundingClientRect();"
        "const [t, m] = [s.querySelector('bdi'), s.querySelector('sup')].map((x) => x.getBoundingClientRect());"
        "return [e.left, t.left, t.right, m.left, e.right, e.top]; })"
    )
    assert len(ends) == 3 and len({round(top) for *_, top in ends}) == 1
    flat = [x for *row, _ in ends for x in row]
    assert all(x <= y + 1 for x, y in pairwise(flat)), ends  # text, mark, text, mark, from the left


def test_a_long_detail_is_broken_in_the_evidence(opened: Open, odd_page: Path) -> None:
    driver = opened(odd_page, address(text="Which way", run="first"))
    find(driver, ".s.contradictory").click()
    assert "x" * 3000 in find(driver, "#evidence").text
    assert driver.execute_script("const e = document.getElementById('evidence'); return e.scrollWidth <= e.clientWidth")


def test_a_reload_restores_everything(opened: Open, page: Path) -> None:
    wanted = {"label": ["ok", "unverifiable"], "run": RUNS[:2], "topic": "Topic 001", "language": "en"}
    driver = opened(page, address(**wanted, task="world_factuality_near", text="the", order="worst"))
    press(driver, "j")
    before = (
        driver.current_url,
        total(driver),
        find(driver, "#detail").text,
        find(driver, "[aria-selected=true]").text,
    )
    driver.refresh()
    WebDriverWait(driver, 5).until(lambda d: d.find_elements(By.CSS_SELECTOR, ".row"))
    after = (driver.current_url, total(driver), find(driver, "#detail").text, find(driver, "[aria-selected=true]").text)
    assert after == before and before[1] > 1
    assert Select(find(driver, "#order")).first_selected_option.text == "worst first"
    assert [e.get_attribute("aria-pressed") for e in driver.find_elements(By.CSS_SELECTOR, "#models button")] == [
        "true",
        "true",
        "false",
    ]


def test_link_to_a_single_response(opened: Open, page: Path) -> None:
    driver = opened(page, address(run="w/ mask", label="contradictory"))
    for _ in range(3):
        press(driver, "j")
    question, text = find(driver, "#detail h2").text, shown_text(driver)
    link = find(driver, ".link").get_attribute("href")
    driver = opened(page, "#" + link.partition("#")[2])
    assert (find(driver, "#detail h2").text, shown_text(driver)) == (question, text)
    assert find(driver, "#detail h3").text == "w/ mask" and total(driver) == 78
    opened(page, address(r="99~0~no_task~nobody"))
    assert "is not in this report" in find(driver, "#status").text
    opened(page, address(r=parse_qs(link)["r"][0], run="base"))
    assert "filters hide the response" in find(driver, "#status").text


def test_model_output_is_shown_as_text(opened: Open, hostile_page: Path) -> None:
    driver = opened(hostile_page)
    assert driver.title == HOSTILE and find(driver, "h1").text == HOSTILE
    assert HOSTILE in find(driver, "#leaderboard figcaption").text
    assert "<" not in hostile_page.read_text("utf-8").partition('id="data">')[2].partition("</script>")[0]
    driver = opened(hostile_page, RESPONSES)
    assert shown_text(driver) == f"{HOSTILE} <!--<script>"
    find(driver, ".response .s").click()
    assert find(driver, "#evidence blockquote").text == HOSTILE
    assert find(driver, "#evidence p").text == HOSTILE
    assert find(driver, ".document").text == HOSTILE
    assert HOSTILE in find(driver, ".meta").text
    assert texts(driver, "#topic option")[1:] == [f"{HOSTILE} (2)"]
    find(driver, "#compare").click()
    assert HOSTILE.replace("=", ":") in find(driver, "#detail h3").text
    assert driver.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert len(driver.find_elements(By.TAG_NAME, "script")) == 3  # theme, data, behaviour: all ours


def test_of_many_responses_only_those_in_sight_exist(opened: Open, large_page: Path) -> None:
    driver = opened(large_page, RESPONSES)
    assert total(driver) == 5000
    for place in (0, 0.37, 1):
        driver.execute_script(
            "const l = document.getElementById('list'); l.scrollTop = arguments[0] * l.scrollHeight;"
            "return new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))",
            place,
        )
        seen = driver.execute_script("return [...document.querySelectorAll('.row')].map((r) => +r.ariaPosInSet)")
        assert 5 < len(seen) < MOST_ROWS
        assert 1 in seen  # the selected one stays, and the focus with it
    assert max(seen) == 5000
    find(driver, "#text").send_keys("mills")
    assert 0 < total(driver) <= 5000
    assert len(driver.find_elements(By.CSS_SELECTOR, "*")) < 2500


def prefer(driver: Any, scheme: str) -> None:
    """The system's choice, light or dark; back when the page has it."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    asked = f"return matchMedia('(prefers-color-scheme: {scheme})').matches"
    WebDriverWait(driver, 10).until(lambda d: d.execute_script(asked))


def luminance(driver: Any, selector: str, of: str = "backgroundColor") -> float:
    colour = driver.execute_script(f"return getComputedStyle(document.querySelector({selector!r})).{of}")
    parts = [int(float(v)) / 255 for v in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_light_and_dark_follow_the_system_and_the_switch(opened: Open, page: Path) -> None:
    driver = opened(page, RESPONSES)
    assert luminance(driver, "body") > 0.9
    prefer(driver, "dark")
    assert luminance(driver, "body") < 0.02
    find(driver, "#theme").click()
    assert find(driver, "#theme").get_attribute("aria-label") == "Theme: light" and luminance(driver, "body") > 0.9
    find(driver, "#theme").click()
    prefer(driver, "light")
    assert luminance(driver, "body") < 0.02

    def dark_when_opened_again(driver: Any) -> bool:
        driver.refresh()
        return luminance(driver, "body") < 0.02

    WebDriverWait(driver, 10).until(dark_when_opened_again)  # Chromium may store the choice a moment later


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(opened: Open, page: Path, scheme: str) -> None:
    driver = opened(page, RESPONSES)
    prefer(driver, scheme)
    paper = luminance(driver, "body")
    for selector in ("body", ".soft", ".link", *(f".chip.{label} b" for label in Label)):
        low, high = sorted([paper, luminance(driver, selector, "color")])
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector
    find(driver, "#help").click()
    for label in Label:  # the small marks, on the ground of their sentences
        ground = luminance(driver, f".legend .s.{label}") if label is not Label.NOFACT else paper
        low, high = sorted([ground, luminance(driver, f".legend .s.{label} sup", "color")])
        assert (high + 0.05) / (low + 0.05) >= 4.5, label
    for label in Label:
        if label is Label.NOFACT:
            continue  # has no ground of its own
        ground, text = (luminance(driver, f".legend .s.{label}", of) for of in ("backgroundColor", "color"))
        low, high = sorted([ground, text])
        assert (high + 0.05) / (low + 0.05) >= 7, label


@pytest.mark.parametrize("view", ["leaderboard", "figures", "responses&compare=1"])
def test_a_phone_needs_no_sideways_scrolling(opened: Open, page: Path, view: str) -> None:
    driver = opened(page, f"#view={view}")
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_tables_and_figures_need_no_scripts(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get("about:blank")
        browser.get(page.as_uri())
        assert find(browser, "#leaderboard table").is_displayed() and find(browser, "#figures img").is_displayed()
        assert "Reading responses needs scripts" in find(browser, "noscript").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_in_print_stands_what_can_be_read_on_paper(opened: Open, page: Path) -> None:
    driver = opened(page, RESPONSES)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    shown = {
        s: find(driver, s).is_displayed() for s in ("#leaderboard table", "#figures img", ".response", ".sentences")
    }
    assert shown == dict.fromkeys(shown, True)
    hidden = {s: find(driver, s).is_displayed() for s in ("#list", "#filters", "nav", "#theme")}
    assert hidden == dict.fromkeys(hidden, False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(opened: Open, page: Path, tmp_path: Path, scheme: str) -> None:
    folder = Path(os.environ.get("REPORT_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, where in (("leaderboard", "#"), ("responses", address(label="contradictory", order="worst"))):
        driver = opened(Path(os.environ.get("REPORT_PAGE") or page), where)
        size = {"width": 1360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        prefer(driver, scheme)
        if name == "responses":
            press(driver, "jn")
        picture = folder / f"{name}_{scheme}.png"
        driver.save_screenshot(str(picture))
        assert picture.stat().st_size > 20_000


def test_the_data_is_what_the_samples_files_hold(opened: Open, page: Path, store: Path) -> None:
    driver = opened(page, RESPONSES)
    packed = driver.execute_async_script(
        "const done = arguments[0]; loadData().then((d) => done(JSON.stringify(d.responses.map((r) => [d.runs[r[0]],"
        "d.tasks[r[1]], d.questions[r[2]][0], r[6]]))))"
    )
    expected = [[run, task, a.question, a.response] for run, task, a in given(store)]
    assert sorted(json.loads(packed)) == sorted(expected)


@pytest.mark.slow
def test_a_run_of_lm_eval_itself(opened: Open, tmp_path: Path) -> None:
    answers, out, page = tmp_path / "answers.jsonl", tmp_path / "out", tmp_path / "report.html"
    said = "{} Napoleon admired it in 2999."
    rows = [
        {"question": q.question, "response": said.format(q.document.split(". ")[0] + ".")} for q in load_mini("all")
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [sys.executable, "-m", "lm_eval", "--model", "replay", "--model_args", f"responses={answers}"]
    words += ["--tasks", "anah_factuality_mini_en", "--limit", "6", "--log_samples", "--output_path", str(out)]
    done = subprocess.run([*words, "--metadata", '{"judge": "lexical"}'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert main(["--results", str(tmp_path), "--out", str(page)]) == 0
    driver = opened(page, RESPONSES)
    assert total(driver) == 6
    samples = [a for file in out.rglob("samples_*.jsonl") for a in read_annotations(file)]
    assert shown_text(driver) == samples[0].response
    assert [
        name.split()[1]
        for name in (e.get_attribute("class") for e in driver.find_elements(By.CSS_SELECTOR, ".response .s"))
    ] == [j.label.value for j in samples[0].judgements]
