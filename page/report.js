// turn data into elements.
import { call, sessionUrl, ended } from "./api.js";
import { h, svg, $, number, plural, stars, mean, show, notice, letterboxd } from "./dom.js";
import { state, say, statsOf, start, open, watch, refresh, redraw, chooseYear, showFilms, retry, forget } from "./main.js";

export function card(title, content, { wide, controls } = {}) {
  return h(wide ? "section.card.wide" : "section.card", { "aria-label": title },
    h("div.head", null, h("h3", null, title), controls), content);
}

/** A column chart. Each column is a button that opens its films; `label` describes it. */
export function columns(title, bars, label, { each = bars.length <= 14, wide, short = name => name } = {}) {
  const most = Math.max(1, ...bars.map(bar => bar.count));
  const buttons = bars.map((bar, index) => h(bar.count ? "button.column" : "button.column.none", {
    size: bar.count / most, tabindex: index ? -1 : 0, "data-key": `${title}.${bar.name}`, "aria-label": `${bar.name}: ${label(bar)}`,
    "data-tip": `${bar.name}: ${label(bar)}`, onclick: () => showFilms(`${title}: ${bar.name}`, bar.movie_ids),
  }, h("i")));
  const names = each ? bars : bars.length ? [bars[0], bars[bars.length >> 1], bars.at(-1)] : [];
  return card(title, bars.some(bar => bar.count)
    ? [h(bars.length > 60 ? "div.columns.dense" : "div.columns", { role: "group", "aria-label": title, "data-chart": true }, buttons),
      h(each ? "div.axis.each" : "div.axis", { "aria-hidden": "true" }, names.map(bar => h("span", null, short(bar.name))))]
    : [h("p.soft", null, "Nothing to show yet.")], { wide });
}

/** A bar chart with one named bar per row; `value` sets its length. */
export function rows(bars, value, say = filmsOf) {
  const most = Math.max(...bars.map(value));
  return h("ol.bars", { "data-chart": true }, bars.map((bar, index) => h("li", null, h("button", {
    size: value(bar) / most, tabindex: index ? -1 : 0, "data-key": `${bar.name}.${bar.tmdb_id}`, "data-tip": `${bar.name}: ${say(bar)}`,
    onclick: () => showFilms(bar.name, bar.movie_ids),
  }, h("span", null, bar.name), h("span", null, say(bar))))));
}

/** The top 10 as bars, with tabs for the order and a button to show up to 100. */
export function ranking(title, path, state) {
  const key = path.join("."), view = state.views[key] ||= { tab: "most_watched", all: false };
  const source = view.all && state.long ? state.long : state.stats;
  const ranked = source[path[0]][path[1]], bars = ranked[view.tab];
  const set = change => async () => {
    try {
      if (change.all && !state.long) state.long = await call(statsOf(state, 100));
      Object.assign(view, change);
      redraw();
    } catch (error) { say(error.message, true); }
  };
  const tab = (name, text) => h("button", { "aria-pressed": String(view.tab === name), "data-key": `${key}.${name}`, onclick: set({ tab: name }) }, text);
  const content = !bars.length
    ? h("p.soft", null, view.tab === "most_watched" ? "Nothing to show yet." : "None with three or more rated films yet.")
    : rows(bars, view.tab === "most_watched" ? bar => bar.count : bar => bar.mean_rating);
  const all = ranked.total > 100 ? `Show 100 of ${number(ranked.total)}` : "Show all";
  const more = ranked.total > 10 && h("p", null, h("button", { "data-key": `${key}.all`, onclick: set({ all: !view.all }) }, view.all ? "Show less" : all));
  return card(title, [content, more], { controls: h("div.row", { role: "group", "aria-label": `Sort ${title.toLowerCase()}` }, tab("most_watched", "Most watched"), tab("highest_rated", "Highest rated")) });
}

export function poster(url, title, small) {
  const frame = h(small ? "span.poster.small" : "span.poster", { "aria-hidden": "true" }, title);
  if (url) {
    const image = h("img", { src: url.replace("/w500/", small ? "/w92/" : "/w185/"), alt: "", loading: "lazy", width: 185, height: 278, onerror: () => frame.replaceChildren(title) });
    frame.replaceChildren(image);
  }
  return frame;
}

