// Countries as tiles in their place on the map, by ISO code, and their names at TMDB.

const grid = text =>
  text
    .trim()
    .split("\n")
    .map(line => line.trim());

export const CONTINENTS = [
  [
    "North America",
    grid(`
    .. CA .. GL
    .. US .. BS
    MX .. CU HT
    GT BZ JM DO
    SV HN .. PR
    .. NI .. TT
    .. CR PA ..`),
  ],
  [
    "South America",
    grid(`
    CO VE GY SR
    EC PE BR ..
    .. BO PY ..
    .. CL AR UY`),
  ],
  [
    "Europe",
    grid(`
    IS .. .. NO SE FI .. ..
    IE GB .. DK .. EE RU ..
    .. .. NL DE PL LV BY ..
    .. FR BE LU CZ LT UA ..
    PT ES CH AT SK HU MD ..
    .. AD IT SI HR RS RO ..
    .. MC MT BA ME MK BG ..
    .. .. .. AL XK GR CY TR`),
  ],
  [
    "Africa",
    grid(`
    MA DZ TN LY EG ..
    MR ML NE TD SD ER
    SN BF NG CF SS ET
    GN CI GH CM UG SO
    LR TG BJ GA CD KE
    .. .. CG RW TZ BI
    .. .. AO ZM MW MZ
    .. .. NA ZW BW MG
    .. .. .. ZA LS MU`),
  ],
  [
    "Asia",
    grid(`
    .. GE AZ KZ KG MN .. ..
    AM LB SY UZ TJ CN KP JP
    PS IL JO IQ TM AF NP KR
    .. SA KW IR PK IN BT TW
    .. YE QA AE BD MM LA HK
    .. .. OM .. LK TH VN MO
    .. .. .. .. MV KH PH ..
    .. .. .. .. MY SG ID BN`),
  ],
  [
    "Oceania",
    grid(`
    PG SB FJ
    AU VU WS
    .. .. NZ`),
  ],
];

/** Countries with many films, the most films first. */
export const LARGE = "US IN CN JP FR GB KR DE NG IT ES HK CA BR MX RU AR TR IR EG SE TW PH TH DK PL ID AU".split(" ");

const names = new Intl.DisplayNames("en", { type: "region" });
const OWN = {
  US: "United States of America",
  HK: "Hong Kong",
  MO: "Macao",
  CZ: "Czech Republic",
  TR: "Turkey",
  BA: "Bosnia and Herzegovina",
  TT: "Trinidad and Tobago",
  MM: "Myanmar",
  MK: "Macedonia",
  PS: "Palestinian Territory",
  CI: "Cote D'Ivoire",
  LY: "Libyan Arab Jamahiriya",
  SY: "Syrian Arab Republic",
  LA: "Lao People's Democratic Republic",
  KG: "Kyrgyz Republic",
  CD: "Congo",
  BN: "Brunei Darussalam",
};
export const countryOf = code => OWN[code] || names.of(code);
const codes = new Map(
  CONTINENTS.flatMap(([, lines]) => lines.join(" ").split(" "))
    .filter(code => code !== "..")
    .map(code => [countryOf(code), code]),
);
export const codeOf = name =>
  codes.get(name) || codes.get(name.replace("Türkiye", "Turkey").replace("Czechia", "Czech Republic")) || null;

/** Countries that are gone, with those that are on the map in their place. */
const SUCCESSORS = {
  "Soviet Union": "RU UA BY EE LV LT MD GE AM AZ KZ KG TJ TM UZ",
  Czechoslovakia: "CZ SK",
  Yugoslavia: "SI HR BA RS ME MK",
  "Serbia and Montenegro": "RS ME",
  "East Germany": "DE",
};

/** The bars of countries by code, with the films of those that are gone, and the names of these and of the rest. */
export function onMap(bars) {
  const known = new Map(bars.map(bar => [codeOf(bar.name), bar]).filter(([code]) => code)),
    gone = bars.filter(bar => SUCCESSORS[bar.name]),
    rest = bars.filter(bar => !codeOf(bar.name) && !SUCCESSORS[bar.name]);
  for (const bar of gone)
    for (const code of SUCCESSORS[bar.name].split(" ")) {
      const own = known.get(code),
        movie_ids = [...new Set([...(own?.movie_ids || []), ...bar.movie_ids])];
      known.set(code, { name: countryOf(code), count: movie_ids.length, mean_rating: own ? null : bar.mean_rating, movie_ids });
    }
  return { known, gone, rest };
}
