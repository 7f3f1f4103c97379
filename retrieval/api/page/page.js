"use strict";
// Texts of the catalogue are never inserted as HTML, as titles come from shops. They are isolated from the text around
// them (bdi, dir=auto), so that one that is written from right to left does not reorder its neighbours.

const $ = (id) => document.getElementById(id);
const item = $("item"), options = $("options"), message = $("message");
const FIELDS = { item: "", k: "12", country: "", category: "", expected: "", query: "", before: "" };
const STAGES = ["session", "prerank"];
const MOST_ADS = 100, EXAMPLES = 8;
// The server names the hosts from which pictures may be loaded; by default none.
const IMAGE_HOSTS = document.querySelector("meta[name=image-hosts]").content.split(" ").filter((host) => host);
// A busy server is asked this many times, but not again if it wants a longer pause than this (in seconds).
const TRIES = 4, LONGEST_PAUSE = 10;
// A server whose time differs from its clock by more seconds serves another time than the present.
const PRESENT = 90;
// Results of the last request disappear if an answer takes more milliseconds than this.
const STALE_AFTER = 400;
let matches = [], selected = -1, completing = null, asking = null;
// The item whose title stands in the field, and the text there; any other text in the field is an id.
let chosen = null;

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "circle", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const isThere = (value) => value !== null && value !== undefined && String(value) !== "";
// A title of blanks or of invisible characters would be a link that nobody sees.
const titleOf = (entry) => (/[\p{L}\p{N}\p{P}\p{S}]/u.test(entry.title || "") ? entry.title : entry.item_id);
const numberOf = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });

// The picture of an item; null if it has none, or none that may be loaded.
function picture(entry) {
  const url = URL.canParse?.(entry.image_url) ? new URL(entry.image_url) : null;
  if (url?.protocol !== "https:" || url.username || url.password) return null;
  const allowed = (host) => host === "*" || (host.startsWith("*.") ? url.host.endsWith(host.slice(1)) : url.host === host);
  if (!IMAGE_HOSTS.some(allowed)) return null;
  // The title beside it says what it shows.
  const image = make("img", { alt: "", width: 72, height: 72, loading: "lazy", decoding: "async", referrerpolicy: "no-referrer" });
  image.addEventListener("error", () => image.remove());
  image.src = url.href;
  return image;
}

function facts(entry, names = ["category", "brand", "price"]) {
  const known = [titleOf(entry) === entry.title ? entry.item_id : null, ...names.map((name) => entry[name])].filter(isThere);
  return make("small", { class: "facts" }, ...known.flatMap((fact, number) => [number ? "\u00a0· " : null, make("bdi", {}, String(fact))]));
}

function quoted(id) {
  const letters = Array.from(id);
  return make("bdi", {}, letters.length > 80 ? `${letters.slice(0, 80).join("")}…` : id);
}

function say(kind, ...parts) {
  message.className = kind;
  message.replaceChildren(...parts);
}

// Calls

let token = "";
try {
  token = sessionStorage.getItem("token") || "";
} catch {} // without storage, the token is asked for again after a reload

class Fault extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

// Returns the content of an answer. If the server is busy, `paused` is told for how many seconds, and it is asked again.
async function call(path, { body, signal, paused } = {}) {
  for (let tries = 1; ; tries++) {
    const sent = token, headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (sent) headers.Authorization = `Bearer ${sent}`;
    const request = { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) };
    const answer = await fetch(path, request).catch((error) => {
      if (signal?.aborted) throw error;
      throw new Fault(navigator.onLine ? "The server cannot be reached." : "This device is offline.");
    });
    const content = await answer.json().catch(() => null);
    signal?.throwIfAborted();
    if (answer.ok && content) return content;
    if (answer.status === 401) lock(sent);
    const pause = Number(answer.headers.get("Retry-After"));
    if (answer.status === 503 && pause > 0 && paused && pause <= LONGEST_PAUSE && tries < TRIES) {
      paused(pause);
      await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
      signal?.throwIfAborted();
      continue;
    }
    const unreadable = answer.ok ? "The server's answer cannot be read." : `The server answers ${answer.status} ${answer.statusText}`.trim();
    throw new Fault((content?.detail || unreadable) + (pause > 0 ? ` (Retry after ${pause} s.)` : ""), answer.status);
  }
}

