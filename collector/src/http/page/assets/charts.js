// The charts. Tooltips are drawn as text on the canvas: no name becomes markup.

import { label, scaled, time } from "./shown.js";

// Told apart by who sees few colours (Okabe and Ito), dark enough and light enough for both themes.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7a5cc2"];
const REST = "#8a949e";

const charts = new Map();

/** The chart in the element `id`; drawn anew when its size or the theme changes. */
function draw(id, option) {
  const place = document.getElementById(id);
  let known = charts.get(id);
  if (!known) {
    const chart = globalThis.echarts.init(place, null, { renderer: "canvas" });
    known = { chart, show: () => chart.setOption(known.option(colours(), chart.getWidth()), { notMerge: true }) };
    charts.set(id, known);
    new ResizeObserver(() => {
      chart.resize();
      known.show();
    }).observe(place);
  }
  known.option = option;
  known.show();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const { show } of charts.values()) show();
});

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--text"), quiet: of("--quiet"), line: of("--line"), card: of("--card") };
}

function common({ text, line, card }) {
  return {
    animation: false,
    textStyle: { color: text, fontFamily: getComputedStyle(document.body).fontFamily },
    tooltip: {
      renderMode: "richText",
      confine: true,
      backgroundColor: card,
      borderColor: line,
      textStyle: { color: text, fontSize: 12 },
    },
  };
}

function overTime(theme, language, unit, span) {
  const { quiet, line } = theme;
  const withDate = span > 36 * 3600 * 1000;
  const shared = common(theme);
  return {
    ...shared,
    grid: { left: 12, right: 16, top: 36, bottom: 6, containLabel: true },
    legend: { type: "scroll", top: 0, left: 0, textStyle: { color: theme.text }, pageTextStyle: { color: quiet }, pageIconColor: quiet },
    xAxis: {
      type: "time",
      axisLabel: { color: quiet, hideOverlap: true, formatter: (ms) => time(ms, language, withDate) },
      axisLine: { lineStyle: { color: line } },
    },
    yAxis: {
      type: "value",
      axisLabel: { color: quiet, formatter: (value) => scaled(value, unit) },
      splitLine: { lineStyle: { color: line } },
    },
    tooltip: {
      ...shared.tooltip,
      trigger: "axis",
      formatter: (points) => {
        const lines = points
          .filter((point) => point.value[1] > 0)
          .sort((a, b) => b.value[1] - a.value[1])
          .map((point) => `${point.seriesName}: ${scaled(point.value[1], unit)}`);
        return [time(points[0].value[0], language, true), ...lines].join("\n");
      },
    },
  };
}

/** Rates of the last minutes: `lines` of `{name, values}` at `times`. */
export function live(id, language, times, lines) {
  draw(id, (theme) => ({
    ...overTime(theme, language, "/s", 0),
    color: COLOURS,
    series: lines.map(({ name, values }) => ({
      type: "line",
      name,
      showSymbol: false,
      lineStyle: { width: 2 },
      data: values.map((value, index) => [times[index], value]),
    })),
  }));
}

/** Octets a step as bit/s, one above the other: `layers` of `{name, rest, rates}`. */
export function traffic(id, language, times, layers) {
  const span = times.length > 1 ? times[times.length - 1] - times[0] : 0;
  draw(id, (theme) => ({
    ...overTime(theme, language, "bit/s", span),
    series: layers.map(({ name, rest, rates }, index) => {
      const color = rest ? REST : COLOURS[index % COLOURS.length];
      return {
        type: "line",
        name,
        stack: "all",
        showSymbol: times.length < 3,
        color,
        lineStyle: { width: 1 },
        areaStyle: { opacity: 0.75 },
        data: rates.map((value, at) => [times[at], value]),
      };
    }),
  }));
}

/** Who asks whom for what: `links` of `{client, service, server, rate}`, all of them labels. */
export function sankey(id, links) {
  const nodes = new Map();
  const edges = new Map();
  const node = (side, text, depth) => {
    const key = `${side} ${text}`;
    nodes.set(key, { name: key, depth, text: label(text, 34) });
    return key;
  };
  const edge = (source, target, value) => {
    const key = JSON.stringify([source, target]);
    const known = edges.get(key) || { source, target, value: 0 };
    known.value += value;
    edges.set(key, known);
  };
  for (const { client, service, server, rate } of links) {
    const middle = node("=", service, 1);
    edge(node("<", client, 0), middle, rate);
    edge(middle, node(">", server, 2), rate);
  }
  const text = (key) => nodes.get(key).text;
  draw(id, (theme, width) => {
    const shared = common(theme);
    const right = Math.min(250, Math.round(width * 0.33));
    return {
      ...shared,
      tooltip: {
        ...shared.tooltip,
        trigger: "item",
        formatter: ({ dataType, data, name, value }) => {
          const what = dataType === "edge" ? `${text(data.source)} \u2192 ${text(data.target)}` : text(name);
          return `${what}: ${scaled(value, "bit/s")}`;
        },
      },
      series: [{
        type: "sankey",
        left: 8,
        right,
        top: 8,
        bottom: 8,
        nodeGap: 10,
        nodeWidth: 14,
        draggable: false,
        layoutIterations: 48,
        emphasis: { focus: "adjacency" },
        color: COLOURS,
        lineStyle: { color: "source", opacity: 0.32 },
        label: { color: theme.text, fontSize: 12, width: right - 14, overflow: "truncate", formatter: ({ name }) => text(name) },
        labelLayout: { hideOverlap: true },
        data: [...nodes.values()].map((one, index) => ({
          name: one.name,
          depth: one.depth,
          itemStyle: { color: COLOURS[index % COLOURS.length] },
        })),
        links: [...edges.values()].filter((one) => one.value > 0),
      }],
    };
  });
}
