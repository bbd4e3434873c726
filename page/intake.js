// What was chosen or dropped -> the files of an export, each with its path in the export.

export const plain = files => [...files].map(file => ({ file, path: file.name }));
const EXPORTED = /^(?:watched|ratings|diary|reviews|watchlist|likes\/films)\.csv$|^[^/]+\.zip$/;

/** The files of an export among what was dropped, even in a folder, as Safari leaves it. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean),
    given = plain(transfer.files);
  if (!entries.some(entry => entry.isDirectory)) return given;
  const found = (await Promise.all(entries.map(entry => walk(entry, "", 0)))).flat();
  if (!found.length) throw new Error(`The folder ${entries[0].name} has no file of an export, such as watched.csv or diary.csv.`);
  return found;
}

async function walk(entry, folder, depth) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed)),
      path = `${folder}${entry.name}`;
    return depth === 0 || EXPORTED.test(path) ? [{ file, path }] : [];
  }
  if (depth > 2 || /^(deleted|orphaned|__MACOSX)$/.test(entry.name)) return [];
  const inner = entry.name === "likes" ? "likes/" : "",
    reader = entry.createReader(),
    all = [];
  for (let some; !some || some.length; all.push(...some))
    some = await new Promise((done, failed) => reader.readEntries(done, failed));
  return (await Promise.all(all.map(each => walk(each, inner, depth + 1)))).flat();
}
