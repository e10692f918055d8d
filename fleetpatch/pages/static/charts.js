// Draws charts from tables that stay in the page. <canvas data-chart-of="ID of the table" data-columns="1 2"
// data-kind="area|line">: the first column has the labels, data-colour of a column's heading names its colour.
"use strict";
{
  const charts = [];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = (cell) => {
    const value = Number.parseFloat(cell.textContent);
    return Number.isNaN(value) ? null : value;
  };

  const readSeries = (table, columns, isArea) => columns.map((column) => {
    const heading = table.tHead.rows[0].cells[column];
    const line = colour(`--f-${heading.dataset.colour || "busy"}`);
    return {
      label: heading.textContent,
      data: [...table.tBodies[0].rows].map((row) => number(row.cells[column])),
      borderColor: line,
      backgroundColor: isArea ? `${line}66` : line,
      fill: isArea ? "stack" : false,
      borderWidth: 2,
      pointRadius: 0,
      pointHitRadius: 8,
      tension: 0,
    };
  });

  const draw = (canvas) => {
    const table = document.getElementById(canvas.dataset.chartOf);
    const isArea = canvas.dataset.kind === "area";
    const columns = canvas.dataset.columns.split(" ").map(Number);
    const soft = colour("--soft");
    const ticks = { color: soft, maxRotation: 0, autoSkipPadding: 24, font: { size: 11 } };
    canvas.hidden = false;
    return new Chart(canvas, {
      type: "line",
      data: {
        labels: [...table.tBodies[0].rows].map((row) => row.cells[0].textContent),
        datasets: readSeries(table, columns, isArea),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        plugins: {
          legend: { position: "bottom", display: columns.length > 1, labels: { color: soft, boxWidth: 10, boxHeight: 10, font: { size: 12 } } },
        },
        scales: {
          x: { ticks: { ...ticks, maxTicksLimit: 6 }, grid: { display: false }, border: { color: colour("--line") } },
          y: { stacked: isArea, beginAtZero: true, ticks: { ...ticks, precision: 0, maxTicksLimit: 5 }, grid: { color: colour("--line") }, border: { display: false } },
        },
      },
    });
  };

  const drawAll = () => {
    while (charts.length) charts.pop().destroy();
    for (const canvas of document.querySelectorAll("canvas[data-chart-of]")) {
      const table = document.getElementById(canvas.dataset.chartOf);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${canvas.closest("figure").querySelector("figcaption").textContent}: the table below has the numbers`);
      if (table && table.tHead) charts.push(draw(canvas));
    }
  };

  if (window.Chart) {
    drawAll();
    // With the charts the table is a second view. Without JavaScript it stays open.
    for (const details of document.querySelectorAll("details[data-folded-by-charts]")) details.open = false;
    document.addEventListener("themechange", drawAll);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  }
}
