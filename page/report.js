// The report: sections, each of parts. A part takes its slice of the data and draws it; main.js draws a part
// again only when its slice has changed. A part without anything to say returns null.
import { calendar, calendars, columns, dot, lines, mark, meter, openable, rows, world } from "./charts.js";
import { h, named, portrait, poster, reel, sized, verdict } from "./dom.js";
import { address, addressOf, opens } from "./state.js";
import {
  date,
  day,
  filmsOf,
  language,
  list,
  mean,
  minutes,
  month,
  number,
  plural,
  stars,
  tenth,
  titled,
  viewingsOf,
  weekday,
  winners,
} from "./words.js";
import { CONTINENTS, LARGE, countryOf, onMap } from "./countries.js";

// --- The opening

/** The five large numbers, and the line of the others. */
function figures(stats) {
  const t = stats.totals,
    list = stats.watchlist;
  if (!t.films && list.films)
    return [
      [number(list.films), `${list.films === 1 ? "film" : "films"} to watch`],
      list.hours ? [number(Math.round(list.hours)), "hours"] : null,
    ].filter(Boolean);
  const coming = stats.pending > 0; // what is not known yet has its place already, so that nothing moves
  const days =
    t.days >= 2 || (coming && stats.pending > 20)
      ? [tenth(t.days), "days of your life"]
      : [number(t.hours), t.hours === 1 ? "hour" : "hours"];
  const streak =
    t.longest_streak_weeks > t.longest_streak_days
      ? [t.longest_streak_weeks, "weeks in a row with a film"]
      : [t.longest_streak_days, "days in a row with a film"];
  return [
    [number(t.films), t.films === 1 ? "film" : "films"],
    t.hours || coming ? days : null,
    t.rewatches ? [number(t.rewatches), t.rewatches === 1 ? "rewatch" : "rewatches"] : null,
    streak[0] > 1 ? [number(streak[0]), streak[1]] : null,
    t.countries || coming ? [number(t.countries), t.countries === 1 ? "country" : "countries"] : null,
  ].filter(Boolean);
}

/** Each with the colour of what it counts, if that has one. */
function quietly(stats) {
  const t = stats.totals;
  return [
    t.viewings && !stats.year_before && ["watched", `${number(t.viewings)} in the diary`],
    t.rated && ["rated", `${number(t.rated)} rated, ${mean(t.mean_rating)} on average`],
    t.liked && ["liked", `${number(t.liked)} liked`],
    stats.year === null && t.films && stats.watchlist.films && ["watchlist", `${number(stats.watchlist.films)} on the watchlist`],
    t.hours && t.rewatches && [null, `${number(t.hours)} hours, rewatches included`],
    t.series && [null, `${plural(t.series, "series", "series")} among them${t.series_hours ? `, ${plural(t.series_hours, "hour")}` : ""}`],
    t.reviewed && [null, `${number(t.reviewed)} reviewed`],
    t.directors && [null, plural(t.directors, "director")],
    t.days_with_two_or_more && [null, `${plural(t.days_with_two_or_more, "day")} with two or more`],
    t.viewings_per_week && t.viewings > 1 && [null, `${tenth(t.viewings_per_week)} a week`],
  ].filter(Boolean);
}

/** What the numbers do not cover. */
function basis(stats) {
  const t = stats.totals,
    parts = [];
  if (stats.matched < stats.films || stats.pending)
    parts.push(`${number(stats.matched)} of ${plural(stats.films, "film")} found on TMDB`);
  if (stats.pending) parts.push(`${number(stats.pending)} still being looked up`);
  if (stats.matched && !stats.pending && t.without_runtime)
    parts.push(`${number(t.without_runtime)} not counted in the hours because the runtime is unknown`);
  if (t.undated) parts.push(plural(t.undated, "undated viewing"));
  return parts.length ? `${parts.join("; ")}.` : "";
}

function against(stats) {
  const before = stats.year_before,
    now = stats.totals.viewings;
  if (!before) return "";
  const more = now - before.viewings;
  return `${plural(now, "viewing")}, ${more === 0 ? "as many as in" : `${number(Math.abs(more))} ${more < 0 ? "fewer" : "more"} than`} ${before.year}.`;
}

const best = ({ lists, watchlist, totals }) =>
  (totals.films ? lists.favourites : watchlist.latest).find(film => film.backdrop_url) || null;

