// What the page shows, which is in its address: /?year=2024&open=…&by=rating#SESSION. Reload, Back and a second
// tab show the same.

/** `open` names the films in the dialog, `byRating` is the order of all rankings. */
export function address() {
  const query = new URLSearchParams(location.search);
  return {
    id: location.hash.slice(1),
    year: /^[1-9]\d{0,3}$/.test(query.get("year")) ? Number(query.get("year")) : null,
    open: query.get("open"),
    byRating: query.get("by") === "rating",
  };
}

export function addressOf(changes) {
  const now = { ...address(), ...changes },
    query = new URLSearchParams();
  if (now.year) query.set("year", now.year);
  if (now.byRating) query.set("by", "rating");
  if (now.open) query.set("open", now.open);
  const text = query.toString().replaceAll("%3A", ":");
  return `${location.pathname}${text && `?${text}`}${now.id && `#${now.id}`}`;
}

/** Goes to an address and tells main.js; `quietly` leaves no entry in the history. */
export function go(changes, quietly = false) {
  const url = addressOf(changes);
  if (url === addressOf({})) return;
  history[quietly ? "replaceState" : "pushState"]({ inside: true }, "", url);
  dispatchEvent(new Event("go"));
}

/** The films that can be opened, by name: `{ title, ids, mean }`. Filled in while the report is drawn. */
export const sets = new Map();

/** Makes films available to the dialog and returns their name. */
export function opens(name, title, ids, mean = null) {
  sets.set(name, { title, ids, mean });
  return name;
}