export function strip(title, listed, say) {
  if (!listed.length) return null;
  return card(title, h("ul.strip", { "aria-label": title, "data-chart": true }, listed.map((film, index) => h("li", null, h("button", { tabindex: index ? -1 : 0, "data-key": `${title}.${film.movie_id}.${film.value}`, "data-tip": `${film.title}: ${say(film)}`, onclick: () => showFilms(film.title, [film.movie_id]) },
    poster(film.poster_url, film.title), h("span.title", null, film.title, film.year ? ` (${film.year})` : ""), h("span.soft", null, say(film)))))));
}

/** One square per day of the year: weeks run left to right, with Monday on top. */
export function calendar(year, days) {
  const counts = new Map(days.map(bar => [bar.name, bar])), most = Math.max(...days.map(bar => bar.count));
  const start = new Date(Date.UTC(year, 0, 1)), offset = (start.getUTCDay() + 6) % 7, squares = [];
  let first = true;
  for (let day = 0; ; day++) {
    const date = new Date(start.getTime() + day * 864e5);
    if (date.getUTCFullYear() !== year) break;
    const name = date.toISOString().slice(0, 10), bar = counts.get(name);
    const place = { x: 30 + Math.floor((day + offset) / 7) * 13, y: 12 + ((day + offset) % 7) * 13, width: 11, height: 11, rx: 2 };
    if (!bar) { squares.push(svg("rect", place)); continue; }
    const text = `${name}: ${plural(bar.count, "viewing")}`;
    const square = svg("rect", { ...place, class: "day", role: "button", tabindex: first ? 0 : -1, "aria-label": text, "data-tip": text, "data-key": name, size: bar.count / most });
    square.addEventListener("click", () => showFilms(name, bar.movie_ids));
    squares.push(square);
    first = false;
  }
  const months = [..."JFMAMJJASOND"].map((letter, month) => {
    const day = (Date.UTC(year, month, 1) - start.getTime()) / 864e5;
    return svg("text", { x: 30 + Math.floor((day + offset) / 7) * 13, y: 8, "aria-hidden": "true" }, letter);
  });
  const label = svg("text", { x: 0, y: 22, "aria-hidden": "true" }, String(year));
  return svg("svg", { viewBox: "0 0 722 104", role: "group", "aria-label": `Viewings in ${year}`, "data-chart": "" }, label, ...months, ...squares);
}

export function tiles(pairs) {
  return h("dl.tiles", null, pairs.filter(([, value]) => value).map(([name, value]) =>
    h("div.tile", null, h("dt", null, name), h("dd", null, typeof value === "number" ? number(value) : value))));
}

export function totalsView(stats) {
  const t = stats.totals;
  return tiles([
    ["films", t.films], ["hours", t.hours], ["days of film", t.days], ["viewings", t.viewings], ["rewatches", t.rewatches],
    ["mean rating", t.mean_rating === null ? "" : `★ ${t.mean_rating.toFixed(2)}`], ["median rating", t.median_rating === null ? "" : `★ ${t.median_rating}`],
    ["rated", t.rated], ["liked", t.liked], ["reviewed", t.reviewed], ["series", t.series], ["directors", t.directors], ["countries", t.countries], ["languages", t.languages],
    ["viewings per week", t.viewings_per_week], ["viewings per month", t.viewings_per_month], ["weeks in a row", t.longest_streak_weeks], ["days in a row", t.longest_streak_days],
    ["days with 2+ viewings", t.days_with_two_or_more], ["on your watchlist", t.watchlist],
  ]);
}

export function basis(stats) {
  const t = stats.totals, parts = [`${number(stats.matched)} of ${plural(stats.films, "film")} found on TMDB`];
  if (stats.pending) parts.push(`${number(stats.pending)} still being looked up`);
  if (t.without_runtime) parts.push(`${number(t.without_runtime)} not counted in the hours because the runtime is unknown`);
  if (t.undated) parts.push(plural(t.undated, "undated viewing"));
  return h("p.soft", null, `${parts.join("; ")}.`);
}

export const decade = name => `’${name.slice(2, 4)}`;
export const filmsOf = bar => plural(bar.count, "film") + mean(bar.mean_rating);
export const viewingsOf = bar => plural(bar.count, "viewing") + mean(bar.mean_rating);