const hero = {
  kind: "wide",
  data: stats => ({
    title: stats.year !== null ? `${stats.year} in film` : stats.totals.films ? "Your life in film" : "Your watchlist",
    year: stats.year,
    figures: figures(stats),
    quiet: quietly(stats),
    basis: basis(stats),
    against: against(stats),
    film: best(stats),
    years: stats.years,
  }),
  draw({ title, year, figures, quiet, basis, against, film, years }) {
    const link = (to, text) =>
      h(
        "a",
        { href: addressOf({ year: to, open: null }), "data-year": to ?? "", "aria-current": to === year ? "page" : null },
        text,
      );
    const image = film && h("img.backdrop", { src: film.backdrop_url, alt: "", width: 1280, height: 720, fetchpriority: "high" });
    image?.addEventListener("error", () => image.remove());
    return [
      image,
      h(
        "div.hero-text",
        null,
        h("h1", { id: "totals-title" }, title),
        h(
          figures[0]?.[0].length > 5 ? "dl.figures.long" : "dl.figures",
          null,
          figures.map(([value, name]) => h("div", null, h("dt", null, name), h("dd", null, value))),
        ),
        against && h("p.against", null, against),
        h(
          "p.quiet",
          null,
          quiet.map(([of, text], n) => [n > 0 && " · ", h(of ? `span.chip.of-${of}` : "span", null, text)]),
        ),
        h("p.quiet.basis", null, basis),
        h(
          "div.row",
          null,
          years.length > 0 &&
            h(
              "nav.years",
              { "aria-label": "Year" },
              link(null, "All time"),
              years.map(each => link(each, String(each))),
            ),
          film && h("p.credit", null, "Backdrop: ", named(film), " ", film.rating !== null && stars(film.rating)),
        ),
      ),
    ];
  },
};

/** A button with a poster, its stars and whatever is to be said. */
const tile = (film, say, first, key, hasVerdict = true) =>
  h(
    "li",
    null,
    h(
      "button",
      mark(film.poster_url || film.year ? titled(film) : null, opens(`film:${film.movie_id}`, titled(film), [film.movie_id]), first, {
        "aria-label": [titled(film), film.rating === null ? "" : `${film.rating} stars`, film.liked ? "liked" : "", say]
          .filter(Boolean)
          .join(", "),
        "data-key": key,
      }),
      poster(film),
      hasVerdict && verdict(film),
      say && h("span.say", null, say),
    ),
  );

/** Twelve, twenty-four, thirty-six or forty-eight, so that the rows of every width are full. */
const rounded = films => (films.length < 12 ? films : films.slice(0, Math.floor(films.length / 12) * 12));

/** The best films or, of a watchlist alone, the films on it. */
const favourites = {
  kind: "wide",
  title: ({ lists, totals }) =>
    !totals.films
      ? "Added last"
      : lists.favourites.some(isJudged)
        ? "Favourites"
        : "Your films",
  data(stats) {
    const films = stats.year === null ? rounded(stats.totals.films ? stats.lists.favourites : stats.watchlist.latest) : [],
      rule = stats.totals.rated > 0 && "Your highest ratings. Among equals, first what you liked, then what you watched most often.";
    return films.length ? { films, rule } : null;
  },
  draw: ({ films, rule }) => [
    rule && h("p.note", null, rule),
    h(
      `ul.wall.few${films.length < 48 ? "" : ".many"}`,
      { "data-rove": true },
      films.map((film, index) => tile(film, null, !index, `wall:${film.movie_id}`)),
    ),
  ],
};

const diary = {
  kind: "wide",
  data: stats => (stats.year === null ? null : stats.lists.diary),
  draw(films) {
    const wall = h(
      "ul.wall.few.many",
      { "data-rove": true },
      films.map((film, index) => tile(film, null, !index, `diary:${index}`)),
    );
    const more = h(
      "button.more",
      {
        onclick: () => {
          wall.classList.remove("few");
          more.remove();
          wall.querySelector("button").focus({ preventScroll: true });
        },
      },
      `Show all ${number(films.length)}`,
    );
    const least = [48, 36, 24, 16].find(count => films.length > count);
    return [wall, least && h(`p.more-than-${least}`, null, more)];
  },
};

