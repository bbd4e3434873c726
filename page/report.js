// The report: sections, each of parts. A part takes its slice of the data and draws it; main.js draws a part
// again only when its slice has changed. A part without anything to say returns null.
import { calendar, calendars, columns, dot, lines, mark, meter, openable, rows, world } from "./charts.js";
import { h, named, portrait, poster, sized, verdict } from "./dom.js";
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
} from "./words.js";
import { CONTINENTS, LARGE, codeOf, countryOf } from "./countries.js";

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
      ? [t.longest_streak_weeks, "weeks in a row"]
      : [t.longest_streak_days, "days in a row"];
  return [
    [number(t.films), t.films === 1 ? "film" : "films"],
    t.hours || coming ? days : null,
    t.rewatches ? [number(t.rewatches), t.rewatches === 1 ? "rewatch" : "rewatches"] : null,
    streak[0] > 1 ? [number(streak[0]), streak[1]] : null,
    t.countries || coming ? [number(t.countries), t.countries === 1 ? "country" : "countries"] : null,
  ].filter(Boolean);
}

function quietly(stats) {
  const t = stats.totals;
  const parts = [
    t.days >= 2 && plural(t.hours, "hour"),
    t.series && `${plural(t.series, "series", "series")} among them, ${plural(t.series_hours, "hour")}`,
    t.viewings && plural(t.viewings, "viewing"),
    t.rated && `${number(t.rated)} rated, ${mean(t.mean_rating)} on average`,
    t.liked && `${number(t.liked)} liked`,
    t.reviewed && `${number(t.reviewed)} reviewed`,
    t.directors && plural(t.directors, "director"),
    t.days_with_two_or_more && `${plural(t.days_with_two_or_more, "day")} with two or more`,
    t.viewings_per_week && t.viewings > 1 && `${tenth(t.viewings_per_week)} a week`,
  ];
  return parts.filter(Boolean).join(" · ");
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

const best = stats => stats.lists.favourites.find(film => film.backdrop_url) || null;

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
        h("p.quiet", null, quiet),
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
          film && h("p.credit", null, "Behind: ", named(film), " ", film.rating !== null && stars(film.rating)),
        ),
      ),
    ];
  },
};

/** A button with a poster, its stars and whatever is to be said. */
const tile = (film, say, first, key) =>
  h(
    "li",
    null,
    h(
      "button",
      mark(say ? `${titled(film)}: ${say}` : titled(film), opens(`film:${film.movie_id}`, film.title, [film.movie_id]), first, {
        "aria-label": [titled(film), film.rating === null ? "" : `${film.rating} stars`, film.liked ? "liked" : "", say]
          .filter(Boolean)
          .join(", "),
        "data-key": key,
      }),
      poster(film),
      verdict(film),
      say && h("span.say", null, say),
    ),
  );

/** Twelve, twenty-four, thirty-six or forty-eight, so that the rows of every width are full. */
const rounded = films => (films.length < 12 ? films : films.slice(0, Math.floor(films.length / 12) * 12));

const favourites = {
  kind: "wide",
  title: stats => (stats.lists.favourites.some(film => film.rating !== null || film.liked) ? "Favourites" : "Your films"),
  data: stats => (stats.year === null && stats.totals.films ? rounded(stats.lists.favourites) : null),
  draw: films =>
    h(
      `ul.wall.few${films.length < 48 ? "" : ".many"}`,
      { "data-rove": true },
      films.map((film, index) => tile(film, null, !index, `wall:${film.movie_id}`)),
    ),
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
    const first = ranking => ranking.most_watched[0],
      { genres, world } = stats.what,
      { directors, cast } = stats.who;
    if (stats.films < 5 || stats.matched < 5 || !first(genres)) return stats.pending > 5 ? { coming: true } : null;
    const decade = stats.through_time.decades.reduce((most, bar) => (!most || bar.count > most.count ? bar : most), null);
    const known = [first(directors), first(cast)].map(bar => (bar?.count > 1 ? { name: bar.name, count: bar.count } : null));
    return { genre: first(genres).name, country: world[0]?.name, decade: decade?.name, known, longest: stats.lists.longest[0] };
  },
  draw: ({ coming, genre, country, decade, known: [director, actor] = [], longest }) =>
    coming
      ? h("p.lead.facts.soft", null, "The first facts are a moment away.")
      : h(
          "p.lead.facts",
          null,
          "What you watch most: ",
          h("b", null, genre.toLowerCase()),
          country && [", films from ", h("b", null, the(country))],
          decade && [", and the ", h("b", null, decade)],
          ". ",
          director && [
            "The director you return to is ",
            h("b", null, director.name),
            ` (${plural(director.count, "film")})`,
            actor ? ", " : ". ",
          ],
          actor && [
            director ? "and the face you see most is " : "The face you see most is ",
            h("b", null, actor.name),
            ` (${plural(actor.count, "film")}). `,
          ],
          longest && ["The longest sitting was ", h("b", { dir: "auto" }, longest.title), `, ${minutes(longest.value)}.`],
        ),
};

