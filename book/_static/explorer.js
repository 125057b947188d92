// The shape explorer (book/_ext/shape_explorer.py puts its element and the networks' layers on a page). The arithmetic
// is that of alexnet_course/shapes.py; tests/browser/test_explorer.py compares the two.

(() => {
  // --- What layers there are

  // start: the fields of a new layer. Layers that need an image cannot come after one that makes a list of it.
  const KINDS = {
    Conv2d: {
      short: "conv", words: "convolution", needsImage: true,
      start: { channels: 64, kernel: 3, stride: 1, padding: 1, dilation: 1, groups: 1 },
    },
    MaxPool2d: {
      short: "pool", words: "max pooling", needsImage: true, pool: true,
      start: { kernel: 2, stride: 2, padding: 0, dilation: 1, ceil: false },
    },
    AvgPool2d: {
      short: "pool", words: "average pooling", needsImage: true, pool: true,
      start: { kernel: 2, stride: 2, padding: 0, ceil: false },
    },
    AdaptiveAvgPool2d: { short: "adaptive", words: "adaptive average pooling", needsImage: true, start: { size: 1 } },
    AdaptiveMaxPool2d: { short: "adaptive", words: "adaptive max pooling", needsImage: true, start: { size: 1 } },
    Linear: { short: "fc", words: "linear", start: { units: 10 } },
    BatchNorm2d: { short: "norm", words: "batch norm", needsImage: true, start: {} },
    ReLU: { short: "ReLU", words: "ReLU", folds: true, inPlace: true, start: {} },
    Tanh: { short: "tanh", words: "tanh", folds: true, start: {} },
    LocalResponseNorm: { short: "LRN", words: "LRN", needsImage: true, folds: true, start: {} },
    Dropout: { short: "dropout", words: "dropout", folds: true, start: {} },
    Flatten: { short: "flatten", words: "flatten", folds: true, inPlace: true, start: {} },
  };

  const FIELDS = {
    channels: { label: "Output channels", least: 1, most: 65536 },
    units: { label: "Units", least: 1, most: 65536 },
    size: { label: "Output size", least: 1, most: 1000 },
    kernel: { label: "Kernel", least: 1, most: 1000 },
    stride: { label: "Stride", least: 1, most: 1000 },
    padding: { label: "Padding", least: 0, most: 1000 },
    dilation: { label: "Dilation", least: 1, most: 1000 },
    groups: { label: "Groups", least: 1, most: 65536 },
    ceil: { label: "Round sizes up", choice: true },
  };
  const INPUT_FIELDS = {
    channels: { label: "Input channels", least: 1, most: 65536 },
    size: { label: "Height and width", least: 1, most: 10000 },
    batch: { label: "Images in a batch", least: 1, most: 65536 },
  };
  const BYTES = 4; // of a number in float32

  // --- Arithmetic. A stack is a list of layers, a shape is [channels, height, width] or [features]

  const hasWindow = (layer) => layer.kernel !== undefined;
  const spanOf = ({ kernel, dilation = 1 }) => dilation * (kernel - 1) + 1;
  const product = (numbers) => numbers.reduce((a, b) => a * b, 1);
  const commonDivisor = (a, b) => (b ? commonDivisor(b, a % b) : a);

  // Rounded up, the last window may hang over the edge, by so many pixels at most.
  const overhang = (layer) => (layer.ceil ? layer.stride - 1 : 0);
  const fits = (side, layer) => side + 2 * layer.padding + overhang(layer) >= spanOf(layer);

  function outputSide(side, layer) {
    const room = side + 2 * layer.padding + overhang(layer) - spanOf(layer);
    const positions = Math.floor(room / layer.stride) + 1;
    // As in PyTorch, each window begins on the image or on the padding in front of it.
    return layer.ceil && (positions - 1) * layer.stride >= side + layer.padding ? positions - 1 : positions;
  }

  function outputShape(layer, shape) {
    if (layer.kind === "Linear") return [layer.units];
    if (layer.kind === "Flatten") return [product(shape)];
    const [channels, ...sides] = shape;
    if (hasWindow(layer)) return [layer.channels ?? channels, ...sides.map((side) => outputSide(side, layer))];
    return layer.size === undefined ? shape : [channels, layer.size, layer.size];
  }

  function parametersOf(layer, shape) {
    if (layer.kind === "Conv2d") return (layer.kernel ** 2 * (shape[0] / layer.groups) + 1) * layer.channels;
    if (layer.kind === "Linear") return (product(shape) + 1) * layer.units;
    return layer.kind === "BatchNorm2d" ? 2 * shape[0] : 0;
  }

  // Receptive field and jump; null where units no longer look through equal windows on a regular grid.
  function nextGrid(layer, grid, before, after) {
    if (!grid) return null;
    const [field, jump] = grid;
    if (hasWindow(layer)) return [field + (spanOf(layer) - 1) * jump, jump * layer.stride];
    const keepsPositions = after.length === 3 && before[1] === after[1] && before[2] === after[2];
    return keepsPositions ? grid : null;
  }

  // Why a layer cannot take its input, or null; field: the one to look at first.
  function obstacle(layer, shape) {
    const { needsImage, pool } = KINDS[layer.kind];
    if (needsImage && shape.length === 1) return { reason: "list" };
    if (layer.kind === "Conv2d" && (shape[0] % layer.groups || layer.channels % layer.groups)) {
      return { reason: "groups", field: "groups" };
    }
    if (pool && 2 * layer.padding > layer.kernel) return { reason: "padding", field: "padding" };
    if (hasWindow(layer) && !fits(Math.min(shape[1], shape[2]), layer)) return { reason: "vanishes", field: "kernel" };
    return null;
  }

  // A row for each layer up to the one that cannot take its input: `problem` says which and what.
  function table(stack, input) {
    const rows = [];
    let shape = input;
    let grid = [1, 1]; // a pixel sees itself
    for (const [index, layer] of stack.entries()) {
      const problem = obstacle(layer, shape);
      if (problem) return { rows, problem: { ...problem, index, arrives: shape } };
      const output = outputShape(layer, shape);
      const parameters = parametersOf(layer, shape);
      grid = nextGrid(layer, grid, shape, output);
      rows.push({
        kind: layer.kind,
        output_shape: output,
        parameters,
        mult_adds: layer.kind === "Conv2d" ? parameters * output[1] * output[2] : parameters,
        activation_bytes: BYTES * product(output),
        receptive_field: grid && grid[0],
        jump: grid && grid[1],
      });
      shape = output;
    }
    return { rows, problem: null };
  }

  // Side of the smallest square image that does not vanish, from the last layer back to the first; null: none is.
  function smallestInput(stack) {
    let need = 1;
    for (const layer of [...stack].reverse()) {
      if (hasWindow(layer)) {
        const before = (need - 1) * layer.stride;
        const least = layer.ceil ? before - layer.padding + 1 : 1; // so that the last window begins on the image
        need = Math.max(1, least, before + spanOf(layer) - 2 * layer.padding - overhang(layer));
      }
      else if (layer.size < need) return null;
      else if (layer.size !== undefined) need = 1;
    }
    return need;
  }

  // --- Words

  const number = (value) => (Number.isSafeInteger(value) ? value.toLocaleString("en") : value.toExponential(3));
  const millions = (value) => (value / 1e6).toLocaleString("en", { maximumFractionDigits: value < 1e8 ? 2 : 0 });
  const megabytes = (bytes) => {
    const [value, unit] = bytes < 1e5 ? [bytes / 1e3, "kB"] : [bytes / 1e6, "MB"];
    return `${value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 2 : 0 })} ${unit}`;
  };
  const times = (sides) => sides.map(number).join("×");
  const square = (side) => times([side, side]);
  const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

  // conv1, pool1, conv2, …, fc6: counted by kind, linear layers on from the convolutions, as by layer_names.
  function labels(stack) {
    const counts = {};
    return stack.map(({ kind }) => {
      const { short } = KINDS[kind];
      counts[short] = (counts[short] ?? 0) + 1;
      return `${short}${counts[short] + (short === "fc" ? counts.conv ?? 0 : 0)}`;
    });
  }

  function describe(layer) {
    const more = [
      layer.stride > 1 && `stride ${layer.stride}`,
      layer.padding > 0 && `padding ${layer.padding}`,
      layer.dilation > 1 && `dilation ${layer.dilation}`,
      layer.ceil && "rounded up",
      layer.groups > 1 && `${number(layer.groups)} groups`,
    ].filter(Boolean);
    if (layer.kind === "Conv2d") return [`${number(layer.channels)} of ${square(layer.kernel)}`, ...more].join(", ");
    if (hasWindow(layer)) return [`${KINDS[layer.kind].words} ${square(layer.kernel)}`, ...more].join(", ");
    if (layer.size !== undefined) return `${KINDS[layer.kind].words.replace("adaptive ", "")} to ${square(layer.size)}`;
    return layer.kind === "Linear" ? plural(layer.units, "unit") : KINDS[layer.kind].words;
  }

  // What would bring an image of `side` pixels through the layer that it vanishes at.
  function help(stack, index, side) {
    const layer = stack[index];
    const span = spanOf(layer);
    const { pool } = KINDS[layer.kind];
    const list = stack.findIndex((other) => other.kind === "Linear" || other.kind === "Flatten");
    const smallest = smallestInput(stack.slice(0, list > index ? list : stack.length));
    const kernel = Math.floor((side + 2 * layer.padding + overhang(layer) - 1) / (layer.dilation ?? 1)) + 1;
    const padding = Math.ceil((span - side - overhang(layer)) / 2);
    const before = stack.slice(0, index);
    const strides = before.slice(before.findLastIndex((other) => other.size !== undefined) + 1)
      .some((other) => other.stride > 1);
    const here = [
      (!pool || 2 * layer.padding <= kernel) && `a kernel of at most ${kernel}`,
      (!pool || 2 * padding <= layer.kernel) && `a padding of at least ${padding}`,
    ].filter(Boolean);
    const ways = [
      smallest !== null && `an input of at least ${square(smallest)} (for all layers)`,
      strides && "smaller strides in the layers before",
      here.length && `here ${here.join(" or ")}`,
    ].filter(Boolean);
    if (!ways.length) return "What would help: a smaller dilation here, with less padding.";
    return `What would help: ${ways.length > 1 ? `${ways.slice(0, -1).join(", ")}, or ${ways.at(-1)}` : ways[0]}.`;
  }

  // One or two sentences about the problem of a table.
  function explain(stack, { reason, index, arrives }) {
    const layer = stack[index];
    const name = labels(stack)[index];
    if (reason === "list") {
      return `${name} (${KINDS[layer.kind].words}) needs an image, but the layers before it have made a list of `
        + `${plural(arrives[0], "number")} of it; move it up, or remove it.`;
    }
    if (reason === "groups") {
      const wrong = arrives[0] % layer.groups ? `${plural(arrives[0], "channel")} arrive at ${name}`
        : `${name} has ${plural(layer.channels, "output channel")}`;
      return `${wrong}, which cannot be divided into ${plural(layer.groups, "group")}; use a number of groups that `
        + `divides both ${number(arrives[0])} and ${number(layer.channels)}, such as `
        + `${number(commonDivisor(arrives[0], layer.channels))}.`;
    }
    if (reason === "padding") {
      return `${name} has padding ${layer.padding}, but a pooling of ${square(layer.kernel)} takes at most half of its `
        + `kernel; use at most ${Math.floor(layer.kernel / 2)}, or a larger kernel.`;
    }
    const side = Math.min(arrives[1], arrives[2]);
    const padded = layer.padding > 0 ? ` (${square(side + 2 * layer.padding)} with its padding)` : "";
    const wide = layer.dilation > 1 ? ` (kernel ${layer.kernel}, dilation ${layer.dilation})` : "";
    return `The image vanishes at ${name} (${KINDS[layer.kind].words}): ${times(arrives.slice(1))} of it arrives`
      + `${padded}, and a window of ${square(spanOf(layer))}${wide} does not fit. ${help(stack, index, side)}`;
  }

  // --- Elements

  function fill(made, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }
  const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  // --- The drawing: like plots.network_drawing, height and depth for pixels, thickness for channels

  const IMAGE = 104; // px: the tallest face
  const THICKEST = 34; // px: the most channels
  const GAP = 10;
  const LINE = 14; // of text
  const [SLANT_X, SLANT_Y] = [0.42, 0.3]; // of the width, towards the back

  const colourOf = (kind) => (kind === "Conv2d" ? "conv" : kind === "Linear" ? "linear" : kind ? "pool" : "input");
  const isDrawn = (layer) => hasWindow(layer) || layer.size !== undefined || layer.kind === "Linear";

  function drawing(stack, input, result, isOpen, choose) {
    const names = labels(stack);
    const items = [{ name: "input", shape: input }];
    for (const [index, row] of result.rows.entries()) {
      if (isDrawn(stack[index])) items.push({ name: names[index], shape: row.output_shape, kind: row.kind, index });
    }
    if (result.problem?.reason === "vanishes") {
      const { index, arrives } = result.problem;
      items.push({ name: names[index], shape: arrives, kind: stack[index].kind, index, span: spanOf(stack[index]) });
    }
    const images = items.filter(({ shape }) => shape.length === 3);
    const lists = items.filter(({ shape }) => shape.length === 1);
    const perPixel = IMAGE / Math.max(...images.map(({ shape, span = 0 }) => Math.max(...shape.slice(1), span)));
    const perChannel = THICKEST / Math.max(...images.map(({ shape }) => shape[0]));
    const perUnit = IMAGE / Math.max(...lists.map(({ shape }) => shape[0]));
    const top = IMAGE * (0.5 + SLANT_Y) + 4;
    const drawn = [];
    let left = 2;
    for (const { name, shape, kind, index, span } of items) {
      const flat = shape.length === 1;
      const height = Math.max(2, flat ? shape[0] * perUnit : shape[1] * perPixel);
      const thickness = flat ? 7 : Math.max(1.5, shape[0] * perChannel);
      const [dx, dy] = flat ? [3, 2] : [SLANT_X * shape[2] * perPixel, SLANT_Y * shape[2] * perPixel];
      const frame = span ? span * perPixel : 0;
      const lines = span ? [name, `${square(span)} does`, "not fit"] : flat ? [name, number(shape[0])]
        : [name, number(shape[0]), times(shape.slice(1))];
      const slot = Math.max(thickness + dx, frame, 6.5 * Math.max(...lines.map((line) => line.length)));
      const middle = left + slot / 2;
      const [x, y] = [middle - (thickness + dx) / 2, top - height / 2];
      const face = (opacity, ...corners) => svg("polygon", {
        opacity, points: corners.map(([across, down]) => `${across.toFixed(2)},${down.toFixed(2)}`).join(" "),
      });
      const [right, bottom] = [x + thickness, y + height];
      const group = svg("g", {
        class: `explorer-block explorer-${colourOf(kind)}${isOpen(index) ? " explorer-open" : ""}`,
        onclick: () => index !== undefined && choose(index),
      },
      face(0.55, [x, y], [right, y], [right + dx, y - dy], [x + dx, y - dy]),
      face(0.75, [right, y], [right + dx, y - dy], [right + dx, bottom - dy], [right, bottom]),
      face(1, [x, y], [right, y], [right, bottom], [x, bottom]));
      if (span) {
        group.classList.add("explorer-misfit");
        group.append(svg("rect", { x: middle - frame / 2, y: top - frame / 2, width: frame, height: frame }));
      }
      for (const [count, line] of lines.entries()) {
        const y = top + IMAGE / 2 + (count + 1.2) * LINE;
        group.append(svg("text", { x: middle.toFixed(2), y, class: count ? "" : "explorer-name" }, line));
      }
      const area = { x: left - GAP / 2, y: 0, width: slot + GAP, height: top + IMAGE / 2 + 3.6 * LINE };
      group.append(svg("rect", { class: "explorer-area", ...area })); // to click on
      drawn.push(group);
      left += slot + GAP;
    }
    const [width, height] = [Math.ceil(left), Math.ceil(top + IMAGE / 2 + 3.6 * LINE)];
    const said = items.map(({ name, shape, span }) => (span ? `nothing of it at ${name}` : `${name} ${times(shape)}`));
    const words = `Drawing: ${said.join(", ")}.`;
    const box = `0 0 ${width} ${height}`;
    return svg("svg", { width, height, viewBox: box, role: "img", "aria-label": words }, ...drawn);
  }

  // --- The page

  function setUp(root, id) {
    const { start, networks } = JSON.parse(root.querySelector("script").textContent);
    const states = new Map(); // what the reader made of each network, also while another one is chosen
    let state;
    let cells; // of each row, to be filled anew without losing the reader's caret in a field

    const fresh = (name) => {
      const { input, layers } = networks.find((network) => network.name === name);
      return {
        name, changed: false, open: 0, drafts: {}, input: { channels: input[0], size: input[1], batch: 1 },
        layers: layers.map((layer) => ({ ...layer, drafts: {} })),
      };
    };
    const input = () => [state.input.channels, state.input.size, state.input.size];

    // Layers that change no size and hold no parameters are in the row of the layer before: [first, end) of each row.
    function rowsOfLayers() {
      const rows = [];
      for (const [index, layer] of state.layers.entries()) {
        if (KINDS[layer.kind].folds && rows.length) rows.at(-1)[1] = index + 1;
        else rows.push([index, index + 1]);
      }
      return rows;
    }

    const rowOf = (index) => rowsOfLayers().findIndex(([first, end]) => first <= index && index < end);

    // What was typed and is no valid number stays as a draft, and the last valid number counts.
    function field(owner, key, { label, least, most, choice }, index) {
      const name = `${id}-${index}-${key}`;
      if (choice) return tickBox(owner, key, label, name);
      const message = el("p", { class: "explorer-message", id: `${name}-message`, "aria-live": "polite" });
      const entry = el("input", {
        type: "number", min: least, max: most, step: 1, id: name, autocomplete: "off", "aria-describedby": message.id,
      });
      const typed = owner === state.input ? state.drafts : owner.drafts;
      entry.value = typed[key] ?? owner[key];
      const say = () => {
        const wrong = key in typed;
        entry.setAttribute("aria-invalid", wrong);
        const text = !wrong ? "" : `${label} is ${typed[key] || "empty"}, but must be an integer from `
          + `${number(least)} to ${number(most)}; until then ${number(owner[key])} counts.`;
        if (message.textContent !== text) message.textContent = text;
      };
      entry.addEventListener("input", () => {
        const value = Number(entry.value);
        if (/^\d+$/.test(entry.value) && value >= least && value <= most) {
          delete typed[key];
          owner[key] = value;
        } else typed[key] = entry.value;
        state.changed = true;
        say();
        update();
      });
      say();
      return { element: el("label", { class: "explorer-field" }, el("span", {}, label), entry), entry, message };
    }

    function tickBox(owner, key, label, name) {
      const entry = el("input", { type: "checkbox", id: name, checked: Boolean(owner[key]) });
      entry.addEventListener("change", () => {
        owner[key] = entry.checked;
        state.changed = true;
        update();
      });
      const element = el("label", { class: "explorer-field explorer-tick" }, el("span", {}, label), entry);
      return { element, entry, message: "" };
    }

    // The colour of a layer in the drawing.
    const key = (layer) => {
      const colour = !layer || isDrawn(layer) ? colourOf(layer?.kind) : "none";
      return el("span", { class: `explorer-key explorer-${colour}` });
    };
    const button = (text, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes }, text);

    // --- What stays while layers come and go

    const choice = el("select", {}, ...networks.map(({ name }) => el("option", {}, name)));
    const inputs = el("div", { class: "explorer-inputs" });
    const note = el("p", { class: "explorer-note" });
    const view = el("div", { class: "explorer-view", role: "group", tabindex: 0, "aria-label": "Drawing" });
    const status = el("p", { class: "explorer-status", role: "status" });
    const body = el("tbody");
    const totals = { parameters: el("td"), mult_adds: el("td"), memory: el("td") };
    const kind = el("select", {}, ...Object.entries(KINDS).filter(([name]) => name !== "Flatten")
      .map(([value, { words }]) => el("option", { value }, words)));
    const add = button("", () => {
      const rows = rowsOfLayers();
      const row = rows[state.open] ?? rows.at(-1) ?? [0, 0];
      const layer = { kind: kind.value, ...KINDS[kind.value].start, drafts: {} };
      const folded = KINDS[layer.kind].folds && row[1];
      state.layers.splice(row[1], 0, layer);
      state.changed = true;
      if (!folded) state.open = rowOf(row[1]);
      build();
      (folded ? add : body.querySelector(".explorer-panel input") ?? opener(state.open)).focus();
    });
    const again = button("Start again", () => {
      states.delete(state.name);
      show(state.name);
      choice.focus();
    });
    const heads = ["Layer", "Output", "Parameters", "Mult-adds", "Activations", "Receptive field", "Jump"];
    const all = el("th", { scope: "row" }, "In all");
    const sum = [all, el("td"), totals.parameters, totals.mult_adds, totals.memory, el("td"), el("td")];
    const headed = (values) => { // each value says what it is where the head of its column is not seen
      values.forEach((cell, column) => cell.setAttribute("data-head", heads[column + 1]));
      return values;
    };
    headed(sum.slice(1));
    const scroll = el("div", { class: "explorer-scroll", role: "region", tabindex: 0, "aria-label": "Layers" },
      el("table", {},
        el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
        body,
        el("tfoot", {}, el("tr", {}, ...sum))));
    choice.addEventListener("change", () => show(choice.value));

    const opener = (row) => body.querySelectorAll(".explorer-toggle")[row] ?? choice;

    // The row that was clicked stays where it is although another panel above it closes.
    function toggle(row) {
      const before = opener(row).getBoundingClientRect().top;
      state.open = state.open === row ? null : row;
      build();
      opener(row).focus({ preventScroll: true });
      const moved = () => opener(row).getBoundingClientRect().top - before;
      scroll.scrollTop += moved();
      window.scrollBy({ top: moved(), behavior: "instant" });
    }

    function move(row, step) {
      const rows = rowsOfLayers();
      const [first, second] = step < 0 ? [rows[row - 1], rows[row]] : [rows[row], rows[row + 1]];
      const layer = state.layers[rows[row][0]];
      state.layers.splice(first[0], 0, ...state.layers.splice(second[0], second[1] - second[0]));
      state.changed = true;
      state.open = rowOf(state.layers.indexOf(layer));
      build();
      const buttons = body.querySelectorAll(".explorer-move");
      const same = buttons[step < 0 ? 0 : 1];
      (same?.disabled ? opener(state.open) : same ?? opener(state.open)).focus();
    }

    function remove(first, end) {
      state.layers.splice(first, end - first);
      state.changed = true;
      state.open = Math.min(state.open, rowsOfLayers().length - 1);
      build();
      opener(state.open).focus();
    }

    function panel(row, [first, end], count) {
      const layer = state.layers[first];
      const fields = Object.keys(KINDS[layer.kind].start).map((key) => field(layer, key, FIELDS[key], first));
      const problem = el("p", { class: "explorer-message" });
      const name = labels(state.layers)[first];
      const folded = state.layers.slice(first + 1, end).map((other, offset) => {
        const { words } = KINDS[other.kind];
        return button(`${words} ×`, () => remove(first + 1 + offset, first + 2 + offset), {
          class: "explorer-chip", "aria-label": `Remove ${words} after ${name}`,
        });
      });
      const element = el("div", { class: "explorer-panel", role: "group", "aria-label": `Change ${name}` },
        el("div", { class: "explorer-fields" }, ...fields.map((made) => made.element)),
        ...fields.map((made) => made.message), problem,
        el("div", { class: "explorer-actions" },
          folded.length ? el("div", { class: "explorer-chips" }, el("span", {}, "then"), ...folded) : "",
          button("Move up", () => move(row, -1), { class: "explorer-move", disabled: row === 0 }),
          button("Move down", () => move(row, 1), { class: "explorer-move", disabled: row === count - 1 }),
          button("Remove", () => remove(first, end), { "aria-label": `Remove ${name}` })));
      return { element, fields, problem };
    }

    // --- Build the rows, after a change of which layers there are or of what is open

    function build() {
      const rows = rowsOfLayers();
      const names = labels(state.layers);
      cells = [];
      const blanks = () => headed(heads.slice(1).map(() => el("td")));
      body.replaceChildren(el("tr", {}, el("th", { scope: "row" }, key(), el("b", {}, "input")), ...blanks()));
      for (const [row, [first, end]] of rows.entries()) {
        const open = row === state.open;
        const summary = el("span", { class: "explorer-summary" });
        const then = state.layers.slice(first + 1, end).map((layer) => KINDS[layer.kind].words).join(", ");
        const values = blanks();
        const made = open ? panel(row, [first, end], rows.length) : null;
        const toggler = el("button", {
          type: "button", class: "explorer-toggle", "aria-expanded": String(open),
          "aria-controls": open ? `${id}-panel` : undefined, onclick: () => toggle(row),
        }, key(state.layers[first]), el("b", {}, names[first]), then ? ` then ${then}` : "", " ", summary);
        const line = el("tr", {}, el("th", { scope: "row" }, toggler), ...values);
        body.append(line);
        if (made) {
          const cell = el("td", { colspan: heads.length }, made.element);
          body.append(el("tr", { class: "explorer-editor", id: `${id}-panel` }, cell));
        }
        cells.push({ first, end, line, summary, values, panel: made });
      }
      add.textContent = rows[state.open] ? `Add after ${names[rows[state.open][0]]}` : "Add at the end";
      update();
    }

    // --- Fill in the numbers, after every change

    function update() {
      const { layers } = state;
      const result = table(layers, input());
      const { rows, problem } = result;
      const total = (key) => rows.reduce((sum, row) => sum + row[key], 0);
      // Of a row: what its layers keep for the backward pass, for all images of the batch.
      const memory = (first, end) => state.input.batch * rows.slice(first, end).reduce((sum, row) =>
        sum + (KINDS[row.kind].inPlace ? 0 : row.activation_bytes), 0);
      const sums = {
        parameters: total("parameters"), mult_adds: total("mult_adds"), memory: memory(0, rows.length),
      };
      const entry = (cell, text, share = 0) => {
        cell.textContent = text;
        cell.style.setProperty("--share", `${(100 * share).toFixed(2)}%`);
      };
      const [, shape, , , , sees, apart] = body.rows[0].cells; // of the input, whose pixels see themselves
      for (const [cell, text] of [[shape, times(input())], [sees, "1"], [apart, "1"]]) entry(cell, text);
      for (const { first: index, end, line, summary, values, panel: made } of cells) {
        const row = rows[index];
        const stuck = problem && problem.index >= index && problem.index < end;
        const wrong = Object.keys(layers[index].drafts).map((key) => FIELDS[key].label.toLowerCase());
        summary.textContent = describe(layers[index]) + (wrong.length ? ` (look at its ${wrong.join(", ")})` : "");
        line.className = stuck ? "explorer-stuck" : row ? "" : "explorer-beyond";
        if (row) {
          const none = row.output_shape.length === 1 ? "all" : "uneven";
          entry(values[0], times(row.output_shape));
          entry(values[1], number(row.parameters), row.parameters / (sums.parameters || 1));
          entry(values[2], number(row.mult_adds), row.mult_adds / (sums.mult_adds || 1));
          entry(values[3], megabytes(memory(index, end)), memory(index, end) / (sums.memory || 1));
          entry(values[4], row.receptive_field === null ? none : number(row.receptive_field));
          entry(values[5], row.jump === null ? "" : number(row.jump));
        } else for (const cell of values) entry(cell, "–");
        if (stuck) entry(values[0], problem.reason === "vanishes" ? "vanishes" : "does not fit");
        if (made) {
          made.problem.textContent = stuck ? explain(layers, problem) : "";
          for (const { entry: box } of made.fields) {
            const blamed = stuck && problem.field && box.id.endsWith(`-${problem.field}`);
            box.classList.toggle("explorer-blamed", Boolean(blamed));
          }
        }
      }
      for (const key of ["parameters", "mult_adds"]) entry(totals[key], problem ? "–" : number(sums[key]));
      entry(totals.memory, problem ? "–" : megabytes(sums.memory));
      const end = rows.at(-1)?.output_shape ?? input();
      const text = problem ? explain(layers, problem)
        : `${plural(sums.parameters, "parameter")}, ${millions(sums.mult_adds)} million mult-adds an image, `
          + `${megabytes(sums.memory)} of activations with a batch of ${plural(state.input.batch, "image")}; `
          + `${end.length === 1 ? plural(end[0], "number") : times(end)} in the end.${otherNetwork(rows)}`;
      if (status.textContent !== text) status.textContent = text;
      status.classList.toggle("explorer-alarm", Boolean(problem));
      const known = networks.find(({ name }) => name === state.name);
      note.replaceChildren(known.note, ...(state.changed ? [" Changed by you. ", again] : []));
      const open = rowsOfLayers()[state.open];
      view.replaceChildren(drawing(layers, input(), result, (index) => open && open[0] === index, (index) => {
        state.open = rowOf(index);
        build();
        opener(state.open).focus(); // scrolls to it
      }));
    }

    // Weights of the network as published do not fit a linear layer that reads another number of values.
    function otherNetwork(rows) {
      for (const [index, { inputs: built }] of state.layers.entries()) {
        const arrives = product(index ? rows[index - 1].output_shape : input());
        if (built !== undefined && built !== arrives) {
          return ` ${labels(state.layers)[index]} reads ${plural(arrives, "value")} here and ${number(built)} in `
            + `${state.name}: this is another network, and weights of that one do not fit it.`;
        }
      }
      return "";
    }

    function show(name) {
      state = states.get(name) ?? fresh(name);
      states.set(name, state);
      choice.value = name;
      const fields = Object.entries(INPUT_FIELDS).map(([key, limits]) => field(state.input, key, limits, "input"));
      inputs.replaceChildren(...fields.map((made) => made.element), ...fields.map((made) => made.message));
      build();
    }

    const labelled = (text, box) => el("label", { class: "explorer-field" }, el("span", {}, text), box);
    root.replaceChildren(
      el("div", { class: "explorer-bar" }, labelled("Network", choice), inputs),
      note, view,
      el("p", { class: "explorer-note" }, "To scale: height and depth of a block are the pixels of a layer's output, "
        + "its thickness the channels; the height of a bar is the units of a linear layer."),
      status, scroll,
      el("p", { class: "explorer-note" }, "Receptive field and jump in pixels of the input. All: each unit of a linear "
        + "layer sees the whole image. Uneven: behind adaptive pooling to another size the windows differ. Activations: "
        + `the outputs for all images of the batch, ${BYTES} bytes a number, a kB of 1,000 bytes and an MB of 1,000 kB; `
        + "ReLU overwrites its input and needs none. The other columns are for one image."),
      el("div", { class: "explorer-bar" }, labelled("New layer", kind), add));
    show(start);
    root.classList.add("explorer-ready");
  }

  function setUpExplorers() {
    const roots = document.querySelectorAll(".shape-explorer");
    if (!roots.length) return;
    window.shapeExplorer = { table, smallestInput, explain };
    roots.forEach((root, index) => setUp(root, `explorer-${index}`));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", setUpExplorers);
  else setUpExplorers();
})();
