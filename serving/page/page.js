const TOP_K = 5;
const CLASSES_SHOWN = 8;
/** From this share of the picture on, a box says that the model looked everywhere. */
const SPREAD_SHARE = 0.75;

/** Parts of a card, from top to bottom, and the tasks whose errors they show. */
const PARTS = [
  [".about", ["refresh", "describe"]],
  [".answer", ["classify"]],
  [".look", ["explain"]],
  [".activations", ["activations"]],
  [".filters", ["filters"]],
];
const METHODS = [
  ["grad_cam", "Grad-CAM"],
  ["hires_cam", "HiResCAM"],
  ["grad_cam_pp", "Grad-CAM++"],
  ["layer_cam", "LayerCAM"],
];
const INTEGRATED_GRADIENTS = ["integrated_gradients", "Integrated gradients"];
/** Filters of a layer that are drawn at a time: they take seconds when they are drawn first. */
const FILTERS_SHOWN = 16;

const byId = (id) => document.getElementById(id);
const cards = [];
const shownErrors = new WeakMap();
let picture = null;
// Kept as long as the tab is open, so that loading the page again does not ask again.
let apiKey = sessionStorage.getItem("api-key");

/** What the gateway says went wrong, in its own sentence. */
class GatewayError extends Error {
  constructor(sentence, requestId) {
    super(sentence);
    this.requestId = requestId;
  }
}

/**
 * Ask the gateway; with a file, send it as the body.
 * @throws {GatewayError} an answer that is an error, or none at all.
 */