const inShort = {
  kind: "wide",
  data(stats) {
    const { genres, world } = stats.what,
      { directors, cast } = stats.who,
      { longest } = stats.lists;
    if (stats.films < 5 || stats.matched < 5 || !genres.most_watched.length) return stats.pending > 5 ? { coming: true } : null;
    const best = (bars, word = name => name) => winners(bars).map(bar => word(bar.name)),
      most = [
        best(genres.most_watched, name => name.toLowerCase()),
        best(world, name => `films from ${the(name)}`),
        best(stats.through_time.decades, name => `the ${name}`),
      ].flat(),
      sitting = longest.filter(film => film.value === longest[0].value);
    return {
      most,
      directors: winners(directors.most_watched).map(({ name, count }) => ({ name, count })),
      faces: winners(cast.most_watched).map(({ name, count }) => ({ name, count })),
      longest: sitting.length <= 3 ? sitting : [],
      year: stats.year,
    };
  },
  draw({ coming, most, directors, faces, longest, year }) {
    if (coming) return h("p.lead.facts.soft", null, "The first facts are a moment away.");
    const bold = names => names.map((name, n) => [n ? (n < names.length - 1 ? ", " : " and ") : "", h("b", null, name)]),
      say = (one, more, bars, value) =>
        bars.length > 0 && [
          `${bars.length > 1 ? more : one}: `,
          bold(bars.map(bar => bar.name || bar.title)),
          `, ${value(bars[0])}${bars.length > 1 ? " each" : ""}. `,
        ];
    const now = year === null,
      films = bar => plural(bar.count, "film");
    return h(
      "p.lead.facts",
      null,
      most.length > 0 && [now ? "What you watch most: " : `What you watched most in ${year}: `, bold(most), ". "],
      say(`The director you ${now ? "return" : "returned"} to`, `The directors you ${now ? "return" : "returned"} to`, directors, films),
      say(`The face you ${now ? "see" : "saw"} most`, `The faces you ${now ? "see" : "saw"} most`, faces, films),
      say("The longest film", "The longest films", longest, film => minutes(film.value)),
    );
  },
};

const the = country => (/^(United|Soviet|Netherlands|Philippines|Czech Republic)/.test(country) ? `the ${country}` : country);

// --- A year

const cards = {
  kind: "wide",
  data(stats) {
    if (stats.year === null || !stats.films) return null;
    const t = stats.totals,
      time = stats.through_time;
    const furthest = [...stats.ratings.above_crowd, ...stats.ratings.below_crowd]
      .filter(isApart)
      .sort((one, other) => Math.abs(other.value) - Math.abs(one.value))[0];
    return {
      first: t.first,
      last: t.last,
      milestones: t.milestones,
      months: winners(time.months),
      days: winners(time.days),
      dates: [time.days[0]?.name, time.days.at(-1)?.name],
      directors: winners(stats.who.directors.most_watched),
      faces: winners(stats.who.cast.most_watched),
      new: bestOf(stats.lists.new),
      old: bestOf(stats.lists.old),
      furthest,
      year: stats.year,
    };
  },
  draw(y) {
    const film = (name, listed, say) =>
      listed &&
      card(
        name,
        poster(listed, "w342"),
        named(listed),
        [!say?.includes("you ") && (listed.rating !== null || listed.liked) && verdict(listed), say && h("span", null, say)],
        opens(`film:${listed.movie_id}`, listed.title, [listed.movie_id]),
      );
    const ids = bars => [...new Set(bars.flatMap(bar => bar.movie_ids))],
      key = bars => bars.map(bar => bar.tmdb_id ?? bar.name).join("+"),
      rated = bars => (bars.length === 1 ? bars[0].mean_rating : null);
    const people = (one, more, bars) =>
      bars.length > 0 &&
      card(
        bars.length > 1 ? more : one,
        h("span.group", null, bars.map(portrait)),
        list(bars.map(bar => bar.name)),
        [`${plural(bars[0].count, "film")}${bars.length > 1 ? " each" : ""}`, rated(bars) && ` · ${mean(rated(bars))}`],
        opens(`person:${key(bars)}`, list(bars.map(bar => bar.name)), ids(bars), rated(bars)),
      );
    const busiest = (one, more, bars, say) =>
      bars.length > 0 &&
      card(
        bars.length > 1 ? more : one,
        h("span.big", { "aria-hidden": "true" }, number(bars[0].count)),
        list(bars.map(bar => say(bar.name))),
        bars.length > 1 ? "viewings each" : "viewings",
        opens(`busiest:${key(bars)}`, list(bars.map(bar => say(bar.name))), ids(bars), rated(bars)),
      );
    const bests = (one, films) => films.map(each => film(films.length > 1 ? `${one}, a tie` : one, each));
    const all = [
      film("First film", y.first, y.dates[0] && day(y.dates[0])),
      film("Last film", y.last?.movie_id !== y.first?.movie_id && y.last, y.dates[1] && day(y.dates[1])),
      people("Director of the year", "Directors of the year", y.directors),
      people("Face of the year", "Faces of the year", y.faces),
      bests(`Best of ${y.year}`, y.new),
      bests("Best older film", y.old),
      busiest("Busiest month", "Busiest months", y.months, month),
      busiest("Busiest day", "Busiest days", y.days, name => `${weekday(name)}, ${day(name)}`),
      y.furthest && film("You against the crowd", y.furthest, versus(y.furthest)),
      y.milestones.map(each => film(`Viewing ${number(each.value)}`, each)),
    ];
    return reel(h("ul.cards", null, all));
  },
};

