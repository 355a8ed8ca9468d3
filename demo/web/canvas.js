// The frame, and what a person draws in it. props.value comes from the server (demo/web/handlers.py):
// {image, plain, width, height, frame, version, objects: [{id, colour, label}], running}; empty before a
// video. `plain` is the frame without masks, '' while they are tracked. There may be `choose`, the object
// to choose.
// What is drawn goes to the server as an event: {frame, object, tool, radius, points}, the points in
// fractions of the frame.
const LONGEST = 960;
const canvas = element.querySelector("canvas");
const context = canvas.getContext("2d");
const hide = element.querySelector(".plain");
const slider = element.querySelector(".radius");
let picture = null; // the image that can be seen
let tool = "box";
let object = 1;
let points = null; // of the stroke that is being drawn
let target = {}; // its frame, object and tool
let shown = {}; // the value whose image can be seen

function show() {
  const value = props.value || {};
  if (!value.image) return;
  if (shown.version !== value.version) object = value.choose ?? object;
  if (value.running) hide.checked = false;
  const next = new Image();
  next.onload = () => {
    if (shown.version > value.version) return; // a newer image was faster
    const scale = LONGEST / Math.max(value.width, value.height);
    picture = next;
    shown = value;
    canvas.width = Math.round(value.width * scale);
    canvas.height = Math.round(value.height * scale);
    Object.assign(canvas.dataset, { frame: value.frame, version: value.version });
    element.querySelector(".drawing").classList.toggle("running", value.running);
    listObjects();
    render();
  };
  next.src = (hide.checked && value.plain) || value.image;
}

function listObjects() {
  const list = element.querySelector(".objects");
  list.replaceChildren();
  if (!shown.objects.some((one) => one.id === object)) object = shown.objects.at(-1).id;
  for (const one of shown.objects) {
    const button = document.createElement("button");
    button.textContent = one.label;
    button.dataset.object = one.id;
    button.style.setProperty("--colour", one.colour);
    button.onclick = () => choose(tool, one.id);
    list.append(button);
  }
  choose(tool, object);
}

function choose(newTool, newObject) {
  tool = newTool;
  object = newObject;
  for (const button of element.querySelectorAll("[data-tool], [data-object]")) {
    const { tool: itsTool, object: itsObject } = button.dataset;
    button.classList.toggle("chosen", itsTool === tool || Number(itsObject) === object);
  }
}

function colour() {
  if (tool === "inside") return "#22c55e";
  if (tool === "outside" || tool === "erase") return "#ef4444";
  return shown.objects.find((one) => one.id === object).colour;
}

function radius() {
  // In pixels of the frame; the slider counts in 1/960 of the longer side.
  return (Number(slider.value) * Math.max(shown.width, shown.height)) / LONGEST;
}

function render() {
  if (!picture) return;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (!points) return;
  const at = points.map(([x, y]) => [x * canvas.width, y * canvas.height]);
  const [first, last] = [at[0], at[at.length - 1]];
  context.strokeStyle = colour();
  if (tool === "box") {
    context.lineWidth = 2;
    context.strokeRect(first[0], first[1], last[0] - first[0], last[1] - first[1]);
    return;
  }
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...first);
  for (const point of at) context.lineTo(...point);
  context.lineTo(last[0] + 0.1, last[1]); // a click is a dot
  for (const [style, edge] of [["#ffffff", 3], [colour(), 0]]) { // to be seen on any colour
    context.strokeStyle = style;
    context.lineWidth = 2 * Number(slider.value) + edge;
    context.stroke();
  }
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const inside = (value) => Math.min(1, Math.max(0, value));
  return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!shown.image || shown.running || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  target = { frame: shown.frame, object, tool }; // another frame may come while the person draws
  points = [place(event)];
  render();
});
canvas.addEventListener("pointermove", (event) => {
  if (!points) return;
  points.push(place(event));
  render();
});
canvas.addEventListener("pointerup", (event) => {
  if (!points) return;
  points.push(place(event));
  hide.checked = false; // to see what comes of it
  trigger("select", { ...target, radius: radius(), points });
  points = null; // the stroke stays to be seen until the new image comes
});
canvas.addEventListener("pointercancel", () => {
  points = null;
  render();
});
for (const button of element.querySelectorAll("[data-tool]")) {
  button.onclick = () => choose(button.dataset.tool, object);
}
element.querySelector(".undo").onclick = () => trigger("undo", {});
element.querySelector(".remove").onclick = () => trigger("delete", { frame: shown.frame, object });
hide.onchange = show;
choose(tool, object);
watch("value", show);
show();
