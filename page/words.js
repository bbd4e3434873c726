// Numbers, dates and plurals. The page is in English; readers of another English get their own separators.

const locale = /^en\b/.test(navigator.language) ? navigator.language : "en";
const numbers = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const ratings = new Intl.NumberFormat(locale, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const tenths = new Intl.NumberFormat(locale, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const days = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", timeZone: "UTC" });
const dates = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const weekdays = new Intl.DateTimeFormat(locale, { weekday: "long", timeZone: "UTC" });
const months = new Intl.DateTimeFormat(locale, { month: "long", timeZone: "UTC" });
const clock = new Intl.DateTimeFormat(locale, { hour: "numeric", minute: "2-digit" });
const moments = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
const languages = new Intl.DisplayNames("en", { type: "language", fallback: "none" });
const lists = new Intl.ListFormat("en", { type: "conjunction" });

export const number = value => numbers.format(value);
export const tenth = value => tenths.format(value);
export const plural = (count, one, more = `${one}s`) => `${number(count)} ${Number(count) === 1 ? one : more}`;
export const list = names => lists.format(names);
export const stars = rating => "★".repeat(Math.floor(rating)) + (rating % 1 ? "½" : "");
export const mean = value => (value === null ? "" : `★ ${ratings.format(value)}`);
/** With the date unless it is today's. */
export function moment(instant) {
  const at = new Date(instant);
  return (at.toDateString() === new Date().toDateString() ? clock : moments).format(at);
}
export const date = iso => dates.format(new Date(iso));
export const day = iso => days.format(new Date(iso));
export const weekday = iso => weekdays.format(new Date(iso));
/** "2024-03" is March. */
export const month = name => months.format(new Date(`${name}-01`));
export const minutes = value =>
  value < 60 ? `${value}\u00a0min` : `${Math.floor(value / 60)}\u00a0h\u00a0${value % 60}\u00a0min`;

/** TMDB has codes of its own for two languages. */
export function language(code) {
  const own = { cn: "Cantonese", xx: "No language" };
  try {
    return own[code] || languages.of(code) || code;
  } catch {
    return code;
  }
}

const counted = noun => bar => [plural(bar.count, noun), mean(bar.mean_rating)].filter(Boolean).join(" · ");
export const filmsOf = counted("film");
export const viewingsOf = counted("viewing");
export const titled = film => (film.year ? `${film.title} (${film.year})` : film.title);

/** All of a tie for the first place: of one, two or three of at least `least`. More are no winners. */
export function winners(bars, least = 3) {
  const most = Math.max(0, ...bars.map(bar => bar.count)),
    first = bars.filter(bar => bar.count === most);
  return most >= least && first.length <= 3 ? first : [];
}