// Asks for a token in the page, as a dialog would come back with every letter that is typed.
function lock(refused) {
  if (refused !== token) return; // another token has been entered meanwhile
  if (refused) keep("");
  $("token-label").textContent = refused ? "The server refuses this token. Enter another one" : "Reading from this server needs a token";
  $("unlock").hidden = false;
}

function keep(entered) {
  token = entered;
  try {
    sessionStorage.setItem("token", token);
  } catch {}
}

$("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  const entered = $("token").value.trim();
  if (!/^[!-~]+$/.test(entered)) return say("fault", "A token has only ASCII letters, digits and signs, and no blanks.");
  keep(entered);
  $("token").value = "";
  $("unlock").hidden = true;
  await start();
  if (!$("unlock").hidden) $("token").focus();
  else if (currentId()) show(currentId());
  else item.focus();
});

// Completion

let typing;
item.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(complete, 120);
});

async function complete() {
  completing?.abort();
  const text = item.value.trim();
  if (!text || !$("unlock").hidden) return close();
  const { signal } = (completing = new AbortController());
  let none = "No id begins with this, and no title has these words.";
  try {
    matches = (await call(`v1/items?q=${encodeURIComponent(text)}`, { signal })).items;
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) return close();
    matches = [];
    none = `No suggestions: ${error.message}`;
  }
  selected = -1;
  options.replaceChildren(...matches.map(option));
  if (!matches.length) options.append(make("li", { role: "option", "aria-disabled": "true" }, none));
  options.hidden = document.activeElement !== item;
  item.setAttribute("aria-expanded", String(!options.hidden));
  item.removeAttribute("aria-activedescendant");
}

function option(match, number) {
  const text = make("div", {}, make("span", { dir: "auto" }, titleOf(match)), facts(match));
  const node = make("li", { role: "option", id: `option-${number}`, "aria-selected": "false" }, picture(match), text);
  node.addEventListener("mousedown", (event) => {
    event.preventDefault();
    choose(number);
  });
  return node;
}

function close() {
  completing?.abort();
  options.hidden = true;
  selected = -1;
  item.setAttribute("aria-expanded", "false");
  item.removeAttribute("aria-activedescendant");
}

function move(by) {
  if (options.hidden || !matches.length) return;
  options.children[selected]?.setAttribute("aria-selected", "false");
  selected = (selected + by + matches.length + (selected < 0 && by < 0 ? 1 : 0)) % matches.length;
  const option = options.children[selected];
  option.setAttribute("aria-selected", "true");
  option.scrollIntoView({ block: "nearest" });
  item.setAttribute("aria-activedescendant", option.id);
}

function choose(number) {
  place(matches[number]);
  close();
  ask();
}

// Writes an item into the field, by its title.
function place(entry) {
  item.value = titleOf(entry);
  chosen = { id: entry.item_id, text: item.value.trim() };
  if (document.activeElement === item) item.select();
}

function currentId() {
  const text = item.value.trim();
  return chosen && chosen.text === text ? chosen.id : text;
}

item.addEventListener("keydown", (event) => {
  if (event.isComposing) return; // the key belongs to an input method
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (options.hidden) complete();
    else move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Escape") close();
  else if (event.key === "Enter" && selected >= 0) {
    event.preventDefault();
    choose(selected);
  }
});
item.addEventListener("blur", close);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || document.activeElement.tagName === "INPUT") return;
  event.preventDefault();
  item.focus();
  item.select();
});

// Request

// A wrong value in a condition that is folded away must be seen.
$("ask").addEventListener("invalid", () => ($("conditions").open = true), true);
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

const motion = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

// Asks for another item, under the same conditions. What had the focus disappears, so it continues at the new results.
async function show(id) {
  item.value = id;
  chosen = null;
  scrollTo({ top: 0, behavior: motion() });
  if (await ask()) ($("viewed").hidden ? message : $("viewed")).focus({ preventScroll: true });
}

