// A network of `quantise.py` in plain JavaScript: forward, backward, and what one value is made of.
//
// Everything is in one function without outside names, so that its text is the whole program of a Web Worker: a page
// that was opened from a disk may not load a worker from a file. A feature map is a Float32Array of C×H×W values, one
// channel after the other; `size` is [C, H, W], or [F] of a vector.
function alexnetEngine() {
  "use strict";

  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const count = (size) => size.reduce((product, side) => product * side, 1);

  // The network with its weights as floats.
  function decode(network) {
    const integers = new Int8Array(bytesOf(network.integers).buffer);
    const view = new DataView(bytesOf(network.floats).buffer);
    const floats = Float32Array.from({ length: view.byteLength / 4 }, (_, index) => view.getFloat32(4 * index, true));
    let before = network.input;
    const layers = network.layers.map((layer) => {
      const decoded = { ...layer, before };
      const outputs = layer.size[0];
      const part = (start, length) => floats.subarray(start, start + length);
      if (layer.kind === "conv" || layer.kind === "linear") {
        const each = layer.kind === "conv" ? (before[0] / layer.groups) * layer.kernel ** 2 : before[0];
        const scale = part(layer.scale, outputs);
        decoded.weight = Float32Array.from({ length: outputs * each }, (_, index) =>
          integers[layer.weight + index] * scale[Math.floor(index / each)]);
        decoded.bias = part(layer.bias, outputs);
      }
      if (layer.kind === "batchNorm") {
        for (const key of ["mean", "variance", "gain", "offset"]) decoded[key] = part(layer[key], outputs);
      }
      before = layer.size;
      return decoded;
    });
    return { ...network, layers, integers: null, floats: null };
  }

  function normalised(network, image) {
    const pixels = network.input[1] * network.input[2];
    return image.map((value, index) => {
      const channel = Math.floor(index / pixels);
      return (value - network.mean[channel]) / network.std[channel];
    });
  }

  // --- Windows --------------------------------------------------------------------------------------------------------

  // Rows (or columns) `from` to `to`, the last included, of the layer's input from which output `index` is computed.
  // They may lie outside of the map, in the padding. `axis` is 1 for rows and 2 for columns.
  function windowOf(layer, index, axis) {
    if (layer.kernel) {
      const from = index * layer.stride - layer.padding;
      return [from, from + layer.kernel - 1];
    }
    if (layer.kind.startsWith("adaptive")) {
      const [inputs, outputs] = [layer.before[axis], layer.size[axis]];
      return [Math.floor((index * inputs) / outputs), Math.ceil(((index + 1) * inputs) / outputs) - 1];
    }
    return layer.size.length === 3 ? [index, index] : [0, layer.before[axis] - 1];
  }

  // The window of the layer's input, without what lies in the padding.
  function insideOf(layer, index, axis) {
    const [from, to] = windowOf(layer, index, axis);
    return [Math.max(from, 0), Math.min(to, layer.before[axis] - 1)];
  }

  // The pixels of the image that the value at `row`, `column` of layer `number` depends on, padding included.
  function receptiveField(network, number, row, column) {
    let [rows, columns] = [[row, row], [column, column]];
    for (let at = number; at >= 0; at -= 1) {
      const layer = network.layers[at];
      if (layer.before.length === 1) continue; // vectors: all of the map before them
      if (layer.size.length === 1) {
        [rows, columns] = [[0, layer.before[1] - 1], [0, layer.before[2] - 1]];
        continue;
      }
      rows = [windowOf(layer, rows[0], 1)[0], windowOf(layer, rows[1], 1)[1]];
      columns = [windowOf(layer, columns[0], 2)[0], windowOf(layer, columns[1], 2)[1]];
    }
    return { rows, columns };
  }

  // --- Forward --------------------------------------------------------------------------------------------------------

  function convolve(layer, input) {
    const { weight, bias, kernel, stride, padding, groups } = layer;
    const [, height, width] = layer.before;
    const [outputs, rows, columns] = layer.size;
    const perGroup = layer.before[0] / groups;
    const output = new Float32Array(count(layer.size));
    let next = 0;
    for (let channel = 0; channel < outputs; channel += 1) {
      const first = Math.floor(channel / (outputs / groups)) * perGroup;
      const plane = output.subarray(channel * rows * columns, (channel + 1) * rows * columns).fill(bias[channel]);
      for (let from = first; from < first + perGroup; from += 1) {
        const source = from * height * width;
        for (let y = 0; y < kernel; y += 1) {
          for (let x = 0; x < kernel; x += 1, next += 1) {
            const factor = weight[next];
            const begin = Math.max(0, Math.ceil((padding - x) / stride));
            const end = Math.min(columns, Math.floor((width - 1 + padding - x) / stride) + 1);
            for (let row = 0; row < rows; row += 1) {
              const at = row * stride - padding + y;
              if (at < 0 || at >= height) continue;
              const start = source + at * width - padding + x;
              for (let column = begin; column < end; column += 1) {
                plane[row * columns + column] += factor * input[start + column * stride];
              }
            }
          }
        }
      }
    }
    return output;
  }

  function multiply(layer, input) {
    const inputs = input.length;
    return Float32Array.from({ length: layer.size[0] }, (_, unit) => {
      let sum = layer.bias[unit];
      for (let index = 0; index < inputs; index += 1) sum += layer.weight[unit * inputs + index] * input[index];
      return sum;
    });
  }

  // Each window of a pooling layer: `reduce` gets the output's index and the indices of the inputs under the window.
  function pool(layer, reduce) {
    const [channels, rows, columns] = layer.size;
    const [, height, width] = layer.before;
    let output = 0;
    for (let channel = 0; channel < channels; channel += 1) {
      for (let row = 0; row < rows; row += 1) {
        const [top, bottom] = insideOf(layer, row, 1);
        for (let column = 0; column < columns; column += 1, output += 1) {
          const [left, right] = insideOf(layer, column, 2);
          const under = [];
          for (let y = top; y <= bottom; y += 1) {
            for (let x = left; x <= right; x += 1) under.push((channel * height + y) * width + x);
          }
          reduce(output, under);
        }
      }
    }
  }

  const largestOf = (input, under) => under.reduce((best, index) => (input[index] > input[best] ? index : best));
  // What a mean divides by: PyTorch counts padding as zeros, adaptive pooling has none.
  const divisor = (layer, under) => (layer.countsPadding ? layer.kernel ** 2 : under.length);
  const isMax = (layer) => layer.kind === "maxPool" || layer.kind === "adaptiveMax";

  function pooled(layer, input) {
    const output = new Float32Array(count(layer.size));
    pool(layer, (at, under) => {
      output[at] = isMax(layer)
        ? input[largestOf(input, under)]
        : under.reduce((sum, index) => sum + input[index], 0) / divisor(layer, under);
    });
    return output;
  }

  // The channels whose squares stand below the value of `channel`: PyTorch takes the odd one from the left.
  function neighbours(layer, channel) {
    const from = Math.max(0, channel - Math.floor(layer.width / 2));
    return [from, Math.min(layer.size[0] - 1, channel + Math.floor((layer.width - 1) / 2))];
  }

  // k + α/n times the sum of the neighbours' squares, for each value.
  function responseSums(layer, input) {
    const plane = layer.size[1] * layer.size[2];
    const sums = new Float32Array(input.length).fill(layer.k);
    for (let channel = 0; channel < layer.size[0]; channel += 1) {
      const [from, to] = neighbours(layer, channel);
      for (let other = from; other <= to; other += 1) {
        for (let at = 0; at < plane; at += 1) {
          sums[channel * plane + at] += (layer.alpha / layer.width) * input[other * plane + at] ** 2;
        }
      }
    }
    return sums;
  }

  // Mean and variance of each channel: the stored ones, or those of this image alone.
  function statistics(layer, input, ofImage) {
    if (!ofImage) return { mean: layer.mean, variance: layer.variance };
    const plane = layer.size[1] * layer.size[2];
    const [mean, variance] = [new Float32Array(layer.size[0]), new Float32Array(layer.size[0])];
    for (let channel = 0; channel < layer.size[0]; channel += 1) {
      const values = input.subarray(channel * plane, (channel + 1) * plane);
      mean[channel] = values.reduce((sum, value) => sum + value, 0) / plane;
      variance[channel] = values.reduce((sum, value) => sum + (value - mean[channel]) ** 2, 0) / plane;
    }
    return { mean, variance };
  }

  // Numbers from 0 to 1 that are the same for the same seed (mulberry32).
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  // `switches`: responseNorm: true or false; batchNorm: "stored", "image" or "off"; dropout: 0, or the probability with
  // which a value is dropped; seed: of dropout.
  const DEFAULTS = { responseNorm: true, batchNorm: "stored", dropout: 0, seed: 0 };

  function layerForward(layer, input, switches, draw) {
    const plane = layer.size.length === 3 ? layer.size[1] * layer.size[2] : 1;
    switch (layer.kind) {
      case "conv": return convolve(layer, input);
      case "linear": return multiply(layer, input);
      case "relu": return input.map((value) => Math.max(0, value));
      case "tanh": return input.map(Math.tanh);
      case "maxPool": case "averagePool": case "adaptiveMax": case "adaptiveAverage": return pooled(layer, input);
      case "batchNorm": {
        if (switches.batchNorm === "off") return input;
        const { mean, variance } = statistics(layer, input, switches.batchNorm === "image");
        return input.map((value, index) => {
          const channel = Math.floor(index / plane);
          return ((value - mean[channel]) / Math.sqrt(variance[channel] + layer.eps)) * layer.gain[channel]
            + layer.offset[channel];
        });
      }
      case "responseNorm": {
        if (!switches.responseNorm) return input;
        const sums = responseSums(layer, input);
        return input.map((value, index) => value / sums[index] ** layer.beta);
      }
      case "dropout": {
        if (!switches.dropout) return input;
        return input.map((value) => (draw() < switches.dropout ? 0 : value / (1 - switches.dropout)));
      }
      default: return input; // flatten, identity
    }
  }

  function softmax(logits) {
    const largest = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }

  // The output of every layer for an image of values from 0 to 1.
  function forward(network, image, switches = DEFAULTS) {
    const draw = random(switches.seed);
    const maps = [];
    let values = normalised(network, image);
    const input = values;
    for (const layer of network.layers) {
      values = layerForward(layer, values, switches, draw);
      maps.push(values);
    }
    const logits = values.subarray(0, network.classes.length);
    return { input, maps, logits, probabilities: softmax(logits) };
  }

  // --- Backward -------------------------------------------------------------------------------------------------------

  function layerBackward(layer, input, gradient) {
    const plane = layer.size.length === 3 ? layer.size[1] * layer.size[2] : 1;
    switch (layer.kind) {
      case "conv": return convolveBack(layer, gradient);
      case "linear": {
        const back = new Float32Array(input.length);
        for (let unit = 0; unit < layer.size[0]; unit += 1) {
          for (let index = 0; index < back.length; index += 1) {
            back[index] += gradient[unit] * layer.weight[unit * back.length + index];
          }
        }
        return back;
      }
      case "relu": return gradient.map((value, index) => (input[index] > 0 ? value : 0));
      case "tanh": return gradient.map((value, index) => value * (1 - Math.tanh(input[index]) ** 2));
      case "maxPool": case "averagePool": case "adaptiveMax": case "adaptiveAverage": {
        const back = new Float32Array(input.length);
        pool(layer, (at, under) => {
          if (isMax(layer)) back[largestOf(input, under)] += gradient[at];
          else for (const index of under) back[index] += gradient[at] / divisor(layer, under);
        });
        return back;
      }
      case "batchNorm":
        return gradient.map((value, index) => {
          const channel = Math.floor(index / plane);
          return (value * layer.gain[channel]) / Math.sqrt(layer.variance[channel] + layer.eps);
        });
      case "responseNorm": {
        const sums = responseSums(layer, input);
        const back = gradient.map((value, index) => value / sums[index] ** layer.beta);
        const factor = (2 * layer.alpha * layer.beta) / layer.width;
        for (let channel = 0; channel < layer.size[0]; channel += 1) {
          const [from, to] = neighbours(layer, channel);
          for (let at = 0; at < plane; at += 1) {
            const here = channel * plane + at;
            const common = factor * gradient[here] * input[here] * sums[here] ** (-layer.beta - 1);
            for (let other = from; other <= to; other += 1) {
              back[other * plane + at] -= common * input[other * plane + at];
            }
          }
        }
        return back;
      }
      default: return gradient; // flatten, identity, and dropout, which evaluation leaves out
    }
  }

  function convolveBack(layer, gradient) {
    const { weight, kernel, stride, padding, groups } = layer;
    const [, height, width] = layer.before;
    const [outputs, rows, columns] = layer.size;
    const perGroup = layer.before[0] / groups;
    const back = new Float32Array(count(layer.before));
    let next = 0;
    for (let channel = 0; channel < outputs; channel += 1) {
      const first = Math.floor(channel / (outputs / groups)) * perGroup;
      for (let from = first; from < first + perGroup; from += 1) {
        for (let y = 0; y < kernel; y += 1) {
          for (let x = 0; x < kernel; x += 1, next += 1) {
            for (let row = 0; row < rows; row += 1) {
              const at = row * stride - padding + y;
              if (at < 0 || at >= height) continue;
              for (let column = 0; column < columns; column += 1) {
                const across = column * stride - padding + x;
                if (across < 0 || across >= width) continue;
                back[(from * height + at) * width + across]
                  += weight[next] * gradient[(channel * rows + row) * columns + column];
              }
            }
          }
        }
      }
    }
    return back;
  }

  // How the logit of class `label` changes with each value of the image, in evaluation mode: C×H×W.
  function saliency(network, image, label) {
    const { input, maps } = forward(network, image);
    let gradient = new Float32Array(maps[maps.length - 1].length);
    gradient[label] = 1;
    for (let number = network.layers.length - 1; number >= 0; number -= 1) {
      gradient = layerBackward(network.layers[number], number ? maps[number - 1] : input, gradient);
    }
    const pixels = network.input[1] * network.input[2];
    return gradient.map((value, index) => value / network.std[Math.floor(index / pixels)]);
  }

  // The image with a square of the training images' mean colour; `left` and `top` may be negative.
  function occluded(network, image, left, top, side) {
    const [channels, height, width] = network.input;
    const covered = image.slice();
    for (let channel = 0; channel < channels; channel += 1) {
      for (let y = Math.max(0, top); y < Math.min(height, top + side); y += 1) {
        for (let x = Math.max(0, left); x < Math.min(width, left + side); x += 1) {
          covered[(channel * height + y) * width + x] = network.mean[channel];
        }
      }
    }
    return covered;
  }

  // --- One value, taken apart -----------------------------------------------------------------------------------------

  // What the value of layer `number` in `channel` at `row`, `column` is computed from. A list of terms, largest first:
  // value × factor = product, each with its place in the layer's input; their sum and `bias` give the value.
  function termsOf(network, input, number, channel, row, column) {
    const layer = network.layers[number];
    const terms = [];
    if (layer.kind === "linear") {
      input.forEach((value, index) => terms.push({ channel: index, value, factor: layer.weight[channel * input.length + index] }));
    } else {
      const perGroup = layer.before[0] / layer.groups;
      const first = Math.floor(channel / (layer.size[0] / layer.groups)) * perGroup;
      const [height, width] = layer.before.slice(1);
      let next = channel * perGroup * layer.kernel ** 2;
      for (let from = first; from < first + perGroup; from += 1) {
        for (let y = 0; y < layer.kernel; y += 1) {
          for (let x = 0; x < layer.kernel; x += 1, next += 1) {
            const [down, across] = [row * layer.stride - layer.padding + y, column * layer.stride - layer.padding + x];
            const inside = down >= 0 && down < height && across >= 0 && across < width;
            const value = inside ? input[(from * height + down) * width + across] : 0;
            terms.push({ channel: from, row: down, column: across, value, factor: layer.weight[next] });
          }
        }
      }
    }
    for (const term of terms) term.product = term.value * term.factor;
    return { terms, bias: layer.bias[channel] };
  }

  return { DEFAULTS, decode, forward, insideOf, neighbours, occluded, receptiveField, saliency, termsOf };
}
