"use strict";
// Texts of the catalogue are never inserted as HTML, as titles come from shops.

const $ = (id) => document.getElementById(id);
const item = $("item"), options = $("options"), message = $("message");
let matches = [], selected = -1, completing = null, latestRequest = 0;

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "a", "line", "circle", "text", "title"].includes(tag) && attributes.svg;
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name !== "svg" && value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

async function call(path, body, signal) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) });
  if (answer.status === 401) {
    const entered = prompt("Reading from this server needs a token:");
    if (entered) {
      sessionStorage.setItem("token", entered.trim());
      return call(path, body, signal);
    }
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail || `${answer.status} ${answer.statusText}`);
  return content;
}

const titleOf = (entry) => entry.title || entry.item_id;
const factsOf = (entry) =>
  [entry.title ? entry.item_id : null, entry.category, entry.brand, entry.price ?? null].filter((fact) => fact !== null && fact !== undefined).join(" · ");

// Completion

let typing;
item.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(complete, 120);
});

async function complete() {
  completing?.abort();
  const text = item.value.trim();
  if (!text) return close();
  completing = new AbortController();
  try {
    matches = (await call(`v1/items?q=${encodeURIComponent(text)}`, null, completing.signal)).items;
  } catch (error) {
    if (error.name !== "AbortError") message.textContent = error.message;
    return;
  }
  selected = -1;
  options.replaceChildren(
    ...matches.map((match, number) => {
      const option = make("li", { role: "option", id: `option-${number}`, "aria-selected": "false" }, titleOf(match));
      option.append(make("small", {}, factsOf(match)));
      option.addEventListener("mousedown", (event) => {
        event.preventDefault();
        choose(number);
      });
      return option;
    }),
  );
  options.hidden = !matches.length || document.activeElement !== item;
  item.setAttribute("aria-expanded", String(!options.hidden));
  item.removeAttribute("aria-activedescendant");
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
  item.value = matches[number].item_id;
  close();
  ask();
}

item.addEventListener("keydown", (event) => {
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
  if (event.key === "/" && !["INPUT", "TEXTAREA"].includes(document.activeElement.tagName)) {
    event.preventDefault();
    item.focus();
    item.select();
  }
});

// Request

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

function show(id) {
  item.value = id;
  // The focused element disappears with the old results, so the keyboard continues from the new ones.
  ask().then(() => $("viewed").focus({ preventScroll: true }));
  scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

async function ask() {
  clearTimeout(typing);
  close();
  const thisRequest = ++latestRequest;
  const id = item.value.trim();
  const before = $("before").value.split(",").map((id) => id.trim()).filter((id) => id);
  const body = { items: [...before, id], k: Number($("k").value) || 12 };
  const country = $("country").value.trim(), category = $("category").value.trim(), expected = $("expected").value.trim();
  if (country) body.country = country;
  if (category) body.filters = { category };
  if (expected) body.expected = expected;
  const query = $("query").value.trim(), off = ["session", "prerank"].filter((stage) => !$(stage).checked);
  if (query) body.query = query;
  if (off.length) body.stages = Object.fromEntries(off.map((stage) => [stage, false]));
  message.textContent = "…";
  let answer, graph;
  try {
    answer = await call("v1/explain", body);
    graph = answer.unknown_items.includes(id) ? null : await call(`v1/items/${encodeURIComponent(id)}/graph`);
  } catch (error) {
    if (thisRequest === latestRequest) message.textContent = error.message;
    return;
  }
  if (thisRequest !== latestRequest) return;
  const address = new URLSearchParams({ item: id, k: body.k });
  for (const [name, value] of Object.entries({ country, category, expected, query, before: before.join(","), off: off.join(" ") })) if (value) address.set(name, value);
  history.replaceState(null, "", `?${address}`);
  message.textContent = answer.unknown_items.length
    ? answer.results.some((result) => result.reason === "fallback")
      ? "This version does not know the item, so the most popular ads are shown."
      : `This version does not know ${answer.unknown_items.join(", ")}.`
    : answer.unknown_category !== undefined
    ? `No item of this version is in the category ${answer.unknown_category}.`
    : answer.results.length ? "" : "No ad is eligible under these conditions. Enter an expected ad to see why it is missing.";
  showViewed(graph);
  showExpected(answer.expected);
  showCards(answer.results, expected);
  drawGraph(graph);
}

function showViewed(graph) {
  $("viewed").hidden = !graph;
  if (graph) $("viewed").replaceChildren(make("strong", {}, titleOf(graph.nodes[0])), make("small", {}, factsOf(graph.nodes[0])));
}

function showExpected(expected) {
  $("missing").hidden = !expected;
  if (!expected) return;
  $("missing").className = expected.shown ? "shown" : "";
  const verdict = expected.shown ? `${expected.expected} is shown, at rank ${expected.rank}.` : `${expected.expected} is not shown:`;
  $("missing").replaceChildren(make("strong", {}, verdict), make("ul", {}, ...expected.why.map((why) => make("li", {}, why))));
}

const name = (reason) => ({ strong_click: "strong click", swing: "Swing", co_search: "co-search" })[reason] || reason;

function showCards(results, expected) {
  $("results").hidden = !results.length;
  const top = Math.max(...results.map((result) => result.stages?.retrieval ?? result.score), 1e-9);
  $("cards").replaceChildren(...results.map((result) => card(result, top, expected)));
}

function card(result, top, expected) {
  const node = make("li", { class: [result.item_id, result.ad_id].includes(expected) ? "card expected" : "card" });
  node.append(
    make("div", { class: "top" }, make("span", {}, `#${result.rank}`), make("span", {}, result.score.toFixed(3))),
  );
  const title = make("button", { type: "button", title: "show the ads next to this item" }, titleOf(result.item));
  title.addEventListener("click", () => show(result.item_id));
  node.append(make("h3", {}, title), make("small", {}, factsOf(result.item)));
  if (result.parts) {
    const bar = make("div", { class: "bar", "aria-hidden": "true" });
    const drawn = ["embedding", "direct", "viewed before"].filter((part) => result.parts[part] > 0);
    const whole = Math.max(top, drawn.reduce((sum, part) => sum + result.parts[part], 0));
    for (const part of drawn) {
      const piece = make("i", { class: part });
      piece.style.width = `${(100 * result.parts[part]) / whole}%`;
      bar.append(piece);
    }
    node.append(bar);
  }
  const reasons = result.reason.split("+").map((reason) => make("span", { class: `reason ${reason}` }, name(reason)));
  if (result.shared_category) reasons.push(make("span", { class: "reason category" }, result.shared_category));
  node.append(make("div", { class: "reasons" }, ...reasons));
  const rows = [];
  if (result.ad_id) rows.push(["ad", result.ad_id]);
  for (const [key, value] of Object.entries(result.ad || {}))
    if (value !== null && String(value) !== "") rows.push([key.replace("_id", "").replace("_at", ""), Array.isArray(value) ? value.join(", ") : value]);
  for (const [key, value] of Object.entries(result.parts || {})) rows.push([key, value.toFixed(4)]);
  if (result.stages && result.stages.prerank !== undefined) {
    rows.push(["retrieval", result.stages.retrieval.toFixed(4)], ["pre-ranker", result.stages.prerank.toFixed(4)]);
    for (const [key, value] of Object.entries(result.stages.counters)) rows.push([key.replace(">", " → "), value.toFixed(4)]);
  }
  for (const edge of result.edges) rows.push([name(edge.type), `weight ${edge.weight.toPrecision(3)}`]);
  rows.push(["events", result.item.events]);
  const list = make("dl", {}, ...rows.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]));
  node.append(make("details", {}, make("summary", {}, "details of the score and the ad"), list));
  return node;
}