export function reportView(state) {
  const s = state.stats, time = s.through_time, ratings = s.ratings, lists = s.lists, list = s.watchlist;
  const against = film => `${film.value > 0 ? "+" : "−"}${Math.abs(film.value).toFixed(1)}: you ${film.rating}, others ${(film.rating - film.value).toFixed(1)}`;
  const votes = film => plural(film.value, "vote");
  const rated = film => film.rating === null ? "" : stars(film.rating);
  const years = [...new Set(time.days.map(bar => Number(bar.name.slice(0, 4))))].reverse().slice(0, 10);
  const what = [["Genres", "genres"], ["Genre pairs", "genre_pairs"], ["Countries", "countries"], ["Languages", "languages"], ["Themes", "themes"], ["Studios", "studios"], ["Collections", "collections"]];
  const who = [["Directors", "directors"], ["Cast", "cast"], ["Writers", "writers"], ["Composers", "composers"], ["Cinematographers", "cinematographers"], ["Editors", "editors"], ["Producers", "producers"]];
  const milestones = [s.totals.first && { ...s.totals.first, say: "first" }, ...s.totals.milestones.map(film => ({ ...film, say: `viewing ${film.value}` })), s.totals.last && { ...s.totals.last, say: "latest" }].filter(Boolean);
  return [
    h("nav.row", { "aria-label": "Year" }, [null, ...s.years].map(year => h("button", { "aria-pressed": String(s.year === year), "data-key": `year.${year}`, onclick: () => chooseYear(year) }, year === null ? "All time" : String(year)))),
    section("totals", s.year === null ? "At a glance" : `${s.year} in review`, totalsView(s), basis(s)),
    section("ratings", "Ratings", h("div.grid", null,
      columns("Your ratings, in stars", ratings.histogram, filmsOf, { short: name => name.replace("0.5", "½").replace(".5", "½") }),
      columns("Films by decade", time.decades, filmsOf, { short: decade }),
      time.best_decades.length ? card("Your highest-rated decades", rows(time.best_decades, bar => bar.mean_rating)) : null,
      ), strips(
      strip("You rate higher than others", ratings.above_crowd, against), strip("You rate lower than others", ratings.below_crowd, against),
      strip("Hidden gems", ratings.gems, votes), strip("Most obscure", ratings.obscure, votes), strip("Most popular", ratings.popular, votes))),
    section("time", "Over time", h("div.grid", null,
      s.year === null ? columns("Viewings by year", filled(time.years, nextYear), viewingsOf) : null,
      columns("Viewings by month", filled(time.months, nextMonth), viewingsOf, { short: name => s.year ? "JFMAMJJASOND"[name.slice(5) - 1] : name }),
      columns(s.year === null ? "Viewings by week, last two years" : "Viewings by week", filled(time.weeks, nextWeek).slice(-105), viewingsOf, { each: false }),
      columns("Viewings by weekday", time.weekdays, viewingsOf, { short: name => name.slice(0, 2) }),
      columns(`Age of films when watched, in years${time.mean_age === null ? "" : ` (${number(time.mean_age)} on average)`}`, time.ages, viewingsOf, { short: name => name.replace(" or more", "+") }),
      years.length ? card(time.years.length > 10 ? "Day by day, last ten years" : "Day by day", h("div.calendar", { tabindex: 0, role: "group", "aria-label": "One square per day" }, years.map(year => calendar(year, time.days.filter(bar => bar.name.startsWith(`${year}-`))))), { wide: true }) : null,
      columns("Films by release year", filled(time.release_years, nextYear), filmsOf, { wide: true, each: false }),
      ), strips(strip("First, latest and every 50th viewing", milestones, film => film.say))),
    section("what", "What you watch", !s.matched ? unknown() : h("div.grid", null, what.map(([title, name]) => ranking(title, ["what", name], state)),
      s.what.completeness.length ? card("Collection progress", rows(s.what.completeness, seen => seen.watched / seen.released,
        seen => seen.watched === seen.released ? `all ${seen.watched}` : `${seen.watched} of ${seen.released}`)) : null)),
    section("who", "Who made your films", !s.matched ? unknown() : h("div.grid", null, who.map(([title, name]) => ranking(title, ["who", name], state)))),
    section("films-section", "Films", h("div.grid", null,
      columns("Runtimes, in minutes", lists.runtimes, filmsOf, { short: name => name.replace(" or more", "+") })), strips(
      strip("Most rewatched", lists.most_rewatched, film => `${film.value} times`), strip(`Best of ${s.year}`, lists.new, rated), strip("Best older films", lists.old, rated),
      strip("Longest", lists.longest, film => `${number(film.value)} min`), strip("Shortest", lists.shortest, film => `${number(film.value)} min`))),
    section("watchlist", "Watchlist", tiles([["films to watch", list.films], ["hours in total", list.hours], ["watched from the list", list.watched_from_it]]),
      list.without_runtime ? h("p.soft", null, `${plural(list.without_runtime, "film")} not counted in the hours because the runtime is unknown.`) : null,
      list.films ? h("div.grid.below", null, columns("Watchlist by decade", list.decades, filmsOf, { short: decade }),
        list.genres.length ? card("Watchlist by genre", rows(list.genres, bar => bar.count)) : null,
        list.directors.length ? card("Your highest-rated directors on the watchlist", rows(list.directors, bar => bar.mean_rating)) : null) : null),
  ];
}

