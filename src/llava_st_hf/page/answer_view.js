// Draws the answer over the clip. `element` is the component, `props.value` what make_view made.
// Nothing of an answer is ever set as HTML: texts go through textContent.

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function seconds(value) {
  return value.toFixed(2) + " s";
}

function sure(confidence) {
  return confidence === null || confidence === undefined ? "" : " (" + Math.round(100 * confidence) + " % sure)";
}

// The boxes of a tube that stand for a moment: those of the nearest named time, held for half of the usual gap.
function boxesAt(tube, moment) {
  let nearest = null;
  for (const entry of tube.boxes) {
    if (nearest === null || Math.abs(entry[0] - moment) < Math.abs(nearest[0] - moment)) nearest = entry;
  }
  const gaps = tube.boxes.slice(1).map((entry, index) => entry[0] - tube.boxes[index][0]);
  const held = gaps.length ? Math.max(...gaps) / 2 + 0.02 : 0.5;
  return nearest !== null && Math.abs(nearest[0] - moment) <= held ? nearest : null;
}

// A text cut with an ellipsis so that it fits into a width.
function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let letters = [...text];
  while (letters.length && pen.measureText(letters.join("") + "…").width > width) letters = letters.slice(0, -1);
  return letters.join("") + "…";
}

function show() {
  const view = element.querySelector(".llava-st-view");
  const value = props.value;
  view.replaceChildren();
  if (!value || !value.file) {
    view.append(make("p", "empty", "Choose a clip or an image, ask, and the answer is drawn over it here."));
    return;
  }

  const hidden = new Set();
  const stage = make("div", "stage");
  const isVideo = value.kind === "video";
  const media = make(isVideo ? "video" : "img");
  media.src = value.file;
  stage.style.setProperty("--ratio", value.width / value.height);
  if (isVideo) {
    media.setAttribute("aria-label", "the clip that was asked about");
    media.playsInline = true;
    media.preload = "auto";
  } else {
    media.alt = "the image that was asked about";
  }
  media.addEventListener("error", () => {
    stage.replaceChildren(make("p", "problem", "This browser cannot show it; the files below have the answer."));
  });
  const canvas = make("canvas");
  canvas.setAttribute("aria-hidden", "true");
  stage.append(media, canvas);

  const legend = make("div", "legend");
  const timeline = make("div", "timeline");
  const list = make("ol", "boxes");
  list.setAttribute("aria-label", "boxes of this frame");
  const player = make("div", "player");
  player.append(stage, timeline);
  view.append(player, legend, list);

  const now = () => (isVideo ? media.currentTime + value.first : 0);
  const length = Math.max(value.last - value.first, 1e-6);
  const share = (moment) => (100 * Math.min(Math.max((moment - value.first) / length, 0), 1)).toFixed(3) + "%";
  const cursor = make("div", "cursor");

  function visible() {
    const found = [];
    value.answers.forEach((answer, number) => {
      if (hidden.has(number)) return;
      for (const item of answer.boxes) found.push([answer, item.label, item.box]);
      for (const tube of answer.tubes) {
        const entry = boxesAt(tube, now());
        if (entry) found.push([answer, tube.label, entry.slice(1)]);
      }
    });
    return found;
  }

  function draw() {
    const width = media.clientWidth, height = media.clientHeight;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "14px system-ui, sans-serif";
    const rows = [], shown = visible(), taken = [];
    const edges = shown.map(([, , box]) => [
      (box[0] * width) / value.width, (box[1] * height) / value.height,
      (box[2] * width) / value.width, (box[3] * height) / value.height,
    ]);
    shown.forEach(([answer, label, box], number) => {
      const [left, top, right, bottom] = edges[number];
      pen.lineWidth = 5;
      pen.strokeStyle = "rgba(0, 0, 0, 0.6)";
      pen.strokeRect(left, top, right - left, bottom - top);
      pen.lineWidth = 3;
      pen.strokeStyle = answer.color;
      pen.strokeRect(left, top, right - left, bottom - top);
      const sides = ["left", "top", "right", "bottom"].map((name, side) => name + " " + Math.round(box[side]));
      const row = make("li", "", label + ": " + sides.join(", ") + " px" + sure(box[4]));
      row.style.setProperty("--color", answer.color);
      rows.push(row);
    });
    // Above all lines, and none over another where there is room. What is too small for words has them below it only.
    const named = width < 120 || height < 80 ? [] : shown;
    named.forEach(([answer, label, box], number) => {
      const [left, top, right, bottom] = edges[number], ending = sure(box[4]);
      const most = shown.length > 1 ? Math.min(width, Math.max(width / 2, right - left)) : width;
      const words = fit(pen, label, most - 16 - pen.measureText(ending).width) + ending;
      const room = pen.measureText(words).width + 16, x = Math.max(0, Math.min(left, width - room));
      const places = [top - 22, bottom + 2, top + 2, bottom - 22];
      for (let place = 0; place + 20 <= height; place += 21) places.push(place);
      const inside = places.filter((place) => place >= 0 && place + 20 <= height);
      const isFree = (place) =>
        taken.every(([from, other, to]) => to <= x || from >= x + room || Math.abs(other - place) >= 20);
      const y = inside.find(isFree) ?? inside[0] ?? 0;
      taken.push([x, y, x + room, y + 20]);
      pen.fillStyle = "rgba(0, 0, 0, 0.8)";
      pen.fillRect(x, y, room, 20);
      pen.fillStyle = answer.color;
      pen.fillRect(x, y, 8, 20);
      pen.fillStyle = "white";
      pen.fillText(words, x + 12, y + 15);
    });
    list.replaceChildren(...rows);
    view.dataset.labels = JSON.stringify(taken);
    view.dataset.moment = now().toFixed(3);
    view.dataset.boxes = JSON.stringify(shown.map(([, , box]) => box.slice(0, 4)));
    if (isVideo) {
      cursor.style.left = share(now());
      slider.setAttribute("aria-valuenow", now().toFixed(2));
      slider.setAttribute("aria-valuetext", seconds(now()));
    }
  }

  function seek(moment) {
    media.currentTime = Math.max(0, moment - value.first);
  }

  // The spans are buttons beside the slider, not in it: what is in a slider is not read out.
  const rail = make("div", "rail"), slider = make("div", "slider");
  if (isVideo) {
    const play = make("button", "play");
    play.type = "button";
    const toggle = () => (media.paused ? media.play() : media.pause());
    const name = () => {
      play.setAttribute("aria-label", media.paused ? "play" : "pause");
      play.classList.toggle("playing", !media.paused);
    };
    for (const event of ["play", "pause", "ended"]) media.addEventListener(event, name);
    name();
    play.addEventListener("click", toggle);
    media.addEventListener("click", toggle);

    slider.tabIndex = 0;
    slider.setAttribute("role", "slider");
    slider.setAttribute("aria-label", "time in the clip");
    slider.setAttribute("aria-valuemin", value.first.toFixed(2));
    slider.setAttribute("aria-valuemax", value.last.toFixed(2));
    const scrub = (event) => {
      const edge = slider.getBoundingClientRect();
      seek(value.first + (length * Math.min(Math.max(event.clientX - edge.left, 0), edge.width)) / edge.width);
    };
    slider.addEventListener("pointerdown", (event) => {
      slider.setPointerCapture(event.pointerId);
      scrub(event);
    });
    slider.addEventListener("pointermove", (event) => {
      if (slider.hasPointerCapture(event.pointerId)) scrub(event);
    });
    slider.addEventListener("keydown", (event) => {
      const moments = {
        ArrowRight: now() + 0.1, ArrowLeft: now() - 0.1, PageUp: now() + 1, PageDown: now() - 1,
        Home: value.first, End: value.last,
      };
      if (event.key === " ") toggle();
      else if (event.key in moments) seek(Math.min(Math.max(moments[event.key], value.first), value.last));
      else return;
      event.preventDefault();
    });
    const ends = make("div", "ends");
    ends.append(make("span", "", seconds(value.first)));
    if (document.fullscreenEnabled) {
      const large = make("button", "large", "full screen");
      large.type = "button";
      large.addEventListener("click", () => {
        if (document.fullscreenElement) document.exitFullscreen();
        else player.requestFullscreen();
      });
      ends.append(large);
    }
    ends.append(make("span", "", seconds(value.last)));
    rail.append(slider, cursor);
    timeline.append(play, rail, ends);
  }

  value.answers.forEach((answer, number) => {
    const entry = make("div", "answer");
    entry.style.setProperty("--color", answer.color);
    const toggle = make("input");
    toggle.type = "checkbox";
    toggle.checked = true;
    const label = make("label");
    label.append(toggle, make("strong", "", answer.query));
    toggle.addEventListener("change", () => {
      if (toggle.checked) hidden.delete(number);
      else hidden.add(number);
      for (const bar of rail.querySelectorAll(`[data-answer="${number}"]`)) bar.hidden = !toggle.checked;
      draw();
    });
    entry.append(label);
    for (const span of answer.spans) {
      const words = seconds(span.start) + " to " + seconds(span.end) + sure(span.confidence) + (span.label ? " " + span.label : "");
      const link = make("button", "moment", words);
      link.type = "button";
      link.addEventListener("click", () => seek(span.start));
      entry.append(link);
      if (!isVideo) continue;
      const bar = make("button", "span");
      bar.type = "button";
      bar.title = words;
      bar.setAttribute("aria-label", answer.query + ", " + words);
      bar.dataset.answer = number;
      bar.style.left = share(span.start);
      bar.style.width = `max(6px, ${(100 * (span.end - span.start)) / length}%)`;
      bar.style.top = 4 + 16 * number + "px";
      bar.style.background = answer.color;
      bar.addEventListener("click", () => seek(span.start));
      rail.append(bar);
    }
    if (answer.text) entry.append(make("p", "words", answer.text));
    for (const problem of answer.problems) entry.append(make("p", "problem", problem));
    legend.append(entry);
  });
  rail.style.height = 8 + 16 * Math.max(value.answers.length, 1) + "px";

  for (const name of ["loadeddata", "load", "seeked", "timeupdate", "pause"]) media.addEventListener(name, draw);
  if (isVideo && media.requestVideoFrameCallback) {
    const follow = () => {
      draw();
      if (media.isConnected) media.requestVideoFrameCallback(follow);
    };
    media.requestVideoFrameCallback(follow);
  }
  if (window.ResizeObserver) new ResizeObserver(draw).observe(media);
  const first = value.answers.flatMap((answer) => answer.spans)[0];
  if (isVideo && first) media.addEventListener("loadedmetadata", () => seek(first.start), { once: true });
  // On a phone the answer is under the questions.
  if (view.getBoundingClientRect().top > window.innerHeight * 0.8) view.scrollIntoView({ block: "start" });
}

watch("value", show);
show();