/** The highest rated of three or more; of a tie all, unless they are many. */
function bestOf(films) {
  const rated = films.filter(film => film.rating !== null),
    best = rated.filter(film => film.rating === rated[0].rating);
  return rated.length > 2 && best.length <= 3 ? best : [];
}
const card = (name, picture, title, more, opening) =>
  h(
    "li",
    null,
    h(
      "button",
      { "data-open": opening },
      picture,
      h("span", null, h("span.kicker", null, name), h("strong", null, title), h("span.soft", null, more)),
    ),
  );

// --- How you rate

const halfStars = name => name.replace("0.5", "½").replace(".5", "½");

const rating = {
  kind: "wide",
  data({ ratings, totals, year }) {
    const isCompared = ratings.compared > 4;
    return totals.rated > 1
      ? {
          bars: isCompared ? ratings.compared_histogram : ratings.histogram,
          crowd: isCompared ? ratings.crowd_histogram : null,
          compared: ratings.compared,
          mine: ratings.compared_mean,
          others: ratings.crowd_mean,
          rated: totals.rated,
          mean: totals.mean_rating,
          median: totals.median_rating,
          isPast: year !== null,
        }
      : null;
  },
  draw({ bars, crowd, compared, mine, others, rated, mean: average, median, isPast }) {
    const apart = crowd ? mine - others : null,
      size = crowd && tenth(Math.abs(apart)),
      share = bar => (bar.count / compared < 0.01 ? "<1%" : `${Math.round((bar.count / compared) * 100)}%`);
    const sentence = !crowd
      ? `You ${isPast ? "gave" : "give"} ${stars(Math.round(average * 2) / 2)} on average.`
      : size === "0.0"
        ? `You ${isPast ? "agreed" : "agree"} with TMDB’s voters, on average.`
        : `You ${isPast ? "were" : "are"} ${size} stars ${apart < 0 ? "harsher" : "kinder"} than TMDB’s voters.`;
    const note = [
      crowd && h("span.chip.of-rated", null, "You"),
      crowd
        ? `${mean(mine)} on average; TMDB’s voters ${mean(others)}. Both for the ${number(compared)} of your ${number(rated)} rated films that have at least 50 votes on TMDB.`
        : `Mean ${mean(average)}, median ★ ${number(median)}.`,
    ];
    const compare = {
      curve: { counts: crowd, name: "TMDB’s voters" },
      value: share,
      say: bar => `${share(bar)}, ${filmsOf({ ...bar, mean_rating: null })}`,
    };
    return [
      h("p.lead", null, sentence),
      columns("rating", crowd ? "Your ratings and TMDB’s, as shares of the same films" : "Films by your rating", bars, {
        short: halfStars,
        minor: () => false,
        say: bar => plural(bar.count, "film"),
        ...(crowd && compare),
        note,
        wide: true,
        kind: "hero-chart",
      }),
    ];
  },
};

/** Differences are of the rounded numbers that are shown, so that they add up. */
const crowdOf = film => Math.round(film.tmdb_rating * 5) / 10;
const apartBy = film => Math.round((film.rating - crowdOf(film)) * 10) / 10;
const isApart = film => apartBy(film) !== 0;
const beside = film => `${number(film.rating)} vs ${tenth(crowdOf(film))}`;
const versus = film =>
  `${apartBy(film) > 0 ? "+" : "−"}${tenth(Math.abs(apartBy(film)))}: you ${number(film.rating)}, TMDB’s voters ${tenth(crowdOf(film))}`;

const isJudged = film => film.rating !== null || film.liked;