function link(entry) {
  const address = new URLSearchParams(location.search);
  address.set("item", entry.item_id);
  const node = make("a", { href: `?${address}`, dir: "auto", title: titleOf(entry) }, titleOf(entry));
  node.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return; // opens elsewhere
    event.preventDefault();
    show(entry.item_id);
  });
  return node;
}

// Ids are separated by commas; an id that has a comma stands in "quotes".
const idsIn = (text) =>
  [...text.matchAll(/\s*"((?:[^"]|"")*)"\s*(?=,|$)|[^,]+/g)]
    .map(([id, quoted]) => (quoted === undefined ? id : quoted.replaceAll('""', '"')).trim())
    .filter((id) => id);

function requestOf(value) {
  const body = { items: [...idsIn(value.before), value.item], k: Number(value.k || FIELDS.k) };
  for (const name of ["country", "expected", "query"]) if (value[name]) body[name] = value[name];
  if (value.category) body.filters = { category: value.category };
  if (value.off) body.stages = Object.fromEntries(value.off.split(" ").map((stage) => [stage, false]));
  return body;
}

// Returns whether the request was answered, with ads or an error, and not replaced by a later one.
async function ask({ remember = true } = {}) {
  clearTimeout(typing);
  close();
  asking?.abort();
  const { signal } = (asking = new AbortController());
  const value = Object.fromEntries(Object.keys(FIELDS).map((field) => [field, $(field).value.trim()]));
  value.item = currentId();
  value.off = STAGES.filter((stage) => !$(stage).checked).join(" ");
  const address = `?${new URLSearchParams(Object.entries(value).filter(([field, entered]) => entered !== (FIELDS[field] || "")))}`;
  if (remember && address !== location.search) history.pushState(null, "", address);
  say("", "Looking for ads…");
  $("start").hidden = true;
  const stale = setTimeout(clear, STALE_AFTER);
  const paused = (seconds) => say("", `The server is busy. Asking again in ${seconds} s…`);
  try {
    const answer = await call("v1/explain", { body: requestOf(value), signal, paused });
    let graph = null, fault = "", similar = [];
    if (answer.unknown_items.includes(value.item))
      similar = await call(`v1/items?limit=5&q=${encodeURIComponent(value.item)}`, { signal }).then(({ items }) => items, () => []);
    else
      // The ads are shown even if the graph cannot be.
      graph = await call(`v1/graph?item_id=${encodeURIComponent(value.item)}`, { signal, paused }).catch((error) => {
        fault = error.message;
      });
    signal.throwIfAborted();
    showAnswer(answer, value, { graph, fault, similar });
  } catch (error) {
    if (signal.aborted) return false;
    clear();
    if (error.status !== 401) say("fault", error.message);
    else {
      say("");
      $("token").focus();
    }
    return error.status !== 401;
  } finally {
    clearTimeout(stale);
  }
  return true;
}

function clear() {
  for (const section of ["start", "viewed", "missing", "results", "graph"]) $(section).hidden = true;
}

function showAnswer(answer, value, { graph, fault, similar }) {
  const n = answer.results.length, count = `${n} ${n === 1 ? "ad" : "ads"}`;
  if (answer.unknown_items.length && answer.results.some((result) => result.reason === "fallback"))
    say("", "This version does not know the item, so the most popular ads are shown.");
  else if (answer.unknown_items.length)
    say("", "This version does not know ", ...answer.unknown_items.flatMap((id, number) => [number ? ", " : "", quoted(id)]), ".");
  else if (answer.unknown_category !== undefined)
    say("", "No item of this version is in the category ", quoted(answer.unknown_category), ".");
  else if (!n) say("", "No ad is eligible under these conditions. Enter an expected ad to see why it is missing.");
  else if (fault) say("fault", `The item graph cannot be shown: ${fault}`);
  else say("aloud", `${count}.`); // the heading says it to the eye
  if (similar.length) message.append(" Items with these words: ", ...similar.flatMap((entry, number) => [number ? ", " : "", link(entry)]), ".");
  $("results-title").textContent = count;
  const known = !answer.unknown_items.includes(value.item);
  if (known && graph && currentId() === value.item) place(graph.nodes[0]);
  showViewed(known ? graph?.nodes[0] ?? { item_id: value.item } : null);
  showExpected(answer.expected, answer.asked);
  showCards(answer.results, value.expected);
  drawGraph(graph);
}