async function ask(path, { file, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (apiKey) headers["X-Api-Key"] = apiKey;
  // What the browser takes for something else is for the gateway to judge by its content.
  if (file) headers["Content-Type"] = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  let response;
  try {
    response = await fetch(path, { method: file ? "POST" : "GET", headers, body: file, signal });
    if (response.ok) return await (accept === "application/json" ? response.json() : response.blob());
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new GatewayError("the gateway cannot be reached");
  }
  if (response.status === 401) byId("access").hidden = false;
  const body = await response.json().catch(() => ({}));
  throw new GatewayError(
    body.error ?? `the gateway answered with status ${response.status}`,
    body.request_id ?? response.headers.get("X-Request-Id"),
  );
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function capitalized(sentence) {
  const text = sentence.charAt(0).toUpperCase() + sentence.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Write a share of 1; what is not quite 0 or 1 is not written as if it were. */
function percent(share, digits = 1) {
  const least = 10 ** -digits;
  if (share > 0 && 100 * share < least / 2) return `< ${least}\u00a0%`;
  if (share < 1 && 100 * share >= 100 - least / 2) return `> ${100 - least}\u00a0%`;
  return `${(100 * share).toFixed(share === 1 ? 0 : digits)}\u00a0%`;
}

/** Show an error in an element, with a button to try again; hide the element where there is none. */
function showProblem(place, error, retry) {
  // What is written anew is also read out anew.
  if (shownErrors.get(place) === error) return;
  shownErrors.set(place, error);
  place.hidden = !error;
  place.replaceChildren();
  if (!error) return;
  const sentence = element("p", "", capitalized(error.message));
  if (error.requestId) sentence.append(element("small", "", `Request ${error.requestId}`));
  const button = element("button", "", "Try again");
  button.type = "button";
  button.addEventListener("click", retry);
  place.append(sentence, button);
}

/** Show a picture that came as a blob, once it is decoded, and let go of the one before. */
async function showBlob(image, blob, signal) {
  const url = URL.createObjectURL(blob);
  const probe = new Image();
  probe.src = url;
  await probe.decode();
  if (signal.aborted) {
    URL.revokeObjectURL(url);
    signal.throwIfAborted();
  }
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = url;
  image.hidden = false;
}

/** Fill a select with [value, text] pairs and keep what was chosen, where it still exists. */
function fill(select, options, fallback) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = options.some(([value]) => value === before) ? before : fallback;
}

function layerOptions(layers) {
  return layers.map(({ name, height, width }) => [name, `${name} (${height} × ${width})`]);
}

/** Say in words where a box lies, in ninths of the picture. */
function whereabouts({ left, top, right, bottom }, width, height) {
  const third = (middle, names) => names[Math.min(2, Math.floor(3 * middle))];
  const row = third((top + bottom) / 2 / height, ["upper", "", "lower"]);
  const column = third((left + right) / 2 / width, ["left", "", "right"]);
  if (row && column) return `at the ${row} ${column}`;
  if (column) return `at the ${column}`;
  return row ? `in the ${row} middle` : "in the middle";
}

function describeMap({ label, layer, peak, box, width, height, position }) {
  const what = position === undefined ? `“${label}”` : `“${label}” as character ${position + 1}`;
  const place = layer ? `at ${layer}` : "by integrated gradients";
  if (peak <= 0 || !box) return `Nothing in the picture speaks for ${what} ${place}.`;
  const share = ((box.right - box.left) * (box.bottom - box.top)) / (width * height);
  const where = share >= SPREAD_SHARE ? "is spread over the picture" : `lies ${whereabouts(box, width, height)} of the picture`;
  return `What speaks for ${what} ${place} ${where}: the box covers ${percent(share, 0)} of it.`;
}

function drawBox(svg, box, width, height) {
  svg.toggleAttribute("hidden", !box);
  if (!box) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const rect of svg.children) {
    rect.setAttribute("x", box.left);
    rect.setAttribute("y", box.top);
    rect.setAttribute("width", box.right - box.left);
    rect.setAttribute("height", box.bottom - box.top);
  }
}

/** A model: what it is, what it says about the picture and where it looked. */
class Card {
  #running = new Map();
  #errors = new Map();
  #model;
  /** What the grids of activations and of filters show. */
  #drawn = {};

  constructor(model) {
    this.root = byId("card").content.firstElementChild.cloneNode(true);
    this.#model = model;
    const name = this.#find(".name");
    name.textContent = model.name;
    name.id = `model-${model.name}`;
    this.root.setAttribute("aria-labelledby", name.id);
    for (const chooser of [".method", ".layer", ".class", ".position"]) {
      this.#find(chooser).addEventListener("change", () => this.explain());
    }
    this.#find(".activation-layer").addEventListener("change", () => this.#chooseChannels());
    this.#find(".channel").addEventListener("input", () => this.#nameChannel());
    this.#find(".channel").addEventListener("change", () => this.activations());
    this.#find(".activations").addEventListener("toggle", () => this.activations());
    this.#find(".filter-layer").addEventListener("change", () => this.#chooseFilters());
    this.#find(".filter-range").addEventListener("change", () => this.filters());
    this.#find(".filters").addEventListener("toggle", () => this.filters());
    for (const button of this.root.querySelectorAll(".enlarge")) {
      button.addEventListener("click", () => enlarge(button.querySelector("img"), model.name));
    }
    this.describe();
  }

  #find(selector) {
    return this.root.querySelector(selector);
  }

  get #path() {
    return `v1/models/${encodeURIComponent(this.#model.name)}`;
  }

  /** Do a task in place of the same task that may still run; what the former one brings is dropped. */
  async #run(task, work) {
    this.#stop(task);
    const controller = new AbortController();
    this.#running.set(task, controller);
    this.#part(task).setAttribute("aria-busy", "true");
    try {
      await work(controller.signal);
    } catch (error) {
      if (controller.signal.aborted) return;
      this.#errors.set(task, error);
    }
    if (controller.signal.aborted) return;
    this.#part(task).removeAttribute("aria-busy");
    this.#showErrors();
  }

  #stop(task) {
    this.#running.get(task)?.abort();
    this.#part(task).removeAttribute("aria-busy");
    this.#errors.delete(task);
    this.#showErrors();
  }

  #part(task) {
    return this.#find(PARTS.find(([, tasks]) => tasks.includes(task))[0]);
  }

  /** Show each error where its task belongs; a sentence that stands above already is not repeated. */
  #showErrors() {
    const said = new Set();
    for (const [selector, tasks] of PARTS) {
      const error = tasks.map((task) => this.#errors.get(task)).find((found) => found && !said.has(found.message));
      if (error) said.add(error.message);
      showProblem(this.#find(`${selector} .problem`), error, () => this.#retry());
    }
  }

  #retry() {
    // The button that was pressed is about to go.
    this.root.focus({ preventScroll: true });
    for (const task of [...this.#errors.keys()]) this[task]();
  }

  /** Ask anew what the model is: it was not ready, or another version answered than the one described. */
  refresh() {
    return this.#run("refresh", async (signal) => {
      const wasReady = this.#model.ready;
      this.#model = await ask(this.#path, { signal });
      this.describe();
      if (picture && !wasReady) this.show();
    });
  }

  describe() {
    const { ready, version, labels, layers, grad_cam_layer: last } = this.#model;
    const named = Object.keys(labels).filter((label) => labels[label] === version);
    this.#find(".version").textContent = ready ? [`version ${version}`, ...named].join(" · ") : "not ready";
    this.#showFacts();
    this.root.classList.toggle("unready", !ready);
    if (!ready) {
      this.#errors.set("refresh", this.#unready());
      this.#showErrors();
      return;
    }
    this.#drawn = {};
    const carried = layers.some((layer) => layer.cam_methods) ? METHODS : METHODS.slice(0, last ? 1 : 0);
    const methods = this.#model.integrated_gradients ? [...carried, INTEGRATED_GRADIENTS] : carried;
    fill(this.#find(".method"), methods, methods[0]?.[0]);
    fill(this.#find(".layer"), layerOptions(layers.filter((layer) => layer.grad_cam)), last);
    fill(this.#find(".class"), [["", "the predicted one"], ...this.#model.classes.map((name) => [name, name])], "");
    const numbers = Array.from({ length: this.#model.positions ?? 0 }, (_, index) => [String(index), String(index + 1)]);
    fill(this.#find(".position"), numbers, numbers[0]?.[0]);
    this.#find(".of-text").hidden = !numbers.length;
    const shown = layers.filter((layer) => layer.activations);
    fill(this.#find(".activation-layer"), layerOptions(shown), shown[0]?.name);
    this.#chooseChannels();
    const drawable = layers.filter((layer) => layer.filter_patterns);
    fill(this.#find(".filter-layer"), layerOptions(drawable), drawable.at(-1)?.name);
    this.#find(".filters").hidden = !drawable.length;
    this.#chooseFilters();
    this.#run("describe", async (signal) => {
      const { model_card: card } = await ask(`${this.#path}/metadata`, { signal });
      this.#showFacts(card);
    });
  }

  #unready() {
    const [newest] = this.#model.model_version_status;
    if (!newest) return new GatewayError("this model is not ready: no version of it is loaded");
    const reason = newest.status.error_message || newest.state.toLowerCase();
    return new GatewayError(`this model is not ready: version ${newest.version}: ${reason}`);
  }

  #showFacts(card) {
    const { classes, positions, input_height: height, input_width: width } = this.#model;
    const facts = [];
    if (card) {
      const { test_accuracy: test, validation_accuracy: validation, images_per_class: counts = {} } = card.training ?? {};
      const accuracies = [
        ...(test === undefined ? [] : [`${percent(test)} test`]),
        ...(validation === undefined ? [] : [`${percent(validation)} validation`]),
      ];
      // Of texts every character is counted.
      const pictures = Object.values(counts).reduce((sum, count) => sum + Number(count), 0) / (positions ?? 1);
      facts.push(["Recipe", card.recipe || "unknown"]);
      facts.push(["Accuracy", accuracies.join(", ") || "not measured"]);
      if (pictures) facts.push(["Trained on", `${pictures.toLocaleString("en")} pictures`]);
      if (classes.length === 2 && card.decision_threshold > 0) {
        facts.push(["Threshold", `${classes[1]} from ${percent(card.decision_threshold)}`]);
      }
    }
    if (classes.length) {
      const more = classes.length - CLASSES_SHOWN;
      facts.push(["Classes", classes.slice(0, CLASSES_SHOWN).join(", ") + (more > 0 ? ` and ${more} more` : "")]);
    }
    if (positions) facts.push(["Reads", `${positions} characters`]);
    if (height && width) facts.push(["Sees", `${height} × ${width} pixels`]);
    this.#find(".facts").replaceChildren(
      ...facts.flatMap(([term, text]) => [element("dt", "", term), element("dd", "", text)]),
    );
  }

  /** Begin anew with the picture that was chosen. */
  show() {
    delete this.#drawn.activations;
    if (!this.#model.ready) return;
    for (const task of ["classify", "explain", "activations"]) this.#stop(task);
    for (const part of [".answer", ".look"]) this.#find(part).hidden = false;
    this.#find(".activations").hidden = !this.#model.layers.some((layer) => layer.activations);
    this.#find(".look .choosers").hidden = !this.#find(".method").options.length;
    this.#find(".look figcaption").textContent = "";
    this.#find(".activations .grid").hidden = true;
    this.#clearMap();
    this.#find(".class").value = "";
    const original = this.#find(".original");
    original.hidden = this.#find(".stage").hidden = !picture.ratio;
    original.src = picture.url;
    if (picture.ratio) this.#find(".stage").style.setProperty("--ratio", picture.ratio);
    this.classify();
    this.explain();
    this.activations();
  }

  #clearMap() {
    this.#find(".overlay").hidden = true;
    drawBox(this.#find(".box"), null);
  }

  classify() {
    const { file } = picture;
    this.#find(".verdict").replaceChildren("\u2026");
    this.#find(".bars").replaceChildren();
    return this.#run("classify", async (signal) => {
      try {
        const { model, classifications } = await ask(`${this.#path}:classify?top_k=${TOP_K}`, { file, signal });
        this.#showAnswer(classifications[0]);
        if (model.version !== this.#model.version) this.refresh();
      } catch (error) {
        if (!signal.aborted) this.#find(".verdict").replaceChildren();
        throw error;
      }
    });
  }

  /** Show the class and the most probable ones, or the text and its characters. */
  #showAnswer({ label, class_index: chosen, score, top_k: best, positions }) {
    this.#find(".verdict").replaceChildren(element("span", "", label), " ", element("span", "share", percent(score)));
    this.#find(".bars").replaceChildren(
      ...(positions ?? best).map((row) => {
        const bar = element("span", "bar");
        bar.style.setProperty("--share", row.score);
        const item = element("li", "", element("span", "", row.label), element("span", "share", percent(row.score)), bar);
        item.classList.toggle("chosen", Boolean(positions) || row.class_index === chosen);
        return item;
      }),
    );
  }

  explain() {
    if (!picture) return;
    const method = this.#find(".method").value;
    if (!method) {
      this.#find(".look figcaption").textContent = "This model was exported without explanations, so there is no heat map of it.";
      return;
    }
    const { file } = picture;
    const query = new URLSearchParams();
    const atInput = method === INTEGRATED_GRADIENTS[0];
    this.#find(".layer").disabled = atInput;
    if (!atInput) {
      query.set("method", method);
      query.set("layer", this.#find(".layer").value);
    }
    if (this.#find(".class").value) query.set("class", this.#find(".class").value);
    if (this.#find(".position").value) query.set("position", this.#find(".position").value);
    return this.#run("explain", async (signal) => {
      const path = `${this.#path}/explain/${atInput ? "attributions" : "grad-cam"}?${query}`;
      try {
        // At full strength; the page itself lays it over the picture, at the strength of the slider.
        const [{ explanations: [map] }, overlay] = await Promise.all([
          ask(path, { file, signal }),
          ask(`${path}&alpha=1`, { file, accept: "image/png", signal }),
        ]);
        await this.#showMap(map, overlay, signal);
      } catch (error) {
        if (!signal.aborted) {
          this.#clearMap();
          this.#find(".look figcaption").textContent = "";
        }
        throw error;
      }
    });
  }

  async #showMap(map, blob, signal) {
    const overlay = this.#find(".overlay");
    if (map.peak > 0) {
      await showBlob(overlay, blob, signal);
      overlay.alt = `Heat map for ${map.label} ${map.layer ? `at ${map.layer}` : "at the input"}`;
    } else {
      overlay.hidden = true;
    }
    const stage = this.#find(".stage");
    stage.hidden = false;
    stage.style.setProperty("--ratio", map.width / map.height);
    drawBox(this.#find(".box"), map.box, map.width, map.height);
    this.#find(".look figcaption").textContent = describeMap(map);
  }

  #layer(name) {
    return this.#model.layers.find((layer) => layer.name === name);
  }

  /** Let any channel of the chosen layer be looked at; all side by side at first. */
  #chooseChannels() {
    const layer = this.#layer(this.#find(".activation-layer").value);
    this.#find(".channel").max = layer?.channels ?? 0;
    this.#find(".channel").value = 0;
    this.#nameChannel();
    this.activations();
  }

  #nameChannel() {
    const number = Number(this.#find(".channel").value);
    this.#find(".channel-name").textContent = number ? String(number - 1) : "all";
  }

  activations() {
    const layer = this.#layer(this.#find(".activation-layer").value);
    if (!picture || !layer) return;
    const { file } = picture;
    const channel = Number(this.#find(".channel").value) - 1;
    const query = new URLSearchParams({ layer: layer.name });
    const summary = `${this.#path}/explain/activations?${query}`;
    if (channel >= 0) query.set("channels", channel);
    const path = `${this.#path}/explain/activations?${query}`;
    return this.#grid("activations", path, file, async (signal) => {
      const { pictures: [{ layers: [found] }] } = await ask(summary, { file, signal });
      const what = channel < 0 ? `${layer.channels} channels of ${layer.name}, side by side` : `channel ${channel} of ${layer.name}`;
      const size = `${layer.height} × ${layer.width}`;
      const shown = channel < 0 ? `${layer.channels} channels of ${size}, each scaled on its own` : `Channel ${channel}, ${size}`;
      const silent = found.silent_channels === 1 ? "1 channel is" : `${found.silent_channels} channels are`;
      return [what, `${shown}. Of the layer ${percent(found.sparsity, 0)} is zero; ${silent} silent. Choose the picture to enlarge it.`];
    });
  }

  /** Offer the filters of the chosen layer in groups that take a few seconds each. */
  #chooseFilters() {
    const layer = this.#layer(this.#find(".filter-layer").value);
    const groups = [];
    for (let first = 0; first < (layer?.channels ?? 0); first += FILTERS_SHOWN) {
      const last = Math.min(first + FILTERS_SHOWN, layer.channels) - 1;
      groups.push([`${first}-${last}`, first === last ? String(first) : `${first} to ${last}`]);
    }
    this.#find(".filter-range").replaceChildren(...groups.map(([value, text]) => new Option(text, value)));
    this.filters();
  }

  filters() {
    const layer = this.#find(".filter-layer").value;
    const filter = this.#find(".filter-range").value;
    if (!layer || !filter) return;
    const path = `${this.#path}/explain/filters?${new URLSearchParams({ layer, filter })}`;
    return this.#grid("filters", path, undefined, () => [
      `what filters ${filter} of ${layer} respond to`,
      `What filters ${filter} of ${layer} respond to most, by gradient ascent from grey noise. Choose the picture to enlarge it.`,
    ]);
  }

  /** Show a picture of many in an opened section, unless it is there already; `describe` returns its name and caption. */
  #grid(task, path, file, describe) {
    const section = this.#part(task);
    if (!section.open || this.#drawn[task] === path) return;
    this.#drawn[task] = path;
    return this.#run(task, async (signal) => {
      const grid = section.querySelector(".grid");
      try {
        const image = grid.querySelector("img");
        const [blob, [name, caption]] = await Promise.all([
          ask(path, { file, accept: "image/png", signal }),
          describe(signal),
        ]);
        await showBlob(image, blob, signal);
        image.alt = name;
        grid.querySelector("figcaption").textContent = caption;
        grid.hidden = false;
      } catch (error) {
        if (!signal.aborted) {
          delete this.#drawn[task];
          grid.hidden = true;
        }
        throw error;
      }
    });
  }
}

