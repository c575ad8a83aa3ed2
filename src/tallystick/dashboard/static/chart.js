"use strict";
// Draws the chart from whole numbers; every text comes from the server and goes to the page as text.
(() => {
  const drawn = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const paper = matchMedia("print");

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const colourOf = (place) => colour(place < 0 ? "sx" : `s${place}`);

  function tip(data, at) {
    const box = document.createElement("div");
    box.className = "tip";
    const head = document.createElement("p");
    head.textContent = data.sums[at] ? `${data.buckets[at]}: ${data.sums[at]}` : data.buckets[at];
    const list = document.createElement("ul");
    const rows = data.series.map((each) => [colourOf(each.place), each.name, each.texts[at]]);
    if (data.expected) rows.push([colour("line"), "still to come", data.expected.texts[at]]);
    for (const [fill, name, text] of rows.filter((row) => row[2])) {
      const item = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = fill;
      const [label, amount] = [name, text].map((words) => Object.assign(document.createElement("span"), { textContent: words }));
      item.append(mark, label, amount);
      list.append(item);
    }
    box.append(head, list);
    return box;
  }

  function bars(data) {
    const shared = { type: "bar", stack: "all", barCategoryGap: "22%", barGap: "-100%", animation: !still.matches && !paper.matches, animationDuration: 200 };
    const edge = { borderColor: colour("paper"), borderWidth: data.buckets.length > 120 ? 0 : 0.5 };
    const series = data.series.map((each) => ({
      ...shared, name: each.name, data: each.heights, itemStyle: { color: colourOf(each.place), ...edge }, emphasis: { disabled: true },
    }));
    if (data.expected) {
      const hatch = { symbol: "rect", color: colour("dim"), dashArrayX: [1, 0], dashArrayY: [1, 5], rotation: -Math.PI / 4, symbolSize: 1 };
      series.push({
        ...shared, name: "still to come", data: data.expected.heights.map((height) => height || null), emphasis: { disabled: true },
        itemStyle: { color: "transparent", borderColor: colour("dim"), borderWidth: 0.5, borderType: "dashed", decal: hatch },
      });
    }
    return series;
  }

  function lines(data) {
    return {
      type: "line", data: [], silent: true, animation: false,
      markLine: {
        silent: true, symbol: "none", animation: false,
        lineStyle: { color: colour("over"), width: 1.5, type: "solid" },
        label: { position: "insideStartTop", color: colour("over"), fontWeight: 600, formatter: (each) => data.lines[each.dataIndex].name },
        data: data.lines.map((line) => ({ yAxis: line.height })),
      },
    };
  }

  function option(data, width) {
    const step = data.height / (data.ticks.length - 1);
    const text = { color: colour("dim"), fontFamily: getComputedStyle(document.body).fontFamily, fontSize: 12 };
    const series = bars(data);
    if (data.today !== null && data.buckets.length > 1) {
      series.unshift({
        type: "bar", stack: "today", barGap: "-100%", barCategoryGap: "22%", silent: true, animation: false, z: 0, emphasis: { disabled: true },
        data: data.buckets.map((_, at) => (at === data.today ? data.height : 0)), itemStyle: { color: colour("today") }, tooltip: { show: false },
      });
    }
    if (data.lines.length) series.push(lines(data));
    return {
      aria: { enabled: false, decal: { show: false } },
      textStyle: text,
      grid: { left: 4, right: 8, top: 18, bottom: 4, containLabel: true },
      xAxis: {
        type: "category", data: data.names, axisTick: { show: false }, axisLine: { lineStyle: { color: colour("line") } },
        axisLabel: {
          ...text, hideOverlap: true, margin: 10,
          formatter: (name, at) => (at === data.today ? `{today|${name}}` : name),
          rich: { today: { color: colour("accent"), fontWeight: 700, fontSize: 12 } },
        },
      },
      yAxis: {
        type: "value", min: 0, max: data.height, interval: step, splitLine: { lineStyle: { color: colour("grid") } },
        axisLabel: { ...text, formatter: (_, at) => data.ticks[at] ?? "" },
      },
      tooltip: {
        trigger: "axis", axisPointer: { type: "shadow", shadowStyle: { color: colour("today") } }, confine: true, transitionDuration: 0,
        backgroundColor: colour("paper"), borderColor: colour("line"), padding: [8, 12],
        formatter: (found) => tip(data, found[0].dataIndex),
      },
      series,
    };
  }

  function draw() {
    for (const [element, chart] of drawn) {
      if (!element.isConnected || !element.firstChild) { chart.dispose(); drawn.delete(element); }
    }
    for (const element of document.querySelectorAll("[data-chart]")) {
      const chart = drawn.get(element) ?? echarts.init(element, null, { renderer: "svg" });
      drawn.set(element, chart);
      chart.setOption(option(JSON.parse(element.dataset.chart), element.clientWidth), true);
      element.dataset.drawn = "true";
    }
  }

  dark.addEventListener("change", draw);
  addEventListener("resize", () => drawn.forEach((chart) => chart.resize()));
  // Paper has its own width, and is light whatever the screen is.
  paper.addEventListener("change", () => { draw(); drawn.forEach((chart) => chart.resize()); });
  document.addEventListener("htmx:after:swap", draw);
  draw();
})();