const the = country => (/^(United|Soviet|Netherlands|Philippines|Czech)/.test(country) ? `the ${country}` : country);

// --- A year

const cards = {
  kind: "wide",
  data(stats) {
    if (stats.year === null || !stats.films) return null;
    const most = bars => bars.reduce((top, bar) => (bar.count > (top?.count || 0) ? bar : top), null),
      t = stats.totals,
      time = stats.through_time;
    const furthest = [...stats.ratings.above_crowd, ...stats.ratings.below_crowd]
      .filter(isApart)
      .sort((one, other) => Math.abs(other.value) - Math.abs(one.value))[0];
    return {
      first: t.first,
      last: t.last,
      milestones: t.milestones,
      month: t.viewings > 4 ? most(time.months) : null,
      day: most(time.days),
      dates: [time.days[0]?.name, time.days.at(-1)?.name],
      director: top(stats.who.directors),
      actor: top(stats.who.cast),
      new: stats.lists.new[0],
      old: stats.lists.old[0],
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
    const person = (name, bar) =>
      bar &&
      card(
        name,
        portrait(bar),
        bar.name,
        [plural(bar.count, "film"), bar.mean_rating !== null && ` · ${mean(bar.mean_rating)}`],
        opens(`person:${bar.tmdb_id ?? bar.name}`, bar.name, bar.movie_ids, bar.mean_rating),
      );
    const count = (name, bar, text) =>
      bar &&
      bar.count > 1 &&
      card(
        name,
        h("span.big", { "aria-hidden": "true" }, number(bar.count)),
        text,
        plural(bar.count, "viewing"),
        opens(`busiest:${bar.name}`, text, bar.movie_ids, bar.mean_rating),
      );
    return h("ul.cards", null, [
      film("First film", y.first, y.dates[0] && day(y.dates[0])),
      film("Last film", y.last?.movie_id !== y.first?.movie_id && y.last, y.dates[1] && day(y.dates[1])),
      person("Director of the year", y.director),
      person("Face of the year", y.actor),
      film(`Best of ${y.year}`, y.new?.rating && y.new),
      film("Best older film", y.old?.rating && y.old),
      count("Busiest month", y.month, y.month && month(y.month.name)),
      count("Busiest day", y.day, y.day && `${weekday(y.day.name)}, ${day(y.day.name)}`),
      y.furthest && film("You against the crowd", y.furthest, versus(y.furthest)),
      y.milestones.map(each => film(`Viewing ${number(each.value)}`, each)),
    ]);
  },
};

const top = ranking => (ranking.most_watched[0]?.count > 1 ? ranking.most_watched[0] : null);
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
  data: stats =>
    stats.totals.rated > 1
      ? {
          histogram: stats.ratings.histogram,
          crowd: stats.ratings.crowd_histogram,
          compared: stats.ratings.compared,
          mine: stats.ratings.compared_mean,
          others: stats.ratings.crowd_mean,
          rated: stats.totals.rated,
          mean: stats.totals.mean_rating,
          median: stats.totals.median_rating,
        }
      : null,
  draw({ histogram, crowd, compared, mine, others, rated, mean: average, median }) {
    const apart = compared > 4 ? mine - others : null,
      size = apart === null ? "" : tenth(Math.abs(apart));
    const sentence =
      apart === null
        ? `You give ${stars(Math.round(average * 2) / 2)} on average.`
        : size === "0.0"
          ? "You agree with TMDB’s voters, on average."
          : `You are ${size} stars ${apart < 0 ? "harsher" : "kinder"} than TMDB’s voters.`;
    const curve = compared > 4 ? crowd.map(count => (count * rated) / compared) : null;
    const note = [
      `Mean ${mean(average)}, median ★ ${number(median)}.`,
      curve && `The curve is what TMDB’s voters give the ${number(compared)} of these films with at least 50 votes.`,
    ];
    return [
      h("p.lead", null, sentence),
      columns("rating", "Films by your rating", histogram, {
        short: halfStars,
        minor: () => false,
        curve,
        note: note.filter(Boolean).join(" "),
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
const versus = film =>
  `${apartBy(film) > 0 ? "+" : "−"}${tenth(Math.abs(apartBy(film)))}: you ${number(film.rating)}, TMDB’s voters ${tenth(crowdOf(film))}`;

const strip = (name, choose, say, least = 1) => ({
  kind: "strip",
  data: stats => {
    const films = choose(stats);
    return films?.length >= least ? { name: typeof name === "function" ? name(stats) : name, films } : null;
  },
  draw: ({ name, films }) => [
    h("h3", null, name),
    h(
      "ul.strip",
      { "data-rove": true },
      films.map((film, index) => tile(film, say(film), !index, `${name}:${film.movie_id}`)),
    ),
  ],
});

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
    const rest = years.slice(4),
      chart = calendars(year === null ? "Day by day" : "Every day of the year", years.slice(0, 4).map(plot), () => [
        ["Day", "Viewings"],
        ...days.map(bar => [date(bar.name), number(bar.count)]),
      ]);
    const more = h(
      "button.more",
      {
        onclick: () => {
          chart.querySelector(".calendars").append(...rest.map(plot));
          more.remove();
        },
      },
      `Show all ${years.length} years`,
    );
    if (rest.length) chart.querySelector(".calendars").after(more);
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

const nextYear = name => String(Number(name) + 1),
  nextDecade = name => `${Number.parseInt(name) + 10}s`;
/** `least` is how many different bars make a chart; below, it says nothing. `says` adds a sentence. */
const chart = (key, title, choose, options = {}) => ({
  kind: options.wide && "wide",
  data: stats => {
    const bars = choose(stats);
    return bars && bars.filter(bar => bar.count).length >= (options.least || 2) ? { bars, note: options.says?.(stats) } : null;
  },
  draw: ({ bars, note }) => columns(key, title, bars, { ...options, note }),
});
const bestDecades = stats => {
  const best = stats.through_time.best_decades.map(bar => `the ${bar.name} (${mean(bar.mean_rating)})`);
  return best.length ? `Rated highest: ${list(best)}.` : "";
};
const decades = { short: name => name, minor: (index, bar) => index % 2 === 1, say: filmsOf };
const perViewing = { say: viewingsOf, of: "Viewings" };

// --- Rankings

/** The first ten, with tabs for the order and a button that shows up to 100 where they are. */
function ranking(key, title, choose, { name = bar => bar.name, faces = false, wide = faces } = {}) {
  return {
    key,
    ranking: choose,
    kind: wide && "wide",
    data: (stats, view) => {
      const ranked = choose(view.all[key] && view.long ? view.long : stats),
        tab = address().rated.includes(key) && ranked.highest_rated.length ? "highest_rated" : "most_watched";
      const bars = stats.year === null || wide || view.all[key] ? ranked[tab] : ranked[tab].filter(bar => bar.count > 1); // in a year, most have made one film
      return bars.length > 1 || bars[0]?.count > 1
        ? { bars, tab, total: ranked.total, rated: ranked.total_rated, all: Boolean(view.all[key] && view.long) }
        : null;
    },
    draw: ({ bars, tab, total, rated, all }) => {
      const button = (name, text) =>
        h(
          "button",
          {
            "aria-pressed": String(tab === name),
            "data-rated": name === "highest_rated" ? key : `-${key}`,
            "data-key": `${key}.${name}`,
          },
          text,
        );
      const isRated = tab === "highest_rated",
        most = Math.max(...bars.map(bar => bar.count)),
        many = isRated ? rated : total;
      const say = isRated ? bar => `${mean(bar.mean_rating)} from ${plural(bar.count, "rated film")}` : filmsOf;
      const options = { name, say, draw: isRated ? bar => dot(bar.mean_rating) : bar => meter(bar.count / most) };
      return [
        h(
          "div.head",
          null,
          h("h3", null, title),
          rated > 0 &&
            h(
              "div.tabs",
              { role: "group", "aria-label": `Order of ${title.toLowerCase()}` },
              button("most_watched", "By films"),
              button("highest_rated", "By rating"),
            ),
        ),
        faces ? crowdOfFaces(key, bars, options) : rows(key, bars, options),
        many > 10 &&
          h(
            "p",
            null,
            h(
              "button.more",
              { "data-all": key, "data-key": `${key}.all` },
              all ? "Show ten" : many > 100 ? `Show 100 of ${number(many)}` : `Show all ${number(many)}`,
            ),
          ),
      ];
    },
  };
}

const crowdOfFaces = (key, bars, words) =>
  openable("ul.faces", key, bars, words, (bar, name, say) => [
    portrait(bar),
    name,
    say,
    h("span.posters", { "aria-hidden": "true" }, bar.poster_urls.slice(0, 5).map(smallPoster)),
  ]);

function smallPoster(url) {
  const image = h("img", { src: sized(url, "w92"), alt: "", loading: "lazy", decoding: "async", width: 46, height: 69 });
  image.addEventListener("error", () => image.remove());
  return image;
}

const seen = {
  kind: "wide",
  data: stats => (stats.what.world.length > 1 && stats.films > 2 ? stats.what.world : null),
  draw(bars) {
    const known = new Map(bars.map(bar => [codeOf(bar.name), bar])),
      missing = LARGE.filter(code => !known.has(code))
        .slice(0, 8)
        .map(countryOf)
        .map(the);
    const gone = bars.filter(
      bar =>
        !CONTINENTS.flat(2)
          .join(" ")
          .includes(codeOf(bar.name) || "?"),
    );
    const note = [
      missing.length ? `No films yet from ${list(missing)}.` : "You have seen films from every large film country.",
      gone.length && `Not on the map: ${list(gone.map(bar => `${bar.name} (${bar.count})`))}.`,
    ];
    return [
      h("p.lead", null, `Films from ${plural(bars.length, "country", "countries")}.`),
      world("Films by country", CONTINENTS, known, countryOf, note.filter(Boolean).join(" ")),
    ];
  },
};

const complete = {
  data: stats => (stats.what.completeness.length ? stats.what.completeness : null),
  draw: found => [
    h("h3", null, "How complete your collections are"),
    rows("complete", found, {
      draw: bar => meter(bar.watched / bar.released),
      say: bar => (bar.watched === bar.released ? `all ${bar.watched}` : `${bar.watched} of ${bar.released}`),
    }),
  ],
};

const listed = (key, title, choose, draw, say = filmsOf) => ({
  data: stats => {
    const bars = choose(stats);
    return bars.length ? bars : null;
  },
  draw: bars => [
    h("h3", null, title),
    rows(key, bars, { draw: bar => draw(bar, Math.max(...bars.map(each => each.count))), say }),
  ],
});

const waiting = {
  kind: "wide",
  data: stats =>
    stats.watchlist.films
      ? { films: stats.watchlist.films, hours: stats.watchlist.hours, unknown: stats.watchlist.without_runtime }
      : null,
  draw: ({ films, hours, unknown }) => [
    h("p.lead", null, `${plural(films, "film")} to watch${hours ? `, ${plural(Math.round(hours), "hour")} of them` : ""}.`),
    hours > 0 &&
      unknown > 0 &&
      h("p.soft", null, `${plural(unknown, "film")} not counted in the hours because the runtime is unknown.`),
  ],
};

const ever = choose => stats => (stats.year === null ? choose(stats) : null);
const dozen = stats => stats.films >= 12;
const bar = (each, most) => meter(each.count / most);

/** In reading order. A part is "wide", or a "strip" of posters, or flows beside others. */
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
    title: () => "How you rate",
    short: "Ratings",
    parts: [
      rating,
      strip("You liked them more", stats => stats.ratings.above_crowd.filter(isApart), versus),
      strip("You liked them less", stats => stats.ratings.below_crowd.filter(isApart), versus),
    ],
  },
  {
    id: "who",
    title: () => "The people",
    short: "People",
    parts: [
      ranking("directors", "Directors", stats => stats.who.directors, { faces: true }),
      ranking("cast", "Cast", stats => stats.who.cast, { faces: true }),
      ranking("writers", "Writers", stats => stats.who.writers),
      ranking("composers", "Composers", stats => stats.who.composers),
      ranking("cinematographers", "Cinematographers", stats => stats.who.cinematographers),
      ranking("editors", "Editors", stats => stats.who.editors),
      ranking("producers", "Producers", stats => stats.who.producers),
      ranking("studios", "Studios", stats => stats.what.studios),
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
      chart("months", "Viewings by month", stats => (stats.year === null ? null : stats.through_time.months), {
        ...perViewing,
        short: name => "JFMAMJJASOND"[name.slice(5) - 1],
        minor: () => false,
      }),
      chart("decades", "Films by decade", stats => filled(stats.through_time.decades, nextDecade), {
        ...decades,
        says: bestDecades,
      }),
      chart("weekdays", "Viewings by weekday", stats => stats.through_time.weekdays, {
        ...perViewing,
        short: name => name.slice(0, 3),
        minor: () => false,
      }),
      chart("ages", "Age when watched, in years", stats => stats.through_time.ages, {
        ...perViewing,
        short: name => name.replace(" or more", "+"),
        minor: () => false,
        says: stats => `On average, a film was ${plural(stats.through_time.mean_age, "year")} old.`,
      }),
      chart("release_years", "Films by year of release", stats => filled(stats.through_time.release_years, nextYear), {
        minor: (index, bar) => bar.name % 10 !== 0,
        least: 3,
        wide: true,
      }),
    ],
  },
  {
    id: "what",
    title: () => "What you watch",
    short: "Genres",
    parts: [
      ranking("genres", "Genres", stats => stats.what.genres),
      ranking("genre_pairs", "Genre pairs", stats => stats.what.genre_pairs),
      ranking("themes", "Themes", stats => stats.what.themes),
      ranking("collections", "Collections", stats => stats.what.collections),
      complete,
      chart("runtimes", "Runtimes, in minutes", stats => stats.lists.runtimes, {
        short: name => name.replace(" or more", "+"),
        minor: () => false,
      }),
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
        film => plural(film.value, "viewing"),
      ),
      strip(
        "Hidden gems",
        stats => stats.ratings.gems,
        film => plural(film.value, "vote"),
      ),
      strip(
        "Longest",
        stats => dozen(stats) && stats.lists.longest,
        film => minutes(film.value),
      ),
      strip(
        "Shortest",
        stats => dozen(stats) && stats.lists.shortest,
        film => minutes(film.value),
      ),
      strip(
        "Most popular",
        stats => dozen(stats) && stats.ratings.popular,
        film => plural(film.value, "vote"),
      ),
      strip(
        "Most obscure",
        stats => dozen(stats) && stats.ratings.obscure,
        film => plural(film.value, "vote"),
      ),
      strip(
        stats => `Series, ${plural(stats.totals.series_hours, "hour")}`,
        stats => stats.lists.series,
        film => minutes(film.value),
      ),
      strip("First, latest and every 50th viewing", ever(milestones), film => film.say, 2),
    ],
  },
  {
    id: "watchlist",
    title: () => "Watchlist",
    short: "Watchlist",
    onlyEver: true,
    parts: [
      waiting,
      chart(
        "watchlist_decades",
        "Watchlist by decade",
        ever(stats => filled(stats.watchlist.decades, nextDecade)),
        decades,
      ),
      listed("watchlist_genres", "Watchlist by genre", stats => stats.watchlist.genres, bar),
      listed(
        "watchlist_directors",
        "Watchlist films by your highest-rated directors",
        stats => stats.watchlist.directors,
        each => dot(each.mean_rating),
      ),
    ],
  },
];

function milestones(stats) {
  const t = stats.totals;
  return [
    t.first && { ...t.first, say: "first" },
    ...t.milestones.map(film => ({ ...film, say: `viewing ${number(film.value)}` })),
    t.last && { ...t.last, say: "latest" },
  ].filter(Boolean);
}

export const RANKINGS = SECTIONS.flatMap(section => section.parts).filter(part => part.ranking);