function enlarge(image, model) {
  const dialog = byId("enlarged");
  const large = dialog.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  dialog.querySelector("p").textContent = `${model}: ${image.alt}`;
  dialog.showModal();
}

function notify(sentence) {
  byId("notice").hidden = !sentence;
  byId("notice").textContent = sentence;
}

/** Take a picture for all models. */
async function take(file) {
  if (picture) URL.revokeObjectURL(picture.url);
  const mine = { file, url: URL.createObjectURL(file), ratio: null };
  picture = mine;
  notify("");
  const probe = new Image();
  probe.src = mine.url;
  try {
    await probe.decode();
    mine.ratio = probe.naturalWidth / probe.naturalHeight;
  } catch {
    if (picture === mine) notify("This browser cannot show the file. The models are asked all the same.");
  }
  if (picture !== mine) return;
  byId("drop").classList.add("filled");
  byId("thumbnail").hidden = !mine.ratio;
  byId("thumbnail").src = mine.url;
  byId("invitation").textContent = file.name || "The pasted picture";
  byId("hint").textContent = mine.ratio ? `${probe.naturalWidth} × ${probe.naturalHeight} pixels` : "";
  byId("choose").textContent = "Change";
  byId("tools").hidden = byId("legend").hidden = false;
  for (const card of cards) card.show();
}