/** `rule` says which films are in it. */
const strip = (name, choose, say, { rule, least = 1, kind = "strip" } = {}) => ({
  kind,
  data: stats => {
    const films = choose(stats);
    return films?.length >= least ? { name: typeof name === "function" ? name(stats) : name, films } : null;
  },
  draw: ({ name, films }) => [
    h("h3", null, name),
    h("p.note", null, rule),
    reel(
      h(
        "ul.strip",
        { "data-rove": true },
        films.map((film, index) => tile(film, say(film), !index, `${name}:${film.movie_id}`, films.some(isJudged))),
      ),
    ),
  ],
});

/** Three from either end of a list, or none if they would meet. */
const ends = (first, last) => {
  const some = first.slice(0, 3),
    others = last.slice(0, 3).reverse();
  return some.length === 3 && !some.some(film => others.some(other => other.movie_id === film.movie_id)) ? [...some, ...others] : [];
};

// --- Through time

const yearDays = year => (Date.UTC(year + 1, 0, 1) - Date.UTC(year, 0, 1)) / 864e5;
const dayOfYear = name => (Date.parse(name) - Date.UTC(name.slice(0, 4), 0, 1)) / 864e5;

/** Days on which a catalogue was logged, rather than films watched. */
function bulk(days) {
  const usual = Math.max(0, ...days.map(bar => bar.count).filter(count => count <= 20));
  return days.filter(bar => bar.count > 20 && bar.count > 4 * usual);
}

const counts = bars => bars.map(bar => ({ name: bar.name, count: bar.count }));
const bulky = bar =>
  `${number(bar.count)} viewings were logged on ${date(bar.name)}, which looks like a bulk import, so they are left out here.`;

function busiest(months) {
  const most = months.reduce((top, bar) => (bar.count > (top?.count || 0) ? bar : top), null);
  return most?.count > 4
    ? `The busiest month was ${month(most.name)} ${most.name.slice(0, 4)}, with ${number(most.count)} viewings.`
    : "";
}

const cumulative = {
  kind: "wide",
  data: stats =>
    stats.year === null && stats.years.length > 1
      ? { days: counts(stats.through_time.days), months: counts(stats.through_time.months) }
      : null,
  draw({ days, months }) {
    const left = bulk(days),
      counted = days.filter(bar => !left.includes(bar)),
      byYear = new Map();
    for (const bar of counted) {
      const year = Number(bar.name.slice(0, 4));
      byYear.set(year, [...(byYear.get(year) || []), [dayOfYear(bar.name), bar.count]]);
    }
    const latest = days.at(-1),
      years = [...byYear].slice(-12).map(([year, days]) => ({
        year,
        days,
        total: days.reduce((sum, [, count]) => sum + count, 0),
        length: latest.name.startsWith(year) ? dayOfYear(latest.name) : yearDays(year),
      }));
    return years.length > 1
      ? lines("Viewings by year, cumulative", years, { note: left.length ? left.map(bulky).join(" ") : busiest(months) })
      : null;
  },
};

const days = {
  kind: "wide",
  data: stats => (stats.through_time.days.length > 1 ? { year: stats.year, days: stats.through_time.days } : null),
  draw({ year, days }) {
    const years = [...new Set(days.map(bar => Number(bar.name.slice(0, 4))))].reverse(),
      of = each => days.filter(bar => bar.name.startsWith(`${each}-`));
    const say = bar => `${date(bar.name)}: ${plural(bar.count, "viewing")}`,
      plot = each => calendar(each, of(each), say, bar => date(bar.name));
    const rest = years.slice(1);
    const more = h(
      "button.more",
      {
        onclick: () => {
          chart.querySelector(".calendars").append(...rest.map(plot));
          more.remove();
        },
      },
      `Show ${plural(rest.length, "earlier year")}`,
    );
    const chart = calendars(
      year === null ? "Day by day" : "Every day of the year",
      years.slice(0, 1).map(plot),
      rest.length > 0 && more,
      () => [["Day", "Viewings"], ...days.map(bar => [date(bar.name), number(bar.count)])],
    );
    return chart;
  },
};

/** Fills the gaps between bars with empty ones; `next` returns the name after a given name. */
function filled(bars, next) {
  const known = new Map(bars.map(bar => [bar.name, bar])),
    all = [];
  for (let name = bars[0]?.name; name && name <= bars.at(-1).name; name = next(name)) {
    all.push(known.get(name) || { name, count: 0, mean_rating: null, movie_ids: [] });
    if (all.length > 300) return bars; // a year that somebody mistyped
  }
  return all;
}

