// The page "See inside": what a reader does with a network that runs here, layer by layer. The arithmetic is engine.js's;
// it runs in a Web Worker, so that the page never hangs.
//
// Each <div class="see-inside" data-view="…"> is one view. All show the same network, image and chosen value. Networks and
// images are scripts that are loaded when a reader opens a view: a page from a disk may not fetch files.
(() => {
  "use strict";

  const SIDE = 32; // pixels of an image
  const LARGEST = 4096; // pixels of a photograph's side
  const STRONG = 5; // terms, classes and channels that are listed
  const DRAWS = 20; // forward passes with dropout
  const OCCLUDER = { side: 8, step: 4 }; // pixels, of the occlusion map
  const PAINT = ["#000000", "#ffffff", "#d62728", "#2ca02c", "#1f77b4", "#ffdd33", "#8c564b"];
  const engine = alexnetEngine();

  // --- Small helpers --------------------------------------------------------------------------------------------------

  function el(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (key in element && typeof value !== "string") element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const show = (value) => (value === 0 || Math.abs(value) >= 0.001 ? value.toFixed(3) : value.toExponential(1));
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const span = (name, [from, to]) => (from === to ? `${name} ${from}` : `${name}s ${from} to ${to}`);
  const largest = (values) => values.reduce((best, value) => Math.max(best, Math.abs(value)), 0) || 1;
  const bestOf = (values) => values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
  const kindOf = (layer) => ({
    conv: "convolution", linear: "fully connected", relu: "ReLU", tanh: "tanh", maxPool: "max pooling",
    averagePool: "average pooling", adaptiveMax: "adaptive max pooling", adaptiveAverage: "adaptive average pooling",
    batchNorm: "batch norm", responseNorm: "response normalisation", dropout: "dropout", flatten: "flatten",
    identity: "identity",
  })[layer.kind];
  const isPool = (layer) => layer.kind.endsWith("Pool") || layer.kind.startsWith("adaptive");

  // Blue below zero, orange above, the lighter the nearer to zero; grey where there is nothing.
  function colour(value, scale) {
    const strength = Math.sqrt(Math.min(1, Math.abs(value) / scale));
    const [red, green, blue] = value < 0 ? [0, 100, 190] : [205, 85, 0];
    return [red, green, blue].map((part) => Math.round(245 + (part - 245) * strength));
  }

  function drawImage(canvas, image) {
    const pixels = new ImageData(SIDE, SIDE);
    const plane = SIDE * SIDE;
    for (let at = 0; at < plane; at += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        pixels.data[4 * at + channel] = Math.round(255 * clamp(image[channel * plane + at], 0, 1));
      }
      pixels.data[4 * at + 3] = 255;
    }
    const small = el("canvas", { width: SIDE, height: SIDE });
    small.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  function drawGrid(canvas, values, rows, columns, scale = largest(values)) {
    const cell = Math.max(1, Math.floor(canvas.dataset.room / Math.max(rows, columns)));
    [canvas.width, canvas.height] = [columns * cell, rows * cell];
    const context = canvas.getContext("2d");
    for (let at = 0; at < rows * columns; at += 1) {
      context.fillStyle = `rgb(${colour(values[at], scale).join(",")})`;
      context.fillRect((at % columns) * cell, Math.floor(at / columns) * cell, cell, cell);
    }
    return cell;
  }

  // Into the cells of a grid that has just been drawn.
  function writeNumbers(canvas, values, columns, cell) {
    const context = canvas.getContext("2d");
    Object.assign(context, { font: `${Math.floor(cell / 3)}px sans-serif`, textAlign: "center", textBaseline: "middle" });
    const scale = largest(values);
    values.forEach((value, at) => {
      context.fillStyle = value < -0.75 * scale ? "white" : "black"; // only the darkest blue needs white
      context.fillText(value.toFixed(2).replace(/^-0.00$/, "0.00"), ((at % columns) + 0.5) * cell, (Math.floor(at / columns) + 0.5) * cell);
    });
  }

  function outline(canvas, left, top, width, height, style = "#e6007e") {
    const context = canvas.getContext("2d");
    context.strokeStyle = style;
    context.lineWidth = 2;
    context.strokeRect(left + 1, top + 1, Math.max(2, width - 2), Math.max(2, height - 2));
  }

  const canvasOf = (room, label, more = {}) => {
    const canvas = el("canvas", { width: room, height: room, role: "img", "aria-label": label, ...more });
    canvas.dataset.room = room;
    return canvas;
  };
  const figure = (canvas, text) => el("figure", { class: "inside-figure" }, canvas, el("figcaption", {}, text));

  let fields = 0;

  // Beside its label and not in it: what is chosen is no part of a field's name.
  function field(text, input) {
    fields += 1;
    input.id = `inside-field-${fields}`;
    return el("div", { class: "inside-field" }, el("label", { for: input.id }, text), input);
  }

  function numberField(text, low, high, value, onchange) {
    const input = el("input", { type: "number", min: String(low), max: String(high), value: String(value), onchange: () => {
      const given = Math.round(Number(input.value));
      input.value = String(clamp(Number.isFinite(given) ? given : value, Number(input.min), Number(input.max)));
      onchange(Number(input.value));
    } });
    return { input, label: field(text, input) };
  }

  // Its value stands beside it; `put` sets both.
  function sliderField(text, low, high, step, value, oninput) {
    const reading = el("span", { class: "inside-reading", "aria-hidden": "true" });
    const input = el("input", { type: "range", min: String(low), max: String(high), step: String(step), oninput: () => {
      put(Number(input.value));
      oninput(Number(input.value));
    } });
    function put(given) {
      input.value = String(given);
      reading.textContent = input.value;
    }
    put(value);
    const label = field(text, input);
    label.append(reading);
    label.classList.add("inside-slider");
    return { input, put, label };
  }

  function selectField(text, onchange) {
    const select = el("select", { onchange: () => onchange(select.value) });
    return { select, label: field(text, select) };
  }

  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => el("option", { value: String(value) }, text)));
    select.value = String(chosen);
  }

  function table(heads, rows) {
    return el("table", { class: "inside-table" },
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell, at) =>
        el(at ? "td" : "th", at ? {} : { scope: "row" }, cell))))));
  }

  // --- The worker -----------------------------------------------------------------------------------------------------

  const WORK = `
    const engine = (${alexnetEngine})();
    let network = null;
    onmessage = ({ data: { id, task, given } }) => {
      if (task === "load") network = engine.decode(given);
      const begun = performance.now();
      const result = {
        load: () => null,
        forward: () => given.images.map((image) => engine.forward(network, image, given.switches)),
        saliency: () => engine.saliency(network, given.image, given.label),
        chances: () => given.images.map((image) => engine.forward(network, image).probabilities[given.label]),
      }[task]();
      postMessage({ id, result, milliseconds: performance.now() - begun });
    };`;

  function startWorker() {
    const address = URL.createObjectURL(new Blob([WORK], { type: "text/javascript" }));
    const worker = new Worker(address);
    const waiting = new Map();
    let last = 0;
    worker.onmessage = ({ data }) => {
      waiting.get(data.id)(data);
      waiting.delete(data.id);
    };
    return (task, given) => new Promise((resolve) => {
      last += 1;
      waiting.set(last, resolve);
      worker.postMessage({ id: last, task, given });
    });
  }

  // --- What all views share -------------------------------------------------------------------------------------------

  const state = {
    ask: null, // the worker
    network: null,
    samples: [],
    source: null, // the image as it was chosen
    change: { right: 0, down: 0, mirrored: false, blur: 0, cover: null },
    image: null, // as it is shown to the network
    plain: null, // probabilities of `source`
    result: null, // of the forward pass of `image`
    layer: 0,
    channel: 0,
    row: 0,
    column: 0,
    milliseconds: 0,
  };
  const views = []; // { element, tool, update }
  let config = null;

  function loadScript(address) {
    return new Promise((resolve, reject) => {
      document.head.append(el("script", { src: address, onload: resolve, onerror: () =>
        reject(new Error(`${address} could not be loaded; reload the page.`)) }));
    });
  }

  const known = () => globalThis.alexnetInside ?? {};
  const SAMPLES = "(samples)"; // page.py's name for the images

  let wanted = null; // the network that was asked for last

  async function loadNetwork(name) {
    wanted = name;
    if (!known()[name]) await loadScript(config.networks.find((network) => network.name === name).script);
    if (!known()[SAMPLES]) await loadScript(config.samples);
    if (wanted !== name) return;
    state.ask ??= startWorker();
    await state.ask("load", known()[name]);
    if (wanted !== name) return;
    state.network = engine.decode(known()[name]);
    Object.assign(state, { layer: 0, channel: 0, row: 14, column: 14 }); // not in a corner, where there is padding
    if (!state.samples.length) {
      state.samples = known()[SAMPLES].map(({ label, pixels }) => ({
        label, image: Float32Array.from(atob(pixels), (letter) => letter.charCodeAt(0) / 255) }));
      state.source = state.samples[0].image;
    }
  }

  // A shift brings in grey (the mean of the training images); blur is a Gaussian of so many pixels.
  function changed(image, { right, down, mirrored, blur, cover }) {
    const plane = SIDE * SIDE;
    let moved = image.map((_, at) => {
      const channel = Math.floor(at / plane);
      const [row, column] = [Math.floor((at % plane) / SIDE) - down, (at % SIDE) - right];
      if (row < 0 || row >= SIDE || column < 0 || column >= SIDE) return state.network.mean[channel];
      return image[channel * plane + row * SIDE + (mirrored ? SIDE - 1 - column : column)];
    });
    if (blur > 0) moved = blurred(blurred(moved, blur, 1), blur, SIDE);
    return cover ? engine.occluded(state.network, moved, cover.left, cover.top, cover.side) : moved;
  }

  function blurred(image, deviation, stride) {
    const reach = Math.ceil(3 * deviation);
    const weights = Array.from({ length: 2 * reach + 1 }, (_, at) => Math.exp(-((at - reach) ** 2) / (2 * deviation ** 2)));
    return image.map((_, at) => {
      const along = stride === 1 ? at % SIDE : Math.floor((at % (SIDE * SIDE)) / SIDE);
      let [sum, total] = [0, 0];
      weights.forEach((weight, index) => {
        const to = along + index - reach;
        if (to < 0 || to >= SIDE) return;
        sum += weight * image[at + (index - reach) * stride];
        total += weight;
      });
      return sum / total;
    });
  }

  let busy = false;
  let again = false;

  // A forward pass of the image as it is now, and every view anew. While one runs, only the last wish is remembered.
  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    do {
      again = false;
      state.image = changed(state.source, state.change);
      const { result, milliseconds } = await state.ask("forward",
        { images: [state.source, state.image], switches: engine.DEFAULTS });
      state.plain = result[0].probabilities;
      [, state.result] = result;
      state.milliseconds = milliseconds / 2;
    } while (again);
    busy = false;
    update();
  }

  function update() {
    for (const view of views) view.update();
  }

  function choose(change) {
    Object.assign(state, change);
    const layer = state.network.layers[state.layer];
    const [channels, rows, columns] = layer.size.length === 3 ? layer.size : [layer.size[0], 1, 1];
    state.channel = clamp(state.channel, 0, channels - 1);
    state.row = clamp(state.row, 0, rows - 1);
    state.column = clamp(state.column, 0, columns - 1);
    update();
  }

  const inputOf = (number) => (number ? state.result.maps[number - 1] : state.result.input);
  const valueAt = (number, channel, row, column) => {
    const [, rows = 1, columns = 1] = state.network.layers[number].size;
    return state.result.maps[number][(channel * rows + row) * columns + column];
  };

  // "features.0, channel 3, row 4, column 5" or "classifier.0, unit 7".
  function where() {
    const layer = state.network.layers[state.layer];
    return layer.size.length === 3
      ? `${layer.name}, channel ${state.channel}, row ${state.row}, column ${state.column}`
      : `${layer.name}, unit ${state.channel}`;
  }

  // The image, and the part of it that the chosen value depends on; what lies in the padding is not drawn.
  function drawReceptiveField(canvas) {
    drawImage(canvas, state.image);
    const field = engine.receptiveField(state.network, state.layer, state.row, state.column);
    const pixel = canvas.width / SIDE;
    const [[top, bottom], [left, right]] = [field.rows, field.columns].map((ends) => ends.map((end) => clamp(end, 0, SIDE - 1)));
    outline(canvas, left * pixel, top * pixel, (right - left + 1) * pixel, (bottom - top + 1) * pixel);
    return field;
  }

  // A layer and a value in it, to be chosen by keyboard as well; `update` brings the fields up to date.
  function chooser() {
    const layer = selectField("Layer", (value) => choose({ layer: Number(value) }));
    const step = (by) => () => choose({ layer: clamp(state.layer + by, 0, state.network.layers.length - 1) });
    const [channel, row, column] = ["channel", "row", "column"].map((key) =>
      numberField(key === "channel" ? "Channel or unit" : key === "row" ? "Row" : "Column", 0, 0, 0,
        (value) => choose({ [key]: value })));
    const bar = el("div", { class: "inside-bar" }, layer.label,
      el("button", { type: "button", onclick: step(-1) }, "◂ before"), el("button", { type: "button", onclick: step(1) }, "after ▸"),
      channel.label, row.label, column.label);
    return {
      bar,
      update() {
        options(layer.select, state.network.layers.map((each, at) =>
          [at, `${at + 1}. ${each.name}: ${kindOf(each)}, ${each.size.join("×")}`]), state.layer);
        const { size } = state.network.layers[state.layer];
        [[channel, "channel"], [row, "row"], [column, "column"]].forEach(([part, key], axis) => {
          part.input.max = String((size[axis] ?? 1) - 1);
          part.input.value = String(state[key]);
          part.input.disabled = size[axis] === undefined;
        });
      },
    };
  }

  // Rows of classes, most probable first; `before` draws a mark where each was.
  function probabilityTable(probabilities, before = null) {
    const order = probabilities.map((_, at) => at).sort((one, two) => probabilities[two] - probabilities[one]);
    return table(["class", "probability", ""], order.map((at) => {
      const bar = el("span", { class: "inside-chance" });
      bar.style.setProperty("--chance", probabilities[at]);
      if (before) bar.append(el("span", { class: "inside-before" }));
      bar.style.setProperty("--before", before ? before[at] : 0);
      return [state.network.classes[at], percent(probabilities[at]), bar];
    }));
  }

  // --- The views ------------------------------------------------------------------------------------------------------

  const VIEWS = {
    image(tool) {
      const network = selectField("Network", async (name) => {
        try {
          await loadNetwork(name);
          await refresh();
        } catch (error) {
          network.select.value = state.network.name;
          status.textContent = error.message;
        }
      });
      const about = el("p", { class: "inside-note" });
      const gallery = el("div", { class: "inside-gallery", role: "group", "aria-label": "Images to choose from" });
      const file = el("input", { type: "file", accept: "image/*", onchange: async () => {
        if (!file.files.length) return;
        try {
          take(await createImageBitmap(file.files[0]));
        } catch {
          status.textContent = `${file.files[0].name} is no image that this browser can read; choose a PNG or JPEG file.`;
        }
      } });
      const canvas = canvasOf(256, "The image that the network gets", { tabindex: "0" });
      const status = el("p", { class: "inside-status", role: "status" });
      const mode = selectField("Finger or mouse", () => {});
      options(mode.select, [["cover", "covers the image"], ["move", "shifts the image"], ["draw", "draws on the image"]], "cover");
      const ink = selectField("Colour", () => {});
      options(ink.select, PAINT.map((name, at) => [name, ["black", "white", "red", "green", "blue", "yellow", "brown"][at]]), PAINT[0]);
      const set = (key) => (value) => {
        state.change[key] = value;
        return refresh();
      };
      const right = sliderField("Shift right", -16, 16, 1, 0, set("right"));
      const down = sliderField("Shift down", -16, 16, 1, 0, set("down"));
      const blur = sliderField("Blur", 0, 4, 0.5, 0, set("blur"));
      const side = sliderField("Cover, pixels", 0, 24, 1, 0, (value) => {
        const { left = 12, top = 12 } = state.change.cover ?? {};
        set("cover")(value ? { left, top, side: value } : null);
      });
      const mirrored = el("input", { type: "checkbox", onchange: () => set("mirrored")(mirrored.checked) });
      const rows = el("div", { class: "inside-scroll" });

      // The square in the middle, made small by halves, each pixel the mean of four: some browsers read only the nearest
      // pixels when they draw smaller. Not every browser has canvases larger than LARGEST.
      function take(picture) {
        let [from, square] = [picture, Math.min(picture.width, picture.height)];
        let [left, top] = [(picture.width - square) / 2, (picture.height - square) / 2];
        let side = Math.min(LARGEST, SIDE * 2 ** Math.max(0, Math.ceil(Math.log2(square / SIDE))));
        let context;
        for (; side >= SIDE; side /= 2) {
          const canvas = el("canvas", { width: side, height: side });
          context = canvas.getContext("2d");
          context.imageSmoothingQuality = "high";
          context.fillStyle = "white"; // behind what is transparent
          context.fillRect(0, 0, side, side);
          context.drawImage(from, left, top, square, square, 0, 0, side, side);
          [from, left, top, square] = [canvas, 0, 0, side];
        }
        const { data } = context.getImageData(0, 0, SIDE, SIDE);
        choosePicture(Float32Array.from({ length: 3 * SIDE * SIDE }, (_, at) =>
          data[4 * (at % (SIDE * SIDE)) + Math.floor(at / (SIDE * SIDE))] / 255));
      }

      function choosePicture(picture) {
        stopCamera();
        state.source = picture;
        reset();
      }

      function reset() {
        state.change = { right: 0, down: 0, mirrored: false, blur: 0, cover: null };
        for (const part of [right, down, blur, side]) part.put(0);
        mirrored.checked = false;
        return refresh();
      }

      const video = el("video", { autoplay: true, muted: true, playsinline: "", class: "inside-camera", hidden: true });
      const camera = el("button", { type: "button", onclick: () => (video.hidden ? startCamera() : photograph()) }, "From the camera");

      async function startCamera() {
        camera.disabled = true; // a second question would leave the first camera on
        try {
          video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
          await video.play();
          video.hidden = false;
          camera.textContent = "Take the photograph";
        } catch {
          stopCamera();
          status.textContent = "The camera gave no image; allow this page to use it, or choose a file.";
        }
        camera.disabled = false;
      }

      function photograph() {
        take(Object.assign(video, { width: video.videoWidth, height: video.videoHeight }));
      }

      function stopCamera() {
        video.srcObject?.getTracks().forEach((track) => track.stop());
        video.srcObject = null;
        video.hidden = true;
        camera.textContent = "From the camera";
      }

      function moveCover(left, top) {
        const size = state.change.cover?.side ?? OCCLUDER.side;
        side.put(size);
        set("cover")({ left: clamp(left, -size, SIDE), top: clamp(top, -size, SIDE), side: size });
      }

      function moveImage(byColumns, byRows) {
        for (const [part, key, by] of [[right, "right", byColumns], [down, "down", byRows]]) {
          part.put(clamp(state.change[key] + by, Number(part.input.min), Number(part.input.max)));
          state.change[key] = Number(part.input.value);
        }
        refresh();
      }

      let held = null; // the pixel at which a drag has arrived

      function point(event) {
        if (event.buttons === 0) return;
        const box = canvas.getBoundingClientRect();
        const [column, row] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
          .map((share) => clamp(Math.floor(share * SIDE), 0, SIDE - 1));
        event.preventDefault();
        if (mode.select.value === "cover") {
          const half = (state.change.cover?.side ?? OCCLUDER.side) / 2;
          moveCover(Math.round(column - half), Math.round(row - half));
        } else if (mode.select.value === "move") {
          if (event.type === "pointermove" && held) moveImage(column - held[0], row - held[1]);
          held = [column, row];
        } else {
          const rgb = [1, 3, 5].map((at) => parseInt(ink.select.value.slice(at, at + 2), 16) / 255);
          state.source = state.source.slice();
          const { right: across, down: below, mirrored: flipped } = state.change; // the ink belongs where it is seen
          for (const [y, x] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
            const [to, along] = [row + y - below, column + x - across];
            if (row + y >= SIDE || column + x >= SIDE || Math.min(to, along) < 0 || Math.max(to, along) >= SIDE) continue;
            const at = to * SIDE + (flipped ? SIDE - 1 - along : along);
            rgb.forEach((value, channel) => { state.source[channel * SIDE * SIDE + at] = value; });
          }
          refresh();
        }
      }

      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("pointermove", point);
      canvas.addEventListener("keydown", (event) => {
        const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (!steps) return;
        event.preventDefault();
        const { left, top } = state.change.cover ?? { left: 12, top: 12 };
        if (mode.select.value === "move") moveImage(...steps);
        else moveCover(left + steps[0], top + steps[1]);
      });

      tool.append(
        el("div", { class: "inside-bar" }, network.label, field("Your own image, which stays here", file),
          navigator.mediaDevices ? camera : null,
          el("button", { type: "button", onclick: () => {
            mode.select.value = "draw";
            choosePicture(new Float32Array(3 * SIDE * SIDE).fill(1));
          } }, "An empty sheet to draw on")),
        about, gallery, video,
        el("div", { class: "inside-columns" },
          el("div", {}, canvas,
            el("div", { class: "inside-bar" }, mode.label, ink.label),
            el("div", { class: "inside-bar" }, right.label, down.label, blur.label, side.label, field("Mirrored", mirrored),
              el("button", { type: "button", onclick: reset }, "Undo all changes"))),
          el("div", {}, status, rows)));

      return () => {
        const { network: net, samples } = state;
        options(network.select, config.networks.map(({ name }) => [name, name]), net.name);
        const measured = net.accuracy
          ? ` It gets ${percent(net.accuracy.quantised)} of ${net.dataset}'s test images right; before its weights were `
            + `rounded to 8 bits, ${percent(net.accuracy.fp32)}.` : "";
        about.textContent = `${net.parameters.toLocaleString("en")} parameters.${measured} One forward pass took `
          + `${state.milliseconds.toFixed(0)} ms here.`;
        if (!gallery.children.length) {
          gallery.append(...samples.map(({ label, image }) => {
            const thumbnail = canvasOf(48, "");
            thumbnail.setAttribute("aria-hidden", "true");
            drawImage(thumbnail, image);
            return el("button", { type: "button", "aria-label": label, title: label, onclick: () => choosePicture(image) },
              thumbnail);
          }));
        }
        drawImage(canvas, state.image);
        const { probabilities } = state.result;
        const best = bestOf(probabilities);
        status.textContent = `Most probable: ${net.classes[best]}, ${percent(probabilities[best])}`
          + ` (${percent(state.plain[best])} without changes).`;
        rows.replaceChildren(probabilityTable(probabilities, state.plain));
      };
    },

    layers(tool) {
      const chosen = chooser();
      const all = canvasOf(560, "All feature maps of the layer", { tabindex: "0" });
      const one = canvasOf(224, "The chosen feature map", { tabindex: "0" });
      const image = canvasOf(224, "The image with the receptive field of the chosen value");
      const text = el("p", { class: "inside-status", role: "status" });
      let tiles = { across: 1, cell: 1, side: 1 };

      all.addEventListener("click", (event) => {
        const box = all.getBoundingClientRect();
        const [x, y] = [((event.clientX - box.left) * all.width) / box.width, ((event.clientY - box.top) * all.height) / box.height];
        choose({ channel: Math.floor(y / tiles.side) * tiles.across + Math.floor(x / tiles.side) });
      });
      one.addEventListener("click", (event) => {
        const box = one.getBoundingClientRect();
        const [, rows = 1, columns = 1] = state.network.layers[state.layer].size;
        choose({
          row: Math.floor(((event.clientY - box.top) / box.height) * rows),
          column: Math.floor(((event.clientX - box.left) / box.width) * columns),
        });
      });
      for (const canvas of [all, one]) {
        canvas.addEventListener("keydown", (event) => {
          const { row, column, channel } = state;
          const change = {
            ArrowUp: { row: row - 1 }, ArrowDown: { row: row + 1 }, ArrowLeft: { column: column - 1 },
            ArrowRight: { column: column + 1 }, PageUp: { channel: channel - 1 }, PageDown: { channel: channel + 1 },
          }[event.key];
          if (!change) return;
          event.preventDefault();
          choose(change);
        });
      }
      tool.append(chosen.bar, text,
        el("div", { class: "inside-columns" },
          figure(image, "The image, and the chosen value's receptive field."),
          figure(one, "The chosen map, and the chosen value in it.")),
        figure(all, "All maps of the layer: orange above zero, blue below. Choose one, then a value in it; on the keyboard "
          + "with the arrow keys, and Page Up and Page Down for the map."));

      return () => {
        chosen.update();
        const { network, result, layer: number, channel, row, column } = state;
        const { size } = network.layers[number];
        const [channels, rows = 1, columns = 1] = size;
        const values = result.maps[number];
        const scale = largest(values);
        const across = Math.ceil(Math.sqrt(channels));
        const gap = size.length === 3 ? 2 : 1;
        const cell = Math.max(1, Math.floor(560 / (across * (columns + gap))));
        tiles = { across, cell, side: (columns + gap) * cell };
        [all.width, all.height] = [across * tiles.side, Math.ceil(channels / across) * tiles.side];
        const context = all.getContext("2d");
        for (let at = 0; at < values.length; at += 1) {
          const map = Math.floor(at / (rows * columns));
          const [y, x] = [Math.floor((at % (rows * columns)) / columns), at % columns];
          context.fillStyle = `rgb(${colour(values[at], scale).join(",")})`;
          context.fillRect((map % across) * tiles.side + x * cell, Math.floor(map / across) * tiles.side + y * cell, cell, cell);
        }
        outline(all, (channel % across) * tiles.side - 1, Math.floor(channel / across) * tiles.side - 1, columns * cell + 2, rows * cell + 2);
        const side = drawGrid(one, values.subarray(channel * rows * columns, (channel + 1) * rows * columns), rows, columns, scale);
        outline(one, column * side, row * side, side, side);
        const seen = drawReceptiveField(image);
        const beyond = [seen.rows, seen.columns].some(([from, to]) => from < 0 || to >= SIDE) ? " Part of that is padding." : "";
        text.textContent = `${where()}: ${show(valueAt(number, channel, row, column))}. Its receptive field is `
          + `${span("row", seen.rows)} and ${span("column", seen.columns)} of the image.${beyond} `
          + `Of all values of the layer, ${percent(values.filter((value) => value === 0).length / values.length)} are zero.`;
      };
    },

    value(tool) {
      const chosen = chooser();
      const body = el("div");
      const image = canvasOf(128, "The image with the receptive field of the chosen value");
      const text = el("p", { class: "inside-status", role: "status" });
      let shown = null; // input channel of a convolution that the reader chose
      const pick = selectField("Input channel", (value) => {
        shown = Number(value);
        update();
      });
      const bar = el("div", { class: "inside-bar" }, pick.label);
      tool.append(chosen.bar, text, figure(image, "The image, and the value's receptive field."), bar, body);

      function ofConvolution(layer, input, number) {
        const { terms, bias } = engine.termsOf(state.network, input, number, state.channel, state.row, state.column);
        const sums = new Map();
        for (const term of terms) sums.set(term.channel, (sums.get(term.channel) ?? 0) + term.product);
        const order = [...sums.keys()].sort((one, two) => Math.abs(sums.get(two)) - Math.abs(sums.get(one)));
        const channel = sums.has(shown) ? shown : order[0];
        const part = terms.filter((term) => term.channel === channel);
        options(pick.select, order.map((each) => [each, `${each}: adds ${show(sums.get(each))}`]), channel);
        const grids = [["value", "patch of the input"], ["factor", "kernel"], ["product", "products"]].map(([key, name]) => {
          const values = part.map((term) => term[key]);
          const canvas = canvasOf(150, `${name}: ${values.map(show).join(", ")}`);
          const cell = drawGrid(canvas, values, layer.kernel, layer.kernel);
          if (layer.kernel <= 5) writeNumbers(canvas, values, layer.kernel, cell);
          return figure(canvas, name);
        });
        const rest = order.slice(STRONG).reduce((sum, each) => sum + sums.get(each), 0);
        body.replaceChildren(
          el("div", { class: "inside-sum" }, grids[0], el("span", {}, "×"), grids[1], el("span", {}, "="), grids[2],
            el("span", {}, `sum ${show(sums.get(channel))}`)),
          el("p", { class: "inside-note" }, "Orange is above zero, blue below."),
          table(["from", "adds"], [
            ...order.slice(0, STRONG).map((each) => [`input channel ${each}`, show(sums.get(each))]),
            ...(order.length > STRONG ? [[`the other ${order.length - STRONG}`, show(rest)]] : []),
            ["bias", show(bias)],
            ["sum: the value", show(valueAt(number, state.channel, state.row, state.column))],
          ]));
      }

      function ofLinear(input, number) {
        const { terms, bias } = engine.termsOf(state.network, input, number, state.channel);
        const order = [...terms].sort((one, two) => Math.abs(two.product) - Math.abs(one.product));
        const rest = order.slice(2 * STRONG).reduce((sum, term) => sum + term.product, 0);
        body.replaceChildren(table(["input", "value", "× weight", "= adds"], [
          ...order.slice(0, 2 * STRONG).map((term) => [`unit ${term.channel}`, show(term.value), show(term.factor), show(term.product)]),
          ...(order.length > 2 * STRONG ? [[`the other ${order.length - 2 * STRONG}`, "", "", show(rest)]] : []),
          ["bias", "", "", show(bias)],
          ["sum: the value", "", "", show(valueAt(number, state.channel, 0, 0))],
        ]));
      }

      function ofPool(layer, input) {
        const [top, bottom] = engine.insideOf(layer, state.row, 1);
        const [left, right] = engine.insideOf(layer, state.column, 2);
        const [, height, width] = layer.before;
        const rows = [];
        for (let y = top; y <= bottom; y += 1) {
          rows.push([`row ${y}`, ...Array.from({ length: right - left + 1 }, (_, at) =>
            show(input[(state.channel * height + y) * width + left + at]))]);
        }
        body.replaceChildren(table(["", ...Array.from({ length: right - left + 1 }, (_, at) => `column ${left + at}`)], rows),
          el("p", {}, /max/i.test(layer.kind) ? "The value is the largest of them." : "The value is their mean."));
      }

      function ofNorm(layer, input) {
        const [, height, width] = layer.before;
        const at = (channel) => input[(channel * height + state.row) * width + state.column];
        const x = at(state.channel);
        if (layer.kind === "batchNorm") {
          const [mean, variance, gain, offset] = ["mean", "variance", "gain", "offset"].map((key) => layer[key][state.channel]);
          body.replaceChildren(table(["step", "value"], [
            ["the layer's input", show(x)],
            [`less the mean, ${show(mean)}`, show(x - mean)],
            [`divided by the standard deviation, ${show(Math.sqrt(variance + layer.eps))}`, show((x - mean) / Math.sqrt(variance + layer.eps))],
            [`times γ, ${show(gain)}, plus β, ${show(offset)}`, show(((x - mean) / Math.sqrt(variance + layer.eps)) * gain + offset)],
          ]));
        } else {
          const [from, to] = engine.neighbours(layer, state.channel);
          const channels = Array.from({ length: to - from + 1 }, (_, index) => from + index);
          const sum = layer.k + (layer.alpha / layer.width) * channels.reduce((total, channel) => total + at(channel) ** 2, 0);
          body.replaceChildren(table(["step", "value"], [
            ["the layer's input", show(x)],
            ...channels.map((channel) => [`square of channel ${channel} here`, show(at(channel) ** 2)]),
            [`k + α/n times their sum (k = ${layer.k}, α = ${layer.alpha}, n = ${layer.width})`, show(sum)],
            [`input divided by that to the power β = ${layer.beta}`, show(x / sum ** layer.beta)],
          ]));
        }
      }

      return () => {
        chosen.update();
        const number = state.layer;
        const layer = state.network.layers[number];
        const input = inputOf(number);
        text.textContent = `${where()}: ${show(valueAt(number, state.channel, state.row, state.column))}.`;
        drawReceptiveField(image);
        bar.hidden = layer.kind !== "conv";
        if (layer.kind === "conv") ofConvolution(layer, input, number);
        else if (layer.kind === "linear") ofLinear(input, number);
        else if (isPool(layer)) ofPool(layer, input);
        else if (layer.kind.endsWith("Norm")) ofNorm(layer, input);
        else {
          const [, rows = 1, columns = 1] = layer.size;
          const before = input[(state.channel * rows + state.row) * columns + state.column];
          const rules = { relu: "ReLU keeps what is above zero and makes the rest zero", tanh: "tanh brings every value between −1 and 1",
            dropout: "in evaluation, dropout changes nothing", flatten: "flatten only arranges the values in a row" };
          body.replaceChildren(el("p", {}, `Its input is ${show(before)}; ${rules[layer.kind] ?? "this layer changes nothing"}.`));
        }
      };
    },

    evidence(tool) {
      const pick = selectField("Class", (value) => {
        label = value === "" ? null : Number(value);
        work();
      });
      const image = canvasOf(192, "The image");
      const gradient = canvasOf(192, "Saliency");
      const covered = canvasOf(192, "Occlusion map");
      const text = el("p", { class: "inside-status", role: "status" });
      const button = el("button", { type: "button", onclick: () => occlude() }, "Cover every part once");
      let label = null; // chosen; else the most probable class
      let asked = 0;
      tool.append(el("div", { class: "inside-bar" }, pick.label, button), text,
        el("div", { class: "inside-columns" },
          figure(image, "The image."),
          figure(gradient, "Saliency: how much the class's logit changes with each pixel (largest of the three colours)."),
          figure(covered, `Occlusion: by how much the probability falls (orange) or rises (blue) when a square of `
            + `${OCCLUDER.side}×${OCCLUDER.side} pixels is covered there.`)));

      const current = () => label ?? bestOf(state.result.probabilities);

      async function work() {
        asked += 1;
        const mine = asked;
        const { result } = await state.ask("saliency", { image: state.image, label: current() });
        if (mine !== asked) return;
        const plane = SIDE * SIDE;
        const strength = Float32Array.from({ length: plane }, (_, at) =>
          Math.max(...[0, 1, 2].map((channel) => Math.abs(result[channel * plane + at]))));
        drawGrid(gradient, strength, SIDE, SIDE);
        const at = bestOf(strength);
        text.textContent = `For ${state.network.classes[current()]}, the pixel at row ${Math.floor(at / SIDE)}, column `
          + `${at % SIDE} has the steepest gradient.`;
        drawGrid(covered, new Float32Array(1), 1, 1, 1);
      }

      async function occlude() {
        const { side, step } = OCCLUDER;
        const starts = Array.from({ length: (SIDE + side) / step - 1 }, (_, at) => at * step - side + step);
        const images = starts.flatMap((top) => starts.map((left) => engine.occluded(state.network, state.image, left, top, side)));
        button.disabled = true;
        text.textContent = `Covering ${images.length} squares, one after the other …`;
        const { result } = await state.ask("chances", { images, label: current() });
        button.disabled = false;
        const chance = state.result.probabilities[current()];
        const falls = Float32Array.from(result, (other) => chance - other);
        drawGrid(covered, falls, starts.length, starts.length);
        const at = bestOf(falls);
        const [top, left] = [starts[Math.floor(at / starts.length)], starts[at % starts.length]];
        text.textContent = `Covering rows ${Math.max(0, top)} to ${Math.min(SIDE, top + side) - 1} and columns ${Math.max(0, left)} to `
          + `${Math.min(SIDE, left + side) - 1} costs ${state.network.classes[current()]} most: from ${percent(chance)} to ${percent(result[at])}.`;
      }

      let last = null;
      return () => {
        options(pick.select, [["", "the most probable"], ...state.network.classes.map((name, at) => [at, name])], label ?? "");
        drawImage(image, state.image);
        if (last !== state.result) work();
        last = state.result;
      };
    },

    switches(tool) {
      const response = el("input", { type: "checkbox", checked: true, onchange: () => work() });
      const norm = selectField("Batch norm with", () => work());
      options(norm.select, [["stored", "the stored statistics"], ["image", "this image's own"], ["off", "nothing: left out"]], "stored");
      const dropout = numberField("Dropout, %", 0, 90, 0, () => work());
      const text = el("p", { class: "inside-status", role: "status" });
      const rows = el("div", { class: "inside-scroll" });
      let asked = 0;
      tool.append(el("div", { class: "inside-bar" }, field("Response normalisation", response), norm.label, dropout.label,
        el("button", { type: "button", onclick: () => {
          response.checked = true;
          norm.select.value = "stored";
          dropout.input.value = "0";
          work();
        } }, "As it was trained")), text, rows);

      async function work() {
        asked += 1;
        const mine = asked;
        const share = Number(dropout.input.value) / 100;
        const passes = share ? DRAWS : 1;
        const found = [];
        for (let seed = 1; seed <= passes; seed += 1) {
          const { result } = await state.ask("forward", { images: [state.image],
            switches: { responseNorm: response.checked, batchNorm: norm.select.value, dropout: share, seed } });
          if (mine !== asked) return;
          found.push(result[0].probabilities);
        }
        const classes = state.network.classes.map((_, at) => at);
        const mean = classes.map((at) => found.reduce((sum, each) => sum + each[at], 0) / passes);
        const [before, after] = [state.result.probabilities, mean].map(bestOf);
        const wins = found.filter((each) => bestOf(each) === before).length;
        text.textContent = `Most probable: ${state.network.classes[after]}, ${percent(mean[after])}; as trained: `
          + `${state.network.classes[before]}, ${percent(state.result.probabilities[before])}.`
          + (share ? ` Mean of ${DRAWS} passes with dropout; ${wins} of them give ${state.network.classes[before]}.` : "");
        rows.replaceChildren(probabilityTable(mean, state.result.probabilities));
      }

      let last = null;
      return () => {
        const has = (kind) => state.network.layers.some((layer) => layer.kind === kind);
        response.disabled = !has("responseNorm");
        norm.select.disabled = !has("batchNorm");
        dropout.input.disabled = !has("dropout");
        if (last !== state.result) work();
        last = state.result;
      };
    },

    pool(tool) {
      const pick = selectField("Pooling layer", (value) => {
        number = Number(value);
        at = 0;
        draw();
      });
      const source = canvasOf(224, "The pooling layer's input");
      const target = canvasOf(224, "The pooling layer's output");
      const text = el("p", { class: "inside-status", role: "status" });
      const play = el("button", { type: "button", onclick: () => (timer ? stop() : start()) }, "Play");
      const channel = numberField("Channel", 0, 0, 0, () => {
        chosen = true;
        draw();
      });
      let chosen = false; // whether the channel is the reader's; else it is one that is not empty
      let number = null;
      let at = 0; // output position, row by row
      let timer = null;
      const move = (by) => () => {
        stop();
        step(by);
      };
      tool.append(el("div", { class: "inside-bar" }, pick.label, channel.label, el("button", { type: "button", onclick: move(-1) }, "◂ back"),
        play, el("button", { type: "button", onclick: move(1) }, "forward ▸")), text,
        el("div", { class: "inside-columns" }, figure(source, "The layer's input, and the window."),
          figure(target, "Its output, and the value that the window gives.")));

      function step(by) {
        const { size } = state.network.layers[number];
        at = (at + by + size[1] * size[2]) % (size[1] * size[2]);
        draw();
      }
      function start() { // a reader who asked for less motion gets it by the steps' own buttons, or on demand, slower
        const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
        timer = setInterval(() => step(1), calm ? 1500 : 400);
        play.textContent = "Stop";
      }
      function stop() {
        clearInterval(timer);
        timer = null;
        play.textContent = "Play";
      }

      function draw() {
        const layer = state.network.layers[number];
        const [, height, width] = layer.before;
        const [channels, rows, columns] = layer.size;
        channel.input.max = String(channels - 1);
        if (!chosen) channel.input.value = String(Math.floor(bestOf(state.result.maps[number]) / (rows * columns)));
        const map = clamp(Number(channel.input.value), 0, channels - 1);
        const [row, column] = [Math.floor(at / columns), at % columns];
        const [down, across] = [engine.insideOf(layer, row, 1), engine.insideOf(layer, column, 2)];
        const input = inputOf(number).subarray(map * height * width, (map + 1) * height * width);
        const output = state.result.maps[number].subarray(map * rows * columns, (map + 1) * rows * columns);
        const scale = largest(input);
        const cell = drawGrid(source, input, height, width, scale);
        outline(source, across[0] * cell, down[0] * cell, (across[1] - across[0] + 1) * cell, (down[1] - down[0] + 1) * cell);
        const small = drawGrid(target, output, rows, columns, scale);
        outline(target, column * small, row * small, small, small);
        const same = [];
        for (let other = 0; other < rows * columns; other += 1) {
          const [itsRows, itsColumns] = [engine.insideOf(layer, Math.floor(other / columns), 1), engine.insideOf(layer, other % columns, 2)];
          if (other !== at && `${itsRows} ${itsColumns}` === `${down} ${across}`) same.push(other);
        }
        text.textContent = `Output row ${row}, column ${column} is ${show(output[at])}, from ${span("row", down)} and `
          + `${span("column", across)} of the input. ${same.length ? `${same.length} other outputs read the same window` : "No other output reads the same window"}.`;
      }

      return () => {
        const pools = state.network.layers.map((layer, index) => [layer, index]).filter(([layer]) => isPool(layer));
        tool.hidden = !pools.length;
        if (!pools.length) return;
        if (!pools.some(([, index]) => index === number)) {
          const repeats = pools.find(([layer]) => layer.kind.startsWith("adaptive") && layer.size[1] > layer.before[1]);
          [, number] = repeats ?? pools[pools.length - 1];
          at = 0;
          chosen = false;
        }
        options(pick.select, pools.map(([layer, index]) =>
          [index, `${layer.name}: ${kindOf(layer)}, ${layer.before.slice(1).join("×")} to ${layer.size.slice(1).join("×")}`]), number);
        draw();
      };
    },
  };

  // --- Opening --------------------------------------------------------------------------------------------------------

  async function open(button) {
    for (const { element } of views) element.querySelector(".inside-open").disabled = true;
    try {
      await loadNetwork(config.networks[0].name);
      for (const view of views) {
        view.element.querySelector(".inside-open").remove();
        view.update = VIEWS[view.element.dataset.view](view.tool);
      }
      await refresh();
      document.documentElement.dataset.inside = "open";
    } catch (error) {
      for (const { element } of views) element.querySelector(".inside-open").disabled = false;
      button.after(el("p", { role: "alert" }, error.message));
    }
  }

  function start() {
    const elements = [...document.querySelectorAll(".see-inside")];
    if (!elements.length) return;
    config = JSON.parse(document.querySelector("script.inside-config").textContent);
    for (const element of elements) {
      const tool = element.querySelector(".inside-tool");
      const button = el("button", { type: "button", class: "inside-open", onclick: () => open(button) }, "Open the network");
      tool.replaceChildren(button);
      views.push({ element, tool, update: () => {} });
    }
    const openAsked = () => { // a link to a view opens it
      const asked = views.find(({ element }) => `#inside-${element.dataset.view}` === location.hash);
      const button = asked?.element.querySelector(".inside-open");
      if (button && !button.disabled) open(button);
    };
    addEventListener("hashchange", openAsked);
    openAsked();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