export const unknown = () => h("p.soft", null, "This needs data from TMDB, and no films have been found there yet.");
export const strips = (...all) => h("div.grid.strips", null, all);

export function section(id, title, ...content) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), content);
}

/** Fills the gaps between bars with empty ones; `next` returns the name after a given name. */
export function filled(bars, next) {
  const known = new Map(bars.map(bar => [bar.name, bar])), all = [];
  for (let name = bars[0]?.name; name && name <= bars.at(-1).name; name = next(name)) {
    all.push(known.get(name) || { name, count: 0, mean_rating: null, movie_ids: [] });
    if (all.length > 1000) return bars;  // someone logged a viewing in the Middle Ages
  }
  return all;
}

export const nextYear = name => String(Number(name) + 1);
export const nextMonth = name => name.endsWith("-12") ? `${nextYear(name.slice(0, 4))}-01` : name.slice(0, 5) + String(Number(name.slice(5)) + 1).padStart(2, "0");
export const nextWeek = name => new Date(Date.parse(name) + 7 * 864e5).toISOString().slice(0, 10);

export function filmRow(film, ...more) {
  const links = [[letterboxd(film.letterboxd_uri), "Letterboxd"], [film.tmdb_url, "TMDB"]].filter(([url]) => url);
  const facts = [film.rating === null ? null : stars(film.rating), film.directors.join(", "), film.watched_dates.length ? `watched ${film.watched_dates.join(", ")}` : null];
  return h("div.film", null, poster(film.poster_url, film.title, true), h("div", null,
    h("strong", null, film.title), film.year ? ` (${film.year})` : "", h("div.small.soft", null, facts.filter(Boolean).join(" · ")),
    h("div.small", null, links.map(([url, name]) => [h("a", { href: url, target: "_blank", rel: "noreferrer", "aria-label": `${name}: ${film.title}` }, name), " "])), more));
}

// --- Matches

export const DOUBTFUL = ["guessed", "failed", "not_found", "corrected"];
export const WORDS = { guessed: "guessed", not_found: "not found", failed: "failed", corrected: "corrected", exact: "exact", pending: "waiting" };

export function matchesView(state) {
  const unasked = state.session.error_message && !state.session.enriched_count;  // then every film has the same reason
  const doubtful = unasked ? [] : state.doubtful || [], shown = state.views.matches ? doubtful : doubtful.slice(0, 25);
  const open = doubtful.filter(film => film.match.status !== "corrected").length;
  return h("section.matches", { id: "matches", "aria-labelledby": "matches-title" },
    h("h2", { id: "matches-title" }, "Matches"),
    h("p", null, unasked ? "No films were looked up." : open ? `${plural(open, "film")} to check: guessed, not found or failed.` : ended(state.session) ? "Nothing to check: every match is certain." : "Nothing to check so far."),
    !unasked && open && ended(state.session) ? h("p", null, h("button", { "data-key": "retry", onclick: retry }, "Look up missing films again")) : null,
    h("ul.films.card", { hidden: !doubtful.length }, shown.map(film => h("li", null, matchView(film)))),
    doubtful.length > shown.length ? h("p", null, h("button", { "data-key": "matches.all", onclick: () => { state.views.matches = true; redraw(); } }, `Show all ${number(doubtful.length)}`)) : null);
}

/** One node per film and outcome, kept across redraws so that typed text and open details stay. */
export function matchView(film) {
  const key = `${film.movie_id} ${film.match.status} ${film.tmdb_id}`;
  return state.nodes[key] ||= matchNode(film);
}