const nextDecade = name => `${Number.parseInt(name) + 10}s`;
/** `least` is how many different bars make a chart; below, it says nothing. `says` adds a sentence. */
const chart = (key, title, choose, options = {}) => ({
  kind: options.wide && "wide",
  of: options.colour,
  data: stats => {
    const bars = choose(stats);
    return bars && bars.filter(bar => bar.count).length >= (options.least || 2) ? { bars, note: options.says?.(stats) } : null;
  },
  draw: ({ bars, note }) => columns(key, title, bars, { ...options, note }),
});
const bestDecades = stats => {
  const best = stats.through_time.best_decades.map(bar => `the ${bar.name} (${mean(bar.mean_rating).replace(" ", "\u00a0")})`);
  return best.length ? `Rated highest: ${list(best)}.` : "";
};
const decades = { minor: (index, count) => count > 7 && index % 3 > 0, say: filmsOf };
const perViewing = { say: viewingsOf, of: "Viewings" };

// --- Rankings

/** The first ten, in the order that the reader has chosen for the page, and a button that shows up to 100. */
function ranking(key, title, choose, { name = bar => bar.name, faces = false, wide = faces } = {}) {
  return {
    key,
    title,
    ranking: choose,
    kind: wide && "wide",
    data: (stats, view) => {
      const isAll = Boolean(view.all[key] && view.long),
        ranked = choose(isAll ? view.long : stats),
        isRated = address().byRating && ranked.highest_rated.length > 0;
      const bars = isRated ? ranked.highest_rated : ranked.most_watched.filter(bar => isAll || bar.count > 1);
      return bars.length > 1 || bars[0]?.count > 1
        ? { bars, isRated, total: isRated ? ranked.total_rated : ranked.total, isAll }
        : null;
    },
    draw: ({ bars, isRated, total, isAll }, heading = h("h3", null, title)) => {
      const most = Math.max(...bars.map(bar => bar.count)),
        say = isRated ? bar => `${mean(bar.mean_rating)} from ${plural(bar.count, "rated film")}` : filmsOf,
        options = { name, say, draw: isRated ? bar => dot(bar.mean_rating) : bar => meter(bar.count / most) };
      const more =
        (isAll || total > (faces ? 5 : bars.length)) &&
        h(
          "button.link",
          { "data-all": key, "data-key": `${key}.all` },
          isAll ? "Show fewer" : total > 100 ? `Show 100 of ${number(total)}` : `Show all ${number(total)}`,
        );
      return [h("div.head", null, heading, more), faces ? crowdOfFaces(key, bars, options, isAll) : rows(key, bars, options)];
    },
  };
}

/** Rankings of which one is shown, with tabs for the others. */
const tabbed = (key, rankings) => ({
  key,
  rankings,
  kind: "wide",
  data: (stats, view) => {
    const some = rankings.map(each => [each, each.data(stats, view)]).filter(([, shown]) => shown),
      [on, shown] = some.find(([each]) => each.key === view.tab) || some[0] || [];
    return on ? { tabs: some.map(([each]) => [each.key, each.title]), on: on.key, shown } : null;
  },
  draw: ({ tabs, on, shown }) => {
    const tab = ([each, title]) =>
      h("button", { "aria-pressed": String(each === on), "data-tab": each, "data-key": `tab.${each}` }, title);
    return rankings.find(each => each.key === on).draw(shown, h("div.tabs", { role: "group", "aria-label": "Crew" }, tabs.map(tab)));
  },
});

const crowdOfFaces = (key, bars, words, isAll) =>
  reel(
    openable(isAll ? "ul.faces.all" : "ul.faces", key, bars, words, (bar, name, say) => [
      portrait(bar),
      name,
      say,
      h("span.posters", { "aria-hidden": "true" }, bar.poster_urls.slice(0, 5).map(smallPoster)),
    ]),
  );

function smallPoster(url) {
  const image = h("img", { src: sized(url, "w92"), alt: "", loading: "lazy", decoding: "async", width: 46, height: 69 });
  image.addEventListener("error", () => image.remove());
  return image;
}