function takeFrom(files) {
  const [file] = files;
  if (file) take(file);
}

async function load() {
  const place = byId("cards");
  place.setAttribute("aria-busy", "true");
  showProblem(byId("problem"), null);
  try {
    const { models } = await ask("v1/models");
    byId("access").hidden = true;
    cards.splice(0, cards.length, ...models.map((model) => new Card(model)));
    place.replaceChildren(...cards.map((card) => card.root));
    if (picture) cards.forEach((card) => card.show());
  } catch (error) {
    showProblem(byId("problem"), error, load);
  } finally {
    place.removeAttribute("aria-busy");
  }
}

function useKey(event) {
  event.preventDefault();
  // Headers carry these letters only; a key has no others.
  apiKey = byId("key").value.replace(/[^!-~]/g, "");
  sessionStorage.setItem("api-key", apiKey);
  byId("key").value = "";
  load();
}

function listen() {
  byId("access").addEventListener("submit", useKey);
  const drop = byId("drop");
  const input = byId("file");
  input.addEventListener("change", () => {
    takeFrom(input.files);
    // Or choosing the same file again would be no change.
    input.value = "";
  });
  // The whole page takes a drop: a near miss must not make the browser leave for the file.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) takeFrom(event.dataTransfer.files);
    else notify("That was no file. Save the picture first, then drop the file, or copy and paste the picture.");
  });
  addEventListener("paste", (event) => takeFrom(event.clipboardData.files));

  const strength = byId("strength");
  const setStrength = () => {
    byId("cards").style.setProperty("--strength", strength.value / 100);
    byId("strength-value").textContent = `${strength.value}\u00a0%`;
  };
  strength.addEventListener("input", setStrength);
  const setBoxes = () => byId("cards").classList.toggle("boxless", !byId("boxes").checked);
  byId("boxes").addEventListener("change", setBoxes);
  // Browsers restore form fields when a page is loaded again.
  setStrength();
  setBoxes();
}

listen();
load();
