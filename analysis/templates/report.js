"use strict";
// Sort a table by the column whose title is clicked; a second click turns the order round.
for (const head of document.querySelectorAll("th.sortable")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const ascending = head.dataset.order !== "ascending";
    for (const other of head.parentNode.children) delete other.dataset.order;
    head.dataset.order = ascending ? "ascending" : "descending";
    const value = (row) => {
      const text = row.cells[column].textContent.trim();
      const number = parseFloat(text);
      return text === "–" ? -Infinity : Number.isNaN(number) ? text : number;
    };
    const rows = [...body.rows].sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      const order = typeof one === "number" && typeof other === "number"
        ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
      return ascending ? order : -order;
    });
    body.append(...rows);
  });
}

// Show one thumbnail of a video, and move the cursor of its curves there.
function show(section, index) {
  const frames = JSON.parse(section.dataset.frames);
  const shown = JSON.parse(section.dataset.shown);
  const height = Number(section.dataset.height), width = Number(section.dataset.width);
  const columns = 10;
  const thumb = section.querySelector(".thumb");
  thumb.style.backgroundPosition = `${-width * (index % columns)}px ${-height * Math.floor(index / columns)}px`;
  const t = shown[index];
  section.querySelector(".caption").textContent = `frame ${frames[t]} (${t + 1} of ${frames.length})`;
  const cursor = section.querySelector(".cursor");
  const x = 40 + 640 * t / Math.max(frames.length - 1, 1);
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
  section.querySelector("input").value = index;
}

function nearest(section, t) {
  const shown = JSON.parse(section.dataset.shown);
  let best = 0;
  shown.forEach((other, index) => { if (Math.abs(other - t) < Math.abs(shown[best] - t)) best = index; });
  return best;
}

for (const section of document.querySelectorAll("section.video")) {
  section.querySelector("input").addEventListener("input", (event) => show(section, Number(event.target.value)));
  const curves = section.querySelector("svg.curves");
  curves.addEventListener("click", (event) => {
    const box = curves.getBoundingClientRect();
    const x = (event.clientX - box.left) * 700 / box.width;
    const frames = JSON.parse(section.dataset.frames).length;
    show(section, nearest(section, (x - 40) / 640 * (frames - 1)));
  });
  show(section, 0);
}

for (const link of document.querySelectorAll("a.jump")) {
  link.addEventListener("click", () => {
    const section = document.getElementById(`video-${link.dataset.video}`);
    show(section, nearest(section, Number(link.dataset.t)));
  });
}