// The ego graph: the strongest neighbours on a circle, clockwise from the strongest at the top

function drawGraph(graph) {
  const drawn = graph && graph.nodes.length > 1;
  $("graph").hidden = !drawn;
  if (!drawn) return;
  const n = graph.nodes.length - 1, radius = 178;
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
  const lines = [...among, ...ownEdges]
    .map((edge) => {
      const [x1, y1] = positionOf(edge.from), [x2, y2] = positionOf(edge.to);
      const width = 0.8 + 4 * share(edge);
      const shift = { strong_click: -2, swing: 2, co_search: 5 }[edge.type] || 0;
      const length = Math.hypot(x2 - x1, y2 - y1) || 1, dx = (shift * (y1 - y2)) / length, dy = (shift * (x2 - x1)) / length;
      return make("line", {
        svg: 1, x1: x1 + dx, y1: y1 + dy, x2: x2 + dx, y2: y2 + dy, "stroke-width": width,
        class: `${edge.type}${edge.from && edge.to ? " among" : ""}`,
      });
    });
  const nodes = graph.nodes.map((node, number) => {
    const [x, y] = positionOf(number);
    const description = `${titleOf(node)}${factsOf(node) ? `, ${factsOf(node)}` : ""}`;
    const link = make("a", { svg: 1, "aria-label": description, class: number ? "" : "centre" });
    link.append(make("title", { svg: 1 }, description), make("circle", { svg: 1, cx: x, cy: y, r: number ? 7 : 11 }));
    if (number) {
      const degrees = (Math.atan2(y, x) * 180) / Math.PI, left = x < -1;
      const turned = left ? degrees + 180 : degrees;
      const label = titleOf(node).length > 16 ? `${titleOf(node).slice(0, 15)}…` : titleOf(node);
      link.append(
        make("text", {
          svg: 1, transform: `translate(${x} ${y}) rotate(${turned}) translate(${left ? -12 : 12} 4)`,
          "text-anchor": left ? "end" : "start",
        }, label),
      );
      link.setAttribute("tabindex", 0);
      link.setAttribute("role", "link");
      link.addEventListener("click", () => show(node.item_id));
      link.addEventListener("keydown", (event) => event.key === "Enter" && show(node.item_id));
    }
    return link;
  });
  $("ego").replaceChildren(...lines, ...nodes);
}

// Start

call("v1/version").then((served) => {
  for (const [stage, available] of Object.entries(served.stages)) $(`${stage}-field`).hidden = !available;
  $("stages").hidden = !Object.values(served.stages).some((available) => available);
  $("query-field").hidden = !served.stages.prerank;
  const when = new Date(served.as_of).toISOString().slice(0, 16).replace("T", " ");
  const ads = served.ads === null ? "every item is advertised" : `${served.ads_in_flight.toLocaleString()} active ads`;
  $("version").textContent = `${served.items.toLocaleString()} items, ${ads}; version ${served.version}, as of ${when} UTC`;
}).catch((error) => { message.textContent = error.message; });

const address = new URLSearchParams(location.search);
for (const field of ["item", "k", "country", "category", "expected", "query", "before"])
  if (address.get(field)) $(field).value = address.get(field);
for (const stage of ["session", "prerank"])
  if ((address.get("off") || "").split(" ").includes(stage)) $(stage).checked = false;
if (address.get("item")) ask();
else item.focus();