const seen = {
  kind: "wide",
  data: ({ what, films, year }) => (what.world.length > 1 && films > 2 ? { bars: what.world, year } : null),
  draw({ bars, year }) {
    const { known, gone, rest } = onMap(bars),
      missing = LARGE.filter(code => !known.has(code))
        .slice(0, 8)
        .map(countryOf)
        .map(the),
      named = some => list(some.map(bar => the(bar.name)));
    const note = [
      missing.length > 0 ? `No films ${year === null ? "yet " : ""}from ${list(missing)}.` : "Films from every large film country.",
      gone.length > 0 && `Films from ${named(gone)} are shown in each of the countries that came after.`,
      rest.length > 0 && `Not on the map: ${named(rest)}.`,
    ];
    return world(`Films from ${plural(bars.length, "country", "countries")}`, CONTINENTS, known, countryOf, note.filter(Boolean).join(" "));
  },
};

const complete = {
  of: "list",
  data: ({ what, year }) => (what.completeness.length && year === null ? what.completeness.slice(0, 8) : null),
  draw: found => [
    h("div.head", null, h("h3", null, "Collections, how complete they are")),
    rows("complete", found, {
      draw: bar => [meter(bar.watched / bar.released), bar.missing.length > 0 && h("span.missing", null, missingFrom(bar))],
      say: bar => (bar.watched === bar.released ? `all ${bar.watched}` : `${bar.watched} of ${bar.released}`),
    }),
  ],
};

const missingFrom = ({ missing }) =>
  `without ${missing.length > 3 ? `${missing.slice(0, 2).join(", ")} and ${missing.length - 2} more` : list(missing)}`;

const listed = (key, title, choose, draw, say = filmsOf) => ({
  of: "watchlist",
  data: stats => {
    const bars = choose(stats).slice(0, 5);
    return bars.length ? bars : null;
  },
  draw: bars => [
    h("div.head", null, h("h3", null, title)),
    rows(key, bars, { draw: bar => draw(bar, Math.max(...bars.map(each => each.count))), say }),
  ],
});

/** Not of a watchlist alone, whose numbers are at the top. */
const waiting = {
  kind: "wide",
  data: ({ watchlist, totals }) =>
    watchlist.films && totals.films
      ? { films: watchlist.films, hours: watchlist.hours, unknown: watchlist.without_runtime }
      : null,
  draw: ({ films, hours, unknown }) => [
    h(
      "p.lead",
      null,
      `${plural(films, "film")} to watch${hours ? `, ${plural(Math.round(hours), "hour")} in all` : ""}. `,
      hours > 0 && unknown > 0 && h("span.note", null, `The hours leave out ${plural(unknown, "film")} whose runtime is unknown.`),
    ),
  ],
};

const ever = choose => stats => (stats.year === null ? choose(stats) : null);
const dozen = stats => stats.films >= 12;
const bar = (each, most) => meter(each.count / most);

const THEIRS = "Your rating, and TMDB’s average out of five.";
const tensed = (now, then) => stats => (stats.year === null ? now : then);

