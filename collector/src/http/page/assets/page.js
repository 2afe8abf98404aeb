// The page: asks the collector every few seconds and shows what it says.

import { get, inTurn } from "./ask.js";
import * as charts from "./charts.js";
import { element, label, name, plain, scaled, time, whole } from "./shown.js";

const NOW_EVERY_MS = 2000;
const STORED_EVERY_MS = 15000;
const LIST_ROWS = 10;
const SANKEY_ROWS = 25;
const FIELDS = ["exporter", "interface", "address", "port", "protocol", "as"];

const byId = (id) => document.getElementById(id);
const form = byId("question");
const texts = {};
let language = "en";
// The latest answers, to be shown again in another language.
const shown = { now: null, stored: {} };
let isAway = false;
let round = 0;

/** The text of `key` in the language, `{places}` filled in. */
function t(key, values = {}) {
  const text = texts[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, place) => values[place] ?? "");
}

/** "drop.reason" and the like, whose second half is the collector's word. */
function word(prefix, value) {
  const key = prefix + value;
  return texts[language][key] ?? String(value);
}

// --- language

async function load(code) {
  texts[code] ??= await get(`/page/${code}.json`);
}

async function speak(code) {
  await load(code);
  language = code;
  document.documentElement.lang = code;
  for (const place of document.querySelectorAll("[data-text]")) place.textContent = t(place.dataset.text);
  for (const place of document.querySelectorAll("[data-label]")) place.setAttribute("aria-label", t(place.dataset.label));
  for (const place of document.querySelectorAll("[data-placeholder]")) place.placeholder = t(place.dataset.placeholder);
  for (const button of byId("languages").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === code));
  }
  if (shown.now) showNow(shown.now);
  for (const [topic, answer] of Object.entries(shown.stored)) show(topic, answer);
}

function chosenLanguage() {
  if (new URLSearchParams(location.search).has("lang")) return document.documentElement.lang;
  return localStorage.getItem("language") ?? document.documentElement.lang;
}

// --- tables