function showViewed(entry) {
  $("viewed").hidden = !entry;
  if (entry) $("viewed").replaceChildren(...withPicture(entry, make("h2", { dir: "auto" }, titleOf(entry)), facts(entry)));
}

// What is said of an item, beside its picture if it has one.
function withPicture(entry, ...said) {
  const image = picture(entry);
  return image ? [make("div", { class: "pictured" }, image, make("div", {}, ...said))] : said;
}

function showExpected(expected, asked) {
  $("missing").hidden = !expected;
  if (!expected) return;
  $("missing").className = expected.shown ? "shown" : "";
  const verdict = expected.shown ? ` is shown, at rank ${expected.rank}.` : " is not shown:";
  const why = expected.why.map((reason) => make("li", {}, reason));
  $("missing").replaceChildren(make("h2", {}, make("bdi", {}, expected.expected), verdict));
  if (why.length) $("missing").append(make("ul", {}, ...why));
  if (expected.shown) $("missing").append(button("Go to it", goToExpected));
  else if (expected.rank > asked && expected.rank <= MOST_ADS)
    $("missing").append(button(`Show ${expected.rank} ads, and go to it`, async () => {
      $("k").value = expected.rank;
      if (await ask()) goToExpected();
    }));
}

function button(text, action) {
  const node = make("button", { type: "button", class: "plain" }, text);
  node.addEventListener("click", action);
  return node;
}

function goToExpected() {
  const card = document.querySelector(".card.expected");
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "center", behavior: motion() });
}

const EDGES = { strong_click: "strong click", swing: "Swing", co_search: "co-search" };
const name = (reason) => EDGES[reason] || reason;
const MEANINGS = {
  strong_click: "shoppers went from the viewed item straight to it",
  swing: "the same shoppers clicked both",
  co_search: "both were opened after the same search",
  embedding: "near it in the model, though no edge joins them",
  fallback: "popular; the viewed item is not known",
};
// The parts of a score that the bar shows, with the classes of their colours, in words
const PARTS = {
  embedding: ["embedding", "similar to the viewed item"],
  direct: ["strong_click", "often opened next"],
  "demand and popularity": ["popular", "in demand now"],
  "viewed before": ["fallback", "viewed before"],
};

function showCards(results, expected) {
  $("results").hidden = !results.length;
  const top = Math.max(...results.map((result) => result.stages?.retrieval ?? result.score), 1e-9);
  $("cards").replaceChildren(...results.map((result) => card(result, top, expected)));
  const drawn = Object.keys(PARTS).filter((part) => results.some((result) => result.parts?.[part] > 0));
  $("parts").replaceChildren(drawn.length ? "What the score is made of: " : "", ...drawn.map((part) => make("span", { class: PARTS[part][0] }, PARTS[part][1])));
  const reasons = Object.keys(MEANINGS).filter((reason) => results.some((result) => result.reason.split("+").includes(reason)));
  $("meanings").replaceChildren(...reasons.map((reason) => make("b", {}, make("i", { class: `reason ${reason}` }, name(reason)), ` ${MEANINGS[reason]}`)));
}

function card(result, top, expected) {
  const isExpected = [result.item_id, result.ad_id].includes(expected);
  const node = make("li", { class: isExpected ? "card expected" : "card", tabindex: isExpected ? -1 : null });
  node.append(
    make("div", { class: "top" }, make("span", {}, `#${result.rank}`), make("span", {}, `score ${result.score.toFixed(3)}`)),
    ...withPicture(result.item, make("h3", {}, link(result.item)), facts(result.item)),
  );
  if (result.parts) node.append(bar(result.parts, top));
  const reasons = result.reason.split("+").map((reason) => make("span", { class: `reason ${reason}`, title: MEANINGS[reason] }, name(reason)));
  if (result.shared_category) reasons.push(make("span", { class: "reason category", dir: "auto" }, result.shared_category));
  const list = make("dl", {}, ...details(result).flatMap(([key, value]) => [make("dt", {}, key), make("dd", { dir: "auto" }, String(value))]));
  // The details lie over what is below, so that opening them moves no other card; opening one closes the last.
  const more = make("details", { name: "card" }, make("summary", {}, "details of the score and the ad"), list);
  node.append(make("div", { class: "reasons" }, ...reasons), ad(result) ?? "", more);
  return node;
}