export function matchNode(film) {
  const said = h("div", { role: "status" }), fix = h("div.fix", null, said);
  const details = h("details", { ontoggle: () => details.open && fix.childElementCount === 1 && fill() },
    h("summary", { "data-key": `match.${film.movie_id}` }, h("strong", null, film.title), film.year ? ` (${film.year})` : "", " ", h("span.tag", null, WORDS[film.match.status]),
      film.tmdb_title ? h("span.soft", null, ` → ${film.tmdb_title}${film.release_date ? ` (${film.release_date.slice(0, 4)})` : ""}`) : ""),
    h("p.soft.small", null, film.match.reason), fix);
  const act = action => async () => {
    said.replaceChildren("…");
    try {
      await action();
      state.session = await call(sessionUrl(state.id));
      await refresh();
      document.querySelector("#matches summary")?.focus({ preventScroll: true });
    } catch (error) { said.replaceChildren(notice(error.message, true)); }
  };
  const choose = choice => call(sessionUrl(state.id, `/movies/${film.movie_id}/match`), { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(choice) });
  const fill = async () => {
    const { candidates } = await call(sessionUrl(state.id, `/movies/${film.movie_id}`)).catch(() => ({ candidates: [] }));
    const link = h("input", { type: "url", placeholder: "https://www.themoviedb.org/movie/…", "data-key": `link.${film.movie_id}`, "aria-label": `TMDB link for ${film.title}` });
    fix.append(
      h("ul.films", null, candidates.map(c => h("li", null, h("div.film", null, poster(c.poster_url, c.title, true),
        h("div", null, `${c.title}${c.year ? ` (${c.year})` : ""}`, h("div.small.soft", null, `${c.tmdb_type === "tv" ? "series" : "film"} · ${plural(c.votes, "vote")} · score ${c.score}`)),
        h("button", { "aria-label": `Choose ${c.title} (${c.year || "no year"})`, onclick: act(() => choose({ tmdb_id: c.tmdb_id, tmdb_type: c.tmdb_type })) }, "Choose"))))),
      h("form.row", { onsubmit: event => { event.preventDefault(); act(() => choose({ tmdb_url: link.value }))(); } }, link, h("button", null, "Use this link")),
      film.tmdb_enriched ? h("p", null, h("button", { onclick: act(() => call(sessionUrl(state.id, `/movies/${film.movie_id}/match`), { method: "DELETE" })) }, "None of these: clear the match")) : "");
  };
  return details;
}

export function downloadsView(id) {
  const link = (path, name, what) => h("p", null, h("a.button", { href: sessionUrl(id, path), download: "" }, name), " ", h("span.soft", null, what));
  return h("section.take", { id: "take", "aria-labelledby": "take-title" }, h("h2", { id: "take-title" }, "Download"),
    link("/movies.csv", "movies.csv", "every film with its TMDB data, for a spreadsheet"), link("/letterboxd.csv", "letterboxd.csv", "to import into Letterboxd or upload here again"),
    link("/letterboxd.csv?list=watchlist", "watchlist", "the same for your watchlist"), link("/matches.csv", "matches.csv", "how each film was matched, and why"),
    h("p", null, h("button", { onclick: forget }, "Delete this session"), " ", h("span.soft", null, `otherwise it is deleted at ${new Date(state.session.expires_at).toLocaleTimeString()}`)));
}

export function progressView(state) {
  const s = state.session, done = ended(s);
  if (done) return s.error_message ? notice(s.error_message, s.status === "failed") : null;
  const left = s.eta_seconds === null ? "" : `, about ${s.eta_seconds < 90 ? `${Math.ceil(s.eta_seconds)} s` : `${Math.round(s.eta_seconds / 60)} min`} left`;
  const rate = state.rate ? `, ${number(state.rate)} per second` : "";
  return h("div.card", { id: "progress" },
    h("progress", { max: s.total_movies, value: s.processed_count, "aria-label": "Films looked up" }),
    h("p", null, h("strong", null, `${number(s.processed_count)} of ${number(s.total_movies)}`), ` films looked up${rate}${left}`),
    s.waiting_for ? h("p.soft", null, `${s.waiting_for}.`) : "",
    h("p.soft.small", null, "You can keep reading, reload the page or come back later: its address brings you back here."));
}
