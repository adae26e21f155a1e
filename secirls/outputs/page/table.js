"use strict";
// The table of all genes: searched, sorted, a hundred rows at a time. Whatever it shows, it shows as text.

const STEP = 100;
const MISSING = "–";

/** A cell as text; as `shown` of genes.py has it, but for halves, which Python rounds to even. */
function shown(kind, value) {
  if (kind === "text") return value;
  if (value === null) return MISSING;
  if (kind === "mean") return value.toLocaleString("en-US", {minimumFractionDigits: 1, maximumFractionDigits: 1});
  if (kind === "p") return value.toExponential(2).replace(/(?<=e[+-])(?=\d$)/, "0");
  return (kind === "change" && value >= 0 ? "+" : "") + value.toFixed(3);
}

/** Rows with status and reason written out. */
function written(told) {
  return told.rows.map(row => row.slice(0, -1).concat(told.words[row[row.length - 1]]));
}

/** What is searched of each row: its texts in small letters. */
function searchable(rows, kinds) {
  const columns = kinds.flatMap((kind, place) => kind === "text" ? [place] : []);
  return rows.map(row => columns.map(place => row[place]).join("\n").toLowerCase());
}

/** Places of the rows that hold every word. */
function found(texts, asked) {
  const words = asked.toLowerCase().split(/\s+/).filter(word => word);
  const places = [];
  for (let i = 0; i < texts.length; i++) if (words.every(word => texts[i].includes(word))) places.push(i);
  return places;
}

/** Places in the order of a column, missing values last either way; ties keep the order they had. 2 is before 10. */
function ordered(places, rows, column, falling) {
  const sign = falling ? -1 : 1, words = new Intl.Collator("en", {numeric: true});
  return places.slice().sort((a, b) => {
    const x = rows[a][column], y = rows[b][column];
    const lacksX = x === null || x === "", lacksY = y === null || y === "";
    if (lacksX || lacksY) return lacksX - lacksY;
    if (typeof x === "string") return sign * words.compare(x, y);
    return x < y ? -sign : x > y ? sign : 0;
  });
}

/** Join the table that stands in the page to its data. */
function start(page) {
  const table = page.getElementById("genes-table");
  const heads = Array.from(table.querySelectorAll("thead th"));
  const kinds = heads.map(head => head.dataset.kind);
  const rows = written(JSON.parse(page.getElementById("genes-data").textContent));
  const texts = searchable(rows, kinds);
  const body = table.querySelector("tbody"), more = page.getElementById("more");
  const search = page.getElementById("search"), field = search.querySelector("input");
  const counted = page.getElementById("told");
  let column = heads.findIndex(head => head.hasAttribute("aria-sort")), falling = false;
  let places = [], drawn = 0;

  function line(row) {
    const made = page.createElement("tr");
    row.forEach((value, place) => {
      const cell = page.createElement(place ? "td" : "th");
      if (!place) cell.scope = "row";
      else if (kinds[place] === "text") cell.className = heads[place].dataset.long === undefined ? "words" : "words long";
      cell.textContent = shown(kinds[place], value);
      made.appendChild(cell);
    });
    return made;
  }

  function extend() {
    const part = page.createDocumentFragment();
    places.slice(drawn, drawn + STEP).forEach(place => part.appendChild(line(rows[place])));
    body.appendChild(part);
    drawn = Math.min(drawn + STEP, places.length);
    more.hidden = drawn === places.length;
    const many = places.length.toLocaleString("en-US"), all = rows.length.toLocaleString("en-US");
    counted.textContent = `${many} of ${all} genes, ${drawn.toLocaleString("en-US")} shown`;
  }

  function draw() {
    places = ordered(found(texts, field.value), rows, column, falling);
    drawn = 0;
    body.replaceChildren();
    extend();
  }

  function turn(place) {
    falling = place === column ? !falling : kinds[place] !== "text" && kinds[place] !== "p";
    column = place;
    heads.forEach(head => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
    draw();
  }

  heads.forEach((head, place) => {
    const button = page.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => turn(place));
    head.replaceChildren(button);
  });
  field.addEventListener("input", draw);
  more.addEventListener("click", extend);
  search.hidden = false;
  draw();
}

if (typeof document !== "undefined") start(document);
if (typeof module !== "undefined") module.exports = {shown, written, searchable, found, ordered, start};
