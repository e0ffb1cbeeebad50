// Pictures of what rows carry: data-rates="1,2,3" (bytes a second, one each second, the newest last) is drawn into the
// element that data-chart names, data-pieces="100,50,0" (percent of equal parts) into the canvas that data-map names.
"use strict";
(() => {
  const UNITS = ["B", "kB", "MB", "GB", "TB"], HEIGHT = 150, MAP_HEIGHT = 26;
  const charts = new Map();
  const numbers = new Intl.NumberFormat(window.coterie.language, { maximumFractionDigits: 1 });

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function size(count) {
    let unit = 0;
    while (count >= 1000 && unit < UNITS.length - 1) { count /= 1000; unit++; }
    return `${numbers.format(count)} ${UNITS[unit]}`;
  }
  const listOf = (text) => (text ? text.split(",").map(Number) : []);

  function chart(element) {
    const target = document.getElementById(element.dataset.chart);
    if (!target) return;
    const rates = listOf(element.dataset.rates);
    const data = [rates.map((_, index) => index - rates.length + 1), rates];
    const known = charts.get(target);
    if (known) {
      known.setData(data);
      return;
    }
    if (rates.length < 2 || !target.clientWidth) return;
    const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false } };
    const made = new uPlot({
      width: target.clientWidth, height: HEIGHT, legend: { show: false }, cursor: { show: false }, padding: [10, 8, 0, 0],
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1000)] } },
      axes: [
        { ...axis, size: 26, values: (_, ticks) => ticks.map((at) => (at ? `${numbers.format(at)} s` : "0")) },
        { ...axis, size: 72, values: (_, ticks) => ticks.map((at) => `${size(at)}/s`) },
      ],
      series: [{}, { stroke: () => colour("--accent"), fill: () => colour("--soft"), width: 2, points: { show: false } }],
    }, data, target);
    charts.set(target, made);
    new ResizeObserver(() => made.setSize({ width: target.clientWidth, height: HEIGHT })).observe(target);
  }

  function map(element) {
    const canvas = document.getElementById(element.dataset.map);
    if (!canvas) return;
    const parts = listOf(element.dataset.pieces), scale = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = MAP_HEIGHT * scale;
    const paint = canvas.getContext("2d");
    paint.fillStyle = colour("--sunk");
    paint.fillRect(0, 0, canvas.width, canvas.height);
    paint.fillStyle = colour("--accent");
    parts.forEach((percent, index) => {
      const left = Math.round(index * canvas.width / parts.length);
      const right = Math.round((index + 1) * canvas.width / parts.length);
      paint.globalAlpha = percent / 100;
      paint.fillRect(left, 0, Math.max(right - left, 1), canvas.height);
    });
  }

  function draw() {
    document.querySelectorAll("[data-rates]").forEach(chart);
    document.querySelectorAll("[data-pieces]").forEach(map);
  }
  function redraw() {
    for (const made of charts.values()) made.redraw();
    draw();
  }
  new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("resize", draw, { passive: true });
  document.querySelectorAll("[data-live]").forEach((list) => window.coterie.onRows(list.dataset.live, draw));
  draw();
})();