function ad(result) {
  const { advertiser_id: advertiser, bid } = result.ad || {};
  const parts = [["ad", result.ad_id], ["of", advertiser], ["bid", isThere(bid) ? numberOf(bid) : bid]].filter(([, value]) => isThere(value));
  const said = parts.flatMap(([word, value], number) => [`${number ? " · " : ""}${word} `, make("bdi", {}, String(value))]);
  return said.length ? make("p", { class: "ad" }, ...said) : null;
}

document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll(".card details[open]")) if (!open.contains(event.target)) open.open = false;
});
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector(".card details[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

function bar(parts, top) {
  const drawn = Object.keys(PARTS).filter((part) => parts[part] > 0);
  const whole = Math.max(top, drawn.reduce((sum, part) => sum + parts[part], 0));
  return make("div", { class: "bar", "aria-hidden": "true" }, ...drawn.map((part) => {
    const piece = make("i", { class: PARTS[part][0] });
    piece.style.width = `${(100 * parts[part]) / whole}%`;
    return piece;
  }));
}

function details(result) {
  const rows = [];
  if (result.ad_id) rows.push(["ad", result.ad_id]);
  for (const [key, value] of Object.entries(result.ad || {}))
    if (isThere(value)) rows.push([key.replace("_id", "").replace("_at", ""), Array.isArray(value) ? value.join(", ") : value]);
  for (const [key, value] of Object.entries(result.parts || {})) rows.push([key, value.toFixed(4)]);
  if (result.stages && result.stages.prerank !== undefined) {
    rows.push(["retrieval", result.stages.retrieval.toFixed(4)], ["pre-ranker", result.stages.prerank.toFixed(4)]);
    for (const [key, value] of Object.entries(result.stages.counters)) rows.push([key.replace(">", " → "), value.toFixed(4)]);
  }
  for (const edge of result.edges) rows.push([name(edge.type), `weight ${numberOf(edge.weight)}`]);
  rows.push(["events", result.item.events]);
  return rows;
}

// The ego graph: the strongest neighbours on a circle, clockwise from the strongest at the top. The list beside it names
// them, and is what the keyboard and screen readers use.

function drawGraph(graph) {
  const drawn = graph && graph.nodes.length > 1;
  $("graph").hidden = !drawn;
  if (!drawn) return;
  const n = graph.nodes.length - 1, radius = 168;
  const positionOf = (number) => {
    if (!number) return [0, 0];
    const angle = (2 * Math.PI * (number - 1)) / n - Math.PI / 2;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  };
  const heaviest = {};
  for (const edge of graph.edges) heaviest[edge.type] = Math.max(heaviest[edge.type] || 0, edge.weight);
  const share = (edge) => edge.weight / heaviest[edge.type];
  // All edges of the item itself, but only the strongest among its neighbours, as more would be unreadable.
  const ownEdges = graph.edges.filter((edge) => !edge.from || !edge.to);
  const among = graph.edges.filter((edge) => edge.from && edge.to).sort((a, b) => share(b) - share(a)).slice(0, 3 * n);
  const linesOf = graph.nodes.map(() => []);
  const lines = [...among, ...ownEdges].map((edge) => {
    const [x1, y1] = positionOf(edge.from), [x2, y2] = positionOf(edge.to);
    const shift = { strong_click: -2, swing: 2, co_search: 5 }[edge.type] || 0;
    const length = Math.hypot(x2 - x1, y2 - y1) || 1, dx = (shift * (y1 - y2)) / length, dy = (shift * (x2 - x1)) / length;
    const line = make("line", {
      x1: x1 + dx, y1: y1 + dy, x2: x2 + dx, y2: y2 + dy, "stroke-width": 0.8 + 3.5 * share(edge),
      class: `${edge.type}${edge.from && edge.to ? " among" : ""}`,
    });
    linesOf[edge.from].push(line);
    linesOf[edge.to].push(line);
    return line;
  });
  const nodes = graph.nodes.map((node, number) => {
    const [x, y] = positionOf(number);
    if (!number) return make("circle", { class: "centre", cx: x, cy: y, r: 14 });
    const text = make("text", { x, y, dy: ".35em", "text-anchor": "middle" }, number);
    const group = make("g", { class: "node" }, make("title", {}, titleOf(node)), make("circle", { cx: x, cy: y, r: 15 }), text);
    group.addEventListener("click", () => show(node.item_id));
    return group;
  });
  const entries = graph.nodes.slice(1).map((node, i) => neighbour(node, i + 1, ownEdges));
  entries.forEach((entry, i) => {
    const node = nodes[i + 1], together = [entry, node, ...linesOf[i + 1]];
    const mark = (part, event, on) => part.addEventListener(event, () => together.forEach((shown) => shown.classList.toggle("on", on)));
    for (const part of [entry, node]) {
      mark(part, "pointerenter", true);
      mark(part, "pointerleave", false);
    }
    // Not the node: browsers let the keyboard stop at drawings that listen for the focus.
    mark(entry, "focusin", true);
    mark(entry, "focusout", false);
  });
  $("ego").replaceChildren(...lines, ...nodes);
  $("neighbours").replaceChildren(...entries);
}

function neighbour(node, number, edges) {
  const order = Object.keys(EDGES);
  const own = edges.filter((edge) => !edge.from && edge.to === number).sort((a, b) => order.indexOf(a.type) - order.indexOf(b.type));
  const weights = own.map((edge) => make("span", { class: edge.type }, `${name(edge.type)} ${numberOf(edge.weight)}`));
  const text = make("div", {}, make("div", {}, link(node)), facts(node, ["category"]), make("div", { class: "weights" }, ...weights));
  return make("li", {}, make("span", { class: "number" }, number), text);
}

// Start

const minute = (time) => new Date(time).toISOString().slice(0, 16).replace("T", " ");

async function start() {
  try {
    const served = await call("v1/version", { paused: () => {} });
    for (const stage of STAGES) $(`${stage}-field`).hidden = !served.stages[stage];
    $("stages").hidden = !STAGES.some((stage) => served.stages[stage]);
    $("query-field").hidden = !served.stages.prerank;
    const when = minute(served.as_of);
    const away = (new Date(served.now) - new Date(served.at)) / 1000;
    $("past").hidden = Math.abs(away) < PRESENT;
    $("past").textContent = `This server answers as of ${minute(served.at)} UTC, not of now: it shows the ads that ${away > 0 ? "were" : "will be"} active then.`;
    const ads = served.ads === null ? "every item is advertised" : `${served.ads_in_flight.toLocaleString("en")} active ads`;
    $("version").textContent = `${served.items.toLocaleString("en")} items, ${ads}; version ${served.version}, as of ${when} UTC`;
    const { items } = await call(`v1/items?limit=${EXAMPLES}`).catch(() => ({ items: [] }));
    $("examples").replaceChildren(...items.map((entry) => make("li", {}, ...withPicture(entry, make("div", {}, link(entry)), facts(entry, ["category"])))));
    $("beginning").hidden = !items.length;
  } catch (error) {
    $("version").textContent = error.status === 401 ? "" : `What is served is not known: ${error.message}`;
  }
}

function open() {
  const address = new URLSearchParams(location.search), off = (address.get("off") || "").split(" ");
  for (const [field, usual] of Object.entries(FIELDS)) $(field).value = address.get(field) || usual;
  chosen = null;
  for (const stage of STAGES) $(stage).checked = !off.includes(stage);
  if (item.value.trim()) return ask({ remember: false });
  asking?.abort();
  clear();
  $("start").hidden = false;
  return say("");
}

addEventListener("popstate", open);
$("ask").hidden = false; // without JavaScript it would do nothing
// On a phone the conditions are folded away, unless the address sets one.
const usual = ["item", "off"];
if (matchMedia("(max-width: 40rem)").matches && ![...new URLSearchParams(location.search).keys()].some((key) => !usual.includes(key)))
  $("conditions").open = false;
if (!new URLSearchParams(location.search).get("item")) item.focus();
open();
start().then(() => {
  if (!$("unlock").hidden && !item.value) $("token").focus();
});