/** In reading order. A part is "wide", or a "strip" of posters, or flows beside others; `of` is its colour. */
export const SECTIONS = [
  { id: "totals", parts: [hero] },
  {
    id: "favourites",
    title: stats => (stats.year === null ? favourites.title(stats) : "The year in posters"),
    short: "Films",
    parts: [favourites, diary, inShort],
  },
  { id: "story", title: stats => `The story of ${stats.year}`, short: "Story", parts: [cards] },
  {
    id: "ratings",
    title: tensed("How you rate", "How you rated"),
    short: "Ratings",
    parts: [
      rating,
      strip("Rated higher than at TMDB", stats => stats.ratings.above_crowd.filter(isApart), beside, { rule: THEIRS }),
      strip("Rated lower than at TMDB", stats => stats.ratings.below_crowd.filter(isApart), beside, { rule: THEIRS }),
    ],
  },
  {
    id: "who",
    title: () => "The people",
    short: "People",
    parts: [
      ranking("directors", "Directors", stats => stats.who.directors, { faces: true }),
      ranking("cast", "Cast", stats => stats.who.cast, { faces: true }),
      tabbed("crew", [
        ranking("writers", "Writers", stats => stats.who.writers),
        ranking("composers", "Composers", stats => stats.who.composers),
        ranking("cinematographers", "Cinematographers", stats => stats.who.cinematographers),
        ranking("editors", "Editors", stats => stats.who.editors),
        ranking("producers", "Producers", stats => stats.who.producers),
        ranking("studios", "Studios", stats => stats.what.studios),
      ]),
    ],
  },
  {
    id: "world",
    title: () => "The world",
    short: "World",
    parts: [
      seen,
      ranking("original_languages", "Original languages", stats => stats.what.original_languages, {
        name: bar => language(bar.name),
        wide: true,
      }),
    ],
  },
  {
    id: "time",
    title: () => "Through time",
    short: "Time",
    parts: [
      cumulative,
      days,
      strip("First, latest and every 50th viewing", ever(milestones), film => film.say, { least: 2, kind: "wide.line" }),
      chart("months", "Viewings by month", stats => (stats.year === null ? null : stats.through_time.months), {
        ...perViewing,
        short: name => "JFMAMJJASOND"[name.slice(5) - 1],
        minor: () => false,
        wide: true,
      }),
      chart("weekdays", "Viewings by weekday", stats => stats.through_time.weekdays, {
        ...perViewing,
        short: name => name.slice(0, 3),
        minor: () => false,
      }),
      chart("decades", "Films by decade", stats => filled(stats.through_time.decades, nextDecade), {
        ...decades,
        says: bestDecades,
      }),
      chart("ages", "Age of the films, in years", stats => stats.through_time.ages, {
        ...perViewing,
        short: name => name.replace(" or more", "+"),
        minor: index => index % 2 === 1,
        says: stats => `${plural(stats.through_time.mean_age, "year")} on average, on the day of the viewing.`,
      }),
      chart("runtimes", "Runtimes, in minutes", stats => stats.lists.runtimes, {
        short: name => name.replace(" or more", "+"),
        minor: index => index % 2 === 1,
        says: stats => (stats.totals.series ? "Without series." : ""),
      }),
    ],
  },
  {
    id: "what",
    title: tensed("What you watch", "What you watched"),
    short: "Genres",
    parts: [
      ranking("genres", "Genres", stats => stats.what.genres),
      ranking("genre_pairs", "Genre pairs", stats => stats.what.genre_pairs),
      ranking("themes", "Themes", stats => stats.what.themes),
      complete,
      strip(
        ({ totals, lists }) =>
          `${lists.series.length < totals.series ? `${lists.series.length} of ` : ""}${plural(totals.series, "series", "series")}`,
        stats => stats.lists.series,
        film => (film.value ? minutes(film.value) : null),
        { kind: "strip.line" },
      ),
    ],
  },
  {
    id: "lists",
    title: () => "Extremes",
    short: "Extremes",
    parts: [
      strip(
        "Most rewatched",
        stats => stats.lists.most_rewatched,
        film => number(film.value),
        { rule: "How often you watched them again." },
      ),
      strip(
        "Hidden gems",
        stats => stats.ratings.gems,
        film => plural(film.value, "vote"),
        { rule: "You gave them ★ 4 or more; fewer than 1,000 voted on TMDB, but at least 50." },
      ),
      strip(
        "Longest and shortest",
        stats => dozen(stats) && ends(stats.lists.longest, stats.lists.shortest),
        film => minutes(film.value),
      ),
      strip(
        "Most and least known",
        stats => dozen(stats) && ends(stats.ratings.popular, stats.ratings.obscure),
        film => number(film.value),
        { rule: "By how many voted on TMDB." },
      ),
    ],
  },
  {
    id: "watchlist",
    title: () => "Watchlist",
    short: "Watchlist",
    onlyEver: true,
    parts: [
      waiting,
      strip("Added last", stats => (stats.totals.films ? stats.watchlist.latest : null), () => null, { kind: "wide.line" }),
      chart(
        "watchlist_decades",
        "Watchlist by decade",
        ever(stats => filled(stats.watchlist.decades, nextDecade)),
        { ...decades, colour: "watchlist" },
      ),
      listed("watchlist_genres", "Watchlist by genre", stats => stats.watchlist.genres, bar),
      listed(
        "watchlist_directors",
        "By directors you rate highest",
        stats => stats.watchlist.directors,
        each => dot(each.mean_rating),
        each => `${number(each.count)} to watch · you give ${mean(each.mean_rating)}`,
      ),
    ],
  },
];

function milestones(stats) {
  const t = stats.totals;
  return [
    t.first && { ...t.first, say: "first" },
    ...t.milestones.map(film => ({ ...film, say: `${number(film.value)}th` })),
    t.last && { ...t.last, say: "latest" },
  ].filter(Boolean);
}

/** The parts that the order of the page changes. */
export const RANKINGS = SECTIONS.flatMap(section => section.parts).filter(part => part.ranking || part.rankings);
