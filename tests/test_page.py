"""The page, in a real headless Chromium; skipped where there is none, but never in CI."""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import sample
from tests.conftest import ROOT, SAMPLE, Api, Serve, files, process
from tests.fake_tmdb import V3_KEY, FakeTMDB, free_port

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")
expect = playwright.expect  # waits, which counting does not
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("CI"), reason="Chromium is not installed: apt install chromium"
    ),
]
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
SECTIONS = [
    "totals",
    "favourites",
    "ratings",
    "who",
    "world",
    "time",
    "what",
    "lists",
    "watchlist",
    "matches",
    "take",
]
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cf500f000386018035a9a5770000000049454e44ae426082"
)

RECONNECT = """async () => {
    const { app, watch } = await import("./page/main.js");
    app.stop();
    watch();
}"""
REFRESH = "async () => (await import('./page/main.js')).refresh()"
SHIFT = """() => { window.shifted = 0; new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true }); }"""
# What a mistake in the script looks like, in whatever a reader can see or hear.
WATCH_TEXT = """
    const wrong = /\\b(false|undefined|null|NaN)\\b|\\[object/, see = node => {
        const named = node.getAttribute ? [...node.querySelectorAll("*"), node] : [];
        const said = named.flatMap(each => [each.getAttribute("aria-label"), each.dataset?.tip]);
        for (const text of [node.textContent, ...said])
            if (text && wrong.test(text)) console.error(`The page says: ${text}`);
    };
    new MutationObserver(changes => {
        for (const { addedNodes, type, target } of changes)
            (type === "characterData" ? [target] : addedNodes).forEach(see);
    }).observe(document, { childList: true, characterData: true, subtree: true });
"""
CORS = {"Access-Control-Allow-Origin": "*"}

Browse = Callable[..., Awaitable["Page"]]


async def posters(route: Route) -> None:
    await route.fulfill(body=PIXEL, content_type="image/png", headers=CORS)