/** A table: `columns` of `[title key, class, cell of a row]`. */
function table(columns, rows, caption) {
  if (rows.length === 0) return element("p", { class: "empty" }, t("table.empty"));
  const titles = columns.map(([key, kind]) => element("th", { scope: "col", class: kind }, t(key)));
  const lines = rows.map((row) =>
    element("tr", {}, ...columns.map(([, kind, cell]) => element("td", { class: kind }, cell(row)))));
  const made = element("table", { "aria-label": caption },
    element("thead", {}, element("tr", {}, ...titles)), element("tbody", {}, ...lines));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

function replace(place, ...parts) {
  const title = place.querySelector("h3");
  place.replaceChildren(...(title ? [title] : []), ...parts);
}

/** An address with its name; it filters by itself. */
function host(address, known, field = "address") {
  const button = element("button", {
    type: "button",
    class: "link",
    "aria-label": t("filter.by", { what: plain(address) }),
    onclick: () => choose({ [field]: address }),
  }, address);
  const sub = known ? element("span", { class: "sub" }, name(known)) : null;
  return element("div", {}, button, sub);
}

function service(text) {
  return text === "" ? t("service.unknown") : text;
}

const rate = (bytes, seconds) => scaled((bytes * 8) / seconds, "bit/s");

function share(part, all) {
  const percent = all > 0 ? (part / all) * 100 : 0;
  const text = `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
  return element("div", {}, element("meter", { min: 0, max: 100, value: percent.toFixed(2), "aria-label": text }), ` ${text}`);
}

// --- now

function showNow(now) {
  shown.now = now;
  const state = byId("state");
  state.textContent = isAway ? t("state.away") : now.unready ? t("state.unready", { why: now.unready }) : t("state.ready", { uptime: uptime(now.uptime_s) });
  state.className = isAway || now.unready ? "bad" : "";
  byId("version").textContent = `Flowsluice ${now.version}`;
  showTiles(now);
  const { times_ms: times, flows_per_s, datagrams_per_s, drops_per_s } = now.rates;
  charts.live("live-chart", language, times, [
    { name: t("tile.flows"), values: flows_per_s },
    { name: t("tile.datagrams"), values: datagrams_per_s },
    { name: t("tile.drops"), values: drops_per_s },
  ]);
  showExporters(now);
  showLedger(now.ledger);
  const isNull = now.store.kind === "null";
  byId("notice").hidden = !isNull;
  byId("notice").textContent = isNull ? t("notice.null_store") : "";
  byId("stored").hidden = isNull;
}

/** The mean of the last ten seconds. */
function latest(values) {
  const last = values.slice(-5);
  return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
}

function showTiles({ rates, ledger, exporters }) {
  const lost = Object.values(ledger.dropped).reduce((sum, count) => sum + count, 0) + ledger.dropped_by_kernel;
  const tiles = [
    ["tile.flows", scaled(latest(rates.flows_per_s), "/s")],
    ["tile.datagrams", scaled(latest(rates.datagrams_per_s), "/s")],
    ["tile.received", scaled(latest(rates.bytes_per_s) * 8, "bit/s")],
    ["tile.stored", scaled(latest(rates.stored_per_s), "/s")],
    ["tile.waiting", whole(ledger.store.flows_in_flight + ledger.store.flows_spooled, language)],
    ["tile.drops", scaled(latest(rates.drops_per_s), "/s"), latest(rates.drops_per_s) > 0],
    ["tile.lost", whole(lost, language), lost > 0],
    ["tile.exporters", whole(exporters.known, language)],
  ];
  byId("tiles").replaceChildren(...tiles.map(([key, value, isBad]) =>
    element("div", { class: isBad ? "bad" : "" }, element("dt", {}, t(key)), element("dd", {}, value))));
}

function uptime(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  return days > 0 ? t("uptime.days", { days, hours }) : t("uptime.hours", { hours, minutes });
}

function showExporters({ exporters, now_ms }) {
  const age = (one) => {
    const seconds = Math.max(0, Math.round((now_ms - Date.parse(one.last_seen)) / 1000));
    return t("exporters.ago", { seconds: whole(seconds, language) });
  };
  const gaps = ({ sequence }) => {
    const all = sequence.received + sequence.lost;
    return all > 0 && sequence.lost > 0 ? `${whole(sequence.lost, language)} (${((sequence.lost / all) * 100).toFixed(2)} %)` : "0";
  };
  const columns = [
    ["exporters.address", "name", (one) => host(one.exporter_addr, one.source === one.exporter_addr ? "" : one.source, "exporter")],
    ["exporters.type", "", (one) => word("protocol.", one.flow_type)],
    ["exporters.domain", "number", (one) => one.observation_domain],
    ["exporters.rate", "number", (one) => scaled(one.flows_per_s, "/s")],
    ["exporters.flows", "number", (one) => whole(one.flows, language)],
    ["exporters.sampling", "number", (one) => (one.sampling_rate > 1 ? `1/${whole(one.sampling_rate, language)}` : t("exporters.unsampled"))],
    ["exporters.gaps", "number", gaps],
    ["exporters.seen", "number", age],
  ];
  const more = exporters.known - exporters.shown.length;
  const note = more > 0 ? element("p", { class: "empty" }, t("exporters.more", { count: whole(more, language) })) : "";
  replace(byId("exporters"), table(columns, exporters.shown, t("exporters.title")), note);
  const known = new Set(exporters.shown.map((one) => one.exporter_addr));
  byId("exporters-known").replaceChildren(...[...known].map((value) => element("option", { value })));
}

function showLedger(ledger) {
  const isEven = (one) => one.left === one.right;
  const columns = [
    ["ledger.quantity", "", (one) => word("equation.", one.name)],
    ["ledger.in", "number", (one) => whole(one.left, language)],
    ["ledger.accounted", "number", (one) => whole(one.right, language)],
    ["ledger.even", "", (one) => element("span", { class: isEven(one) ? "good" : "bad" }, t(isEven(one) ? "ledger.yes" : "ledger.no"))],
  ];
  const { flows_in_flight, flows_spooled, flows_lost } = ledger.store;
  const waiting = t("ledger.waiting", {
    flight: whole(flows_in_flight, language), spool: whole(flows_spooled, language), lost: whole(flows_lost, language),
  });
  replace(byId("equations"), table(columns, ledger.equations, t("ledger.title")), element("p", { class: "empty" }, waiting));
  const drops = Object.entries({ socket_buffer: ledger.dropped_by_kernel, ...ledger.dropped }).filter(([, count]) => count > 0);
  const reasons = [
    ["drops.count", "number", ([, count]) => whole(count, language)],
    ["drops.reason", "", ([reason]) => element("div", {}, element("code", {}, reason), element("br"), word("drop.", reason))],
  ];
  replace(byId("drops"), drops.length === 0 ? element("p", { class: "good" }, t("drops.none")) : table(reasons, drops, t("drops.title")));
}

// --- what is stored

function show(topic, answer) {
  shown.stored[topic] = answer;
  const place = document.querySelector(`[data-topic="${topic}"]`);
  const views = { traffic: showTraffic, talkers: showTalkers, services: showServices, conversations: showConversations, interfaces: showInterfaces };
  views[topic](answer, place);
}

function showTraffic(answer) {
  const { from, seconds, step_s, series } = answer;
  const count = series.length ? series[0].bytes.length : 0;
  const times = Array.from({ length: count }, (_, index) => (from + index * step_s) * 1000);
  // The last step may have begun a moment ago.
  const length = (index) => Math.max(Math.min(step_s, seconds - index * step_s), 1);
  charts.traffic("traffic-chart", language, times, series.map((one) => ({
    name: one.rest ? t("service.rest") : label(service(one.service)),
    rest: one.rest,
    rates: one.bytes.map((bytes, index) => (bytes * 8) / length(index)),
  })));
  const rows = t(`rows.${answer.rows_of}`);
  const end = Math.min(answer.to, answer.from + seconds);
  byId("told").textContent = t("told.range", {
    from: time(from * 1000, language, true), to: time(end * 1000, language, true), rows,
  });
}

function showTalkers({ talkers, seconds }, place) {
  const columns = [
    ["column.host", "name", (one) => host(one.address, one.name)],
    ["column.sent", "number", (one) => rate(one.bytes_sent, seconds)],
    ["column.received", "number", (one) => rate(one.bytes_received, seconds)],
    ["column.flows", "number", (one) => whole(one.flows, language)],
    ["column.share", "share", (one) => share(one.bytes_sent + one.bytes_received, one.bytes_of_all)],
  ];
  replace(place, table(columns, talkers, t("talkers.title")));
}

function showServices({ services, seconds }, place) {
  const columns = [
    ["column.service", "name", (one) => name(service(one.service))],
    ["column.rate", "number", (one) => rate(one.bytes, seconds)],
    ["column.packets", "number", (one) => scaled(one.packets / seconds, "/s")],
    ["column.flows", "number", (one) => whole(one.flows, language)],
    ["column.share", "share", (one) => share(one.bytes, one.bytes_of_all)],
  ];
  replace(place, table(columns, services, t("services.title")));
}

function showConversations({ conversations, seconds }, place) {
  const columns = [
    ["column.client", "name", (one) => host(one.client, one.client_name)],
    ["column.server", "name", (one) => host(one.server, one.server_name)],
    ["column.service", "", (one) => name(service(one.service))],
    ["column.rate", "number", (one) => rate(one.bytes, seconds)],
    ["column.bytes", "number", (one) => scaled(one.bytes, "B")],
    ["column.flows", "number", (one) => whole(one.flows, language)],
    ["column.share", "share", (one) => share(one.bytes, one.bytes_of_all)],
  ];
  replace(place, table(columns, conversations.slice(0, LIST_ROWS), t("conversations.title")));
  charts.sankey("sankey-chart", conversations.map((one) => ({
    client: one.client_name || one.client,
    service: service(one.service),
    server: one.server_name || one.server,
    rate: (one.bytes * 8) / seconds,
  })));
}

function showInterfaces({ interfaces, seconds }, place) {
  const used = ({ bytes_in, bytes_out, speed }) =>
    (speed > 0 ? `${((Math.max(bytes_in, bytes_out) * 800) / seconds / speed).toFixed(1)} %` : "");
  const named = (one) => {
    const title = element("button", {
      type: "button",
      class: "link",
      "aria-label": t("filter.by", { what: `${one.exporter} ${one.interface}` }),
      onclick: () => choose({ exporter: one.exporter, interface: String(one.interface) }),
    }, one.name ? name(one.name) : String(one.interface));
    const sub = one.description ? element("span", { class: "sub" }, name(one.description)) : null;
    return element("div", {}, title, sub);
  };
  const columns = [
    ["column.exporter", "name", (one) => host(one.exporter, one.exporter_name, "exporter")],
    ["column.interface", "name", named],
    ["column.number", "number", (one) => one.interface],
    ["column.in", "number", (one) => rate(one.bytes_in, seconds)],
    ["column.out", "number", (one) => rate(one.bytes_out, seconds)],
    ["column.used", "number", used],
    ["column.flows", "number", (one) => whole(one.flows, language)],
  ];
  replace(place, table(columns, interfaces, t("interfaces.title")));
}

// --- the question

/** The form as the collector's query; what is empty is left out. */
function asked() {
  const values = new URLSearchParams();
  const chosen = form.elements.last.value;
  if (chosen !== "") values.set("last", chosen);
  else {
    for (const field of ["from", "to"]) {
      const ms = new Date(form.elements[field].value).getTime();
      if (Number.isFinite(ms)) values.set(field, String(Math.floor(ms / 1000)));
    }
  }
  for (const field of FIELDS) {
    const value = form.elements[field].value.trim();
    if (value !== "") values.set(field, value);
  }
  return values;
}

function choose(values) {
  for (const [field, value] of Object.entries(values)) form.elements[field].value = value;
  apply();
}

function apply() {
  const values = asked();
  const own = new URLSearchParams(location.search);
  if (own.has("lang")) values.set("lang", own.get("lang"));
  history.replaceState(null, "", `?${values}`);
  askStored();
}

function restore() {
  const own = new URLSearchParams(location.search);
  for (const field of FIELDS) form.elements[field].value = own.get(field) ?? "";
  const has = (value) => [...form.elements.last.options].some((option) => option.value === value);
  if (own.has("from") && own.has("to")) {
    form.elements.last.value = "";
    for (const field of ["from", "to"]) form.elements[field].value = local(Number(own.get(field)) * 1000);
  } else if (has(own.get("last"))) form.elements.last.value = own.get("last");
  showCustom();
}

/** As an input of the kind datetime-local has it. */
function local(ms) {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * 60000);
  return Number.isFinite(ms) ? date.toISOString().slice(0, 19) : "";
}

function showCustom() {
  const isCustom = form.elements.last.value === "";
  for (const place of form.querySelectorAll(".custom")) place.hidden = !isCustom;
  if (isCustom && form.elements.from.value === "") {
    form.elements.from.value = local(Date.now() - 3600000);
    form.elements.to.value = local(Date.now());
  }
}

function complain(error) {
  const values = { field: "", hours: Math.round((error.most_s ?? 0) / 3600), text: error.message };
  if (error.field) {
    values.field = word("field.", error.field);
    form.elements[error.field]?.setAttribute("aria-invalid", "true");
  }
  const key = `error.${error.code}`;
  byId("fault").textContent = t(texts[language][key] ? key : "error.other", values);
  byId("fault").hidden = false;
}

async function askStored() {
  if (shown.now?.store.kind === "null") return;
  round += 1;
  const mine = round;
  const isWanted = () => mine === round;
  const query = asked();
  const complaints = [];
  for (const topic of ["traffic", "talkers", "services", "conversations", "interfaces"]) {
    query.set("limit", String(topic === "conversations" ? SANKEY_ROWS : LIST_ROWS));
    try {
      const answer = await inTurn(`/api/v1/${topic}?${query}`, isWanted);
      if (answer && isWanted()) show(topic, answer);
    } catch (error) {
      complaints.push(error);
      if (["field", "not_ready", "away", "password"].includes(error.code)) break;
    }
  }
  if (!isWanted()) return;
  byId("fault").hidden = true;
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  if (complaints.length > 0) complain(complaints[0]);
  document.body.dataset.round = String(mine);
}

async function askNow() {
  try {
    const now = await get("/api/v1/now");
    isAway = false;
    showNow(now);
  } catch {
    isAway = true;
    if (shown.now) showNow(shown.now);
    else byId("state").textContent = t("state.away");
  }
}

/** Does `work` again and again, while somebody looks; a tenth of the time at most, so that a store that is slow gets rest. */
async function repeat(work, everyMs, isDue = () => true) {
  let waitMs = everyMs;
  for (;;) {
    await new Promise((done) => setTimeout(done, waitMs));
    const began = performance.now();
    if (!document.hidden && isDue()) await work();
    waitMs = Math.max(everyMs, 9 * (performance.now() - began));
  }
}

// --- start

form.addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
});
form.elements.last.addEventListener("change", () => {
  showCustom();
  if (form.elements.last.value !== "") apply();
});
byId("clear").addEventListener("click", () => choose(Object.fromEntries(FIELDS.map((field) => [field, ""]))));
byId("languages").addEventListener("click", (event) => {
  const code = event.target.dataset.language;
  if (!code) return;
  localStorage.setItem("language", code);
  const own = new URLSearchParams(location.search);
  own.delete("lang");
  history.replaceState(null, "", `?${own}`);
  speak(code);
});

restore();
await load("en");
await speak(chosenLanguage() === "ja" ? "ja" : "en");
await askNow();
repeat(askNow, NOW_EVERY_MS);
const isLive = () => byId("follow").checked && form.elements.last.value !== "";
await askStored();
repeat(askStored, STORED_EVERY_MS, isLive);