@pytest.fixture(scope="module")
def chromium_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the one Chromium of these tests can be driven."""
    profile = tmp_path_factory.mktemp("chromium")
    flags = [*FLAGS.split(), "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with subprocess.Popen([str(CHROMIUM), *flags], stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr
        yield next(line.split()[-1] for line in running.stderr if line.startswith("DevTools listening"))
        running.terminate()


@pytest.fixture
async def browse(chromium_url: str, serve: Serve) -> AsyncIterator[Browse]:
    """Opens pages of a service; at the end none may have said an error or asked anybody else.

    They are closed before the service is, since `serve` is older than they are.
    """
    said: list[str] = []
    async with playwright.async_playwright() as driver:
        chromium = await driver.chromium.connect_over_cdp(chromium_url)

        async def start(api: Api, path: str = "/", **options: Any) -> Page:
            context = await chromium.new_context(base_url=str(api.base_url), **options)
            context.set_default_timeout(10_000)
            page: Page = await context.new_page()
            await page.route("https://image.tmdb.org/**", posters)
            if path != "/docs":
                await page.add_init_script(WATCH_TEXT)
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda asked: said.append(asked.url) if _elsewhere(asked.url, api) else None)
            await page.goto(path)
            return page

        start.said = said  # type: ignore[attr-defined]
        yield start
        await chromium.close()
    assert said == []


def _elsewhere(url: str, api: Api) -> bool:
    return not url.startswith((str(api.base_url), "https://image.tmdb.org/t/p/", "data:"))


def forget_errors(browse: Browse) -> None:
    """Of a service that was made to fail, Chromium itself logs what could not be loaded."""
    browse.said.clear()  # type: ignore[attr-defined]


async def uploaded(page: Page, *given: tuple[str, bytes]) -> None:
    payload: Any = [{"name": name, "mimeType": "text/csv", "buffer": data} for name, data in given]
    await page.set_input_files("#file", payload or SAMPLE)
    await page.wait_for_selector("#totals")


async def ended(page: Page) -> None:
    await page.wait_for_selector("#progress", state="hidden")
    await page.wait_for_function("() => !document.body.innerText.includes('still being looked up')")
    await page.wait_for_selector("main:not([aria-busy])")


async def report(browse: Browse, api: Api, *given: tuple[str, bytes], **options: Any) -> Page:
    """The page of the sample or of what is given, once all films have been looked up."""
    page = await browse(api, **options)
    await uploaded(page, *given)
    await ended(page)
    await page.wait_for_selector("#take")
    return page


def session_of(page: Page) -> str:
    return f"/api/session/{page.url.partition('#')[2]}"


async def statistics(page: Page, api: Api, year: int | None = None) -> Any:
    return (await api.get(f"{session_of(page)}/stats" + (f"?year={year}" if year else ""))).json()


async def large_number(page: Page, name: str) -> str:
    """One of the five at the top."""
    found = page.locator(".figures div", has=page.locator("dt", has_text=re.compile(f"^{name}$")))
    return str(await found.locator("dd").inner_text())


def watched(count: int, day: str = "2024-01-02", year: int = 2001) -> str:
    return "\n".join(f"{day},Film {n},{year}," for n in range(count))


def diary(*viewings: str) -> str:
    """`diary("2024-01-02 Dune")`: rows of diary.csv."""
    rows = (viewing.split(" ", 1) for viewing in viewings)
    return "\n".join(f"{day},{title},2001,,,,,{day}" for day, title in rows)


# --- From the export to the report


async def test_file_button_uploads_and_shows_every_section(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    page = await browse(api)
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Choose files").click()
    await (await chooser.value).set_files(SAMPLE)

    await page.wait_for_selector("#progress")
    assert "of 159" in await page.locator("#progress").inner_text()
    await ended(page)

    for section in SECTIONS:
        assert await page.locator(f"#{section}").is_visible(), section
    totals = (await statistics(page, api))["totals"]
    assert await large_number(page, "films") == "133"
    assert await large_number(page, "days of your life") == f"{totals['days']:.1f}"
    assert await large_number(page, "rewatches") == str(totals["rewatches"])
    assert await large_number(page, "countries") == str(totals["countries"])
    quiet = await page.locator(".quiet").first.inner_text()
    assert f"{totals['viewings']} in the diary" in quiet
    assert f"★ {totals['mean_rating']:.2f} on average" in quiet
    assert "Quentin Tarantino" in await page.locator(".faces li").first.inner_text()
    assert "7 films to check" in await page.locator("#matches").inner_text()
    assert "not endorsed or certified by TMDB" in await page.locator("footer").inner_text()


async def drop_text(page: Page, name: str, text: str) -> None:
    data = await page.evaluate_handle(
        """([name, text]) => { const data = new DataTransfer();
            data.items.add(new File([text], name, { type: "text/csv" })); return data; }""",
        [name, text],
    )
    await page.dispatch_event("main", "dragover", {"dataTransfer": data})
    await page.dispatch_event("main", "drop", {"dataTransfer": data})


async def test_dropped_file_is_uploaded(browse: Browse, api: Api) -> None:
    page = await browse(api)
    content = files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk")[0][1].decode()

    await drop_text(page, "watched.csv", content)
    await page.wait_for_selector("#totals")
    await ended(page)

    assert await large_number(page, "film") == "1"


async def test_file_dropped_on_the_report_is_uploaded_as_well(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    first = page.url
    content = files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk")[0][1].decode()

    await drop_text(page, "watched.csv", content)
    await page.wait_for_function("before => location.href !== before", arg=first)
    await page.locator(".figures dt", has_text=re.compile("^film$")).wait_for()
    await page.go_back()
    await page.locator(".figures dd", has_text="133").wait_for()

    assert page.url == first


async def test_newer_export_is_taken_into_the_session(browse: Browse, api: Api, tmp_path: Path) -> None:
    page = await report(browse, api)
    before = page.url
    newer = files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk\n2024-01-03,A New One,2026,")[0][1]
    (tmp_path / "watched.csv").write_bytes(newer)

    await page.set_input_files("#file", tmp_path / "watched.csv")
    await page.locator("body", has_text=re.compile(r"1 new film, \d+ changed, 15\d gone")).wait_for()
    await ended(page)

    assert page.url == before
    assert await large_number(page, "films") == "2"


async def drop_folder(page: Page, folder: Path) -> None:
    devtools = await page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        await devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 300, "data": data})


async def test_dropped_folder_is_read(browse: Browse, api: Api, tmp_path: Path) -> None:
    with zipfile.ZipFile(SAMPLE) as export:
        export.extractall(tmp_path / "letterboxd-demo")
    page = await browse(api)

    await drop_folder(page, tmp_path / "letterboxd-demo")
    await page.wait_for_selector("#totals")
    await ended(page)

    assert await large_number(page, "films") == "133"
    uploaded = (await api.get(f"{session_of(page)}")).json()
    assert (uploaded["total_movies"], uploaded["warnings"]) == (159, [])


async def test_folder_without_an_export_is_named(browse: Browse, api: Api, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_bytes(b"sand")
    page = await browse(api)

    await drop_folder(page, tmp_path / "holiday")

    await page.get_by_role("alert").get_by_text("The folder holiday has no file of an export").wait_for()


async def test_unusable_file_shows_the_services_message(browse: Browse, api: Api) -> None:
    page = await browse(api)

    payload: Any = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
    await page.set_input_files("#file", payload)

    await page.get_by_role("alert").get_by_text("notes.txt: the header 'hello'").wait_for()
    forget_errors(browse)


async def test_first_moments_of_a_lookup_show_what_the_export_says(
    browse: Browse, api: Api, tmdb: FakeTMDB
) -> None:
    tmdb.latency_seconds = 3
    page = await browse(api)

    await uploaded(page)
    await page.get_by_text("The first facts are a moment away.").wait_for()
    await page.get_by_role("heading", name="How you rate").wait_for()

    assert await page.locator("#said").inner_text() == ""
    tmdb.latency_seconds = 0
    await ended(page)


async def test_report_begins_at_its_top(browse: Browse, api: Api) -> None:
    page = await browse(api, viewport={"width": 360, "height": 500})
    await page.evaluate("scrollTo(0, 300)")

    await uploaded(page)
    await ended(page)

    assert await page.evaluate("scrollY") == 0
    assert await page.locator("header").is_visible()


async def test_reload_and_second_tab_resume_the_session(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.3
    page = await browse(api)
    await uploaded(page)
    await page.wait_for_selector("#progress")

    await page.reload()
    await page.wait_for_selector("#progress")
    second = await browse(api, page.url.removeprefix(str(api.base_url)))
    await asyncio.gather(ended(page), ended(second))

    assert await large_number(page, "films") == await large_number(second, "films") == "133"


async def test_warnings_survive_arriving_films_and_a_reload(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    page = await browse(api)
    tmdb.latency_seconds = 0.3
    await uploaded(
        page, *files(ratings=watched(60).replace("2001,", "2001,,4") + "\n2024-01-02,Dune,2021,,9")
    )
    await page.get_by_text("1 problem reading the export").click()
    await page.evaluate(REFRESH)
    await ended(page)
    assert await page.get_by_text("rating '9'").is_visible()

    await page.reload()
    await page.get_by_text("1 problem reading the export").click()

    assert await page.get_by_text("rating '9'").is_visible()


async def test_progress_is_one_line_and_announced(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    page = await browse(api, viewport={"width": 360, "height": 640})
    await uploaded(page)
    await page.locator("#heard", has_text="of 159 films looked up").wait_for(state="attached")

    box = await page.locator("#progress").bounding_box()
    await ended(page)

    assert box
    assert box["height"] < 50
    assert await page.locator("#heard").get_attribute("role") == "status"
    assert await page.locator("#heard").inner_text() == "All films have been looked up."


async def test_polls_if_events_fail(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.05
    page = await browse(api)
    await page.route("**/events", lambda route: route.abort())

    await uploaded(page)
    await ended(page)

    assert "131 of 133 films found on TMDB" in await page.locator("#totals").inner_text()
    forget_errors(browse)


async def test_page_without_a_key_says_so_and_shows_the_export(browse: Browse, serve: Serve) -> None:
    api = await serve(tmdb_api_key="")
    page = await browse(api)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.get_by_text("No TMDB key is set").wait_for()

    await uploaded(page)
    await ended(page)
    await page.get_by_text("No TMDB_API_KEY is set").wait_for()
    await page.get_by_text("No films were looked up.").wait_for()

    assert await page.locator("#who").is_hidden()
    assert await large_number(page, "films") == "133"
    assert await page.locator("#ratings").is_visible()
    assert not [url for url in asked if "/movies" in url]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_page_reports_an_outage_until_the_service_is_back(
    number: signal.Signals, browse: Browse, tmdb: FakeTMDB
) -> None:
    tmdb.latency_seconds, port = 0.5, free_port()
    service = await process(port, tmdb)
    async with Api(base_url=f"http://127.0.0.1:{port}") as api:
        page = await browse(api)
        await uploaded(page)
        await page.wait_for_selector("#progress")

        service.send_signal(number)
        await service.communicate()
        await page.get_by_text("The service is not responding. Trying again…").wait_for()
        service = await process(port, tmdb)
        await page.get_by_text("There is no such session").wait_for()

        assert await page.get_by_text("Drop your export here").is_visible()
        service.terminate()
        await service.communicate()
    forget_errors(browse)


async def test_broken_connection_is_reopened(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    page = await browse(api)
    await uploaded(page)
    await page.wait_for_selector("#progress")

    await page.context.set_offline(True)
    await page.evaluate(RECONNECT)  # an open stream does not notice
    await page.get_by_text("The service is not responding. Trying again…").wait_for()
    await page.context.set_offline(False)
    await ended(page)

    await expect(page.get_by_text("The service is not responding")).to_have_count(0)
    forget_errors(browse)


async def test_expired_session_returns_to_the_start(browse: Browse, api: Api) -> None:
    page = await browse(api, "/#Wm9XbK3vS4mZ0uH2aQ7c1w")

    await page.get_by_text("There is no such session").wait_for()

    assert await page.get_by_text("Drop your export here").is_visible()
    assert "#" not in page.url
    forget_errors(browse)


async def test_watchlist_alone_makes_a_report_about_it(browse: Browse, api: Api) -> None:
    listed = "2024-01-02,Inception,2010,\n2024-01-02,Parasite,2019,\n2024-01-02,Alien,1979,"
    page = await report(browse, api, *files(watchlist=listed))

    text = await page.locator("main").inner_text()

    assert await large_number(page, "films to watch") == "3"
    assert await page.locator("#favourites .wall li").count() == 3
    assert await page.get_by_role("heading", name="Your watchlist").is_visible()
    for empty in ("Nothing to show", "0 of 0", "watched from", "0 films", "not yet", "no film"):
        assert empty not in text, empty
    await expect(page.locator("#ratings, #time, #lists").filter(visible=True)).to_have_count(0)
    await page.locator("#watchlist .rows button", has_text="2 films").first.click()
    await page.get_by_role("dialog").locator("li").nth(1).wait_for()
    orders = await page.get_by_role("dialog").locator("option").all_inner_texts()
    assert orders == ["Default order", "Newest", "Oldest"]


async def test_one_film_makes_a_short_report(browse: Browse, api: Api) -> None:
    page = await report(browse, api, *files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk"))

    text = await page.locator("main").inner_text()

    assert await large_number(page, "film") == "1"
    assert not re.search(r"\b1 \w+s\b(?<!hours)", text.replace("1 s", "")), text
    assert "Most popular" not in text
    assert "Most obscure" not in text
    await expect(page.locator("figure")).to_have_count(0)


# --- The address


async def test_year_is_in_the_address(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    await page.get_by_role("link", name="2024", exact=True).click()
    await page.get_by_role("heading", name="2024 in film").wait_for()
    await page.reload()
    await page.get_by_role("heading", name="The story of 2024").wait_for()

    assert "?year=2024#" in page.url
    stats = await statistics(page, api, 2024)
    assert await large_number(page, "films") == str(stats["films"])
    fewer = stats["totals"]["viewings"] - stats["year_before"]["viewings"]
    word = "fewer" if fewer < 0 else "more"
    assert f"{abs(fewer)} {word} than 2023." in await page.locator(".against").inner_text()
    await expect(page.locator(".calendar")).to_have_count(1)
    await expect(page.locator("#watchlist, #matches").filter(visible=True)).to_have_count(0)
    await page.go_back()
    await page.get_by_role("heading", name="Your life in film").wait_for()
    assert "year" not in page.url


@pytest.mark.parametrize("query", ["year=never", "year=99999", "open=nothing:1", "by=nothing"])
async def test_wrong_address_shows_the_report(query: str, browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    again = await browse(api, f"/?{query}#{page.url.partition('#')[2]}")
    await ended(again)

    assert await again.get_by_role("heading", name="Your life in film").is_visible()
    await expect(again.get_by_role("dialog")).to_have_count(0)


async def test_years_and_the_title_are_offered_once(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    assert await page.get_by_role("link", name="2023", exact=True).count() == 1
    assert await page.get_by_role("option", name="2023").count() == 0
    assert await page.locator("main").get_by_text("Your life in film").count() == 1
    assert await page.evaluate("getComputedStyle(document.querySelector('.brand')).fontSize") == "0px"


async def test_open_dialog_is_in_the_address(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    await page.get_by_role("button", name="Quentin Tarantino").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("strong").get_by_text("Reservoir Dogs").wait_for()
    second = await browse(api, page.url.removeprefix(str(api.base_url)))
    await second.get_by_role("dialog").get_by_role("strong").get_by_text("Reservoir Dogs").wait_for()
    await page.reload()
    await dialog.get_by_role("strong").get_by_text("Reservoir Dogs").wait_for()
    await page.go_back()
    await dialog.wait_for(state="hidden")

    assert "open" not in page.url
    assert await page.locator("#totals").is_visible()


async def test_closing_the_dialog_leaves_the_address_as_before(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    before = page.url

    await page.get_by_role("button", name="Quentin Tarantino").first.click()
    await page.get_by_role("dialog").get_by_role("strong").get_by_text("Reservoir Dogs").wait_for()
    await page.keyboard.press("Escape")
    await page.wait_for_function("before => location.href === before", arg=before)

    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert "Quentin Tarantino" in await page.evaluate("document.activeElement.innerText")


async def test_one_switch_orders_all_rankings_and_is_in_the_address(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    order = page.get_by_role("group", name="Order of all rankings")
    said = page.locator(":is(#who, #what) :is(.faces, .rows) .say")

    await order.get_by_role("button", name="By rating").click()
    await page.reload()
    await page.locator("#who .faces .say", has_text="rated films").first.wait_for()
    by_rating = await said.all_inner_texts()
    await order.get_by_role("button", name="By films").click()
    await page.locator("#who .faces .say", has_text="rated films").first.wait_for(state="hidden")

    assert await page.get_by_text("By rating").count() == 1
    assert sum("rated film" in text for text in by_rating) > 30
    assert "rated films" not in " ".join(await said.all_inner_texts())
    assert "by=" not in page.url


async def test_crew_is_one_block_with_tabs(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    people = page.locator("#who")
    composers = (await statistics(page, api))["who"]["composers"]["most_watched"]

    await people.get_by_role("button", name="Composers").click()
    await people.locator(".rows").get_by_text(composers[0]["name"], exact=True).wait_for()

    assert await people.locator(".rows").count() == 1
    assert await page.evaluate("document.activeElement.innerText") == "Composers"
    await people.locator(".rows button").first.click()
    await page.get_by_role("dialog").locator("li").first.wait_for()
    await page.reload()
    title = page.get_by_role("dialog").get_by_role("heading", name=composers[0]["name"])
    await title.wait_for()


# --- The report


async def part(page: Page, heading: str) -> Any:
    return page.locator(".part", has=page.get_by_role("heading", name=heading, exact=True)).first


async def test_posters_come_before_everything_else(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    walls = page.locator("#favourites .wall li")
    favourites = (await statistics(page, api))["lists"]["favourites"]

    assert await page.locator("main > section").nth(1).get_attribute("id") == "favourites"
    await expect(walls).to_have_count(48)
    first = await walls.first.get_by_role("button").get_attribute("aria-label")
    assert first == f"{favourites[0]['title']} ({favourites[0]['year']}), 5 stars, liked"
    assert await page.locator(".backdrop").get_attribute("src") == next(
        film["backdrop_url"] for film in favourites if film["backdrop_url"]
    )


async def test_people_have_faces_and_posters(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    director = (await statistics(page, api))["who"]["directors"]["most_watched"][0]

    face = page.locator(".faces li").first

    assert await face.locator(".portrait img").get_attribute("src") == director["portrait_url"]
    await expect(face.locator(".posters img")).to_have_count(min(len(director["poster_urls"]), 5))


async def test_story_of_a_year_tells_its_films_and_people(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    stats = await statistics(page, api, 2024)

    await page.get_by_role("link", name="2024", exact=True).click()
    await page.get_by_role("heading", name="The story of 2024").wait_for()
    await expect(page.locator(".cards li", has_text="Busiest month")).to_have_count(1)
    cards = await page.locator(".cards li").all_inner_texts()

    assert any("First film" in card and stats["totals"]["first"]["title"] in card for card in cards)
    assert any("Last film" in card and stats["totals"]["last"]["title"] in card for card in cards)
    assert stats["who"]["cast"]["most_watched"][0]["count"] == 2  # too few for a face of the year
    assert not any("of the year" in card for card in cards)
    walls = page.locator("#favourites .wall li")
    await expect(walls).to_have_count(stats["totals"]["viewings"])


async def test_rankings_show_up_to_a_hundred(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    cast = await part(page, "Cast")
    ranked = (await statistics(page, api))["who"]["cast"]

    await cast.get_by_role("button", name="Show 100 of").click()
    await cast.locator("li").nth(50).wait_for()
    await page.get_by_role("button", name="By rating").click()
    await cast.get_by_text("rated film").first.wait_for()

    said = await cast.locator("li .say").all_inner_texts()
    ratings = [float(text.split()[1]) for text in said]
    assert ratings == sorted(ratings, reverse=True)
    assert len(said) == min(ranked["total_rated"], 100)
    assert all(re.fullmatch(r"★ [0-9.]+ from [0-9]+ rated films", text) for text in said)
    assert await cast.get_by_role("button", name="Show fewer").is_visible()


async def test_films_come_fifty_at_a_time_in_any_order(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.locator("#what").get_by_role("button", name="Drama").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.locator(".films li").first.wait_for()

    count = await dialog.locator(".films li").count()
    drama = next(
        bar
        for bar in (await statistics(page, api))["what"]["genres"]["most_watched"]
        if bar["name"] == "Drama"
    )
    await dialog.get_by_role("combobox", name="Order").select_option("-rating")
    await page.wait_for_function(
        "() => document.querySelector('dialog .films .verdict')?.innerText === '★★★★★♥'"
    )

    assert count == min(drama["count"], 50)
    assert f"{drama['count']} films · ★ {drama['mean_rating']:.2f}" in await dialog.inner_text()


async def test_more_films_are_loaded_when_asked_for(browse: Browse, api: Api) -> None:
    page = await report(
        browse, api, *files(watched=watched(120), ratings=watched(120).replace("2001,", "2001,,4"))
    )
    await page.get_by_role("button", name="4: 120 films").click()
    dialog = page.get_by_role("dialog")

    await dialog.get_by_role("button", name="Show 50 more").click()
    await dialog.get_by_role("button", name="Show 20 more").click()
    await dialog.locator(".films li").nth(119).wait_for()

    await expect(dialog.locator(".films li")).to_have_count(120)
    await expect(dialog.get_by_role("button", name="Show")).to_have_count(0)


async def test_films_link_to_their_pages(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    await page.get_by_role("button", name="Quentin Tarantino").first.click()

    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("strong").get_by_text("Reservoir Dogs").wait_for()
    await expect(dialog.locator("li")).to_have_count(6)
    assert await dialog.get_by_role("link", name="TMDB: Reservoir Dogs").get_attribute("href") == (
        "https://www.themoviedb.org/movie/500"
    )


async def test_rating_is_compared_with_tmdbs_voters(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    ratings = (await statistics(page, api))["ratings"]

    apart = ratings["compared_mean"] - ratings["crowd_mean"]

    word = "harsher" if apart < 0 else "kinder"
    await page.get_by_text(f"You are {abs(apart):.1f} stars {word} than TMDB’s voters.").wait_for()
    await expect(page.locator("#ratings .crowd")).to_have_count(1)
    await expect(page.locator("#ratings .curve-name")).to_have_text("TMDB’s voters")
    assert await page.locator("#ratings .value").all_text_contents() == [
        f"{bar['count'] / ratings['compared']:.0%}" for bar in ratings["compared_histogram"] if bar["count"]
    ]
    tips = await page.locator("#ratings .plot .mark").evaluate_all("all => all.map(each => each.dataset.tip)")
    assert sum(int(tip.split(", ")[1].split()[0]) for tip in tips) == sum(ratings["crowd_histogram"])


async def test_differences_from_the_crowd_are_never_zero(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    said = await page.locator("#ratings .strip .say").all_inner_texts()

    assert len(said) > 10
    for text in said:
        mine, others = re.fullmatch(r"([0-9.]+) vs ([0-9.]+)", text).groups()  # type: ignore[union-attr]
        assert mine != others


async def test_decades_have_no_gaps_and_full_names(browse: Browse, api: Api) -> None:
    page = await report(
        browse,
        api,
        *files(watched="2024-01-02,Nosferatu,1922,\n2024-01-02,Dune,2021,\n2024-01-03,Alien,1979,"),
    )

    axis = page.locator("figure", has_text="Films by decade").locator(".axis span")

    assert await axis.all_text_contents() == [f"{year}s" for year in range(1920, 2030, 10)]


async def test_catalogue_logged_on_one_day_flattens_nothing(browse: Browse, api: Api) -> None:
    days = [
        f"202{year}-0{month}-1{day} Film {year}{month}{day}"
        for year in (2, 3)
        for month in (1, 3)
        for day in (1, 5)
    ]
    page = await report(
        browse, api, *files(diary=diary(*days, *(f"2023-02-01 Catalogue {n}" for n in range(244))))
    )

    time = await page.locator("#time").inner_text()

    logged = "244 viewings were logged on Feb 1, 2023"
    assert f"{logged}, which looks like a bulk import, so they are left out here." in time
    assert "2023 · 4" in time
    weekdays = page.locator("figure", has_text="Viewings by weekday")
    assert "The highest column is cut off: it stands for" in await weekdays.inner_text()


async def test_shades_of_days_are_the_same_in_every_year(browse: Browse, api: Api) -> None:
    page = await report(
        browse, api,
        *files(diary=diary("2022-03-01 A", "2023-03-01 B", *(f"2023-04-01 C{n}" for n in range(4)))),
    )  # fmt: skip

    await page.get_by_role("button", name="Show 1 earlier year").click()
    shade = "days => days.map(day => [day.dataset.tip.split(': ')[1], getComputedStyle(day).fill])"
    days = await page.locator(".calendar .day").evaluate_all(shade)

    once = {fill for said, fill in days if said == "1 viewing"}
    assert len(days) == 3
    assert len(once) == 1
    legend = await page.locator("#time .legend").inner_text()
    assert legend.split() == ["Viewings", "a", "day", "1", "2", "3", "4", "or", "more"]


async def test_world_shows_countries_seen_and_not_seen(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    world = (await statistics(page, api))["what"]["world"]

    await page.locator("#world").get_by_text(f"Films from {len(world)} countries").wait_for()
    tile = page.locator("#world .tile.mark", has_text="NZ")

    assert (await tile.get_attribute("aria-label") or "").startswith("New Zealand: ")
    assert "No films yet from Nigeria, " in await page.locator("#world .note").inner_text()


async def test_series_are_apart(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    stats = await statistics(page, api)

    assert f"3 series among them, {stats['totals']['series_hours']:g} hours" in (
        await page.locator(".quiet").first.inner_text()
    )
    series = page.locator(".part", has=page.get_by_role("heading", name="3 series"))
    longest = page.locator(".part", has=page.get_by_role("heading", name="Longest"))
    assert await series.locator("li").count() == 3
    assert await series.get_by_role("button", name="Chernobyl").count() == 1
    assert await longest.get_by_role("button").count() == 6
    assert await longest.get_by_role("button", name="Chernobyl").count() == 0


async def test_chart_values_are_reachable_by_keyboard(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    chart = page.locator("#ratings .plot")

    await chart.locator("[tabindex='0']").focus()
    await page.keyboard.press("ArrowRight")
    assert (await page.locator("#tip").inner_text()).startswith("1.5: ")
    await page.keyboard.press("Escape")
    assert await page.locator("#tip").is_hidden()
    await page.keyboard.press("End")
    assert (await page.locator("#tip").inner_text()).startswith("5: ")
    await page.keyboard.press("Enter")
    await page.get_by_role("dialog").locator("li").first.wait_for()
    await page.keyboard.press("Escape")

    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_first_tap_shows_the_value_and_the_second_the_films(browse: Browse, api: Api) -> None:
    page = await report(browse, api, has_touch=True, viewport={"width": 360, "height": 640})
    chart = page.locator("#time figure", has_text="Films by decade").locator(".plot")
    column = chart.locator(".mark").nth(3)
    await column.scroll_into_view_if_needed()
    box = await column.bounding_box()
    assert box

    await page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 5)
    tip = await page.locator("#tip").inner_text()
    assert tip.endswith("tap again for the films")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 5)

    title = await page.get_by_role("dialog").get_by_role("heading").inner_text()
    assert title.split(": ")[1] == tip.split(": ")[0]


async def test_hovering_a_row_changes_neither_its_bar_nor_its_name(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    row = page.locator("#what .rows button").nth(2)
    await row.scroll_into_view_if_needed()
    before = [await row.locator(part).bounding_box() for part in (".bar", ".name")]

    await row.hover()

    assert [await row.locator(part).bounding_box() for part in (".bar", ".name")] == before


async def test_charts_of_a_section_can_be_read_as_tables(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    ratings = (await statistics(page, api))["ratings"]

    await page.locator("#ratings .as-tables summary").click()
    await page.locator("#time .as-tables summary").click()

    cells = await page.locator("#ratings table tbody tr").all_inner_texts()
    assert [text.split("\t")[:2] for text in cells] == [
        [bar["name"], str(bar["count"])] for bar in ratings["compared_histogram"]
    ]
    assert await page.locator("summary", has_text="table").filter(visible=True).count() <= 5
    assert await page.locator("#time table caption").all_inner_texts() == [
        await chart.inner_text() for chart in await page.locator("#time figure h3").all()
    ]


async def test_part_is_drawn_again_only_if_its_data_changed(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.evaluate(
        "() => document.querySelectorAll('.part > *').forEach(node => { node.drawnBefore = true; })"
    )

    corrected = await api.put(
        f"{session_of(page)}/movies/1/match", json={"tmdb_id": 841, "tmdb_type": "movie"}
    )
    await page.evaluate(REFRESH)

    assert corrected.status_code == 200
    kept = "id => [...document.querySelectorAll(`#${id} > *`)].every(node => node.drawnBefore)"
    assert await page.evaluate(kept, "time .part:has(.calendar)")
    assert not await page.evaluate(kept, "who .part")


async def test_reader_is_not_disturbed_by_arriving_films(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.3
    page = await browse(api)
    await uploaded(page)
    row = page.locator("#ratings .strip button").first
    await row.wait_for()
    await row.focus()
    before = await row.get_attribute("data-key")

    await page.evaluate(REFRESH)
    await ended(page)

    assert await page.evaluate("document.activeElement.dataset.key") == before
    await page.evaluate("document.activeElement.blur()")
    shown = (await statistics(page, api))["ratings"]["above_crowd"][0]["movie_id"]
    await page.locator(f"#ratings [data-key='Rated higher than at TMDB:{shown}']").wait_for()


async def test_late_response_does_not_replace_a_newer_one(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    late = asyncio.Event()

    async def hold_all_time(route: Route) -> None:
        if "year=" not in route.request.url:
            await late.wait()
        await route.continue_()

    await page.route("**/stats?*", hold_all_time)
    pending = asyncio.create_task(page.evaluate(REFRESH))
    await page.get_by_role("link", name="2024", exact=True).click()
    await page.get_by_role("heading", name="2024 in film").wait_for()
    late.set()
    await pending

    assert await page.get_by_role("heading", name="2024 in film").is_visible()


TIES = """async () => {
    const { winners } = await import("./page/words.js"),
        of = (...counts) => winners(counts.map((count, n) => ({ name: n, count }))).length;
    return [of(5, 3, 3), of(4, 4, 1), of(3, 3, 3), of(4, 4, 4, 4), of(2, 2), of(2), of()];
}"""


async def test_all_of_a_tie_are_named_or_none(browse: Browse, api: Api) -> None:
    seen = diary(*(f"2023-03-0{day} Film {day}{n}" for day in (1, 3) for n in range(3)), "2024-01-01 Last")
    page = await report(browse, api, *files(diary=seen))
    await page.get_by_role("link", name="2023", exact=True).click()
    cards = page.locator("#story .cards")
    await cards.get_by_text("Busiest days").wait_for()

    text = await cards.inner_text()

    assert "Wednesday, March 1 and Friday, March 3" in text
    assert await page.evaluate(TIES) == [1, 2, 3, 0, 0, 0, 0]


async def test_past_year_is_told_in_the_past(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.get_by_role("link", name="2024", exact=True).click()
    await page.get_by_role("heading", name="How you rated").wait_for()
    await page.get_by_role("heading", name="What you watched").wait_for()

    text = await page.locator("main").inner_text()

    assert not re.search(r"\byet\b|[Yy]ou (are|watch|see|return|rate|give)\b", text)
    assert "No films from" in text
    assert "What you watched most in 2024: " in text
    assert "hours, rewatches included" in text


async def test_lists_give_their_rule(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    assert "Your highest ratings." in await page.locator("#favourites").inner_text()
    assert "You gave them ★ 4 or more; fewer than 1,000 voted" in await page.locator("#lists").inner_text()


async def test_no_theme_has_one_film(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    said = await page.locator("#what .rows .say").all_inner_texts()

    assert len(said) > 20
    assert not [text for text in said if text.startswith("1 film")]


async def test_unfinished_collections_come_first_with_what_is_missing(browse: Browse, api: Api) -> None:
    watched = ["Blade Runner,1982", "Blade Runner 2049,2017", "The Avengers,2012", "Avengers: Endgame,2019"]
    page = await report(browse, api, *files(watched="\n".join(f"2024-01-02,{film}," for film in watched)))

    rows = (await part(page, "Collections, how complete they are")).locator("li")

    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("2 of 3")
    await expect(rows.nth(0)).to_contain_text("without Avengers: Infinity War")
    await expect(rows.nth(1)).to_contain_text("all 2")


async def test_countries_that_are_gone_count_for_their_successors(browse: Browse, api: Api) -> None:
    page = await browse(api)

    known, gone, rest = await page.evaluate("""async () => {
        const { onMap } = await import("./page/countries.js"),
            bar = (name, ...ids) => ({ name, count: ids.length, mean_rating: 4, movie_ids: ids });
        const { known, gone, rest } = onMap([
            bar("Czech Republic", 1, 2), bar("Czechoslovakia", 2, 3), bar("Atlantis", 9),
        ]);
        const names = bars => bars.map(({ name }) => name);
        return [[...known].map(([code, { count }]) => [code, count]), names(gone), names(rest)];
    }""")

    assert known == [["CZ", 3], ["SK", 2]]
    assert (gone, rest) == (["Czechoslovakia"], ["Atlantis"])


async def test_tips_repeat_nothing_that_is_visible(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    repeated = """() => [...document.querySelectorAll("[data-tip]")]
        .map(each => [each.innerText, each.dataset.tip]).filter(([text, tip]) => text?.includes(tip))"""

    assert await page.evaluate(repeated) == []


async def test_sample_needs_no_upload_and_no_key(browse: Browse, serve: Serve) -> None:
    page = await browse(await serve(tmdb_api_key=""))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    await page.get_by_role("link", name="See a sample report").click()
    await page.wait_for_selector("main:not([aria-busy]) #watchlist")
    await page.get_by_text("This is a sample").wait_for()
    assert await large_number(page, "films") == "133"
    await page.locator("#what").get_by_role("button", name="Drama").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.locator("li").nth(20).wait_for()
    await dialog.get_by_role("combobox", name="Order").select_option("-rating")
    await page.wait_for_function(
        "() => document.querySelector('dialog .films .verdict')?.innerText.startsWith('★★★★★')"
    )
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="Make your own").click()
    await page.get_by_text("Drop your export here").wait_for()

    assert not [url for url in asked if "/api/" in url]


async def test_sample_is_what_the_service_returns_of_the_demo(api: Api) -> None:
    assert sample.PATH.read_text("utf-8") == await sample.sample(api), "run python -m tests.sample"


async def test_first_visit_says_where_the_export_is(browse: Browse, api: Api) -> None:
    page = await browse(api)

    link = page.get_by_role("link", name="Download your export from Letterboxd")

    assert await link.get_attribute("href") == "https://letterboxd.com/data/export/"
    assert await page.get_by_text("the mobile app cannot export").is_visible()
    assert await page.locator(".preview svg").is_visible()


# --- A card to share


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


COLOURS = """() => { const canvas = document.querySelector("#share canvas"), seen = new Set();
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4004) seen.add(data.slice(at, at + 3).join());
    return seen.size; }"""


async def saved_card(page: Page) -> bytes:
    async with page.expect_download() as started:
        await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    card = await (await started.value).path()
    return await asyncio.to_thread(card.read_bytes)


@pytest.mark.parametrize("year", [None, 2024])
async def test_card_is_a_png_in_two_shapes(year: int | None, browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    if year:
        await page.get_by_role("link", name=str(year), exact=True).click()
        await page.get_by_role("heading", name=f"{year} in film").wait_for()

    await page.get_by_role("button", name="Share", exact=True).click()
    upright = await saved_card(page)
    colours = await page.evaluate(COLOURS)
    await page.get_by_role("dialog").get_by_role("button", name="9:16").click()
    tall = await saved_card(page)

    assert (size_of(upright), size_of(tall)) == ((1080, 1350), (1080, 1920))
    assert colours > 5


async def test_card_without_posters_shows_titles(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.route("https://image.tmdb.org/**", lambda route: route.abort())

    await page.get_by_role("button", name="Share", exact=True).click()
    card = await saved_card(page)

    assert size_of(card) == (1080, 1350)
    assert await page.evaluate(COLOURS) > 5
    forget_errors(browse)


DRAWN = """() => {
    const own = CanvasRenderingContext2D.prototype, { fillText, drawImage } = own;
    window.drawn = { texts: [], images: [] };
    own.fillText = function (...at) { drawn.texts.push([at[0], at[2]]); fillText.apply(this, at); };
    own.drawImage = function (image, ...at) { drawn.images.push(at); drawImage.call(this, image, ...at); };
}"""


async def test_card_of_one_film_is_filled_and_speaks_of_one(browse: Browse, api: Api) -> None:
    page = await report(browse, api, *files(diary="2024-01-02,Inception,2010,,4,,,2024-01-02"))
    await page.evaluate(DRAWN)

    await page.get_by_role("button", name="Share", exact=True).click()
    await saved_card(page)
    drawn = await page.evaluate("drawn")

    texts = [text for text, _ in drawn["texts"]]
    assert not [text for text in texts if re.match("1 [a-z]+s$", text)]
    assert "films" not in texts
    assert "viewings" not in texts
    assert max(y for text, y in drawn["texts"] if text != "Data: TMDB") > 0.8 * 1350
    assert drawn["images"]
    for *_, width, height in drawn["images"]:
        assert width / height == pytest.approx(2 / 3)


async def test_card_shows_whole_posters_and_says_where_viewings_are_from(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.evaluate(DRAWN)

    await page.get_by_role("button", name="Share", exact=True).click()
    await saved_card(page)
    drawn = await page.evaluate("drawn")

    whole = [width / height for _, _, width, height in drawn["images"] if width != 120]  # 120 is the face
    assert len(whole) == 12
    assert whole == pytest.approx([2 / 3] * 12)
    assert "in the diary" in [text for text, _ in drawn["texts"]]


# A headless Chromium shares nothing, so this stands for the system's own dialog.
SHARING = """answer => {
    navigator.canShare = ({ files }) => files.length === 1;
    window.shared = new Promise(told => navigator.share = async ({ files: [file] }) => {
        const bytes = Array.from(new Uint8Array(await file.slice(0, 24).arrayBuffer()));
        told({ name: file.name, type: file.type, bytes });
        if (answer) throw new DOMException("", answer);
    });
}"""


@pytest.mark.parametrize(("answer", "told"), [("", False), ("AbortError", False), ("NotAllowedError", True)])
async def test_card_is_shared_where_the_browser_can(
    answer: str, told: bool, browse: Browse, api: Api
) -> None:
    page = await report(browse, api)
    await page.evaluate(SHARING, answer)

    await page.get_by_role("button", name="Share", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Share").click()
    shared = await page.evaluate("window.shared")

    assert (shared["name"], shared["type"]) == ("all-time-in-film-4x5.png", "image/png")
    assert size_of(bytes(shared["bytes"])) == (1080, 1350)
    sentence = page.get_by_text("Sharing did not work; save the card instead.")
    await (sentence.wait_for() if told else page.wait_for_timeout(200))
    await expect(sentence).to_have_count(int(told))


# --- Matches


async def test_guess_is_confirmed_in_one_click_and_undone(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    matches = page.locator("#matches")

    await matches.get_by_role("button", name="Yes, Glass Onion is right").click()
    await matches.get_by_text(
        "Glass Onion (2022) is matched with Glass Onion: A Knives Out Mystery (2022)."
    ).wait_for()
    await matches.get_by_text("6 films to check").wait_for()
    assert await page.evaluate("document.activeElement.innerText") == "Undo"
    await matches.get_by_role("button", name="Undo").click()
    await matches.get_by_text("7 films to check").wait_for()

    assert await matches.get_by_role("button", name="Yes, Glass Onion is right").is_visible()
    statuses = (await api.get(f"{session_of(page)}/movies?match=corrected")).json()
    assert statuses == []


async def test_cleared_match_is_undone(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    matches = page.locator("#matches")

    await matches.get_by_label("Choose another for Glass Onion").click()
    await matches.get_by_role("button", name="None of these").click()
    await matches.get_by_text("Glass Onion (2022) has no match now.").wait_for()
    cleared = (await api.get(f"{session_of(page)}/movies?q=Glass+Onion")).json()
    await matches.get_by_role("button", name="Undo").click()
    await matches.get_by_role("button", name="Yes, Glass Onion is right").wait_for()

    assert [movie["match"]["status"] for movie in cleared] == ["not_found"]
    guessed = (await api.get(f"{session_of(page)}/movies?q=Glass+Onion")).json()
    assert [movie["match"]["status"] for movie in guessed] == ["guessed"]


async def test_match_is_corrected_by_candidate_or_link(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    matches = page.locator("#matches")

    await matches.get_by_label("Choose another for The Visit").click()
    await matches.get_by_role("button", name="Choose The Visit (2015)").nth(1).click()
    await matches.get_by_text("6 films to check").wait_for()
    await matches.get_by_label("Choose another for Our Summer on Super 8").click()
    link = matches.get_by_label("TMDB link for Our Summer on Super 8")
    await link.fill("https://letterboxd.com/film/inception/")
    await link.press("Enter")
    await matches.get_by_text("give tmdb_id and tmdb_type (movie or tv)").wait_for()
    await link.fill("https://www.themoviedb.org/movie/27205")
    await link.press("Enter")
    await matches.get_by_text("5 films to check").wait_for()

    corrected = (await api.get(f"{session_of(page)}/movies?match=corrected")).json()
    assert {movie["title"]: movie["tmdb_id"] for movie in corrected} == {
        "The Visit": 459990,
        "Our Summer on Super 8": 27205,
    }
    forget_errors(browse)


async def test_match_is_found_by_another_title(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    matches = page.locator("#matches")

    await matches.get_by_label("Choose another for Our Summer on Super 8").click()
    title = matches.get_by_label("Another title for Our Summer on Super 8")
    await title.fill("Reservoir Dogs")
    await title.press("Enter")
    await matches.get_by_text("1 film found.").wait_for()
    text = await matches.inner_text()
    await matches.get_by_role("button", name="Choose Reservoir Dogs (1992)").click()
    await matches.get_by_text("6 films to check").wait_for()

    assert not re.search("score|[-−][0-9]+[.]", text)
    assert "Our Summer on Super 8 (2019) is matched with Reservoir Dogs (1992)." in await matches.inner_text()


async def test_most_watched_matches_come_first(browse: Browse, api: Api) -> None:
    seen = diary("2024-01-02 Nowhere Twice", "2024-01-05 Nowhere Twice", "2024-01-03 Nowhere Once")
    page = await report(browse, api, *files(watchlist="2024-01-02,Nowhere Never,2001,", diary=seen))

    titles = await page.locator("#matches .match strong").all_inner_texts()

    assert titles == ["Nowhere Twice (2001)", "Nowhere Once (2001)", "Nowhere Never (2001)"]


async def test_typed_text_survives_a_redraw(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.get_by_label("Choose another for Our Summer on Super 8").click()
    link = page.get_by_label("TMDB link for Our Summer on Super 8")
    await link.fill("https://www.themovie")

    await page.evaluate(REFRESH)
    await page.keyboard.type("db.org/movie/27205")

    assert await link.input_value() == "https://www.themoviedb.org/movie/27205"


async def test_missing_films_are_looked_up_again(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    page = await report(browse, api)
    tmdb.latency_seconds = 0.1

    await page.get_by_role("button", name="Look up missing films again").click()
    await page.wait_for_selector("#progress")
    await ended(page)

    await page.locator("#matches").get_by_text("7 films to check").wait_for()


async def test_failed_session_is_retried_and_its_problem_goes(
    browse: Browse, api: Api, tmdb: FakeTMDB
) -> None:
    tmdb.key = "another"
    page = await report(browse, api)
    problem = page.locator(".problem")
    assert "TMDB rejects the key" in await problem.inner_text()
    tmdb.key = V3_KEY

    await page.get_by_role("button", name="Look up missing films again").click()
    await page.locator("#matches").get_by_text("7 films to check").wait_for()

    await problem.wait_for(state="hidden")


async def test_long_list_of_matches_says_how_many_are_left(browse: Browse, api: Api) -> None:
    page = await report(browse, api, *files(watched=watched(130)))
    rows, more = page.locator("#matches .match"), page.locator("#matches").get_by_role("button", name="more")

    assert await more.inner_text() == "Show 100 more"
    await more.click()
    assert await more.inner_text() == "Show 27 more"
    await more.click()
    await more.wait_for(state="hidden")

    await expect(rows).to_have_count(130)


async def test_second_tab_hears_of_a_correction(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    second = await page.context.new_page()
    await second.route("https://image.tmdb.org/**", posters)
    await second.goto(page.url)
    await second.locator("#matches").get_by_text("7 films to check").wait_for()

    await page.get_by_role("button", name="Yes, Glass Onion is right").click()

    await second.locator("#matches").get_by_text("6 films to check").wait_for()


async def test_session_is_deleted_after_one_question(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    session = session_of(page)
    second = await page.context.new_page()
    await second.route("https://image.tmdb.org/**", posters)
    await second.goto(page.url)
    await second.wait_for_selector("#take")

    await page.get_by_role("button", name="Delete this session").click()
    await page.get_by_role("button", name="Keep it").click()
    assert (await api.get(session)).status_code == 200
    await page.get_by_role("button", name="Delete this session").click()
    await page.get_by_role("button", name="Yes, delete it").click()
    await page.get_by_text("The session is deleted.").wait_for()
    await second.get_by_text("This session was deleted in another tab.").wait_for()

    assert (await api.get(session)).status_code == 404


async def test_downloads_are_files(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    async with page.expect_download() as started:
        await page.get_by_role("link", name="movies.csv").click()

    assert (await started.value).suggested_filename == "movies.csv"


# --- For everybody, and against attacks


async def test_markup_stays_text_and_only_letterboxd_is_linked(browse: Browse, api: Api) -> None:
    title = "<img src=x onerror=alert(1)>"
    page = await browse(api)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))

    await uploaded(
        page,
        *files(
            watched=f"2024-01-02,{title},2010,javascript:alert(2)",
            diary=f"2024-01-02,{title},2010,,5,,<b>tag</b>,2024-01-02",
        ),
    )
    await ended(page)
    await page.locator("#favourites .wall button").click()

    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("heading").get_by_text(title).wait_for()
    await expect(page.locator("img[src=x]")).to_have_count(0)
    await expect(dialog.get_by_role("link")).to_have_count(0)
    assert title in await page.locator("#matches").inner_text()


async def axe_of(page: Page) -> Any:
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe is not installed").Axe()
    return await axe.run(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_violations(scheme: str, browse: Browse, api: Api) -> None:
    page = await browse(api, color_scheme=scheme)

    found = [await axe_of(page)]
    await uploaded(page)
    await ended(page)
    await page.get_by_label("Choose another for Our Summer on Super 8").click()
    await page.get_by_role("button", name="Use this link").wait_for()
    await page.locator("#ratings .as-tables summary").click()
    found.append(await axe_of(page))
    await page.get_by_role("button", name="Quentin Tarantino").first.click()
    await page.get_by_role("dialog").locator("li").first.wait_for()
    found.append(await axe_of(page))
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Share", exact=True).click()
    found.append(await axe_of(page))
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="2024", exact=True).click()
    await page.get_by_role("heading", name="The story of 2024").wait_for()
    found.append(await axe_of(page))

    for results in found:
        assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("state", ["sample", "one film", "watchlist", "no key", "large text"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_violations_in_any_state(
    scheme: str, state: str, browse: Browse, serve: Serve
) -> None:
    given = {
        "one film": files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk"),
        "watchlist": files(watchlist="2024-01-02,Inception,2010,\n2024-01-02,Parasite,2019,"),
    }
    page = await browse(
        await serve(**({"tmdb_api_key": ""} if state == "no key" else {})), color_scheme=scheme
    )
    if state == "large text":
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Page.setFontSizes", {"fontSizes": {"standard": 32}})
    if state == "sample":
        await page.get_by_role("link", name="See a sample report").click()
        await page.wait_for_selector("main:not([aria-busy]) #watchlist")
    else:
        await uploaded(page, *given.get(state, []))
        await ended(page)

    results = await axe_of(page)

    assert results.violations_count == 0, results.generate_report()
    if state == "large text":
        assert await page.evaluate("document.documentElement.scrollWidth") <= 1280


async def test_landmarks_are_few_and_all_named(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    landmarks = "main, header, footer, nav, section[aria-labelledby], [role=region]"

    assert await page.locator(landmarks).filter(visible=True).count() <= 17
    await expect(page.get_by_role("link", name="Skip to the report")).to_have_count(1)


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
async def test_nothing_overflows_at_any_width(width: int, browse: Browse, api: Api) -> None:
    page = await report(browse, api, viewport={"width": width, "height": 900})

    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.get_by_role("link", name="2024", exact=True).click()
    await page.get_by_role("heading", name="The story of 2024").wait_for()

    assert await page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "most"), [(1280, 8_000), (360, 14_000)])
async def test_report_is_short(width: int, most: int, browse: Browse, api: Api) -> None:
    page = await report(browse, api, viewport={"width": width, "height": 900})

    assert await page.evaluate("document.documentElement.scrollHeight") < most


# Words that a line break divides, and labels that are cut off or run into each other.
BROKEN = """() => {
    const broken = [], visible = all => [...all].filter(each => each.checkVisibility());
    const shown = name => visible(document.querySelectorAll(name));
    for (const label of shown("h1, h2, h3, .name, .say, .figures dt, .kicker, .cards strong, .tabs button")) {
        if (label.scrollWidth > label.clientWidth + 1 && getComputedStyle(label).display !== "inline")
            broken.push(label.innerText);
        const nodes = document.createTreeWalker(label, NodeFilter.SHOW_TEXT);
        for (let node; (node = nodes.nextNode()); )
            for (const { 0: word, index } of node.data.matchAll(/[^\\s-]+/g)) {
                const range = document.createRange();
                range.setStart(node, index);
                range.setEnd(node, index + word.length);
                const lines = [...range.getClientRects()].map(box => Math.round(box.top));
                if (new Set(lines).size > 1) broken.push(word);
            }
    }
    for (const axis of shown(".axis")) {
        const boxes = visible(axis.children).map(each => each.getBoundingClientRect());
        boxes.sort((one, other) => one.left - other.left);
        if (boxes.some((box, n) => n && box.left < boxes[n - 1].right)) broken.push(axis.innerText);
    }
    const flows = shown(".flow").map(flow => getComputedStyle(flow).gridTemplateColumns.split(" ").length);
    if (Math.max(...flows) > 4) broken.push(`${Math.max(...flows)} columns`);
    return broken;
}"""


@pytest.mark.parametrize("font", ["DejaVu Sans", "Liberation Sans"])  # the latter has the metrics of Arial
@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
async def test_labels_are_whole(width: int, font: str, browse: Browse, api: Api) -> None:
    page = await report(browse, api, viewport={"width": width, "height": 900})

    await page.evaluate("font => { document.body.style.fontFamily = `'${font}'`; }", font)

    assert await page.evaluate(BROKEN) == []


STRIPS = """() => {
    const visible = all => [...all].filter(each => each.checkVisibility());
    return visible(document.querySelectorAll(".strip, .faces, .cards")).map(list => {
        const { left, right } = list.getBoundingClientRect();
        const boxes = visible(list.children).map(each => each.getBoundingClientRect());
        return {
            start: boxes[0].left - left,
            cut: boxes.filter(box => box.left < right - 1 && box.right > right + 1).length,
            hidden: boxes.filter(box => box.left > right - 1).length,
            isMarked: !(list.parentNode.querySelector(".next")?.hidden ?? true),
        };
    });
}"""


@pytest.mark.parametrize("width", [360, 1280])
async def test_strips_begin_at_the_margin_and_end_with_whole_posters(
    width: int, browse: Browse, api: Api
) -> None:
    page = await report(browse, api, viewport={"width": width, "height": 900})

    strips = await page.evaluate(STRIPS)

    assert len(strips) > 8
    for strip in strips:
        assert abs(strip["start"]) < 1
        assert strip["cut"] == 0
        assert strip["isMarked"] == (strip["hidden"] > 0)
    calendar = await page.locator(".calendar").bounding_box()
    months = await page.locator(".calendar text").all_text_contents()
    assert calendar
    assert calendar["x"] + calendar["width"] <= width
    assert "".join(months) == "JFMAMJJASOND"


async def test_film_dialog_fits_a_phone(browse: Browse, api: Api) -> None:
    page = await report(browse, api, viewport={"width": 360, "height": 640})
    dialog = page.get_by_role("dialog")

    await page.locator("#favourites .wall button").first.click()
    await dialog.locator(".film").wait_for()
    text = await dialog.locator(".film > div").bounding_box()
    title = await dialog.get_by_role("heading").bounding_box()
    close = await dialog.get_by_role("button", name="Close").bounding_box()
    assert text
    assert title
    assert close
    assert text["width"] > 160
    assert close["y"] < title["y"] + title["height"]
    assert close["x"] >= title["x"] + title["width"]
    name = await dialog.get_by_role("heading").inner_text()
    await expect(dialog.locator("h2, p", has_text=name.split(" (")[0])).to_have_count(1)

    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Share", exact=True).click()
    card = await dialog.locator("canvas").bounding_box()
    assert card
    assert card["width"] / card["height"] == pytest.approx(0.8, abs=0.01)


async def test_dialog_of_one_film_has_no_empty_half(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    dialog = page.get_by_role("dialog")

    await page.locator("#favourites .wall button").first.click()
    film = await dialog.locator(".film").bounding_box()
    box = await dialog.bounding_box()

    assert film
    assert box
    assert film["width"] > 0.9 * box["width"] - 32


# Of every text in the opening: its colour, and the lightest colour behind it, in a picture without the text.
BEHIND = """async shot => {
    const image = new Image();
    image.src = `data:image/png;base64,${shot}`;
    await image.decode();
    const canvas = document.createElement("canvas"), c = canvas.getContext("2d");
    Object.assign(canvas, { width: image.width, height: image.height });
    c.drawImage(image, 0, 0);
    const linear = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const lightness = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    return [...document.querySelectorAll("#totals :is(h1, dt, dd, .quiet, .credit, .years a)")].map(each => {
        const range = document.createRange();
        range.selectNodeContents(each);
        const colour = lightness(each.dataset.colour.match(/[0-9.]+/g).map(Number));
        const most = Math.max(...[...range.getClientRects()].filter(box => box.width > 1).map(box => {
            const { data } = c.getImageData(
                box.left, box.top + scrollY, Math.ceil(box.width), Math.ceil(box.height));
            let most = 0;
            for (let at = 0; at < data.length; at += 4)
                most = Math.max(most, lightness(data.slice(at, at + 3)));
            return most;
        }), 0);
        const contrast = (Math.max(colour, most) + 0.05) / (Math.min(colour, most) + 0.05);
        return [each.innerText, Math.round(contrast * 100) / 100];
    });
}"""
WHITE = b"""<svg xmlns='http://www.w3.org/2000/svg' width='1280' height='720'>
    <path fill='#fff' d='M0 0h1280v720H0z'/></svg>"""


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
async def test_opening_is_readable_over_a_white_backdrop(width: int, browse: Browse, api: Api) -> None:
    page = await browse(api, viewport={"width": width, "height": 1200})
    await page.route(
        "https://image.tmdb.org/**", lambda route: route.fulfill(body=WHITE, content_type="image/svg+xml")
    )
    await uploaded(page)
    await ended(page)
    await page.wait_for_function("document.querySelector('.backdrop').naturalWidth > 0")

    await page.evaluate("""() => document.querySelectorAll("#totals *").forEach(each => {
        each.dataset.colour = getComputedStyle(each).color;
    })""")
    await page.evaluate("""() => document.querySelectorAll("#totals *").forEach(each => {
        each.style.color = "transparent";
        if (each.matches(".chip, [aria-current]")) each.style.visibility = "hidden";
    })""")
    shot = base64.b64encode(await page.screenshot(full_page=True)).decode()
    contrasts = [found for found in await page.evaluate(BEHIND, shot) if found[0] != "All time"]

    assert len(contrasts) > 10
    assert [found for found in contrasts if found[0] and found[1] < 4.5] == []


async def test_everything_to_click_is_large_enough(browse: Browse, api: Api) -> None:
    page = await report(browse, api, viewport={"width": 360, "height": 640}, has_touch=True)

    small = """() => [...document.querySelectorAll("button, a:not(footer a), select, summary, .column .hit")]
        .filter(each => each.checkVisibility()).map(each => [each.innerText, each.getBoundingClientRect()])
        .filter(([, box]) => box.height < 20 || box.width < 20).map(([text]) => text)"""

    assert await page.evaluate(small) == []


async def test_text_follows_the_browsers_font_size(browse: Browse, api: Api) -> None:
    page = await browse(api)
    size = "parseFloat(getComputedStyle(document.querySelector('.drop .soft')).fontSize)"
    before = await page.evaluate(size)

    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Page.setFontSizes", {"fontSizes": {"standard": 32}})
    await page.reload()
    await page.wait_for_selector(".drop")

    assert await page.evaluate(size) >= 1.7 * before


async def test_charts_are_visible_in_forced_colours(browse: Browse, api: Api) -> None:
    page = await report(browse, api, forced_colors="active")

    fills = """() => ["#ratings .bar", "#what .meter .bar", ".calendar .day", ".tile.mark rect"].map(name =>
        getComputedStyle(document.querySelector(name)).fill)"""
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")

    for fill in await page.evaluate(fills):
        assert fill not in (background, "rgba(0, 0, 0, 0)", "none")


async def test_print_keeps_headings_with_what_follows(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.emulate_media(media="print")

    kept = """() => [...document.querySelectorAll("h2, h3")].filter(each => each.checkVisibility())
        .filter(each => getComputedStyle(each).breakAfter !== "avoid").map(each => each.innerText)"""

    assert await page.evaluate(kept) == []
    for hidden in (".sticky", "#matches", "#take", ".years", "#status"):
        assert await page.locator(hidden).first.is_hidden(), hidden
    for shown in ("#ratings .plot .bar", "#what .meter .bar", ".figures dd", ".wall .poster"):
        assert await page.locator(shown).first.is_visible(), shown


@pytest.mark.parametrize(
    ("locale", "day"), [("en-GB", "2 Jan 2024"), ("en-US", "Jan 2, 2024"), ("de-DE", "Jan 2, 2024")]
)
async def test_numbers_and_dates_are_in_one_english(locale: str, day: str, browse: Browse, api: Api) -> None:
    given = files(diary=diary(*(f"2024-01-02 Film {n}" for n in range(1_200)), "2024-01-05 Dune"))
    page = await report(browse, api, *given, locale=locale)

    text = await page.locator("main").inner_text()

    assert "1,201" in text
    assert await page.locator(".calendar .day").first.get_attribute("data-tip") == f"{day}: 1,200 viewings"
    assert "1.201" not in text


async def test_nothing_moves_when_films_arrive(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.2
    page = await browse(api)
    await uploaded(page)
    await page.wait_for_selector("#progress")
    await page.evaluate(SHIFT)

    await ended(page)
    await page.wait_for_timeout(300)

    assert await page.evaluate("window.shifted") <= 0.02


async def test_posters_do_not_shift_the_layout(browse: Browse, api: Api) -> None:
    page = await browse(api)
    arrive = asyncio.Event()

    async def later(route: Route) -> None:
        await arrive.wait()
        await posters(route)

    await page.route("https://image.tmdb.org/**", later)
    await uploaded(page)
    await ended(page)
    await page.wait_for_selector("#take")
    before = await page.evaluate("document.documentElement.scrollHeight")
    arrive.set()
    await page.wait_for_function("() => [...document.images].some(image => image.naturalWidth)")

    assert await page.evaluate("document.documentElement.scrollHeight") == before


# How a colour looks to those who lack one of the three kinds of cones (Machado, Oliveira, Fernandes, 2009).
Colour = tuple[float, float, float]
SEEN_AS: dict[str, tuple[Colour, Colour, Colour]] = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "without red": (
        (0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)
    ),
    "without green": (
        (0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)
    ),
    "without blue": (
        (1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)
    ),
}  # fmt: skip
MEANINGS = ("watched", "rated", "liked", "watchlist", "list", "crowd")


def linear(colour: str) -> list[float]:
    values = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]


def lightness(rgb: list[float]) -> float:
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]


def lab(rgb: list[float]) -> Colour:
    def root(value: float) -> float:
        return float(value ** (1 / 3)) if value > 0.008856 else 7.787 * value + 16 / 116

    red, green, blue = rgb
    x = root((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047)
    y, z = root(lightness(rgb)), root((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_with_a_meaning_are_readable_and_told_apart_by_everybody(scheme: str) -> None:
    css = (ROOT / "page" / "page.css").read_text("utf-8")
    block = css.split(":root {")[1 if scheme == "light" else 2].split("}")[0]
    tokens = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    paper = lightness(linear(tokens["paper"])) + 0.05

    for name in MEANINGS:
        mine = lightness(linear(tokens[name])) + 0.05
        assert max(mine, paper) / min(mine, paper) >= 4.5, name
    for kind, rows in SEEN_AS.items():
        seen = {
            name: lab([min(1, max(0, sum(map(mul, row, linear(tokens[name]))))) for row in rows])
            for name in MEANINGS
        }
        for one, other in itertools.combinations(MEANINGS, 2):
            assert math.dist(seen[one], seen[other]) > 12, (kind, one, other)


def test_page_is_small_and_makes_no_markup_from_data() -> None:
    parts = {path.name: path.read_text("utf-8") for path in (ROOT / "page").iterdir()}

    assert sum(len(text.encode()) for text in parts.values()) - len(parts["sample.json"].encode()) < 150_000
    assert len(parts["sample.json"].encode()) < 120_000
    for name, text in parts.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text), name
        assert not re.search(r"\sstyle=|<style|\son\w+=\"", text), name  # the policy forbids them


async def test_docs_upload_a_file(browse: Browse, api: Api) -> None:
    page = await browse(api)
    warned: list[str] = []
    page.on("console", lambda message: warned.append(message.text))
    await page.goto("/docs")
    call = page.locator("#operations-sessions-upload")

    await call.get_by_role("button").first.click()
    await call.get_by_text("Try it out").click()
    await call.locator("input[type=file]").set_input_files(SAMPLE)
    await call.get_by_text("Execute").click()

    assert await call.locator(".live-responses-table .response-col_status").nth(1).inner_text() == "201"
    assert warned == []
